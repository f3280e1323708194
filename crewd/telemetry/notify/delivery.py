"""Delivery: one try to bring one message to one receiver. Blocks, bounded; for a thread of the channel's own."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from crewd import __version__
from crewd.host.clock import Clock
from crewd.host.commands import CannotRun, Commands
from crewd.host.outgoing import NoAnswer, Outgoing
from crewd.model.notice import Notice
from crewd.telemetry.json_text import encode
from crewd.telemetry.notify import payloads
from crewd.telemetry.notify.options import ChannelOptions
from crewd.telemetry.redact import Redactor

PASSING = (408, 429)  # refusals that may be none later; all others below 500 stay what they are
URGENCY = {"critical": "critical", "warning": "normal", "info": "low"}
LEVELS = {"critical": "error", "warning": "warning", "info": "info"}


class NotDelivered(Exception):
    """A try that failed. `passing`: another may succeed, not before `retry_after` seconds."""

    def __init__(self, words: str, passing: bool, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.passing = passing
        self.retry_after = retry_after


class Delivery:
    """The last step of one channel. No message of its errors names an address, a header or an argument."""

    def __init__(self, options: ChannelOptions, clock: Clock, redactor: Redactor) -> None:
        self._options = options
        self._clock = clock
        self._redactor = redactor
        self._out = Outgoing()
        self._commands = Commands()

    def deliver(self, notices: Sequence[Notice]) -> None:
        """Bring one message of one or more notices. Raises NotDelivered."""
        options = self._options
        match options.kind:
            case "webhook":
                payload = payloads.FORMAT[options.format](notices, self._clock.read().wall)
                if options.format == "alertmanager":
                    payload = payloads.labelled(payload, options.labels)
                self._post(self._redactor.value(payload))
            case "command":
                told = payloads.plain(notices, self._clock.read().wall)
                self._run(options.command, encode(self._redactor.value(told)))
            case "desktop":
                self._run(self._popup(notices), b"")
            case _:
                self._write(notices)

    def abort(self) -> None:
        """Cut off the try at hand, from another thread. There is no other after it."""
        self._out.abort()
        self._commands.abort()

    def _post(self, payload: Any) -> None:
        options = self._options
        url = payloads.alerts_url(options.url) if options.format == "alertmanager" else options.url
        headers = {"Content-Type": "application/json", "User-Agent": f"crewd/{__version__}", **dict(options.headers)}
        post(self._out, "POST", url, headers, encode(payload), options.timeout)

    def _run(self, command: Sequence[str], stdin: bytes) -> None:
        try:
            code = self._commands.run(command, self._options.environ, stdin, self._options.timeout)
        except CannotRun as error:
            raise NotDelivered(str(error), error.passing) from None
        if code is None:
            raise NotDelivered(f"{command[0]} did not end within {self._options.timeout:g} s and was killed", True)
        if code != 0:
            raise NotDelivered(f"{command[0]} left with {code}", True)

    def _popup(self, notices: Sequence[Notice]) -> Sequence[str]:
        title, _, body = self._redactor.text(payloads.text(notices)).partition("\n")
        urgency = URGENCY[max((each.severity for each in notices), key=list(reversed(URGENCY)).index)]
        # Its body is markup; what comes behind -- is no option, whatever it begins with.
        shown = [html.escape(title, quote=False), html.escape(body, quote=False)]
        return ("notify-send", "--app-name=crewd", f"--urgency={urgency}", "--", *(_line(each) for each in shown))

    def _write(self, notices: Sequence[Notice]) -> None:
        log = structlog.stdlib.get_logger("crewd.notifications")
        for notice in notices:
            told: Mapping[str, Any] = self._redactor.value(payloads.record(notice))
            level = "info" if notice.kind != "opened" else LEVELS[notice.severity]
            getattr(log, level)(f"notification.{notice.kind}", **{**told, "channel": self._options.name})


def post(out: Outgoing, method: str, url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> None:
    """Ask, and take every answer but 2xx for a failure. Raises NotDelivered."""
    try:
        answered = out.ask(method, url, headers, body, seconds)
    except NoAnswer as error:
        raise NotDelivered(str(error), True) from None
    except (ValueError, UnicodeError):
        # Of an address or a header; its own words might show it.
        raise NotDelivered("the address or a header cannot be sent", False) from None
    if 200 <= answered.status < 300:
        return
    passing = answered.status >= 500 or answered.status in PASSING
    raise NotDelivered(f"answered {answered.status}", passing, answered.retry_after)


def _line(text: str) -> str:
    return text.replace("\0", "")
