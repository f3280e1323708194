"""The board: every managed run that has not ended, every task's state, and what may start next. No I/O."""

import operator
from bisect import insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from crewd.model.managed import (
    AT_WORK,
    Blocked,
    Completed,
    ManagedRun,
    ManagedTask,
    RetryWait,
    Skipped,
    Waiting,
    name_of,
)
from crewd.model.moment import Reading
from crewd.model.plan import RunPlan, TaskPlan
from crewd.model.run import RUN_ENDED
from crewd.policy.schedule import Busy, Ready

Key = tuple[str, str]  # run id, task id
UNNAMED = "default"  # the executor of tasks that name none
BEST = operator.attrgetter("rank")


@dataclass(slots=True, eq=False)
class RunEntry:
    """One run on the board."""

    run: ManagedRun
    order: int
    tasks: dict[str, ManagedTask]
    plans: dict[str, TaskPlan]
    places: dict[str, int]  # task -> its place in the run file
    dependents: dict[str, list[str]]
    missing: dict[str, int]  # task -> dependencies that are not completed
    counts: Counter[str] = field(default_factory=Counter)
    version: int = 0  # grows with every change
    followed: int = -1  # the version whose consequences are drawn
    doomed: bool = False  # a dependency of somebody can no longer complete, or can again
    known: set[str] = field(default_factory=set)  # tasks that were offered to the engine of work

    @property
    def plan(self) -> RunPlan:
        return self.run.plan


@dataclass(slots=True, eq=False)
class Offered:
    """A task that could start if there were a slot. Ordered best first."""

    rank: tuple[int, float, int, int]
    ready: Ready


@dataclass(slots=True, eq=False)
class Due:
    """A task between two attempts, and until when its delay lasts by the clock that nobody sets."""

    waits: RetryWait
    until: float | None = None  # monotonic; None: nobody has looked yet


@dataclass(slots=True, eq=False)
class Board:
    """What is known of managed runs between two turns of the scheduler. Changed only after a commit."""

    runs: dict[str, RunEntry] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)  # runs that have ended, oldest first
    offered: list[Offered] = field(default_factory=list)
    fresh: dict[Key, Ready] = field(default_factory=dict)  # of these: who is not yet known to the engine of work
    due: dict[Key, Due] = field(default_factory=dict)
    at_work: dict[Key, ManagedTask] = field(default_factory=dict)
    version: int = 0  # grows with every change of anything
    _by_key: dict[Key, Offered] = field(default_factory=dict)
    # At work, by executor, concurrency key, run and circuit: kept with every change, for every turn asks.
    _executors: Counter[str] = field(default_factory=Counter)
    _keys: Counter[str] = field(default_factory=Counter)
    _runs: Counter[str] = field(default_factory=Counter)
    _circuits: Counter[str] = field(default_factory=Counter)
    _orders: int = 0

    def add(self, run: ManagedRun, tasks: dict[str, ManagedTask]) -> RunEntry:
        """Put a run on the board, with all its tasks."""
        plans = {plan.task_id: plan for plan in run.plan.tasks}
        dependents: dict[str, list[str]] = {task_id: [] for task_id in plans}
        for plan in run.plan.tasks:
            for other in set(plan.depends_on):
                dependents[other].append(plan.task_id)
        self._orders += 1
        places = {task_id: place for place, task_id in enumerate(plans)}
        missing = {plan.task_id: len(set(plan.depends_on)) for plan in run.plan.tasks}
        entry = RunEntry(run, self._orders, {}, plans, places, dependents, missing)
        self.runs[run.plan.run_id] = entry
        self.version += 1
        # First what is done, so that whoever depends on it is seen to be ready.
        for task in sorted(tasks.values(), key=lambda task: not isinstance(task.state, Completed)):
            self.put(task)
        entry.doomed = True
        if run.status in RUN_ENDED:
            self.ended.append(run.plan.run_id)
        return entry

    def put(self, task: ManagedTask) -> None:
        """Take in a task as it is now."""
        entry = self.runs[task.run_id]
        before = entry.tasks.get(task.task_id)
        entry.tasks[task.task_id] = task
        entry.version += 1
        self.version += 1
        if before is not None:
            entry.counts[name_of(before.state)] -= 1
        entry.counts[name_of(task.state)] += 1
        key = (task.run_id, task.task_id)
        self._withdraw(key)
        self.due.pop(key, None)
        was_at_work = self.at_work.pop(key, None) is not None
        is_at_work = isinstance(task.state, AT_WORK)
        if was_at_work != is_at_work:
            self._count(key, 1 if is_at_work else -1)
        match task.state:
            case Waiting():
                entry.doomed |= before is not None and not isinstance(before.state, AT_WORK)
                self._offer(entry, task)
            case RetryWait() as waits:
                self.due[key] = Due(waits)
            case Completed():
                self._release(entry, task.task_id)
            case Blocked() | Skipped():
                entry.doomed = True
            case _ if is_at_work:
                self.at_work[key] = task
            case _:
                entry.doomed = True

    def put_run(self, run: ManagedRun) -> None:
        entry = self.runs[run.plan.run_id]
        entry.run = run
        entry.version += 1
        self.version += 1
        is_ended = run.plan.run_id in self.ended
        if run.status in RUN_ENDED and not is_ended:
            self.ended.append(run.plan.run_id)
        elif run.status not in RUN_ENDED and is_ended:
            self.ended.remove(run.plan.run_id)

    def task(self, key: Key) -> ManagedTask | None:
        entry = self.runs.get(key[0])
        return entry.tasks.get(key[1]) if entry is not None else None

    def plan(self, key: Key) -> TaskPlan:
        return self.runs[key[0]].plans[key[1]]

    def offer_due(self, now: Reading) -> float | None:
        """Offer every retry that is due; returns the seconds until the next one is, None: there is none."""
        soonest: float | None = None
        for key, due in list(self.due.items()):
            # A delay counts from when it was decided: a clock set back, before we looked or since, stretches it not.
            left = min(due.waits.due_at - now.wall, due.waits.delay)
            if due.until is None:
                due.until = now.mono + left
            left = min(left, due.until - now.mono)
            if left <= 0:
                del self.due[key]
                entry = self.runs[key[0]]
                self._offer(entry, entry.tasks[key[1]])
            else:
                soonest = left if soonest is None else min(soonest, left)
        return soonest

    def busy(self) -> Busy:
        """Whose slots are taken, as long as nobody is put."""
        return Busy(
            total=len(self.at_work),
            executors=self._executors,
            keys=self._keys,
            runs=self._runs,
            circuits=self._circuits,
        )

    def drop_ended(self, most: int) -> list[str]:
        """Let the oldest ended runs go, so that at most so many are kept in view."""
        gone = self.ended[: max(0, len(self.ended) - most)]
        for run_id in gone:
            self.ended.remove(run_id)
            del self.runs[run_id]
        self.version += len(gone)
        return gone

    def active(self) -> Iterator[RunEntry]:
        return (entry for entry in self.runs.values() if entry.run.status not in RUN_ENDED)

    def _offer(self, entry: RunEntry, task: ManagedTask) -> None:
        if entry.missing[task.task_id] or entry.run.status in RUN_ENDED:
            return
        plan = entry.plans[task.task_id]
        key = (task.run_id, task.task_id)
        order = entry.places[task.task_id]
        ready = Ready(
            key=key,
            executor=plan.executor,
            priority=plan.priority,
            concurrency_key=plan.concurrency_key,
            concurrency_max=plan.concurrency_max,
            run_parallel_max=entry.plan.max_parallel,
            circuit=circuit_of(plan),
            crew=entry.plan.crew,
            since=entry.run.submitted_at,
            order=order,
            is_retry=isinstance(task.state, RetryWait),
        )
        offered = Offered((-plan.priority, entry.run.submitted_at, entry.order, order), ready)
        self._by_key[key] = offered
        insort(self.offered, offered, key=BEST)
        if task.task_id not in entry.known:
            self.fresh[key] = ready

    def _withdraw(self, key: Key) -> None:
        offered = self._by_key.pop(key, None)
        if offered is not None:
            self.offered.remove(offered)
            self.fresh.pop(key, None)

    def _count(self, key: Key, step: int) -> None:
        plan = self.plan(key)
        for counter, name in (
            (self._executors, plan.executor),
            (self._keys, plan.concurrency_key),
            (self._runs, key[0]),
            (self._circuits, circuit_of(plan)),
        ):
            if name:
                counter[name] += step
                if not counter[name]:
                    del counter[name]

    def _release(self, entry: RunEntry, task_id: str) -> None:
        for other in entry.dependents[task_id]:
            entry.missing[other] -= 1
            waiting = entry.tasks.get(other)
            if not entry.missing[other] and waiting is not None and isinstance(waiting.state, Waiting):
                self._offer(entry, waiting)


def circuit_of(plan: TaskPlan) -> str:
    """Name the circuit on which a task hangs: its provider's, or its executor's; "": none.

    What runs without an executor of its own has nothing in common: one that fails says nothing of the others.
    """
    return plan.provider or ("" if plan.executor == UNNAMED else plan.executor)
