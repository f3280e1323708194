"""Conduct: one attempt, from its start to the proof that nothing of it is left, and what follows from how it went."""

import asyncio
import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from crewd.engine.managed import outcome, transitions
from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.board import Board, Key, circuit_of
from crewd.engine.managed.circuits import Circuits
from crewd.engine.managed.dialogue import Dialogue
from crewd.engine.managed.hands import Grip, Hands, Held
from crewd.engine.managed.options import TaskOptions
from crewd.engine.managed.outcome import Facts
from crewd.engine.managed.output import trim
from crewd.engine.managed.places import CannotStart, Prepared, cannot, prepare
from crewd.engine.managed.register import Register
from crewd.engine.managed.stopping import Stopping
from crewd.host.clock import Clock
from crewd.host.shim import ExitRecord
from crewd.host.spawning import Spawn
from crewd.ledger.batch import Batch
from crewd.model.action import GiveUp, Park, RetryAt
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.model.look import DeadLetter
from crewd.model.managed import AttemptRecord, Ending, ManagedTask, Running, Starting
from crewd.model.plan import Mode
from crewd.model.work import LeaseLost
from crewd.policy.budget import spend
from crewd.policy.handling import handling_of
from crewd.policy.invariants import DELAY_CEILING, DELAY_FLOOR
from crewd.policy.retry import after_failure

PARKED_SECONDS = 60.0
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
SHORTAGE_PAUSE = 1.0
SHORTAGE_REMEDY = "raise crewd's limits of open files and processes, or lower tasks.max_parallel"
CHECK_WORDS = 400  # characters of what a success command wrote to stderr
log = structlog.get_logger("crewd.tasks")


@dataclass(slots=True, eq=False)
class Conductor:
    """Carries attempts. Every attempt is owned by one of its coroutines from its lease to its last transaction."""

    board: Board
    register: Register
    hands: Hands
    clock: Clock
    circuits: Circuits
    options: TaskOptions
    environ: Mapping[str, str]
    roll: Callable[[], float]
    redact: Callable[[str], str] = str
    learn: Callable[[str], None] = lambda secret: None  # a text that must never be shown
    paroled: Callable[[Key], bool] = lambda key: False  # it was tried again unasked
    settled: Callable[[DeadLetter], None] = lambda letter: None  # a new dead letter is durable
    attempts: dict[Key, Attempt] = field(default_factory=dict)
    dialogues: dict[Key, Dialogue] = field(default_factory=dict)
    stuck: dict[Key, str] = field(default_factory=dict)  # attempts that do not end: why
    short: dict[Key, str] = field(default_factory=dict)  # attempts for whose start crewd lacks something: what
    messages: Counter[str] = field(default_factory=Counter)  # of protocol workers whose attempt is over, by type
    budgets: dict[str, tuple[float, ...]] = field(default_factory=dict)  # crew -> times of its retries
    one_start: asyncio.Lock = field(default_factory=asyncio.Lock)  # in one turn of the event loop
    stopping: Stopping = field(init=False)

    def __post_init__(self) -> None:
        self.stopping = Stopping(self.hands, lambda: self.clock.read().mono, self._note_stuck)

    async def conduct(self, attempt: Attempt) -> None:
        """Carry one attempt to its end. Returns when what followed is durable."""
        self.attempts[attempt.key] = attempt
        is_defect = False
        try:
            await self._carried(attempt)
        except LeaseLost as error:
            # Someone else has a newer fence: what happened here is evidence, and changes nothing.
            log.warning("attempt.fenced", attempt=attempt.name, error=str(error))
            plan = attempt.run.plan
            told = Event("attempt.fenced", self.clock.read().wall, {"fence": attempt.lease.fence}, *attempt.key)
            told = msgspec.structs.replace(told, attempt=attempt.number, runtime=transitions.RUNTIME, crew=plan.crew)
            await self.register.insist(Batch(events=(told,)))
        except Exception:
            is_defect = True  # it is carried once more, to end what it started: that needs the grip
            raise
        finally:
            self.attempts.pop(attempt.key, None)
            dialogue = self.dialogues.pop(attempt.key, None)
            self.stuck.pop(attempt.key, None)
            self.short.pop(attempt.key, None)
            if attempt.grip is not None and not is_defect:
                self.hands.let_go(attempt.grip)
            if dialogue is not None:
                self.messages.update(dialogue.conversation.messages)
                dialogue.close()
            self.register.wake.set()

    async def _carried(self, attempt: Attempt) -> None:
        task = self._task(attempt)
        if isinstance(task.state, Starting) and not attempt.adopted:
            try:
                await self._start(attempt, task.state)
            except CannotStart as refusal:
                attempt.end(Over("it could not be started", outcome.shortened(refusal.failure, self.redact)))
        if attempt.over is None:
            await self._watch(attempt)
        assert attempt.over is not None
        await self._end(attempt)

    async def _start(self, attempt: Attempt, state: Starting) -> None:
        """Make ready, hold at the gate, record who it is, and only then let the command begin."""
        plan = attempt.plan
        async with self.one_start:
            await asyncio.sleep(0)  # a start takes milliseconds: everybody else has a turn between two of them
        begun = await self._held(attempt, state)
        if begun is None:
            return
        self.short.pop(attempt.key, None)
        prepared, held = begun
        attempt.folder = prepared.spawn.folder
        try:
            attempt.grip = self.hands.grip(held, attempt.exited)
            dialogue = self._dialogue(attempt, prepared) if plan.mode is Mode.PROTOCOL else None
            now = self.clock.read()
            attempt.started_at, attempt.started_mono = now.wall, now.mono
            task, events = transitions.running(
                attempt.run, plan, self._task(attempt), held.identity, attempt.folder, now.mono, now.wall
            )
            await self.register.insist(Batch(events=events, tasks=(task,)))
            for complaint in self.hands.limit(attempt.mark, held.identity, plan.limits):
                log.warning("attempt.limit", attempt=attempt.name, complaint=complaint)
        except BaseException:
            self.hands.abandon(held, attempt.grip)
            raise
        if attempt.over is not None:
            self.hands.abandon(held, attempt.grip)  # a cancel came before it began, or somebody ended its shim
            return
        with contextlib.suppress(BrokenPipeError):  # its shim was ended just now: nothing began, its exit will tell
            held.open_gate()
        if dialogue is not None:
            dialogue.begin(attempt.started_mono)

    async def _held(self, attempt: Attempt, state: Starting) -> tuple[Prepared, Held] | None:
        """Make ready, and start the shim; None: somebody ended the attempt first.

        Where crewd itself is short of something the task is not to blame. It keeps its slot, so that nothing else is
        started instead, and waits until others have given theirs back.
        """
        while attempt.over is None:
            try:
                prepared = prepare(attempt.run.plan, attempt.plan, state, self.environ, self.options)
                for name in attempt.plan.secrets:
                    self.learn(prepared.spawn.env[name])
                held = self.hands.spawn(prepared.spawn)
            except OSError as error:
                if error.errno not in SHORTAGES:
                    raise _cannot_spawn(error) from error
                self._note_short(attempt, error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SHORTAGE_PAUSE):
                        await attempt.changed.wait()
                continue
            return prepared, held
        return None

    async def _watch(self, attempt: Attempt) -> None:
        """Wait for whatever ends it: its exit, its deadline, its own last word, or somebody's wish."""
        dialogue = self.dialogues.get(attempt.key)
        if dialogue is None:
            await self._until_over(attempt)
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(dialogue.run(), name=f"dialogue {attempt.name}")
            both.create_task(self._until_over(attempt), name=f"deadline {attempt.name}")

    async def _until_over(self, attempt: Attempt) -> None:
        timeout = attempt.plan.timeout
        while attempt.over is None:
            left = None
            if timeout is not None:
                # The monotonic clock stands still while the machine sleeps, and so does the deadline.
                left = attempt.started_mono + timeout - self.clock.read().mono
                if left <= 0:
                    await _hear_of_exits()
                    attempt.end(Over("its time was over", _timed_out(timeout)))
                    return
            try:
                async with asyncio.timeout(left):
                    await attempt.changed.wait()
            except TimeoutError:
                continue

    async def _end(self, attempt: Attempt) -> None:
        over = attempt.over
        assert over is not None
        dialogue = self.dialogues.get(attempt.key)
        if dialogue is not None:
            # It may have become ready just now, and then it hears why it is to stop.
            await (dialogue.drain() if over.exited else dialogue.listen())
        task = self._task(attempt)
        began = isinstance(task.state, Running) or (isinstance(task.state, Starting) and attempt.grip is not None)
        if began and not (over.exited and await self.stopping.is_gone(attempt)):
            await self._leave(attempt, task, over)
        if isinstance(self._task(attempt).state, Ending):
            await self._prove_gone(attempt, over, dialogue)
        over = attempt.over
        assert over is not None
        record = self.hands.read_exit(attempt.folder, attempt.grip) if attempt.folder else None
        facts = await self._gathered(attempt, record, _wants_tails(over, record, attempt))
        await self._settle(attempt, over, facts, dialogue)

    async def _gathered(self, attempt: Attempt, record: ExitRecord | None, wants_tails: bool) -> Facts:
        if wants_tails:
            facts = await asyncio.to_thread(outcome.gather, attempt.folder, record, self.redact, True)
        else:  # two sizes: the way to a thread and back costs ten times as much
            facts = outcome.gather(attempt.folder, record, self.redact, False)
        if max(facts.stdout_bytes, facts.stderr_bytes) > attempt.plan.limits.output_bytes:
            await asyncio.to_thread(trim, [attempt])  # whoever wrote much in a short life was never looked at
        return facts

    async def _leave(self, attempt: Attempt, task: ManagedTask, over: Over) -> None:
        """ENDING is durable before the first signal is sent: whoever comes after us goes on with it."""
        now = self.clock.read().wall
        task, events = transitions.ending(
            attempt.run, task, over.why, now, over.failure, over.cancelled, over.interrupted
        )
        await self.register.insist(Batch(events=events, tasks=(task,)))

    async def _prove_gone(self, attempt: Attempt, over: Over, dialogue: Dialogue | None) -> None:
        if over.exited and not over.asked:
            await self.stopping.settle(attempt)
        else:
            ask = None if dialogue is None else lambda: dialogue.cancel(over.why, attempt.plan.stop.grace)
            await self.stopping.stop(attempt, ask)
        if dialogue is not None:
            await dialogue.drain()

    async def _settle(self, attempt: Attempt, over: Over, facts: Facts, dialogue: Dialogue | None) -> None:
        """What became of it, and what follows: one transaction."""
        self.hands.clear(attempt.mark)
        terminal, succeeded = dialogue.terminal() if dialogue is not None else (None, False)
        failure: Failure | None
        if over.cancelled and not succeeded:
            failure = Failure(ErrorClass.CANCELLED, over.why)
        elif over.interrupted and not succeeded:
            failure = None
        else:
            failure = await self._failure(attempt, over, facts, dialogue, terminal, succeeded)
        now = self.clock.read().wall
        record = AttemptRecord(
            attempt=attempt.number,
            fence=attempt.lease.fence,
            started_at=attempt.started_at or now,
            ended_at=now,
            error_class=failure.error_class if failure is not None else None,
            error=failure.message if failure is not None else "",
            exit=facts.exit,
            interrupted=over.interrupted and failure is None and not succeeded,
            tail=facts.tail if failure is not None else "",
            output_bytes=facts.stdout_bytes + facts.stderr_bytes,
            folder=attempt.folder,
            details={"code": failure.code} if failure is not None and failure.code else {},
        )
        task = self._task(attempt)
        extra: tuple[Event, ...] = ()
        if dialogue is not None:
            task, extra = dialogue.told(attempt.run, task, facts.exit, now)
        if failure is None and record.interrupted:
            await self._interrupted(attempt, task, record, over, extra, now)
        elif failure is None:
            await self._completed(attempt, task, record, dialogue, extra, now)
        elif failure.error_class is ErrorClass.CANCELLED:
            await self._cancelled(attempt, task, record, over, extra, now)
        else:
            await self._failed(attempt, task, record, failure, extra, now)

    async def _failure(
        self,
        attempt: Attempt,
        over: Over,
        facts: Facts,
        dialogue: Dialogue | None,
        terminal: Failure | None,
        succeeded: bool,
    ) -> Failure | None:
        if dialogue is not None and not succeeded and terminal is None and over.failure is None:
            terminal = dialogue.without_terminal(facts)
        failure = outcome.first_word(attempt, over, facts, terminal, succeeded)
        if failure is None:
            output_bytes = dialogue.result_bytes() if dialogue is not None else facts.stdout_bytes
            failure = await outcome.broken_promise(attempt, facts, output_bytes, self._check)
        return outcome.shortened(failure, self.redact) if failure is not None else None

    async def _completed(
        self,
        attempt: Attempt,
        task: ManagedTask,
        record: AttemptRecord,
        dialogue: Dialogue | None,
        extra: tuple[Event, ...],
        now: float,
    ) -> None:
        after, events = transitions.completed(attempt.run, attempt.plan, task, record, now)
        circuits, told = self.circuits.succeeded(circuit_of(attempt.plan), now)
        batch = Batch(events=(*extra, *events, *told), tasks=(after,), circuits=circuits)
        result = dialogue.result() if dialogue is not None else {}
        await self.register.complete(attempt.lease, {"outcome": "completed", **result}, batch)

    async def _interrupted(
        self,
        attempt: Attempt,
        task: ManagedTask,
        record: AttemptRecord,
        over: Over,
        extra: tuple[Event, ...],
        now: float,
    ) -> None:
        after, events = transitions.interrupted(attempt.run, task, record, over.why, now)
        await self.register.retry(attempt.lease, now, Batch(events=(*extra, *events), tasks=(after,)))

    async def _cancelled(
        self,
        attempt: Attempt,
        task: ManagedTask,
        record: AttemptRecord,
        over: Over,
        extra: tuple[Event, ...],
        now: float,
    ) -> None:
        after, events = transitions.cancelled(attempt.run, attempt.plan, task, record, over.why, now, over.actor)
        batch = Batch(events=(*extra, *events), tasks=(after,))
        await self.register.bury(attempt.lease, "cancelled", batch)

    async def _failed(
        self,
        attempt: Attempt,
        task: ManagedTask,
        record: AttemptRecord,
        failure: Failure,
        extra: tuple[Event, ...],
        now: float,
    ) -> None:
        plan, circuit = attempt.plan, circuit_of(attempt.plan)
        circuits, told = self.circuits.failed(circuit, failure, now)
        self.circuits.ended(circuit, failure, attempt.started_at, now)
        told = (*extra, *told)
        match self._decide(attempt, task, failure, now):
            case RetryAt() as decision:
                decision = self._within_budget(attempt.run.plan.crew, decision, now)
                record = msgspec.structs.replace(record, details={**record.details, **_window(decision)})
                after, events = transitions.retrying(attempt.run, plan, task, record, decision, now)
                batch = Batch(events=(*events, *told), tasks=(after,), circuits=circuits)
                await self.register.retry(attempt.lease, decision.due_at, batch)
            case Park() as parked:
                delay = PARKED_SECONDS if parked.due_at is None else max(0.0, parked.due_at - now)
                decision = RetryAt(now + delay, delay, delay, delay, parked.reason)
                after, events = transitions.retrying(attempt.run, plan, task, record, decision, now)
                batch = Batch(events=(*events, *told), tasks=(after,), circuits=circuits)
                await self.register.retry(attempt.lease, decision.due_at, batch)
            case GiveUp() as decision:
                evidence: dict[str, Any] = {
                    "circuit": circuit,
                    "executor": plan.executor,
                    "secrets": sorted(plan.secrets.values()),
                    "exit_code": record.exit.code,
                    "signal": record.exit.signal,
                    "folder": record.folder,
                    "paroled": self.paroled(attempt.key),
                }
                after, events, letter = transitions.given_up(
                    attempt.run, plan, task, record, decision, failure, evidence, now
                )
                batch = Batch(events=(*events, *told), tasks=(after,), circuits=circuits, letters=(letter,))
                await self.register.bury(attempt.lease, decision.reason, batch)
                self.settled(letter)

    def _decide(self, attempt: Attempt, task: ManagedTask, failure: Failure, now: float) -> RetryAt | GiveUp | Park:
        budget = [each for each in task.attempts if each.attempt > task.budget_from and not each.interrupted]
        before = budget[-1].details.get("retry_delay") if budget else None
        return after_failure(
            attempt.plan.retry,
            failure,
            counted=len(budget) + 1,
            of_class=sum(1 for each in budget if each.error_class is failure.error_class) + 1,
            previous_delay=float(before) if before is not None else None,
            first_started_at=task.first_started_at or now,
            now=now,
            roll=self.roll(),
        )

    def _within_budget(self, crew: str, decision: RetryAt, now: float) -> RetryAt:
        """A crew that retries too often waits until its budget allows one more."""
        used, free_at = spend(self.budgets.get(crew, ()), now, self.options.retries_per_hour)
        self.budgets[crew] = used
        if free_at is None or free_at <= decision.due_at:
            return decision
        delay = free_at - now
        reason = f"{decision.reason}; crew {crew} has spent its {self.options.retries_per_hour} retries of this hour"
        return RetryAt(free_at, delay, decision.floor, max(decision.ceiling, delay), reason)

    async def _check(self, attempt: Attempt) -> tuple[Exit, str]:
        """Run the success command as the attempt's own last process, and leave nothing of it behind."""
        success = attempt.plan.success
        try:
            env = self._environment_of(attempt)
        except CannotStart as refusal:
            return Exit(), refusal.failure.message
        exit, words = await self.hands.run_check(
            Spawn(
                argv=success.command,
                env=env,
                cwd=attempt.plan.cwd,
                folder=f"{attempt.folder}/check",
                stdin="none",
            ),
            attempt.mark,
            success.command_timeout,
            attempt.plan.limits,
        )
        # Redacted as a whole: what is cut first may be left with half of a secret.
        return exit, self.redact(words)[-CHECK_WORDS:]

    def _environment_of(self, attempt: Attempt) -> Mapping[str, str]:
        from crewd.engine.managed.places import environment

        state = Starting(0.0, attempt.number, attempt.lease.fence)
        return environment(attempt.run.plan, attempt.plan, state, attempt.folder, self.environ, self.options)

    def _dialogue(self, attempt: Attempt, prepared: Prepared | None) -> Dialogue:
        dialogue = Dialogue(attempt, self.clock, self.options.poll_seconds, self.redact)
        self.dialogues[attempt.key] = dialogue
        dialogue.open(fresh=prepared is not None)
        return dialogue

    def adopt(self, attempt: Attempt, state: Running | Ending, grip: Grip | None) -> None:
        """Take over an attempt of a predecessor."""
        attempt.adopted, attempt.grip, attempt.folder = True, grip, state.folder
        attempt.started_at = state.since
        attempt.started_mono = state.started_mono if isinstance(state, Running) else self.clock.read().mono
        if attempt.plan.mode is Mode.PROTOCOL and state.folder:
            self._dialogue(attempt, None).begin(attempt.started_mono)

    def _task(self, attempt: Attempt) -> ManagedTask:
        task = self.board.task(attempt.key)
        assert task is not None
        return task

    def _note_short(self, attempt: Attempt, error: OSError) -> None:
        if not self.short:  # told once, however many wait
            log.warning("attempt.waits", attempt=attempt.name, error=str(error.strerror), remedy=SHORTAGE_REMEDY)
        self.short[attempt.key] = f"crewd cannot start it now: {error.strerror}; {SHORTAGE_REMEDY}"

    def _note_stuck(self, attempt: Attempt, words: str) -> None:
        if words:
            self.stuck[attempt.key] = words
            log.error("attempt.stuck", attempt=attempt.name, why=words)
        else:
            self.stuck.pop(attempt.key, None)


def _window(decision: RetryAt) -> dict[str, float]:
    """What the delay was drawn from: kept, so that it can be checked at any time."""
    return {
        "retry_delay": decision.delay,
        DELAY_FLOOR: decision.floor,
        DELAY_CEILING: decision.ceiling,
    }


async def _hear_of_exits() -> None:
    """Let the event loop ask the kernel once more who has ended, and tell.

    A crewd that was stopped (SIGSTOP, a frozen machine) has its timers first when it goes on, and hears only then of
    what became readable meanwhile: whoever ended by himself in that time has not run out of his own.
    """
    await asyncio.sleep(0)  # the kernel is asked, and those who are to be told stand behind us
    await asyncio.sleep(0)


def _cannot_spawn(error: OSError) -> CannotStart:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return cannot(ErrorClass.DISK_FULL, f"no room for the attempt's files: {error.strerror}")
    return cannot(ErrorClass.SPAWN_FAILED, f"cannot be started: {error.strerror or error}")


def _timed_out(seconds: float) -> Failure:
    words = f"it was not done after {seconds:g} s"
    return Failure(ErrorClass.TIMEOUT, words, code="deadline", guidance=handling_of(ErrorClass.TIMEOUT).guidance)


def _wants_tails(over: Over, record: Any, attempt: Attempt) -> bool:
    clean = record is not None and record.exit.code in attempt.plan.success.exit_codes
    return not clean or over.asked
