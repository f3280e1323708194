"""What one round did: the numbers that metrics are made of, told once at its end."""

from collections.abc import Mapping

import msgspec

from crewd.model.look import ReadResult


class RoundReport(msgspec.Struct, frozen=True):
    """The figures of one complete round."""

    number: int
    started_at: float  # wall time
    duration: float  # seconds
    lateness: float = 0.0  # seconds by which the round began later than planned
    reads: Mapping[ReadResult, int] = {}
    heartbeats: Mapping[str, int] = {}  # runtime -> workers whose progress token changed
    heartbeat_intervals: tuple[tuple[str, float], ...] = ()  # (runtime, observed seconds between two signs of life)
    heartbeats_rejected: Mapping[tuple[str, str], int] = {}  # (runtime, future | regressed | malformed) -> count
    own_stall: float = 0.0  # seconds beyond the planned gap
    suspended: bool = False
    stepped: bool = False
    watch_overflows: int = 0
    looks_stuck: int = 0  # roots whose look has not come back
    happenings: Mapping[str, int] = {}  # runtime -> lines of runtimes' own event logs read
    happenings_dropped: int = 0
    unknown_fields: int = 0
    unknown_statuses: int = 0
    violations: tuple[str, ...] = ()  # numbers of invariants that did not hold, such as "I18"
