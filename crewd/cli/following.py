"""Following a run to its end, over restarts of the daemon."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from crewd.cli.client import Answer, Place
from crewd.cli.managed_run import over, take_run
from crewd.cli.text import clean
from crewd.errors import DaemonUnreachable, NothingMatched

POLL_SECONDS_MIN, POLL_SECONDS_MAX, POLL_GROWTH = 0.1, 1.0, 1.5
TIME_IS_OVER = 124  # as timeout(1) leaves


class Screen(Protocol):
    """Whoever shows how a run goes on."""

    def show(self, body: dict[str, Any], now: float) -> None:
        """Take the newest picture. `now` is wall time."""

    def say(self, words: str) -> None:
        """Tell something beside the picture."""


@dataclass
class Following:
    """One run that is waited for."""

    place: Place
    run: str
    screen: Screen
    pause: Callable[[float], object]
    away: Callable[[], object] = field(default=lambda: None)  # called at each look that finds no daemon
    _known: bool = field(default=False, init=False)
    _away: bool = field(default=False, init=False)

    def until_over(self, seconds: float | None) -> dict[str, Any] | None:
        """Follow until nothing of the run goes on by itself; returns it as it is then, or None: the time is over.

        Raises NothingMatched and DaemonUnreachable only for a run of which nothing was ever heard.
        """
        from crewd.host.clock import SystemClock

        clock = SystemClock()
        began = clock.read().mono
        every, former = POLL_SECONDS_MIN, None
        while True:
            body, now = self._look(), clock.read()
            if body is not None:
                self.screen.show(body, now.wall)
                if over(body):
                    return body
            left = None if seconds is None else seconds - (now.mono - began)
            if left is not None and left <= 0:
                return None
            every = POLL_SECONDS_MIN if body != former else min(every * POLL_GROWTH, POLL_SECONDS_MAX)
            former = body
            self.pause(every if left is None else min(every, left))

    def _look(self) -> dict[str, Any] | None:
        try:
            answer = take_run(self.place, self.run)
        except (DaemonUnreachable, NothingMatched) as error:
            # One that begins may answer before it has read what it knew.
            if not self._known:
                raise
            self._missed(str(error))
            return None
        self._known = True
        if answer.source == "daemon":
            self._found()
        elif not over(answer.body):
            self._missed(_why(answer))
        body: dict[str, Any] = answer.body
        return body

    def _missed(self, why: str) -> None:
        if not self._away:
            self.screen.say(f"{clean(why)}; waiting for the daemon")
        self._away = True
        self.away()

    def _found(self) -> None:
        if self._away:
            self.screen.say("the daemon is back")
        self._away = False


def exit_code(body: dict[str, Any] | None) -> int:
    """Turn the end of a run into that of a command."""
    if body is None:
        return TIME_IS_OVER
    return 0 if body["status"] == "completed" else 1


def _why(answer: Answer) -> str:
    return answer.notice.partition("; showing")[0]
