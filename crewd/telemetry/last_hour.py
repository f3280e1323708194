"""The last hour of every crew: how many of its workers stood where, half minute by half minute. Only in memory."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crewd.model.event import Event
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot

POINT_SECONDS = 30
POINTS_MAX = 120
CREWS_MAX = 500  # more are not remembered, and counted
GRAVEST_FIRST = ("dead", "stale", "unreadable", "warn", "waiting")

Levels = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Point:
    """The worst moment of one half minute."""

    at: float  # wall time at which it begins
    levels: Levels  # level -> workers


@dataclass(slots=True)
class LastHour:
    """Hears every round, and remembers its worst moments."""

    left_off: int = 0  # crews beyond the bound, as of the latest round
    _points: dict[tuple[str, str], deque[Point]] = field(default_factory=dict)

    def on_events(self, events: Sequence[Event]) -> None:
        """What stands where is told by rounds alone."""

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        """Take in one picture."""
        at = snapshot.taken_at // POINT_SECONDS * POINT_SECONDS
        seen: dict[tuple[str, str], Counter[str]] = {}
        for view in snapshot.runs.values():
            levels = seen.setdefault((view.run.crew, view.run.runtime), Counter())
            levels.update(worker.standing.level.value for worker in view.workers)
        self._forget(at - POINTS_MAX * POINT_SECONDS)
        self.left_off = 0
        for crew, levels in seen.items():
            if crew not in self._points and len(self._points) >= CREWS_MAX:
                self.left_off += 1
                continue
            self._note(self._points.setdefault(crew, deque(maxlen=POINTS_MAX)), Point(at, dict(levels)))

    def points(self, crew: str, runtime: str) -> tuple[Point, ...]:
        """Tell one crew's points, the oldest first. A half minute without a round has none."""
        return tuple(self._points.get((crew, runtime), ()))

    def crews(self) -> tuple[tuple[str, str], ...]:
        """Name the crews that are remembered: name and runtime."""
        return tuple(sorted(self._points))

    def _note(self, points: "deque[Point]", point: Point) -> None:
        if not points or points[-1].at != point.at:
            points.append(point)
        elif _gravity(point.levels) >= _gravity(points[-1].levels):
            points[-1] = point

    def _forget(self, before: float) -> None:
        # Of a clock that was set back the points lie ahead; they go with the others, by number.
        gone = [crew for crew, points in self._points.items() if points[-1].at <= before]
        for crew in gone:
            del self._points[crew]


def _gravity(levels: Levels) -> tuple[int, ...]:
    return tuple(levels.get(level, 0) for level in GRAVEST_FIRST)
