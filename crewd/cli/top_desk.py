"""What the full screen asks of the daemon, and has it do, in the words of the other commands."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from crewd.cli.change import post
from crewd.cli.client import Answer, Place, segment
from crewd.cli.picture import API, online
from crewd.cli.screen import Line, pause
from crewd.cli.text import clean
from crewd.cli.times import wall_now
from crewd.errors import NothingMatched

TAIL_LINES = 200
POLL_SECONDS = 0.5
LOG_LINE_MAX = 2000
LETTERS_MAX = 100
NEVER_STARTED = 0


@dataclass(frozen=True)
class Item:
    """One of a list: how it stands there, and all that is known of it."""

    key: str
    line: Line
    whole: Callable[[], Iterable[Line]]


class Counter(Protocol):
    """Where the screen asks. Every call may take seconds, so that none is made in the screen's own thread.

    All of them raise CrewdError.
    """

    def picture(self) -> dict[str, Any]:
        """Ask the daemon, and nobody in its stead, for the picture of `crewd status`."""

    def hear(self) -> Iterator[bytes]:
        """Listen to events and rounds, as pieces of a stream of which each is a reason to look again."""

    def run(self, run: str) -> list[Line]:
        """As `crewd show` does."""

    def explain(self, run: str, task: str) -> list[Line]:
        """As `crewd explain` does."""

    def why(self, run: str) -> list[Line]:
        """As `crewd why` does."""

    def log(self, run: str, task: str) -> Iterator[list[str]]:
        """The last lines of a task's output and what comes, until it ends; often nothing, so that one may leave."""

    def incidents(self) -> list[Item]:
        """The open ones, the gravest first."""

    def letters(self, run: str = "") -> list[Item]:
        """The open ones, of one run or of all, the newest first."""

    def cancel(self, run: str, task: str, reason: str) -> str:
        """Cancel a task, or with "" the whole run; returns the daemon's words."""

    def retry(self, run: str, task: str) -> str:
        """Try a task again now; returns the daemon's words."""

    def redrive(self, keys: Sequence[str]) -> str:
        """Try given-up tasks again; returns the daemon's words."""


class Desk:
    """The daemon of one place, asked as the commands ask it."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def picture(self) -> dict[str, Any]:
        with self._place.daemon() as daemon:
            return online(daemon, ended=False)

    def hear(self) -> Iterator[bytes]:
        with self._place.daemon() as daemon:
            yield from daemon.stream(f"{API}/events", {"rounds": "true"}, "text/event-stream")

    def run(self, run: str) -> list[Line]:
        from crewd.cli.managed_run import MANAGED
        from crewd.cli.rescue import beside
        from crewd.cli.show import take_whole, whole_lines

        answer = take_whole(self._place, run)
        if answer.body["runtime"] != MANAGED:
            answer.body["recovery"] = beside(self._place, run)["recovery"]
        return [*_notice(answer), *whole_lines(answer.body, wall_now())]

    def explain(self, run: str, task: str) -> list[Line]:
        from crewd.cli.explain import take_task, task_lines

        answer = take_task(self._place, run, task)
        return [*_notice(answer), *task_lines(answer.body)]

    def why(self, run: str) -> list[Line]:
        from crewd.cli.managed_run import take_run
        from crewd.cli.rescue import beside
        from crewd.cli.why import why_lines

        answer = take_run(self._place, run)
        return [*_notice(answer), *why_lines(answer.body | beside(self._place, run), wall_now())]

    def log(self, run: str, task: str) -> Iterator[list[str]]:
        yield from _Log(self._place, run, task).lines()

    def incidents(self) -> list[Item]:
        from crewd.cli.incidents import LIMIT, rows, take_incidents, whole

        found = take_incidents(self._place, "open", None, LIMIT).body
        return [
            Item(f"{each['subject']} {each['cause']}", line, partial(whole, each))
            for each, line in zip(found, rows(found), strict=False)
        ]

    def letters(self, run: str = "") -> list[Item]:
        from crewd.cli.letters import rows, take_letters, whole

        found = [each for each in take_letters(self._place, ("open",)).body if run in ("", each["run_id"])]
        return [Item(each["key"], line, partial(whole, each)) for each, line in zip(found, rows(found), strict=False)]

    def cancel(self, run: str, task: str, reason: str) -> str:
        path = f"{API}/runs/{segment(run)}" + (f"/tasks/{segment(task)}" if task else "")
        return _told(post(self._place, f"{path}/cancel", {"reason": reason}))

    def retry(self, run: str, task: str) -> str:
        return _told(post(self._place, f"{API}/runs/{segment(run)}/tasks/{segment(task)}/retry", {}))

    def redrive(self, keys: Sequence[str]) -> str:
        body = {"keys": list(keys), "limit": LETTERS_MAX, "dry_run": False}
        return _told(post(self._place, f"{API}/deadletters/redrive", body))


class _Log:
    """What a task writes, as `crewd logs -f` tells it."""

    def __init__(self, place: Place, run: str, task: str) -> None:
        from crewd.cli.output import Output

        self._output = Output(place, run, task, "stdout")
        self._rest = b""  # the beginning of a line of which the end has not come
        self._hear: Callable[[bytes], Iterable[str]] = _as_it_is

    def lines(self) -> Iterator[list[str]]:
        attempt = self._begin()
        stretch = self._output.tail(attempt, TAIL_LINES)
        while True:
            offset = stretch.after
            yield self._take(stretch.data)
            if stretch.ended:
                yield self._take(b"\n" if self._rest else b"")  # its last line may lack its end
                state, newest = self._state()
                if newest == attempt:
                    yield [f"-- attempt {attempt} has ended; the task is {state} --"]
                    return
                attempt, offset = newest, 0
                yield [f"-- attempt {attempt} --"]
            elif not stretch.data:
                pause(POLL_SECONDS)
            stretch = self._output.read(attempt, offset)

    def _begin(self) -> int:
        from crewd.cli.spoken import Spoken, is_understood

        _, task = self._output.look()
        attempt = int(task["attempt"])
        if attempt == NEVER_STARTED:
            raise NothingMatched(f"no attempt of {self._output.run}/{self._output.task} was started yet")
        ended = [(each.get("details") or {}).get("profile") for each in task["attempts"][-1:]]
        profile = str(task.get("profile") or next(filter(None, ended), ""))
        if is_understood(profile):
            self._hear = Spoken(profile).hear
        return attempt

    def _state(self) -> tuple[str, int]:
        _, task = self._output.look()
        return task["state"], int(task["attempt"])

    def _take(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [clean(told, LOG_LINE_MAX) for line in whole for told in self._hear(line)]


def _as_it_is(line: bytes) -> Iterable[str]:
    return [line.decode("utf-8", "replace").expandtabs()]


def _notice(answer: Answer) -> Iterator[Line]:
    if answer.notice:
        yield [(answer.notice, "alert")]
        yield []


def _told(answer: dict[str, Any]) -> str:
    return clean(str(answer.get("what") or "done"))
