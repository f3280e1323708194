"""What an attempt wrote: asked of the daemon, or read in the attempt's folder while it is down."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crewd.cli.client import Place, segment
from crewd.cli.managed_run import offline, take_run, task_of
from crewd.cli.picture import API
from crewd.errors import CrewdError, DaemonUnreachable, NothingMatched

RUNS = "runs"  # folder of all attempts, beneath the state folder: RUN/TASK/ATTEMPT/stdout
CHUNK = 128 * 1024
TAIL_BYTES = 64 * 1024  # looked at first for the last lines; four times as many where they do not suffice
NEXT, ENDED = "x-crewd-next-offset", "x-crewd-ended"


@dataclass(frozen=True)
class Stretch:
    """A piece of output, and where the next begins."""

    data: bytes
    after: int
    ended: bool  # nothing follows, ever


@dataclass
class Output:
    """Output of the attempts of one task."""

    place: Place
    run: str
    task: str
    stream: str  # "stdout" or "stderr"
    away: str = ""  # why the daemon was not asked the last time; "": it was

    def look(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the run and the task as they stand. Raises NothingMatched, DaemonUnreachable."""
        body = take_run(self.place, self.run).body
        return body, task_of(body, self.task)

    def read(self, attempt: int, offset: int, unfinished: bool = False) -> Stretch:
        """Read on from an offset, whole lines; `unfinished` also shows the line that is being written.

        Raises NothingMatched, which says which attempts there are.
        """
        try:
            found = self._asked(attempt, offset, unfinished)
            self.away = ""
        except DaemonUnreachable as error:
            self.away = str(error)
            return self._found(attempt, offset, unfinished)
        except NothingMatched:
            _, task = self.look()  # whether there is such a run, and such a task
            raise NothingMatched(self._missing(attempt, task["attempt"])) from None
        return found

    def tail(self, attempt: int, lines: int) -> Stretch:
        """Read the last lines that are there now."""
        size, window = self._size(attempt), max(TAIL_BYTES, 200 * lines)
        while True:
            start = max(0, size - window)
            found = self._last(attempt, lines, start)
            if found is not None:
                return found
            window *= 4

    def rest(self, attempt: int, offset: int) -> Iterator[Stretch]:
        """Read on until nothing is left at the moment, the line that is being written included."""
        while True:
            stretch = self.read(attempt, offset)
            if stretch.after == offset and not stretch.ended:
                stretch = self.read(attempt, offset, unfinished=True)
            yield stretch
            if stretch.after == offset or stretch.ended:
                return
            offset = stretch.after

    def _last(self, attempt: int, lines: int, start: int) -> Stretch | None:
        """Read the last lines behind `start`; None: more than lie there are wanted."""
        kept: deque[bytes] = deque(maxlen=lines)
        rest, after, ended, cut = b"", start, False, start > 0
        many = 0
        for stretch in self.rest(attempt, start):
            *whole, rest = (rest + stretch.data).split(b"\n")
            if cut and whole:
                whole, cut = whole[1:], False  # the first began before `start`
            kept.extend(each + b"\n" for each in whole)
            many += len(whole)
            after, ended = stretch.after, stretch.ended
        if rest:
            kept.append(rest)
            many += 1
        return None if start > 0 and many < lines else Stretch(b"".join(kept), after, ended)

    def _asked(self, attempt: int, offset: int, unfinished: bool) -> Stretch:
        path = f"{API}/runs/{segment(self.run)}/tasks/{segment(self.task)}/output"
        query = {
            "attempt": attempt,
            "stream": self.stream,
            "offset": offset,
            "limit": CHUNK,
            "unfinished": "true" if unfinished else None,
        }
        with self.place.daemon() as daemon:
            reply = daemon.reply(path, query, accept="*/*")
        try:
            after = int(reply.headers[NEXT])
        except (KeyError, ValueError):
            raise CrewdError(f"{reply.address}{path}: the answer does not say where it ends; is it crewd?") from None
        return Stretch(reply.body, max(after, offset), reply.headers.get(ENDED, "").lower() in ("true", "1"))

    def _found(self, attempt: int, offset: int, unfinished: bool) -> Stretch:
        from crewd.host.files import Root
        from crewd.model.look import ReadResult
        from crewd.web.output import redacted, ripe

        root = Root(str(self.place.state / RUNS))
        try:
            found = root.read_range(self._name(attempt), offset, CHUNK)
        finally:
            root.close()
        if found.result is ReadResult.MISSING:
            raise NothingMatched(self._missing(attempt, self._newest()))
        if found.result is not ReadResult.OK:
            raise CrewdError(f"{root.path}/{self._name(attempt)} cannot be read: {found.why or found.result.value}")
        full = len(found.data) == CHUNK
        ended = not full and self._is_over(attempt)
        size = ripe(found.data, full, ended)
        # What was given back to keep an output within its limit reads as NUL bytes.
        shown = (found.data if unfinished else found.data[:size]).replace(b"\0", b"")
        whole = ended or not unfinished
        return Stretch(redacted(shown, self.place.redactor, whole), offset + size, ended)

    def _missing(self, attempt: int, newest: int | None) -> str:
        """Say why there is nothing to print, and what could be asked instead. `newest` None: nobody knows."""
        name = f"{self.run}/{self.task}"
        if newest == 0:
            return f"{name} has no attempt {attempt}: none was started yet; `crewd why {self.run}` says why it waits"
        if newest is not None and attempt > newest:
            there = "is only attempt 1" if newest == 1 else f"are attempts 1 to {newest}"
            return f"{name} has no attempt {attempt}; there {there}: leave --attempt out for the newest"
        return (
            f"nothing is kept of attempt {attempt} of {name} in {self.place.state / RUNS}: it is only being started, "
            f"or was removed for its age (tasks.keep_days); `crewd show {self.run}` lists what is known of it"
        )

    def _newest(self) -> int | None:
        try:
            return int(task_of(self._recorded(DaemonUnreachable("")), self.task)["attempt"])
        except NothingMatched:
            raise
        except CrewdError:
            return None  # without a ledger nobody knows

    def _is_over(self, attempt: int) -> bool:
        try:
            task = task_of(self._recorded(DaemonUnreachable("")), self.task)
        except CrewdError:
            return False  # without a ledger nobody knows; what is there was shown
        return any(each["attempt"] == attempt for each in task["attempts"])

    def _recorded(self, unreachable: DaemonUnreachable) -> dict[str, Any]:
        from crewd.cli.client import open_ledger

        reader, _ = open_ledger(self.place, unreachable)
        with reader:
            return offline(reader, self.run, self.place)

    def _size(self, attempt: int) -> int:
        from crewd.host.files import signature

        try:
            seen = signature(str(Path(self.place.state) / RUNS / self._name(attempt)))
        except OSError:
            return 0
        return seen.size if seen is not None else 0

    def _name(self, attempt: int) -> str:
        return f"{self.run}/{self.task}/{attempt}/{self.stream}"
