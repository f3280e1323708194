"""Letters: dead letters of runtimes, each told once, and an incident when a crew has too many within an hour."""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from crewd.engine.book import Book
from crewd.engine.tidings import Tidings
from crewd.model.event import Event
from crewd.model.look import DeadLetter
from crewd.model.moment import Reading
from crewd.model.verdict import Incident
from crewd.telemetry.rates import SlidingWindow

HOUR = 3600.0


@dataclass(slots=True, eq=False)
class Letters:
    """What runtimes gave up."""

    book: Book
    redact: Callable[[str], str] = str
    known: set[str] = field(default_factory=set)
    open: dict[str, tuple[int, float | None]] = field(default_factory=dict)  # crew -> count, oldest wall time
    exceeded: set[str] = field(default_factory=set)  # crews that are over the threshold
    _window: SlidingWindow = field(default_factory=lambda: SlidingWindow(HOUR))
    _crews: set[str] = field(default_factory=set)  # crews with letters in the window

    def take(self, letters: tuple[DeadLetter, ...], now: Reading, running: float, tidings: Tidings) -> None:
        """Take in letters as they were read; the same one read again changes nothing."""
        for letter in letters:
            if letter.key in self.known:
                continue
            self.known.add(letter.key)
            run = self.book.known(letter.run_id)
            crew = run.crew if run is not None else ""
            self._count(crew, letter.at)
            if letter.at is None or letter.at > now.wall - HOUR:
                # History that is read for the first time is no storm.
                self._window.add(crew, running)
                self._crews.add(crew)
            error = self.redact(letter.error)
            if error != letter.error:
                letter = msgspec.structs.replace(letter, error=error)
            tidings.letters.append(letter)
            tidings.tell(_added(letter, crew, now.wall))

    def over_threshold(self, running: float, per_hour: int, now: Reading, tidings: Tidings) -> None:
        """Find the crews that had more than `per_hour` within the last hour, and tell each crossing once."""
        for crew in sorted(self._crews):
            count = self._window.count(crew, running)
            if count > per_hour and crew not in self.exceeded:
                self.exceeded.add(crew)
                data = {"count": count, "threshold": per_hour, "window_seconds": HOUR}
                tidings.tell(Event("deadletter.threshold_exceeded", now.wall, data, crew=crew))
            elif count <= per_hour:
                self.exceeded.discard(crew)
            if not count:
                self._crews.discard(crew)

    def incidents(self, wall: float, per_hour: int) -> list[Incident]:
        return [
            Incident(
                "crewd",
                f"dead_letters:{crew}",
                "warning",
                f"crew {crew} had more than {per_hour} dead letters within an hour; their errors tell what is common",
                wall,
                crew,
            )
            for crew in sorted(self.exceeded)
        ]

    def _count(self, crew: str, at: float | None) -> None:
        count, oldest = self.open.get(crew, (0, None))
        if at is not None:
            oldest = at if oldest is None else min(oldest, at)
        self.open[crew] = (count + 1, oldest)


def _added(letter: DeadLetter, crew: str, at: float) -> Event:
    data = {
        "reason": letter.reason,
        "words": letter.words,
        "attempts": letter.attempts,
        "error": letter.error,
        "written_at": letter.at,
    }
    return Event("deadletter.added", at, data, letter.run_id, letter.task_id, 0, letter.runtime, crew)
