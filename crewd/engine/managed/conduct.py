"""Conduct: one attempt, from its start to the proof that nothing of it is left, and what follows from how it went."""

import asyncio
import contextlib
import errno
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import structlog

from crewd.engine.managed import outcome, transitions
from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.board import Board, Key
from crewd.engine.managed.circuits import Circuits
from crewd.engine.managed.dialogue import Dialogue
from crewd.engine.managed.hands import Grip, Hands, Held
from crewd.engine.managed.iterations import Iterations
from crewd.engine.managed.ladder import Ladder, profile_of
from crewd.engine.managed.listening import Listening
from crewd.engine.managed.options import TaskOptions
from crewd.engine.managed.outcome import Facts
from crewd.engine.managed.output import trim
from crewd.engine.managed.places import (
    CannotStart,
    Opening,
    Prepared,
    Programs,
    cannot,
    environment,
    find_command,
    prepare,
    read_opening,
)
from crewd.engine.managed.register import Register
from crewd.engine.managed.settling import Settling
from crewd.engine.managed.stopping import Stopping
from crewd.engine.managed.voice import Voice
from crewd.host.aside import begin
from crewd.host.clock import Clock
from crewd.host.shim import ExitRecord
from crewd.host.spawning import Spawn
from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerFailed
from crewd.model.action import Alarm
from crewd.model.agent import AgentView
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.model.look import DeadLetter
from crewd.model.managed import Ending, ManagedTask, Running, Starting
from crewd.model.plan import Mode, TaskPlan
from crewd.model.run import Usage
from crewd.model.work import LeaseLost
from crewd.policy.handling import handling_of

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
    alarms: Callable[[Attempt, AgentView], tuple[Alarm, ...]] = lambda attempt, view: ()
    refuses: Callable[[Attempt], Failure | None] = lambda attempt: None  # why it must not begin
    attempts: dict[Key, Attempt] = field(default_factory=dict)
    voices: dict[Key, Voice] = field(default_factory=dict)  # of those whose words mean something
    stuck: dict[Key, str] = field(default_factory=dict)  # attempts that do not end: why
    short: dict[Key, str] = field(default_factory=dict)  # attempts for whose start crewd lacks something: what
    messages: Counter[str] = field(default_factory=Counter)  # of protocol workers whose attempt is over, by type
    defects: Counter[str] = field(default_factory=Counter)  # part -> what it survived: each is in the log as well
    programs: Programs = field(default_factory=Programs)
    one_start: asyncio.Lock = field(default_factory=asyncio.Lock)  # in one turn of the event loop
    one_large: asyncio.Lock = field(default_factory=asyncio.Lock)  # line of an agent is understood at one time
    stopping: Stopping = field(init=False)
    settling: Settling = field(init=False)
    ladder: Ladder = field(init=False)

    def __post_init__(self) -> None:
        self.stopping = Stopping(self.hands, lambda: self.clock.read().mono, self._note_stuck)
        self.ladder = Ladder((self.options.folder,))
        self.settling = Settling(
            self.board,
            self.register,
            self.circuits,
            self.clock,
            lambda: self.options,
            self.ladder,
            self._check,
            self.roll,
            self.redact,
            self.paroled,
            self.settled,
        )

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
            voice = self.voices.pop(attempt.key, None)
            self.stuck.pop(attempt.key, None)
            self.short.pop(attempt.key, None)
            if attempt.grip is not None and not is_defect:
                self.hands.let_go(attempt.grip)
            if voice is not None:
                self.messages.update(voice.messages)
                voice.close()
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
        begun = await self._held(attempt, state)
        if begun is None:
            return
        self.short.pop(attempt.key, None)
        prepared, held = begun
        attempt.folder = prepared.spawn.folder
        try:
            attempt.grip = self.hands.grip(held, attempt.exited)
            voice = self._voice(attempt, prepared)
            now = self.clock.read()
            attempt.started_at, attempt.started_mono = now.wall, now.mono
            task, events = transitions.running(
                attempt.run,
                plan,
                self._task(attempt),
                held.identity,
                attempt.folder,
                now.mono,
                now.wall,
                _opening_told(plan.profile, prepared.opening),
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
        if voice is not None:
            voice.begin(attempt.started_mono)

    async def _held(self, attempt: Attempt, state: Starting) -> tuple[Prepared, Held] | None:
        """Make ready, and start the shim; None: somebody ended the attempt first.

        Where crewd itself is short of something the task is not to blame. It keeps its slot, so that nothing else is
        started instead, and waits until others have given theirs back.
        """
        run, plan = attempt.run.plan, attempt.plan
        if (refusal := self.refuses(attempt)) is not None:
            raise CannotStart(refusal)
        while attempt.over is None:
            try:
                env = environment(run, plan, state, attempt.mark, self.environ, self.options)
                opening = await self._opening(attempt, env)
                command = await self._command(attempt, env)
                if command is None:
                    return None
                async with self.one_start:
                    await asyncio.sleep(0)  # a start takes milliseconds: everybody else has a turn between two
                prepared = prepare(plan, command, attempt.mark, env, opening)
                self._learn_secrets(plan, env)
                held = self.hands.spawn(prepared.spawn)
            except OSError as error:
                if error.errno not in SHORTAGES:
                    raise _cannot_spawn(error) from error
                self._note_short(attempt, str(error.strerror), SHORTAGE_REMEDY)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SHORTAGE_PAUSE):
                        await attempt.changed.wait()
                continue
            return prepared, held
        return None

    async def _command(self, attempt: Attempt, env: Mapping[str, str]) -> str | None:
        """Find its program, beside the loop; None: somebody ended the attempt first. Raises CannotStart.

        While the disk of its folder does not answer it keeps its slot, and is not to blame.
        """
        now = self.clock.read().mono
        if self.programs.near(attempt.plan, env, now):
            return find_command(attempt.plan, env)
        found = asyncio.wrap_future(begin(partial(self.programs.find, attempt.plan, env, now), "crewd-command"))
        while attempt.over is None:
            await asyncio.wait((found,), timeout=SHORTAGE_PAUSE)
            if found.done():
                return found.result()
            self._note_short(attempt, f"{attempt.plan.cwd} does not answer", "look whether its disk is there")
        found.cancel()
        return None

    def _learn_secrets(self, plan: TaskPlan, env: Mapping[str, str]) -> None:
        """What an attempt is given to prove who it is must never be shown, wherever it came from."""
        profile = profile_of(plan)
        names = {*plan.secrets, *(profile.signed_in_by if profile is not None else ())}
        for name in names & env.keys():
            self.learn(env[name])

    async def _opening(self, attempt: Attempt, env: Mapping[str, str]) -> Opening | None:
        """How an agent's attempt begins; None: it is any command. Raises CannotStart where none may follow."""
        is_agent = profile_of(attempt.plan) is not None
        if not is_agent and attempt.plan.idempotent:
            return None
        opening = await self.ladder.climb(attempt, self._task(attempt), env)
        return opening if is_agent else None

    async def _watch(self, attempt: Attempt) -> None:
        """Wait for whatever ends it: its exit, its deadline, its own last word, or somebody's wish."""
        voice = self.voices.get(attempt.key)
        if voice is None:
            await self._until_over(attempt)
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(voice.run(), name=f"voice {attempt.name}")
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
        voice = self.voices.get(attempt.key)
        is_gone = over.exited and await self.stopping.is_gone(attempt)
        if voice is not None:
            # It may have become ready just now, and then it hears why it is to stop. All that it wrote is heard once
            # nothing of it writes any more: what it left behind may flood faster than anybody listens.
            await (voice.drain() if is_gone else voice.listen())
        task = self._task(attempt)
        began = isinstance(task.state, Running) or (isinstance(task.state, Starting) and attempt.grip is not None)
        if began and not is_gone:
            await self._leave(attempt, task, over)
        if isinstance(self._task(attempt).state, Ending):
            await self._prove_gone(attempt, over, voice)
        over = attempt.over
        assert over is not None
        record = self.hands.read_exit(attempt.folder, attempt.grip) if attempt.folder else None
        facts = await self._gathered(attempt, record, _wants_tails(over, record, attempt))
        self.hands.clear(attempt.mark)
        await self.settling.settle(attempt, over, facts, voice)

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

    async def _prove_gone(self, attempt: Attempt, over: Over, voice: Voice | None) -> None:
        if over.exited and not over.asked:
            await self.stopping.settle(attempt)
        else:
            ask = None if voice is None else lambda: voice.cancel(over.why, attempt.plan.stop.grace)
            await self.stopping.stop(attempt, ask)
        if voice is not None:
            await voice.drain()

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

    def _environment_of(self, attempt: Attempt) -> dict[str, str]:
        state = Starting(0.0, attempt.number, attempt.lease.fence)
        return environment(attempt.run.plan, attempt.plan, state, attempt.folder, self.environ, self.options)

    def _voice(self, attempt: Attempt, prepared: Prepared | None) -> Voice | None:
        """Give a worker whose words mean something to somebody who listens. `prepared` None: it is taken over."""
        voice: Voice
        profile = profile_of(attempt.plan)
        if attempt.plan.mode is Mode.PROTOCOL:
            voice = Dialogue(
                attempt,
                self.clock,
                self.options.poll_seconds,
                self.redact,
                self._told(attempt),
                self._note_iterations,
            )
        elif profile is not None:
            opening = prepared.opening if prepared is not None else read_opening(attempt.folder)
            environ = prepared.spawn.env if prepared is not None else self._homes(attempt)
            self._learn_secrets(attempt.plan, environ)  # a predecessor took its knowledge of them with it
            voice = Listening(
                attempt=attempt,
                profile=profile,
                opening=opening or Opening(),
                clock=self.clock,
                poll=self.options.poll_seconds,
                environ=environ,
                redact=self.redact,
                alarms=self.alarms,
                note=self._note_usage,
                iterations=self._told(attempt),
                note_iterations=self._note_iterations,
                tell=self._tell,
                defects=self.defects,
                one_large=self.one_large,
            )
        else:
            return None
        self.voices[attempt.key] = voice
        voice.open(fresh=prepared is not None)
        return voice

    def _homes(self, attempt: Attempt) -> Mapping[str, str]:
        """The environment that an attempt of a predecessor was given, as far as it can still be told."""
        try:
            return self._environment_of(attempt)
        except CannotStart:
            return dict(attempt.plan.env)

    async def _note_usage(self, attempt: Attempt, usage: Usage) -> None:
        at = self.clock.read().wall
        task, events = transitions.used(attempt.run, attempt.plan, self._task(attempt), usage, at, attempt.number)
        if events:
            await self.register.insist(Batch(events=events, tasks=(task,)))

    def _told(self, attempt: Attempt) -> Iterations:
        """Iterations of an attempt, of which a predecessor may have told some."""
        task = self.board.task(attempt.key)
        return Iterations(task.iterations if task is not None else 0)

    async def _note_iterations(self, attempt: Attempt, iterations: Iterations) -> None:
        """Tell what is new. Nobody waits for a disk for it: what cannot be written now is counted as left out."""
        told = iterations.take()
        if not told:
            return
        at = self.clock.read().wall
        task, events = transitions.progressed(attempt.run, self._task(attempt), told, at, attempt.number)
        try:
            await self.register.commit(Batch(events=events, tasks=(task,)))
        except LedgerFailed:
            iterations.untold(told)
        else:
            iterations.told = told[-1]["iteration"]

    async def _tell(self, attempt: Attempt, type: str, data: Mapping[str, Any]) -> None:
        at = self.clock.read().wall
        event = transitions.event(type, attempt.run, self._task(attempt), at, data, attempt.number)
        await self.register.insist(Batch(events=(event,)))

    def adopt(self, attempt: Attempt, state: Running | Ending, grip: Grip | None) -> None:
        """Take over an attempt of a predecessor."""
        attempt.adopted, attempt.grip, attempt.folder = True, grip, state.folder
        attempt.started_at = state.since
        attempt.started_mono = state.started_mono if isinstance(state, Running) else self.clock.read().mono
        voice = self._voice(attempt, None) if state.folder else None
        if voice is not None:
            voice.begin(attempt.started_mono)

    def _task(self, attempt: Attempt) -> ManagedTask:
        task = self.board.task(attempt.key)
        assert task is not None
        return task

    def _note_short(self, attempt: Attempt, error: str, remedy: str) -> None:
        if not self.short:  # told once, however many wait
            log.warning("attempt.waits", attempt=attempt.name, error=error, remedy=remedy)
        self.short[attempt.key] = f"crewd cannot start it now: {error}; {remedy}"

    def _note_stuck(self, attempt: Attempt, words: str) -> None:
        if words:
            self.stuck[attempt.key] = words
            log.error("attempt.stuck", attempt=attempt.name, why=words)
        else:
            self.stuck.pop(attempt.key, None)


def _opening_told(profile: str, opening: Opening | None) -> dict[str, Any]:
    """How an agent's attempt began, for the event that tells of it."""
    if opening is None:
        return {}
    told: dict[str, Any] = {"profile": profile, "rung": opening.rung, "because": opening.reason}
    if opening.rung == "resume":
        told |= {"session": opening.session, "saved_tokens": opening.saved_tokens}
    return told


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
    # An agent's exit status says little: some end with 0 whatever happened.
    return not clean or over.asked or profile_of(attempt.plan) is not None
