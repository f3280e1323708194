"""Figures: the numbers of one round, gathered for its report."""

from dataclasses import dataclass, field

from crewd.engine.pace import Pace
from crewd.model.look import ReadResult
from crewd.model.moment import Reading
from crewd.model.report import RoundReport


@dataclass(slots=True, eq=False)
class Figures:
    """What this round counted."""

    reads: dict[ReadResult, int] = field(default_factory=dict)
    beats: dict[str, int] = field(default_factory=dict)  # runtime -> workers that moved
    beat_intervals: list[tuple[str, float]] = field(default_factory=list)
    rejected: dict[tuple[str, str], int] = field(default_factory=dict)  # (runtime, reason)
    happenings: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    unknown_fields: int = 0
    unknown_statuses: int = 0
    violations: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def count_beat(self, runtime: str, interval: float | None) -> None:
        """Count a sign of life, and how long the silence before it was (observed seconds)."""
        self.beats[runtime] = self.beats.get(runtime, 0) + 1
        if interval is not None:
            self.beat_intervals.append((runtime, interval))

    def report(
        self, number: int, began: Reading, ended: Reading, pace: Pace, stuck: int, overflows: int
    ) -> RoundReport:
        """Make the report of a round that began and ended so."""
        gap = pace.gap
        return RoundReport(
            number=number,
            started_at=began.wall,
            duration=ended.mono - began.mono,
            lateness=max(0.0, gap.seconds - pace.interval),
            reads=self.reads,
            heartbeats=self.beats,
            heartbeat_intervals=tuple(self.beat_intervals),
            heartbeats_rejected=self.rejected,
            own_stall=gap.stall,
            suspended=gap.slept,
            stepped=gap.stepped,
            watch_overflows=overflows,
            looks_stuck=stuck,
            happenings=self.happenings,
            happenings_dropped=self.dropped,
            unknown_fields=self.unknown_fields,
            unknown_statuses=self.unknown_statuses,
            violations=tuple(self.violations),
        )
