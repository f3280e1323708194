"""Asks the daemon, and where it does not answer reads its ledger, saying so."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import click

from crewd.cli.options import environment
from crewd.cli.text import clean
from crewd.errors import CrewdError, DaemonUnreachable, NothingMatched, SettingsError, UsageProblem

if TYPE_CHECKING:
    from crewd.config.settings import Settings
    from crewd.ledger.reader import Reader
    from crewd.telemetry.redact import Redactor

DEFAULT_URL = "http://127.0.0.1:9464"  # of a daemon that nobody configured
TIMEOUT_SECONDS = 3.0
BODY_BYTES_MAX = 256 * 2**20

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where one crewd keeps its state, and where it should listen."""

    state: Path
    configured_url: str = ""  # "": unknown, since only the folder was named
    secrets: Callable[[], tuple[str, ...]] = tuple  # texts that must not be shown; asked for where it matters

    @cached_property
    def redactor(self) -> "Redactor":
        """What takes secrets out of an answer of the ledger; the daemon does so with its own."""
        from crewd.telemetry.redact import Redactor

        return Redactor(self.secrets())

    def url(self) -> str:
        """Return the address of the daemon of this place; "" where it is not running."""
        try:
            told = json.loads((self.state / "daemon.json").read_bytes())
            # A daemon that was killed leaves the file behind.
            if Path(f"/proc/{int(told['pid'])}").exists():
                return str(told["url"])
        except (OSError, ValueError, TypeError, KeyError):
            pass
        return self.configured_url


@dataclass(frozen=True)
class Answer:
    """What was asked for, and who said it."""

    source: str  # "daemon" or "ledger"
    as_of: str  # RFC 3339; "" = now
    body: Any
    notice: str = ""  # why it is not the daemon that answers


class Daemon:
    """One conversation with the daemon.

    Every question raises DaemonUnreachable, NothingMatched (404), UsageProblem (400), CrewdError (everything else).
    """

    def __init__(self, url: str) -> None:
        if not url:
            raise DaemonUnreachable("daemon unreachable: it is not running, or does not listen")
        import http.client

        self._url = url
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 80
            self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        except (ValueError, http.client.InvalidURL) as error:
            raise DaemonUnreachable(f"daemon unreachable at {url}: {error}") from None

    def json(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """Ask for JSON. What is None in the query is left out."""
        body = self.bytes(path, {name: value for name, value in (query or {}).items() if value is not None})
        try:
            return json.loads(body)
        except ValueError:
            raise CrewdError(f"{self._url}{path}: answered something that is not JSON; is it crewd?") from None

    def bytes(self, path: str, query: Mapping[str, object], accept: str = "application/json") -> bytes:
        """Ask for whatever `accept` names."""
        import http.client

        target = path + ("?" + urlencode(query, doseq=True) if query else "")
        try:
            self._connection.request("GET", target, headers={"Accept": accept})
            response = self._connection.getresponse()
            body = response.read(BODY_BYTES_MAX)
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DaemonUnreachable(f"daemon unreachable at {self._url}: {why}") from None
        if response.status != 200:
            raise _refusal(response.status, _message(body), f"{self._url}{target}")
        return body

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find(state_dir: Path | None, config_file: Path | None) -> Place:
    """Find the crewd that the options mean. Raises SettingsError only for a file that was named.

    With a folder only the daemon that wrote its address there is asked: the configured address may be another's.
    Loading settings takes longer than all the rest of a command, so that they are loaded only where they count.
    """
    from crewd.config.folders import is_configured, state_folder

    environ = environment()
    if config_file is None and not is_configured(environ):
        return Place(state_dir) if state_dir is not None else Place(state_folder(environ), DEFAULT_URL)
    if config_file is None and state_dir is not None:
        return Place(state_dir, secrets=lambda: _secrets(_settings(environ)))
    settings = _settings(environ, config_file)
    if state_dir is not None or settings is None:
        return Place(state_dir or state_folder(environ), "", lambda: _secrets(settings))
    return Place(state_folder(environ, settings.ledger.folder), _url(settings), lambda: _secrets(settings))


def ask(place: Place, online: Callable[[Daemon], Any], offline: Callable[["Reader"], Any]) -> Answer:
    """Get an answer from the daemon, or let `offline` make the same from the ledger.

    Raises DaemonUnreachable where there is neither, NothingMatched and UsageProblem where the daemon says so.
    """
    try:
        with Daemon(place.url()) as daemon:
            return Answer("daemon", "", online(daemon))
    except DaemonUnreachable as error:
        reader, as_of = open_ledger(place, error)
        with reader:
            body = offline(reader)
        return Answer("ledger", as_of, body, f"{clean(str(error))}; showing the ledger as of {as_of}")


def look_back(place: Place, offline: Callable[["Reader"], Any], unknown: NothingMatched) -> Answer:
    """Look for what the daemon does not know any more in its ledger. Raises `unknown` where that has no answer."""
    try:
        reader, as_of = open_ledger(place, DaemonUnreachable(str(unknown)))
        with reader:
            return Answer(
                "ledger", as_of, offline(reader), "the daemon sees it no more; showing what the ledger kept"
            )
    except CrewdError:
        raise unknown from None


def say_notice(answer: Answer) -> None:
    """Tell on stderr when it is not the daemon that answered."""
    if answer.notice:
        click.echo(f"crewd: {answer.notice}", err=True)


def open_ledger(place: Place, unreachable: DaemonUnreachable) -> tuple["Reader", str]:
    """Open the ledger in the daemon's stead; also says of when it is."""
    from crewd.ledger.errors import LedgerMissing
    from crewd.ledger.reader import Reader
    from crewd.model.moment import rfc3339

    try:
        reader = Reader.open(place.state)
    except LedgerMissing as missing:
        raise DaemonUnreachable(f"{unreachable}, and {missing}") from None
    written = [path.stat().st_mtime for path in place.state.glob("ledger.sqlite3*") if not path.name.endswith("-shm")]
    return reader, rfc3339(max(written, default=0.0))


def segment(name: str) -> str:
    """Write a name so that it can stand between two slashes."""
    return quote(name, safe="")


def _settings(environ: Mapping[str, str], config_file: Path | None = None) -> "Settings | None":
    """Load the settings; None: they are not usable, and nobody named their file."""
    from crewd.config.load import load

    try:
        return load(config_file, environ).settings
    except SettingsError as error:
        if config_file is not None:
            raise
        # The daemon goes on with its former settings, and a person wants to see how.
        click.echo(f"crewd: the settings are not usable, and passed over: {error.complaints[0]}", err=True)
        return None


def _url(settings: "Settings") -> str:
    http = settings.http
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(http.host, http.host)  # noqa: S104 - nothing is bound: asked
    return f"http://{f'[{host}]' if ':' in host else host}:{http.port}" if http.enabled and http.port else ""


def _secrets(settings: "Settings | None") -> tuple[str, ...]:
    return tuple(secret.get_secret_value() for secret in settings.redact.secrets) if settings is not None else ()


def _refusal(status: int, message: str, url: str) -> CrewdError:
    match status:
        case 400 | 422:
            return UsageProblem(message or f"{url}: not understood")
        case 404 if message:
            return NothingMatched(message)
    return CrewdError(f"{url}: {message or f'answered {status}'}")


def _message(body: bytes) -> str:
    try:
        error = json.loads(body)["error"]
        details = []
        for detail in error.get("details", ()):
            where = str(detail.get("path", ""))
            # A part of the path is what the person typed as an argument, and stands in the message itself.
            prefix = "" if not where or where.startswith("path.") else f"{where} "
            details.append(f"{prefix}{detail['message']}")
        return clean("; ".join([str(error["message"]), *details]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""
