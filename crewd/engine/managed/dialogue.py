"""Dialogue: the talk with one protocol worker, through a pipe that outlives crewd and a file that is followed.

What was said is judged by `sources.managed.conversation`, which is pure. A successor reads the file from its start
again, and so knows what its predecessor knew.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
import structlog

from crewd.engine.managed import transitions
from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.iterations import TEXT_MAX, Iterations
from crewd.engine.managed.outcome import Facts, shortened
from crewd.engine.managed.voice import Signs, Word
from crewd.host.attempt_folder import RESULT, STDIN, STDOUT, TASK_SENT, is_there, write_new
from crewd.host.clock import Clock
from crewd.host.fifo import Talk
from crewd.host.files import write_atomically
from crewd.host.tails import Follow
from crewd.model.event import Event, span_id, trace_id
from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.model.managed import ManagedRun, ManagedTask
from crewd.model.plan import TaskPlan
from crewd.policy.handling import handling_of
from crewd.sources.managed.conversation import (
    Conversation,
    Heard,
    TerminalHeard,
    TooManyBadLines,
    VersionRefused,
    contradicts,
    failure_of,
    failure_of_bad_lines,
    failure_of_startup,
    failure_of_stdin,
    failure_of_version,
    outcome_without_terminal,
)
from crewd.sources.managed.framing import Lines, TooLong
from crewd.sources.managed.messages import Cancel, Error, Result, TaskMessage, encode

READ_MAX = 1 << 16  # bytes in one go: others want their turn
LARGE = 1 << 15  # bytes of a line that is understood in a thread: a hostile one may take a third of a second
POLL_FIRST = 0.01
POLL_FACTOR = 1.4
EXIT_PATIENCE = 5.0  # seconds for a worker to leave after its last word
log = structlog.get_logger("crewd.tasks")


class Dialogue:
    """One worker: what it was told, what it said."""

    def __init__(
        self,
        attempt: Attempt,
        clock: Clock,
        poll_seconds: float,
        redact: Callable[[str], str],
        iterations: Iterations,
        note_iterations: Callable[[Attempt, Iterations], Awaitable[None]],
    ) -> None:
        self._attempt = attempt
        self._iterations = iterations
        self._note_iterations = note_iterations
        self._clock = clock
        self._poll = poll_seconds
        self._redact = redact
        self._id = attempt.name
        self._conversation = Conversation(self._id, attempt.plan.bad_lines_max)
        self._lines = Lines()
        self._follow: Follow | None = None
        self._talk: Talk | None = None
        self._unsent = b""
        self._unsent_since = 0.0
        self._began = 0.0
        self._ended_at: float | None = None  # monotonic time of its last word
        self._mended = True  # a line may have been torn by the end of a predecessor

    def open(self, fresh: bool) -> None:
        """Find the pipe and the file. A fresh worker is told its task: it reads it once it is ready."""
        folder = self._attempt.folder
        try:
            self._follow = Follow.open(f"{folder}/{STDOUT}")
        except OSError as error:
            # The folder belongs to the worker too, and it may have taken anything away.
            words = f"its output cannot be read: {error.strerror}"
            self._fail(Failure(ErrorClass.PROTOCOL_ERROR, words, "output_gone"))
        if fresh:
            self._unsent = encode(self._task_message())
            return
        self._mended = False
        if not is_there(f"{folder}/{TASK_SENT}"):
            # A predecessor ended in the middle of telling it, and nobody knows where.
            self._attempt.end(Over("crewd was restarted before its worker knew its task", interrupted=True))

    def begin(self, mono: float) -> None:
        """The command has begun; what it does not read in time is a failure of its own."""
        self._began = mono
        self._unsent_since = self._clock.read().mono
        self._send()

    async def run(self) -> None:
        """Talk and listen until the attempt is over."""
        pause = POLL_FIRST
        while self._attempt.over is None:
            moved = await self._step()
            await self._note_iterations(self._attempt, self._iterations)
            pause = POLL_FIRST if moved else min(self._poll, pause * POLL_FACTOR)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._attempt.changed.wait()

    async def listen(self) -> bool:
        """Hear the next piece of what it wrote; False: there is nothing new."""
        data = self._follow.read(READ_MAX) if self._follow is not None else b""
        if not data:
            return False
        await self._hear(self._lines.feed(data))
        return True

    async def drain(self) -> None:
        """Hear everything that it wrote before it ended, and a last line without an end."""
        while not self._has_heard_too_much() and await self.listen():  # noqa: ASYNC110 -- turns
            await asyncio.sleep(0)  # others get a turn after each piece
        if rest := self._lines.rest():
            await self._hear([rest])

    def cancel(self, why: str, grace: float) -> bool:
        """Send the cancel message. False: nobody would read it."""
        if self._unsent or not self._conversation.is_ready or self._conversation.terminal is not None:
            return False
        self._unsent = encode(Cancel(self._id, self._redact(why), grace))
        self._send()
        return not self._unsent

    def last_word(self, facts: Facts, over: Over) -> Word:
        """What it said of its own end; or what an end without a word means."""
        match self._conversation.terminal:
            case Result():
                return Word(succeeded=True)
            case Error() as error:
                return Word(failure_of(error))
        return Word(None if over.asked else self._without_terminal(facts))

    def _without_terminal(self, facts: Facts) -> Failure | None:
        """Class of an end without a last word; None: what it wrote to stderr says more."""
        if self._has_heard_too_much():
            return self._too_much()
        failure = outcome_without_terminal(facts.exit)
        if failure.error_class is ErrorClass.WORKER_CRASH or facts.spawn_error:
            return None
        return failure

    def result(self) -> dict[str, Any]:
        """The result, kept in a file of its own; its size alone goes into the ledger."""
        message = self._conversation.terminal
        if not isinstance(message, Result):
            return {}
        data = msgspec.json.encode(message.output)
        try:
            write_atomically(f"{self._attempt.folder}/{RESULT}", data)
        except OSError as error:
            log.warning("attempt.result_not_kept", attempt=self._id, error=str(error))
        return {"result_bytes": len(data)}

    def output_bytes(self, facts: Facts) -> int:
        return self._conversation.output_size

    def signs(self, now: float) -> Signs:
        """What it last said of its life."""
        lease = self._conversation.lease(now)
        return Signs((self._conversation.seq,), lease, lease.tool if lease is not None else "")

    def details(self) -> dict[str, Any]:
        return {}

    @property
    def messages(self) -> Mapping[str, int]:
        return self._conversation.messages

    def told(
        self, run: ManagedRun, task: ManagedTask, exit: Exit, at: float
    ) -> tuple[ManagedTask, tuple[Event, ...]]:
        """Add what the worker told on its way to its task: usage, artifacts, results that came too late."""
        heard = self._conversation
        number = self._attempt.number
        used: tuple[Event, ...] = ()
        if heard.usage is not None:
            # The name of a model becomes a label: whatever a worker writes there, a secret must not.
            usage = msgspec.structs.replace(heard.usage, model=self._redact(heard.usage.model))
            task, used = transitions.used(run, self._attempt.plan, task, usage, at, number)
        artifacts = tuple(msgspec.structs.replace(each, path=self._redact(each.path)) for each in heard.artifacts)
        task = msgspec.structs.replace(
            task,
            artifacts=artifacts or task.artifacts,
            late=task.late + heard.late,
        )
        task, steps = transitions.progressed(run, task, self._iterations.rest(), at, number)
        events = [*used, *steps]

        def tell(type: str, data: Mapping[str, Any]) -> None:
            events.append(transitions.event(type, run, task, at, data, number))

        if heard.terminal is not None and contradicts(heard.terminal, exit):
            tell("worker.exit_mismatch", {"exit_code": exit.code, "signal": exit.signal})
        if heard.bad_lines:
            tell("worker.protocol_error", {"count": heard.bad_lines, "kinds": dict(heard.bad)})
        if heard.late:
            tell("attempt.fenced", {"late_results": heard.late})
        return task, tuple(events)

    def close(self) -> None:
        """Let the pipe and the file go."""
        if self._talk is not None:
            self._talk.close()
            self._talk = None
        if self._follow is not None:
            self._follow.close()
            self._follow = None

    async def _step(self) -> bool:
        """One look at the worker; True: something moved."""
        moved = await self.listen()
        now = self._clock.read().mono
        if self._unsent:
            moved |= self._send()
            if self._unsent and now - self._unsent_since > self._attempt.plan.stdin_timeout:
                self._fail(failure_of_stdin(self._attempt.plan.stdin_timeout))
        startup = self._attempt.plan.startup_timeout
        if not self._conversation.is_ready and now - self._began > startup:
            self._fail(failure_of_startup(self._conversation, startup))
        if self._follow is not None and self._follow.size() > self._attempt.plan.limits.output_bytes:
            # Its talk is read from the beginning after a restart, so no part of it can be given back to the disk.
            # What it wrote counts, not what was heard of it: whoever floods writes faster than anybody listens.
            self._fail(self._too_much())
        if self._ended_at is not None and now - self._ended_at > EXIT_PATIENCE:
            self._attempt.end(Over("it told how its task ended, and did not leave"))
        return moved

    async def _hear(self, lines: Iterable[bytes | TooLong]) -> None:
        now = self._clock.read().mono
        for line in lines:
            if isinstance(line, bytes) and len(line) > LARGE:
                told = await asyncio.to_thread(self._conversation.hear, line, now)
            else:
                told = self._conversation.hear(line, now)
            self._note_iteration(now)
            for heard in told:
                self._heed(heard, now)

    def _note_iteration(self, now: float) -> None:
        heard = self._conversation
        if heard.iterations <= self._iterations.newest:
            return
        data = {"step": self._redact(heard.step)[:TEXT_MAX], "progress": self._redact(heard.progress)[:TEXT_MAX]}
        self._iterations.note(heard.iterations, now, **{name: each for name, each in data.items() if each})

    def _has_heard_too_much(self) -> bool:
        return self._follow is not None and self._follow.offset > self._attempt.plan.limits.output_bytes

    def _too_much(self) -> Failure:
        words = f"it wrote more than {self._attempt.plan.limits.output_bytes} bytes to stdout"
        return Failure(
            ErrorClass.PROTOCOL_ERROR,
            words,
            "output_limit",
            guidance=handling_of(ErrorClass.PROTOCOL_ERROR).guidance,
        )

    def _heed(self, heard: Heard, now: float) -> None:
        match heard:
            case TerminalHeard():
                self._ended_at = now
            case VersionRefused():
                self._fail(failure_of_version(heard))
            case TooManyBadLines():
                self._fail(failure_of_bad_lines(heard))

    def _fail(self, failure: Failure) -> None:
        if not failure.guidance:
            failure = msgspec.structs.replace(failure, guidance=handling_of(failure.error_class).guidance)
        failure = shortened(failure, self._redact)
        self._attempt.end(Over(failure.message, failure))

    def _send(self) -> bool:
        """Write what waits, as far as the pipe takes it; True: some of it went."""
        if not self._unsent:
            return False
        if self._talk is None:
            try:
                self._talk = Talk.open(f"{self._attempt.folder}/{STDIN}")
            except OSError:
                return False  # nobody reads any more: the exit is seen elsewhere
        if not self._mended:
            self._unsent, self._mended = b"\n" + self._unsent, True
        try:
            taken = self._talk.write(self._unsent)
        except OSError:
            return False
        self._unsent = self._unsent[taken:]
        if taken:
            self._unsent_since = self._clock.read().mono
        if not self._unsent:
            self._note_sent()
        return taken > 0

    def _note_sent(self) -> None:
        """Let a successor know that the worker was told its task."""
        path = f"{self._attempt.folder}/{TASK_SENT}"
        try:
            if not is_there(path):
                write_new(path, b"")
        except OSError as error:
            # The folder is its worker's too. A successor will have to interrupt it.
            log.warning("attempt.not_noted", attempt=self._id, error=str(error))

    def _task_message(self) -> TaskMessage:
        plan: TaskPlan = self._attempt.plan
        run_id, task_id = self._attempt.key
        span = span_id(run_id, task_id, self._attempt.number)
        return TaskMessage(
            id=self._id,
            run_id=run_id,
            task_id=task_id,
            attempt=self._attempt.number,
            fence=self._attempt.lease.fence,
            kind=plan.kind,
            payload=plan.payload,
            deadline_s=plan.timeout,
            variants=plan.variants,
            traceparent=f"00-{trace_id(run_id)}-{span}-01",
        )
