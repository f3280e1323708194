"""Figures that other parts keep of themselves, in the shape in which metrics ask for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class LedgerFigures(Protocol):
    """What a ledger tells of itself."""

    @property
    def commits(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def history_missed(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def duration_buckets(self) -> Sequence[tuple[float, int]]:
        """(upper bound in seconds, commits at or below it), ascending."""

    @property
    def duration_sum(self) -> float: ...


@dataclass(frozen=True)
class SinkFigures:
    """What one sink tells of itself. Counts are since the start."""

    sink: str
    records: int = 0
    bytes: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)  # reason -> count
    lag: int | None = None  # events in the ledger that are not written; None: this sink has no backlog
    last_write_at: float | None = None  # wall time
    retention_at: float | None = None  # wall time of the latest complete clean-up of old files


@dataclass(frozen=True)
class StreamFigures:
    """What is told of the streams of events."""

    clients: int
    disconnects: Mapping[str, int]  # reason -> count since the start


@dataclass(frozen=True)
class ReloadFigures:
    """How the latest load of the settings went."""

    successful: bool = True
    success_at: float | None = None  # wall time of the latest success
