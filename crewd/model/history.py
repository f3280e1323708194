"""History: what became of attempts, tasks and runs, to look back at. Rows are a fold of the recorded events."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from crewd.model.run import Usage

# How something ended; "" as an outcome: it is at work. An interrupted attempt was ended by crewd itself, and counts
# neither for nor against anybody.
OUTCOMES = ("completed", "failed", "timed_out", "cancelled", "skipped", "interrupted")
UNSUCCESSFUL = ("failed", "timed_out")
LIMIT_MAX = 500  # rows of one page
TREND_SLOTS = 24


class AttemptRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One attempt of a task, of crewd's own or of another runtime. Times are wall times, durations seconds."""

    run_id: str
    task_id: str
    attempt: int
    first_seq: int  # of the event that told of it first: the key of pages
    last_seq: int
    runtime: str = ""
    crew: str = ""
    task_type: str = ""
    executor: str = ""
    model: str = ""
    variants: Mapping[str, str] = {}  # of prompt, skill and model, as the run file names them
    outcome: str = ""
    error_class: str = ""
    error: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    queue_seconds: float | None = None  # for which it could have been started, had there been a slot
    duration_seconds: float | None = None
    usage: Usage | None = None  # None: none was reported, which is not 0
    iterations: int = 0  # rounds of work inside it that were told


class TaskRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of one task, over all its attempts."""

    run_id: str
    task_id: str
    first_seq: int
    last_seq: int
    runtime: str = ""
    crew: str = ""
    task_type: str = ""
    executor: str = ""
    model: str = ""
    variants: Mapping[str, str] = {}
    outcome: str = ""
    error_class: str = ""
    attempts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    queue_seconds: float | None = None  # of its first attempt
    duration_seconds: float | None = None  # from the start of the first attempt to the end
    usage: Usage | None = None


class RunRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of one run."""

    run_id: str
    first_seq: int
    last_seq: int
    runtime: str = ""
    crew: str = ""
    status: str = ""
    goal: str = ""
    labels: Mapping[str, str] = {}
    created_at: float | None = None
    ended_at: float | None = None
    duration_seconds: float | None = None
    tasks: Mapping[str, int] = {}  # status -> how many
    attempts: int = 0
    usage: Usage | None = None
    vanished: bool = False  # no longer on disk


class HistoryQuery(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Which rows. Everything that is given must hold; several values of one kind: one of them."""

    states: tuple[str, ...] = ()  # outcomes; for runs, statuses. "at_work": those that have not ended
    crew: str = ""
    runtime: str = ""
    executor: str = ""
    model: str = ""
    task_type: str = ""
    run_id: str = ""
    task_id: str = ""
    since: float | None = None  # wall times: it ended in [since, until), or is at work and started in it
    until: float | None = None
    variant: tuple[str, str] | None = None  # name and value
    label: tuple[str, str] | None = None  # of the run: name and value
    before_seq: int | None = None  # the cursor: only rows whose first_seq is smaller. Rows come newest first
    limit: int = 100


V = TypeVar("V")


class HistoryPage(msgspec.Struct, Generic[V], frozen=True):
    """Rows, newest first, and where the next page begins."""

    rows: tuple[V, ...]
    next_before: int | None  # the `before_seq` of the next page; None: this is the last


class Quantiles(msgspec.Struct, frozen=True, gc=False):
    """Nearest-rank quantiles of seconds, as they were measured; None: nothing was."""

    count: int = 0
    p50: float | None = None
    p95: float | None = None


class SummaryGroup(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Figures of all rows of one group, as counted; what is concluded from them is in policy/summary.py."""

    key: Mapping[str, str]  # group_by name -> value; "unknown" where there is none
    outcomes: Mapping[str, int] = {}  # outcome -> how many
    error_classes: Mapping[str, int] = {}
    completed: Quantiles = Quantiles()  # durations of what completed
    ended: Quantiles = Quantiles()  # durations of all that ended
    queue: Quantiles = Quantiles()
    usage: Usage = Usage()  # sum of what was reported; cost_usd None: nobody reported a cost
    with_usage: int = 0  # rows that reported usage
    with_cost: int = 0
    trend_completed: tuple[int, ...] = ()  # how many in each of TREND_SLOTS equal parts of the window, oldest first
    trend_unsuccessful: tuple[int, ...] = ()


class HistoryStats(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How much history there is, and how sound it is."""

    files: int
    bytes: int
    events: int
    first_seq: int  # 0: there is none
    last_seq: int
    pruned_to: int
    first_at: float | None
    last_at: float | None
    runs: int
    tasks: int
    attempts: int
    corrupt: int  # rows that are not what was written
    dropped: int  # events that were given up while the ledger could not be written


GROUPS = ("task_type", "executor", "model", "crew", "runtime", "error_class", "variant")  # variant: all of a row's
