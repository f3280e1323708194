"""What the web pages are answered from. The daemon has one of these; tests have another."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from crewd.model.asking import Actions, IncidentActions, OutputPiece
from crewd.model.event import Event
from crewd.model.history import AttemptRow, HistoryPage, HistoryQuery, HistoryStats, RunRow, SummaryGroup, TaskRow
from crewd.model.managed import ManagedRun
from crewd.model.recovery import Recoveries
from crewd.model.reloading import Reloaded
from crewd.model.run import Run
from crewd.model.snapshot import Snapshot
from crewd.model.verdict import Incident
from crewd.telemetry.exposition import Exposition
from crewd.telemetry.last_hour import LastHour
from crewd.telemetry.redact import Redactor
from crewd.web.broadcast import Broadcast, Recorded


class History(Recorded, Protocol):
    """The ledger, read-only. Called in a worker thread, never twice at once."""

    def attempts(self, query: HistoryQuery) -> HistoryPage[AttemptRow]:
        """Attempts, the newest first."""

    def incidents(self, open_only: bool = False) -> list[Incident]:
        """Incidents, the oldest first."""

    def pruned_to(self) -> int:
        """Return the newest seq whose event was deleted for its age; 0: none was."""


class Past(Protocol):
    """The ledger, opened for one long question, so that nobody else waits for it. Called in worker threads."""

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        types: Sequence[str] = (),
        run_id: str = "",
        newest_first: bool = False,
    ) -> list[Event]: ...

    def attempts(self, query: HistoryQuery) -> HistoryPage[AttemptRow]: ...

    def tasks(self, query: HistoryQuery) -> HistoryPage[TaskRow]: ...

    def past_runs(self, query: HistoryQuery) -> HistoryPage[RunRow]: ...

    def history_stats(self) -> HistoryStats: ...

    def summary(
        self,
        since: float,
        until: float,
        level: str = "attempt",
        group_by: Sequence[str] = (),
        query: HistoryQuery | None = None,
    ) -> list[SummaryGroup]: ...

    def would_forget(self, before: float) -> dict[str, int]:
        """Count what pruning would delete, by kind."""

    def run(self, run_id: str) -> Run | None: ...

    def managed(self, run_id: str) -> ManagedRun | None: ...

    def close(self) -> None: ...


class WebState(Protocol):
    """Everything that a request may ask for. What changes anything is in `actions`, and `reload`."""

    @property
    def exposition(self) -> Exposition: ...

    @property
    def history(self) -> History: ...

    @property
    def hour(self) -> LastHour:
        """Where every crew's workers stood in the last hour."""

    @property
    def redactor(self) -> Redactor: ...

    @property
    def allowed_hosts(self) -> Sequence[str]:
        """Names besides 127.0.0.1, localhost and [::1] under which crewd may be addressed."""

    @property
    def actions(self) -> Actions | None:
        """What may be asked of managed runs; None: crewd only watches."""

    @property
    def incidents(self) -> IncidentActions:
        """What people say of incidents, also where crewd only watches."""

    @property
    def recoveries(self) -> Recoveries:
        """What may be asked of recovery plans, also where crewd only watches."""

    @property
    def token(self) -> str:
        """Whoever sends this over TCP may change things; "": nobody may."""

    async def reload(self) -> Reloaded:
        """Read the settings again. With complaints they cannot be used, and the old ones stay."""

    def now(self) -> float:
        """Wall time."""

    def look_back(self) -> Past:
        """Open the ledger for one long question; whoever asks closes it. Called in a worker thread."""

    async def prune(self, before: float, *, actor: str) -> int:
        """Forget what is older than this wall time and settled; returns how many rows."""

    def log_level(self) -> tuple[str, str]:
        """Name the least that is logged now, and the level of the settings."""

    async def set_log_level(self, level: str, *, actor: str) -> None:
        """Log from this level on, until the settings are read again."""

    def output(
        self, run_id: str, task_id: str, attempt: int, stream: str, offset: int, limit: int
    ) -> OutputPiece | None:
        """Read what an attempt wrote (0: the newest) to "stdout" or "stderr"; None: there is no such attempt.

        Called in a worker thread.
        """

    @property
    def broadcast(self) -> Broadcast:
        """Events as they happen."""

    def snapshot(self) -> Snapshot: ...

    def explain(self, run_id: str, task_id: str) -> Mapping[str, Any] | None:
        """Lay out the evidence on a worker; None: it is no worker now."""

    def http_observed(self, route: str, method: str, code: int, seconds: float) -> None: ...
