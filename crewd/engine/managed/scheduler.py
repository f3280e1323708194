"""The scheduler: what managed runs do, on one screen. It starts what may start, and never two attempts of one task.

Every turn looks at everything that changed: a lost wake-up costs one interval, never a task.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgspec
import structlog

from crewd.engine.managed import transitions
from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.board import Board, Key, RunEntry
from crewd.engine.managed.circuits import Changed, Circuits
from crewd.engine.managed.conduct import Conductor
from crewd.engine.managed.options import TaskOptions
from crewd.engine.managed.places import name_of
from crewd.engine.managed.register import Register
from crewd.host.attempt_folder import folder_of
from crewd.host.clock import Clock
from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerError, LedgerFailed
from crewd.model.action import Start
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Failure
from crewd.model.managed import ManagedRun, ManagedTask, Pause, RetryWait
from crewd.model.moment import Reading
from crewd.model.plan import TaskPlan
from crewd.model.run import RUN_ENDED, RunStatus
from crewd.model.work import Conflict, Item, Lease, Unavailable
from crewd.policy.rollup import status_of
from crewd.policy.schedule import REASONS_MAX, Slots, choose_in_order, fate

REST_MAX = 1.0  # seconds between two turns, whatever happens
OFFERS_MAX = 1000  # items in one transaction
HANDOVER_PATIENCE = 3.0  # seconds
RUNNABLE = ("waiting", "starting", "running", "ending", "retry_wait")
log = structlog.get_logger("crewd.tasks")


@dataclass(slots=True, eq=False)
class Scheduler:
    """Starts attempts and closes runs. Whoever changes a task that nobody works on holds `turns` meanwhile."""

    board: Board
    register: Register
    conductor: Conductor
    circuits: Circuits
    clock: Clock
    options: TaskOptions
    pauses: dict[str, Pause] = field(default_factory=dict)
    shut: Callable[[], tuple[Pause, ...]] = lambda: ()  # doors that crewd itself keeps shut: a budget is spent
    turns: asyncio.Lock = field(default_factory=asyncio.Lock)
    hints: Sequence[tuple[str, ErrorClass]] = ()  # models of observed runs whose provider refuses them just now
    closing: str = ""  # why nothing more is started, for good
    stop_patience: float = 60.0  # seconds beyond what plans allow, after which crewd ends without a proof
    succeeded_at: float = 0.0  # wall time of the latest complete turn
    _starts: deque[float] = field(default_factory=lambda: deque(maxlen=4096))
    _attempts: set[asyncio.Task[None]] = field(default_factory=set)
    _look_in: float | None = None

    async def run(self) -> None:
        """Take turns until cancelled. Then attempts are let go of, and their workers go on."""
        try:
            while True:
                self.register.wake.clear()
                self._look_in = None  # a turn that fails is followed by another after a rest, not at once
                try:
                    await self.turn()
                except (LedgerFailed, Unavailable) as error:
                    # Nothing was started: what is not durable did not happen.
                    log.warning("scheduler.waits", error=str(error))
                except Exception:
                    # A defect ends no worker's supervision. That turns fail is seen: `succeeded_at` stands still.
                    self.conductor.defects["scheduler"] += 1
                    log.exception("scheduler.defect")
                await self._rest()
        finally:
            for task in self._attempts:
                task.cancel()
            if self._attempts:
                await asyncio.wait(self._attempts)

    @property
    def held(self) -> dict[Key, str]:
        """Who is ready and not started, and why: worked out for whoever asks, not with every turn."""
        return dict(self._choice(self.clock.read(), REASONS_MAX).held)

    async def turn(self) -> None:
        """One turn: close what is done, bring back what is due, start what may start."""
        async with self.turns:
            now = self.clock.read()
            await self._follow(now)
            due_in = self.board.offer_due(now)
            self._look_in = _sooner(due_in, await self._probe(now))
            if not self.closing:
                await self._start(now)
            self.board.drop_ended(self.options.ended_max)
            self.succeeded_at = now.wall

    def carry(self, attempt: Attempt) -> None:
        """Let an attempt be carried by a coroutine of its own, until nothing of it is left."""
        self.conductor.attempts[attempt.key] = attempt  # at once: somebody may ask for its end before it has a turn
        task = asyncio.create_task(self._carry(attempt), name=f"attempt {attempt.name}")
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)

    async def close(self, drain_timeout: float, tick: Callable[[], None], hurry: asyncio.Event) -> None:
        """Start nothing more, let what runs end within so many seconds, then end it: nothing is lost or failed by it.

        `hurry` cuts the waiting short.
        """
        self.closing = "crewd stops"
        async with self.turns:
            pass  # a turn that was under way has made its attempts
        await self._until_idle(drain_timeout, tick, hurry)
        for attempt in list(self.conductor.attempts.values()):
            attempt.end(Over("crewd stopped", interrupted=True))
        longest = max((_stop_seconds(each.plan) for each in self.conductor.attempts.values()), default=0.0)
        deadline = self.clock.read().mono + longest + self.stop_patience
        while self._attempts and self.clock.read().mono < deadline:
            tick()
            await asyncio.wait(list(self._attempts), timeout=min(1.0, self.stop_patience))
        if self._attempts:
            # The disk takes nothing, or a process cannot be killed: the next crewd accounts for whoever is left.
            log.error("scheduler.not_stopped", attempts=len(self._attempts), ledger=self.register.failed)
            return
        with contextlib.suppress(LedgerError):
            async with self.turns:  # a turn of its own may be under way, and would tell the same
                await self._follow(self.clock.read())

    async def hand_over(self) -> None:
        """Start nothing more, and wait until nobody stands between his lease and his process."""
        self.closing = "crewd hands over"
        async with self.turns:
            pass
        # A start takes milliseconds; one that waits for a shortage to end has begun nothing, and counts once more.
        deadline = self.clock.read().mono + HANDOVER_PATIENCE
        while any(each.grip is None and not each.over for each in self.conductor.attempts.values()):
            if self.clock.read().mono > deadline:
                break
            await asyncio.sleep(0.01)

    async def _until_idle(self, seconds: float, tick: Callable[[], None], hurry: asyncio.Event) -> None:
        deadline = self.clock.read().mono + seconds
        while self._attempts and not hurry.is_set() and (left := deadline - self.clock.read().mono) > 0:
            tick()
            await asyncio.wait(list(self._attempts), timeout=min(0.2, left))

    async def _follow(self, now: Reading) -> None:
        """What became of some tasks decides about others, and in the end about their run."""
        runs: list[ManagedRun] = []
        tasks: list[ManagedTask] = []
        events: list[Event] = []
        looked: list[tuple[RunEntry, int]] = []
        for entry in self.board.active():
            if entry.followed == entry.version:
                continue
            looked.append((entry, entry.version))
            self.register.balance(entry)
            changed = self._fates(entry, now.wall, events)
            tasks += changed
            after = self._rolled_up(entry, changed, now.wall, events)
            if after is not None:
                runs.append(after)
        if events:
            try:
                await self.register.commit(Batch(events=tuple(events), managed=tuple(runs), tasks=tuple(tasks)))
            except Exception:
                for entry, _ in looked:  # what could not be written follows again
                    entry.doomed = True
                raise
        for entry, version in looked:
            entry.followed = version

    def _fates(self, entry: RunEntry, at: float, events: list[Event]) -> list[ManagedTask]:
        if not entry.doomed:
            return []
        entry.doomed = False
        changed = []
        for each in fate(entry.plan, entry.tasks):
            plan = entry.plans[each.task_id]
            task, told = transitions.fated(entry.run, plan, entry.tasks[each.task_id], each, at)
            changed.append(task)
            events += told
        return changed

    def _rolled_up(
        self, entry: RunEntry, changed: Sequence[ManagedTask], at: float, events: list[Event]
    ) -> ManagedRun | None:
        """The run as its tasks make it; None: as it was."""
        status = entry.run.status
        runs = any(entry.counts[state] for state in RUNNABLE)
        if not changed and runs and status is RunStatus.RUNNING:
            return None
        tasks = entry.tasks | {task.task_id: task for task in changed}
        after = status_of(entry.run, tasks.values())
        if after is status:
            return None
        ended = after in RUN_ENDED
        data: dict[str, object] = {"from_status": status.value, "status": after.value}
        if ended:
            data["duration_seconds"] = max(0.0, at - entry.run.submitted_at)
        type = transitions.RUN_EVENT.get(after, "run.status_changed")
        if status is RunStatus.BLOCKED and after is RunStatus.RUNNING:
            type = "run.resumed"
        run = msgspec.structs.replace(entry.run, status=after, ended_at=at if ended else None)
        events.append(transitions.run_event(type, run, at, data))
        return run

    async def _probe(self, now: Reading) -> float | None:
        """Let circuits be tried again whose time has come; returns the seconds until the next one is.

        What happened to others at the same provider is heard first: see `engine.hints`.
        """
        hints, self.hints = self.hints, ()
        for model, error_class in hints:
            await self._note_circuits(self.circuits.hinted(model, error_class, now.wall))
        await self._note_circuits(self.circuits.advance(now.wall))
        waits = [state.probe_at - now.wall for state in self.circuits.states.values() if state.probe_at is not None]
        return min((wait for wait in waits if wait > 0), default=None)

    async def _note_circuits(self, changed: Changed) -> None:
        states, events = changed
        if states:
            await self.register.commit(Batch(events=events, circuits=states))

    async def _start(self, now: Reading) -> None:
        """Choose, take, and carry."""
        await self._offer()
        choice = self._choice(now, reasons=0)
        self._look_in = _sooner(self._look_in, choice.look_in)
        if not choice.keys:
            return
        leases = await self.register.pull(["/".join(key) for key in choice.keys], self._recorded)
        for lease in leases:
            self._starts.append(now.mono)
            self.carry(self._attempt(lease))
        if len(leases) < len(choice.keys):
            self._look_in = _sooner(self._look_in, 0.2)
            given = {lease.key for lease in leases}
            await self._offer_anew([key for key in choice.keys if "/".join(key) not in given])

    def _choice(self, now: Reading, reasons: int) -> Start:
        return choose_in_order(
            (offered.ready for offered in self.board.offered),
            self.board.busy(),
            self._slots(),
            pauses=(*self.pauses.values(), *self.shut()),  # one that drains lets retries in, a spent budget does not
            circuits=lambda name, busy: self.circuits.allows(name, busy, now.wall),
            now_mono=now.mono,
            reasons=reasons,
        )

    async def _offer(self) -> None:
        """Offer to the engine of work what was never offered: the same key twice is one item."""
        fresh = list(islice(self.board.fresh.values(), OFFERS_MAX))
        if not fresh:
            return
        items = [Item("/".join(each.key), each.executor, each.priority, 0.0) for each in fresh]
        await self.register.offer(items)
        for each in fresh:
            self.board.fresh.pop(each.key, None)
            self.board.runs[each.key[0]].known.add(each.key[1])
        if len(fresh) == OFFERS_MAX:
            self.register.wake.set()

    async def _offer_anew(self, keys: Sequence[Key]) -> None:
        """Mend what the engine of work has otherwise than the board, which is the one that knows who is ready.

        crewd may have ended between taking an item back and offering it again; or the wall clock was set back, and
        what is due here is not due there for as long.
        """
        for key in keys:
            plan = self.board.plan(key)
            log.info("item.offered_anew", key="/".join(key))
            with contextlib.suppress(Conflict):  # somebody holds it after all
                await self.register.offer_again(Item("/".join(key), plan.executor, plan.priority), Batch())

    def _recorded(self, leases: Sequence[Lease]) -> Batch:
        """STARTING, for every lease that was given. Called by the writer, in its transaction."""
        at = self.clock.read().wall
        tasks: list[ManagedTask] = []
        events: list[Event] = []
        for lease in leases:
            entry, task = self._of(lease)
            plan = entry.plans[task.task_id]
            waited = transitions.queue_seconds(task, [entry.tasks[each] for each in plan.depends_on], at)
            after, told = transitions.starting(entry.run, plan, task, lease.fence, at, waited)
            tasks.append(after)
            events += told
        return Batch(events=tuple(events), tasks=tuple(tasks))

    def _attempt(self, lease: Lease) -> Attempt:
        entry, task = self._of(lease)
        return attempt_of(entry, task, lease, self.options.folder)

    def _of(self, lease: Lease) -> tuple[RunEntry, ManagedTask]:
        run_id, _, task_id = lease.key.partition("/")
        entry = self.board.runs[run_id]
        return entry, entry.tasks[task_id]

    async def _carry(self, attempt: Attempt) -> None:
        try:
            await self.conductor.conduct(attempt)
        except Exception:
            # A defect, or an outcome that no ledger takes, costs this attempt, and no other. What it started is ended
            # all the same.
            self.conductor.defects["attempt"] += 1
            log.exception("attempt.defect", attempt=attempt.name)
            await self._fail(attempt)
        finally:
            attempt.settled.set()  # not before: whoever waits for its end waits while it is carried once more

    async def _fail(self, attempt: Attempt) -> None:
        words = "crewd itself failed to carry this attempt; its log tells how"
        attempt.over = Over(words, Failure(ErrorClass.UNKNOWN, words, code="defect"))
        try:
            await self.conductor.conduct(attempt)
        except Exception:
            # Its task keeps its slot, so that nothing is started beside it; the next start accounts for it.
            log.exception("attempt.defect_again", attempt=attempt.name)
            self.conductor.stuck[attempt.key] = "crewd failed to carry it; see the log, and restart crewd"

    def _slots(self) -> Slots:
        options = self.options
        return Slots(
            total=options.max_parallel,
            executors=options.executors_max,
            start_rate=options.start_rate or None,
            start_burst=options.start_burst,
            recent_starts=tuple(self._starts) if options.start_rate else (),
        )

    async def _rest(self) -> None:
        left = REST_MAX if self._look_in is None else min(REST_MAX, max(0.001, self._look_in))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self.register.wake.wait()


def attempt_of(entry: RunEntry, task: ManagedTask, lease: Lease, root: str) -> Attempt:
    """An attempt of a task that is at work, for the conductor. `root` is the folder of all attempts."""
    number = task.attempt
    assert not isinstance(task.state, RetryWait)
    # The folder as it was recorded: that of all attempts may have been configured elsewhere since.
    mark = getattr(task.state, "folder", "") or folder_of(root, task.run_id, task.task_id, number)
    name = name_of(task.run_id, task.task_id, number)
    return Attempt(entry.run, entry.plans[task.task_id], lease, number, name, mark)


def _stop_seconds(plan: TaskPlan) -> float:
    """The longest that an attempt may take to end: what looks at its promises included."""
    stop = plan.stop
    return stop.grace + sum(each.wait for each in stop.steps) + stop.drain + plan.success.command_timeout


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
