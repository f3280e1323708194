"""Who starts now, and why the others wait; which tasks a plan lets start, and what becomes of those it bars."""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from crewd.model.action import Start
from crewd.model.failure import ErrorClass
from crewd.model.managed import (
    AnyState,
    Blocked,
    Cancelled,
    Completed,
    DeadLettered,
    ManagedTask,
    Pause,
    RetryWait,
    Skipped,
    Waiting,
)
from crewd.model.plan import RunPlan, TaskPlan
from crewd.policy.lifecycle import Step

Key = tuple[str, str]  # run id, task id
Admission = tuple[bool, str, float | None]  # may one more start; if not, why; seconds until time alone may change it
Circuits = Mapping[str, Admission] | Callable[[str, int], Admission]

REASONS_MAX = 1000  # of those that wait, so many are told why: a person reads no more, and each costs time
ROOTS_MAX = 16  # causes that are named for one task: without a bound, merging them is not linear


class Ready(msgspec.Struct, frozen=True, gc=False):
    """A task that could be pulled, with everything that decides whether it may."""

    key: Key
    executor: str = "default"
    priority: int = 0  # higher first
    concurrency_key: str = ""  # "": it shares nothing
    concurrency_max: int = 1
    run_parallel_max: int | None = None  # of its run; None: no limit
    circuit: str = ""  # "": it hangs on none
    crew: str = ""
    since: float = 0.0  # when it was offered; within one priority the older first
    order: int = 0  # within one moment: as written in its plan
    is_retry: bool = False  # an attempt of it was made before


class Busy(msgspec.Struct, frozen=True, gc=False):
    """How many tasks are at work (starting, running, ending), by what limits them."""

    total: int = 0
    executors: Mapping[str, int] = {}
    keys: Mapping[str, int] = {}
    runs: Mapping[str, int] = {}
    circuits: Mapping[str, int] = {}


class Slots(msgspec.Struct, frozen=True, gc=False):
    """How many may be at work, and how fast they may be started.

    With a start rate, at most `start_burst` tasks start in any `start_burst / start_rate` seconds. So `recent_starts`
    has to reach back only so far.
    """

    total: int
    executors: Mapping[str, int] = {}  # absent: no limit of its own
    start_rate: float | None = None  # per second; None: not paced
    start_burst: int = 1
    recent_starts: tuple[float, ...] = ()  # monotonic times, oldest first


class Fate(msgspec.Struct, frozen=True, gc=False):
    """What the tasks before it make of a task: skip, block or unblock."""

    task_id: str
    step: Step
    reason: str
    on: tuple[str, ...] = ()  # the dependencies that stand in its way
    root: tuple[str, ...] = ()  # the tasks that are the cause, at most ROOTS_MAX


def choose(
    ready: Sequence[Ready], busy: Busy, slots: Slots, *, pauses: Sequence[Pause], circuits: Circuits, now_mono: float
) -> Start:  # fmt: skip
    """Choose whom to start now: best first, by priority, then age, then order.

    Whoever is held blocks nobody behind it. Those chosen count at once against every limit. `circuits` answers
    whether a circuit lets one more start, given how many of it are at work; a circuit that a mapping does not name
    is closed. Why a task waits is said of the first REASONS_MAX; `look_in` is None where only something else than
    time (an end, a person) can let another start.
    """
    return choose_in_order(
        _best_first(ready), busy, slots, pauses=pauses, circuits=circuits, now_mono=now_mono, reasons=REASONS_MAX
    )


def choose_in_order(
    ready: Iterable[Ready],
    busy: Busy,
    slots: Slots,
    *,
    pauses: Sequence[Pause],
    circuits: Circuits,
    now_mono: float,
    reasons: int = 0,
) -> Start:
    """The same for a queue that is kept best first. Of those that wait, `reasons` are told why.

    It looks no further than to where nobody can start any more and nobody is to be told why: a choice costs what it
    starts, however long the queue is.
    """
    doors = _Doors(busy, slots, pauses, circuits, now_mono)
    chosen: list[Key] = []
    held: dict[Key, str] = {}
    for task in ready:
        if len(held) >= reasons:
            if doors.all_shut():
                break
            if task.executor in doors.executors_full:
                continue  # a long queue before a full executor is the common case
        why = doors.held(task)
        if not why:
            doors.take(task)
            chosen.append(task.key)
        elif len(held) < reasons:
            held[task.key] = why
    return Start(tuple(chosen), held, doors.look_in())


def _best_first(ready: Sequence[Ready]) -> Iterator[Ready]:
    """A heap, not a sort: of a long queue mostly the head is wanted."""
    heap = [(-task.priority, task.since, task.order, number) for number, task in enumerate(ready)]
    heapq.heapify(heap)
    while heap:
        yield ready[heapq.heappop(heap)[3]]


class _Doors:
    """The doors that a task must pass, and what was taken through them during one choice."""

    def __init__(
        self, busy: Busy, slots: Slots, pauses: Sequence[Pause], circuits: Circuits, now_mono: float
    ) -> None:  # fmt: skip
        self._slots = slots
        self._total = busy.total
        self._executors, self._keys = Counter(busy.executors), Counter(busy.keys)
        self._runs, self._circuits = Counter(busy.runs), Counter(busy.circuits)
        self._pauses = {pause.scope: pause for pause in pauses}
        self._admits = circuits
        self._answers: dict[tuple[str, int], Admission] = {}
        self._pace = _Pace(slots, now_mono)
        self._waits: set[float] = set()
        self.executors_full: set[str] = set()  # found so; none empties during one choice

    def held(self, task: Ready) -> str:
        """Why the task may not start; "": it may. What a person did comes first, what passes by itself last."""
        return (
            self._paused(task)
            or self._circuit(task)
            or self._key(task)
            or self._run(task)
            or self._executor(task)
            or self._slot()
            or self._pace.held()
        )

    def take(self, task: Ready) -> None:
        self._total += 1
        self._executors[task.executor] += 1
        self._keys[task.concurrency_key] += 1
        self._runs[task.key[0]] += 1
        self._circuits[task.circuit] += 1
        self._pace.take()

    def all_shut(self) -> bool:
        """Nobody at all can start any more: the rest need not be looked at."""
        daemon = self._pauses.get("daemon")
        return (daemon is not None and daemon.mode != "drain") or self._is_full() or self._pace.is_shut()

    def look_in(self) -> float | None:
        """Seconds until time alone may let another start. While every slot is taken it cannot."""
        if self._is_full():
            return None
        if self._pace.asked:
            # Nobody starts before that, whatever a circuit does meanwhile.
            return self._pace.wait()
        return min(self._waits, default=None)

    def _paused(self, task: Ready) -> str:
        if not self._pauses:
            return ""
        for scope, name in (
            ("daemon", "crewd"),
            (f"crew:{task.crew}", f"the crew {task.crew}"),
            (f"executor:{task.executor}", f"the executor {task.executor}"),
            (f"run:{task.key[0]}", "the run"),
        ):
            pause = self._pauses.get(scope)
            if pause is None:
                continue
            because = f" ({pause.reason})" if pause.reason else ""
            if pause.mode != "drain":
                return f"{name} is paused{because}"
            if not task.is_retry:
                return f"{name} is draining{because}: what has not begun waits"
        return ""

    def _circuit(self, task: Ready) -> str:
        if not task.circuit:
            return ""
        admitted, why, wait = self._admission(task.circuit)
        if admitted:
            return ""
        if wait is not None:
            self._waits.add(max(wait, 0.0))
        return why or f"the circuit {task.circuit} is open"

    def _admission(self, name: str) -> Admission:
        asked = (name, self._circuits[name])
        if asked not in self._answers:
            if isinstance(self._admits, Mapping):
                self._answers[asked] = self._admits.get(name, (True, "", None))
            else:
                self._answers[asked] = self._admits(*asked)
        return self._answers[asked]

    def _key(self, task: Ready) -> str:
        if not task.concurrency_key or self._keys[task.concurrency_key] < task.concurrency_max:
            return ""
        return f"{self._keys[task.concurrency_key]} of {task.concurrency_max} tasks with the concurrency key " \
               f"{task.concurrency_key} are at work"  # fmt: skip

    def _run(self, task: Ready) -> str:
        if task.run_parallel_max is None or self._runs[task.key[0]] < task.run_parallel_max:
            return ""
        return f"the run has {self._runs[task.key[0]]} of {task.run_parallel_max} tasks at work"

    def _executor(self, task: Ready) -> str:
        limit = self._slots.executors.get(task.executor)
        if limit is None or self._executors[task.executor] < limit:
            return ""
        self.executors_full.add(task.executor)
        return f"the executor {task.executor} has {self._executors[task.executor]} of {limit} slots busy"

    def _is_full(self) -> bool:
        return self._total >= self._slots.total

    def _slot(self) -> str:
        return f"{self._total} of {self._slots.total} slots are busy" if self._is_full() else ""


class _Pace:
    """At most a burst of starts within the time in which the rate allows that many."""

    def __init__(self, slots: Slots, now_mono: float) -> None:
        self._rate = slots.start_rate
        self._burst = max(slots.start_burst, 1)
        self._now = now_mono
        # Only the newest `burst` starts can matter: when the oldest of them has left the window, one more may go.
        self._taken = deque(slots.recent_starts[-self._burst :], maxlen=self._burst)
        self.asked = False  # somebody was held by it

    def take(self) -> None:
        self._taken.append(self._now)

    def held(self) -> str:
        if not self.is_shut():
            return ""
        return f"starts are paced at {self._rate:g} a second: the next in {self.wait():.1f} s"

    def is_shut(self) -> bool:
        """Whether nobody may start just now. Somebody asked because he would."""
        shut = self.wait() > 0.0
        self.asked |= shut
        return shut

    def wait(self) -> float:
        """Seconds until one more may start."""
        if self._rate is None or len(self._taken) < self._burst:
            return 0.0
        return self._taken[0] + self._burst / self._rate - self._now


def can_start(plan: RunPlan, task_id: str, tasks: Mapping[str, ManagedTask]) -> bool:
    """Whether a task waits, or waits for a retry, and everything it depends on is completed. Raises KeyError.

    A task that `tasks` lacks is not known to be completed. Whether a retry is due is not looked at here.
    """
    return _can_start(plan.task(task_id), tasks)


def startable(plan: RunPlan, tasks: Mapping[str, ManagedTask]) -> tuple[str, ...]:
    """All tasks that `can_start`, as the plan orders them; linear, where asking for each is not."""
    return tuple(task.task_id for task in plan.tasks if _can_start(task, tasks))


def _can_start(task: TaskPlan, tasks: Mapping[str, ManagedTask]) -> bool:
    return isinstance(_state(tasks, task.task_id), Waiting | RetryWait) and all(
        isinstance(_state(tasks, each), Completed) for each in task.depends_on
    )


def _state(tasks: Mapping[str, ManagedTask], task_id: str) -> AnyState | None:
    task = tasks.get(task_id)
    return None if task is None else task.state


def fate(plan: RunPlan, tasks: Mapping[str, ManagedTask]) -> list[Fate]:
    """Say what becomes of the tasks whose way is barred, or free again, through all generations at once (T17).

    In an order in which each can be applied after the one before; applied, nothing more follows. A dependency that
    was dead-lettered, cancelled or skipped bars the way for good, as far as anybody knows: those behind it are
    skipped, or blocked where their plan says so. One that is blocked blocks. When the cause is gone (redriven), the
    skipped and the blocked wait again: a skipped one only once nothing at all is in its way, so that it changes once.
    A task that is blocked `on` no task, or was skipped for another reason than its dependencies, is left alone.
    It costs the tasks plus their dependencies, and next to nothing while no task is barred.
    """
    if not any(isinstance(task.state, _BARRED) for task in tasks.values()):
        return []
    fates: list[Fate] = []
    bars: dict[str, _Bar] = {}  # those that no longer can complete, or cannot now
    for task in _dependencies_first(plan):
        state = _state(tasks, task.task_id)
        barred = tuple(each for each in task.depends_on if each in bars)
        lost = tuple(each for each in barred if bars[each].lost)
        found = _fate_of(task, state, lost, barred, bars)
        if found is not None:
            fates.append(found)
        bar = _bar_of(task, state, found, _roots(lost or barred, bars))
        if bar is not None:
            bars[task.task_id] = bar
    return fates


_BARRED = (DeadLettered, Cancelled, Skipped, Blocked)


class _Bar(msgspec.Struct, frozen=True, gc=False):
    """A task behind which nothing can start. `lost`: nor will, unless somebody redrives."""

    lost: bool
    roots: tuple[str, ...]


def _dependencies_first(plan: RunPlan) -> Iterator[TaskPlan]:
    """Every task after all it depends on (Kahn), without recursion: a chain may be as long as it likes."""
    by_id = {task.task_id: task for task in plan.tasks}
    missing = {task.task_id: sum(each in by_id for each in task.depends_on) for task in plan.tasks}
    after: dict[str, list[str]] = {}
    for task in plan.tasks:
        for each in task.depends_on:
            after.setdefault(each, []).append(task.task_id)
    free = deque(task_id for task_id, count in missing.items() if not count)
    while free:
        task_id = free.popleft()
        yield by_id[task_id]
        for each in after.get(task_id, ()):
            missing[each] -= 1
            if not missing[each]:
                free.append(each)


def _fate_of(
    task: TaskPlan, state: AnyState | None, lost: tuple[str, ...], barred: tuple[str, ...], bars: Mapping[str, _Bar]
) -> Fate | None:  # fmt: skip
    """`barred`: all its dependencies that cannot complete now; `lost`: those of them that never will."""
    match state:
        case Waiting():
            pass
        case Blocked(on=on) if on:
            pass
        case Skipped(error_class=ErrorClass.DEPENDENCY_FAILED) if task.depends_on:
            if barred:
                return None
        case _:
            return None
    if lost and task.on_dependency_failure != "block":
        reason = f"{_listed(lost)} did not complete"
        return Fate(task.task_id, Step.SKIP, reason, lost, _roots(lost, bars))
    if barred:
        roots = _roots(barred, bars)
        if isinstance(state, Blocked) and (state.on, state.root) == (barred, roots):
            return None
        return Fate(task.task_id, Step.BLOCK, f"it needs {_listed(barred)}", barred, roots)
    if isinstance(state, Waiting):
        return None
    return Fate(task.task_id, Step.UNBLOCK, "what it depends on can complete again")


def _bar_of(
    task: TaskPlan, state: AnyState | None, found: Fate | None, roots: tuple[str, ...]
) -> _Bar | None:  # fmt: skip
    """Whether those behind the task are barred by it, once its own fate is applied."""
    if found is not None:
        return None if found.step is Step.UNBLOCK else _Bar(found.step is Step.SKIP, found.root)
    match state:
        case DeadLettered() | Cancelled():
            return _Bar(True, (task.task_id,))
        case Skipped(error_class=ErrorClass.DEPENDENCY_FAILED):
            return _Bar(True, roots or (task.task_id,))
        case Skipped():
            return _Bar(True, (task.task_id,))
        case Blocked(on=on):
            return _Bar(False, roots if on else (task.task_id,))
        case _:
            return None


def _roots(on: tuple[str, ...], bars: Mapping[str, _Bar]) -> tuple[str, ...]:
    if len(on) == 1:
        return bars[on[0]].roots
    roots: dict[str, None] = {}
    for each in on:
        roots.update(dict.fromkeys(bars[each].roots))
        if len(roots) >= ROOTS_MAX:
            break
    return tuple(roots)[:ROOTS_MAX]


def _listed(names: tuple[str, ...]) -> str:
    """Name a few: the rest is in `on`."""
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
