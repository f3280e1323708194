"""The snapshot: one immutable picture of everything crewd believes, made at the end of each round.

Whoever is asked (metrics, HTTP, command line) answers from it, so that answering never touches a round.
"""

from collections.abc import Mapping

import msgspec

from crewd.model.look import ReadResult
from crewd.model.process import ProcessSeen
from crewd.model.run import Run
from crewd.model.verdict import Incident, Standing, Verdict


class WorkerView(msgspec.Struct, frozen=True, gc=False):
    """One worker: a task that is running or waiting, and where it stands."""

    task_id: str
    attempt: int
    standing: Standing
    verdict: Verdict  # of the latest judgement
    heard_at: float  # on its root's observed clock; see Snapshot.silence
    progress_at: float | None  # wall time at which crewd saw the latest progress; None: not since crewd started
    process: ProcessSeen
    task_type: str = ""
    waiting_since: float | None = None
    tool: str = ""
    first_seen_at: float = 0.0


class RunView(msgspec.Struct, frozen=True, gc=False):
    """One run with its workers."""

    run: Run
    root: str  # key of the observed clock
    workers: tuple[WorkerView, ...] = ()
    unread: ReadResult | None = None  # set while its files cannot be read
    unread_rounds: int = 0


class Health(msgspec.Struct, frozen=True):
    """What crewd thinks of itself."""

    started_at: float = 0.0
    round_number: int = 0
    round_at: float = 0.0  # wall time of the latest complete round
    round_interval: float = 5.0
    hold: str = ""  # why nobody may get worse just now; "" = no hold
    hold_seconds_left: float = 0.0
    brake: str = ""  # why the mass brake is engaged; "" = it is not
    local_health: float = 1.0  # the multiplier on all thresholds, 1 to 5
    roots_stuck: tuple[str, ...] = ()  # folders that do not answer: nobody there is judged
    degraded: Mapping[str, str] = {}  # part -> what is wrong with it
    parts: Mapping[str, bool] = {}  # part -> ready
    defects: Mapping[str, int] = {}  # part -> failures that it survived and that are crewd's own, since the start


class BudgetFigures(msgspec.Struct, frozen=True):
    """What is used of every budget, and how fast just now."""

    # (scope, crew) -> the part that is used. Scopes: day (crew ""), crew, and of runs and tasks the fullest.
    ratios: Mapping[tuple[str, str], float] = {}
    burn: Mapping[str, tuple[float, float | None]] = {}  # crew -> tokens and usd in a second; None: unknown


class ManagedFigures(msgspec.Struct, frozen=True):
    """How managed runs stand with the engine that runs them, as of one round."""

    running: int = 0  # attempts at work: from their lease to the proof that nothing of them is left
    running_max: int = 0  # slots
    ready: int = 0  # tasks that would start if a slot, the rate, a circuit or a pause let them
    retries_pending: Mapping[str, int] = {}  # crew -> tasks that wait for their next attempt
    circuits: Mapping[str, str] = {}  # name -> closed, half_open, open
    paused: tuple[str, ...] = ()  # scopes: "daemon", "crew:NAME", "executor:NAME"
    stuck: Mapping[str, str] = {}  # RUN/TASK/ATTEMPT -> why it does not end
    budgets: BudgetFigures = BudgetFigures()
    messages: Mapping[str, int] = {}  # type -> messages of protocol workers whose attempt is over, since the start
    defects: Mapping[str, int] = {}  # part -> failures that it survived and that are crewd's own, since the start
    succeeded_at: float = 0.0  # wall time of the scheduler's latest complete turn; 0: none yet. Compared, for display
    violations: tuple[str, ...] = ()  # invariants that were found broken since the start
    ledger_failed: str = ""  # why nothing can be written just now


class Snapshot(msgspec.Struct, frozen=True):
    """Everything crewd believes, at the end of one round."""

    taken_at: float  # wall time
    health: Health
    runs: Mapping[str, RunView] = {}
    observed: Mapping[str, float] = {}  # root -> its observed clock, seconds
    dead_letters: Mapping[str, tuple[int, float | None]] = {}  # crew -> (open letters, oldest wall time)
    verdicts_open: Mapping[tuple[str, str], int] = {}  # (runtime, reason) -> open `dead` verdicts
    thresholds: Mapping[str, Mapping[str, float]] = {}  # runtime -> level -> seconds
    managed: ManagedFigures | None = None  # None: crewd only watches
    refused: tuple[tuple[str, str], ...] = ()  # run and task of live observed workers whose provider refuses them
    incidents: tuple[Incident, ...] = ()  # open, the gravest first
    recoveries: Mapping[str, int] = {}  # state -> recovery plans of which something may still come
    strangers: Mapping[str, ReadResult] = {}  # runs of which nothing could ever be read: only their names are known

    def silence(self, view: RunView, worker: WorkerView) -> float:
        """Observed silence of a worker in seconds: never more than crewd itself has been awake and looking."""
        return max(0.0, self.observed.get(view.root, worker.heard_at) - worker.heard_at)


EMPTY = Snapshot(taken_at=0.0, health=Health())
