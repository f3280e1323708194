"""Listening: one agent, heard through the files it writes; what its words ask for is done at once.

What the words mean is the business of `sources.agents`, which is pure. A successor hears the same files from their
beginning, and so knows what its predecessor knew.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from crewd.engine.managed import sessions, transitions
from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.iterations import Iterations
from crewd.engine.managed.outcome import Facts, shortened
from crewd.engine.managed.places import Opening
from crewd.engine.managed.voice import Signs, Word
from crewd.host.attempt_folder import STDERR, STDOUT
from crewd.host.clock import Clock
from crewd.host.tails import Follow
from crewd.model.action import Alarm
from crewd.model.agent import AgentView, Profile
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.model.managed import ManagedRun, ManagedTask
from crewd.model.moment import Reading, rfc3339
from crewd.model.plan import WatchPlan
from crewd.model.run import Usage, Waiting
from crewd.policy.handling import handling_of
from crewd.sources.agents.signs import Refused, Sign
from crewd.sources.agents.story import NotUnderstood, Story, Stream
from crewd.sources.managed.framing import Lines, TooLong
from crewd.telemetry.plain_text import span

EXIT_PATIENCE = 30.0  # seconds for a program to leave after its last word: hooks and servers of its own end too
LINGERED = "it told how its task ended, and did not leave"
LINES_MAX = 500  # understood without a turn for others: a piece may hold thousands
SIGNS_MAX = 100  # the same of what one line says: it may hold ten thousand calls
PIECES_MAX = 64  # heard in one go, before its own words are heeded
READ_MAX = 1 << 16  # bytes in one go: others want their turn
LINE_MAX = 1 << 22  # bytes of a line: what is read of a file is in one; a whole conversation, told again, is not
LARGE = 1 << 18  # bytes of a line that is understood in a thread
POLL_FIRST = 0.02
POLL_FACTOR = 1.5
NOTE_EVERY = 10.0  # seconds between two notes of what was used: what is lost with crewd is read again
LOOK_FOR_FILE_EVERY = 2.0  # seconds between two looks for the file of its session
WORSE = {"warn": 0, "park": 1, "stop": 1}
log = structlog.get_logger("crewd.tasks")


@dataclass(slots=True, eq=False)
class Channel:
    """One file that is followed."""

    name: Stream
    lines: Lines = field(default_factory=lambda: Lines(LINE_MAX))
    follow: Follow | None = None

    def read(self) -> list[bytes | TooLong] | None:
        """The lines that ended since the last look; None: nothing was added at all."""
        try:
            data = self.follow.read(READ_MAX) if self.follow is not None else b""
        except OSError:
            return None
        return list(self.lines.feed(data)) if data else None

    def left(self) -> int:
        """Bytes that are there and were not read."""
        try:
            return max(0, self.follow.size() - self.follow.offset) if self.follow is not None else 0
        except OSError:
            return 0

    def close(self) -> None:
        if self.follow is not None:
            self.follow.close()
            self.follow = None


@dataclass(slots=True, eq=False)
class Listening:
    """One agent at work: what it wrote, what it showed, and what follows from it."""

    attempt: Attempt
    profile: Profile
    opening: Opening
    clock: Clock
    poll: float  # seconds
    environ: Mapping[str, str]  # of the agent: names the home of its sessions
    redact: Callable[[str], str]
    alarms: Callable[[Attempt, AgentView], tuple[Alarm, ...]]
    note: Callable[[Attempt, Usage], Awaitable[None]]  # make durable what was used so far
    tell: Callable[[Attempt, str, Mapping[str, Any]], Awaitable[None]]  # an event about the attempt
    note_iterations: Callable[[Attempt, Iterations], Awaitable[None]]  # make durable what is new of them
    iterations: Iterations = field(default_factory=Iterations)
    defects: Counter[str] = field(default_factory=Counter)  # of crewd's own, by part
    messages: Mapping[str, int] = field(default_factory=dict)
    one_large: asyncio.Lock = field(default_factory=asyncio.Lock)  # eight threads at work leave the loop no turn
    story: Story = field(init=False)
    _streams: dict[Stream, Channel] = field(default_factory=dict)
    _looked_at: float = float("-inf")
    _noted: Usage | None = None
    _noted_at: float = float("-inf")
    _ended_at: float | None = None  # monotonic time at which its last word was heard
    _throttled_since: float | None = None
    _told: dict[tuple[str, str], str] = field(default_factory=dict)  # (cause, scope) of an alarm -> what followed
    _wait_told: tuple[float, str] | None = None  # its end by the monotonic clock, and in words
    _permanent: Failure | None = None
    _refusals: int = 0
    _defect: str = ""

    def __post_init__(self) -> None:
        self.story = Story(self.profile, self.opening.base, self.opening.base_cost)

    def open(self, fresh: bool) -> None:
        """Find what it writes to. It may have taken its own files away; then nothing of it is heard."""
        self._streams = {"stdout": Channel("stdout"), "stderr": Channel("stderr")}
        for channel, file in zip(self._streams.values(), (STDOUT, STDERR), strict=True):
            with contextlib.suppress(OSError):
                channel.follow = Follow.open(f"{self.attempt.folder}/{file}")
                if file == STDOUT:
                    self.attempt.heard = 0  # nothing of it is given back before it was heard

    def begin(self, mono: float) -> None:
        """Nothing is sent to an agent; it has all it needs."""

    async def run(self) -> None:
        pause = POLL_FIRST
        while self.attempt.over is None:
            pieces = await self._catch_up()
            await self._heeded()
            await self.note_iterations(self.attempt, self.iterations)
            if pieces == PIECES_MAX:
                continue  # it writes faster than anybody polls
            pause = POLL_FIRST if pieces else min(self.poll, pause * POLL_FACTOR)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self.attempt.changed.wait()

    async def listen(self) -> bool:
        moved = False
        for stream in list(self._streams.values()):
            if (lines := stream.read()) is not None:
                await self._hear(stream, lines)
                moved = True  # also by a piece of a line that has not ended: the rest of it is there
        stdout = self._streams["stdout"].follow
        # What nobody has heard yet is not given back to the disk.
        self.attempt.heard = stdout.offset if stdout is not None else None
        await self._find_session()
        return moved

    async def _catch_up(self) -> int:
        """Hear what waits, within bounds; returns how many pieces it was."""
        for pieces in range(PIECES_MAX):
            if not await self.listen():
                return pieces
            await asyncio.sleep(0)  # others get a turn after each piece
        return PIECES_MAX

    async def drain(self) -> None:
        await self._hear_what_is_there()
        self._looked_at = float("-inf")  # a short life may have ended before the file was looked for
        await self._find_session()
        await self._hear_what_is_there()
        for stream in self._streams.values():
            if rest := stream.lines.rest():
                await self._hear(stream, [rest])

    async def _hear_what_is_there(self) -> None:
        """Hear what was written up to now, and no more: what it left behind may write for ever."""
        most = max(stream.left() for stream in self._streams.values())
        for _ in range(most // READ_MAX + 1):
            if not await self.listen():
                return
            await asyncio.sleep(0)

    def cancel(self, why: str, grace: float) -> bool:
        return False

    def last_word(self, facts: Facts, over: Over) -> Word:
        # Whom crewd ended because he did not leave after his last word is judged by that word.
        exit = Exit(0) if over.why == LINGERED else facts.exit
        outcome = self.story.outcome(exit, denied_ok=self._watch.on_denied == "allow")
        if outcome is None:
            return Word(succeeded=True)
        if over.asked:
            return Word()  # whoever ended it knows why
        if isinstance(outcome, NotUnderstood) and facts.stdout_bytes == 0:
            return Word()  # it never spoke: its exit and its last complaint tell
        if isinstance(outcome, NotUnderstood):
            log.warning(
                "agent.not_understood",
                attempt=self.attempt.name,
                profile=self.profile.name,
                version=self.story.view(0.0).version or "not told",
                why=outcome.why,
                remedy="it is judged as any command; `crewd doctor --agent` names the versions that were tried",
            )
            return Word()
        return Word(outcome)

    def output_bytes(self, facts: Facts) -> int:
        return facts.stdout_bytes

    def result(self) -> dict[str, Any]:
        return {}

    def signs(self, now: float) -> Signs:
        view = self.story.view(now)
        return Signs(
            said=(view.moves, view.beats),
            tool=self.redact(view.tools[-1].name) if view.tools else "",
            waiting=self._waiting(view, now),
            hint=self.redact(view.refused.message) if view.refused is not None else "",
        )

    def view(self) -> AgentView:
        """How it stands now."""
        return self.story.view(self.clock.read().mono)

    def shown(self) -> dict[str, Any]:
        """What it shows of itself now, for a person who asks."""
        now = self.clock.read()
        view = self.story.view(now.mono)
        until = view.throttled_until
        return {
            "understood": view.understood,
            "session": self.redact(view.session),
            "model": self.redact(view.model),
            "version": self.redact(view.version),
            "rung": self.opening.rung,
            "because": self.redact(self.opening.reason),
            "tools": [
                {"name": self.redact(tool.name), "for_seconds": max(0.0, now.mono - tool.began)}
                for tool in view.tools
            ],
            "tools_begun": view.tools_begun,
            "moves": view.moves,
            "usage": msgspec.to_builtins(view.usage),
            "refused": self.redact(view.refused.message) if view.refused is not None else None,
            "throttled": until is not None,
            "throttled_for_seconds": until - now.mono if until is not None and until != float("inf") else None,
            "denied": [self.redact(name) for name in view.denied],
        }

    def details(self) -> dict[str, Any]:
        view = self.view()
        used = view.usage
        found: dict[str, Any] = {
            "profile": self.profile.name,
            "rung": self.opening.rung,
            "because": self.redact(self.opening.reason),
            "session": self.redact(view.session),
            "model": self.redact(view.model),
            "cut": [self.redact(tool.name) for tool in view.tools],
            "tools": view.tools_begun,
            "tokens": used.input + used.output + used.cache_write if used is not None else 0,
            "refusals": self._refusals,
        }
        if used is not None and used.cost_usd is not None:
            found["cost_usd"] = used.cost_usd
        if self.opening.saved_tokens:
            found["saved_tokens"] = self.opening.saved_tokens
        if view.thread_usage is not None:
            found["thread"] = msgspec.to_builtins(view.thread_usage)
        if view.thread_cost is not None:
            found["thread_cost"] = view.thread_cost
        if view.denied:
            found["denied"] = [self.redact(name) for name in view.denied]
        if view.unknown:
            found["unknown_events"] = sum(view.unknown.values())
        if not view.understood:
            found["understood"] = False
        return found

    def told(
        self, run: ManagedRun, task: ManagedTask, exit: Exit, at: float
    ) -> tuple[ManagedTask, tuple[Event, ...]]:
        view = self.view()
        events: list[Event] = []
        if view.usage is not None:
            task, told = transitions.used(
                run, self.attempt.plan, task, self._redacted(view.usage), at, self.attempt.number
            )
            events += told
        task, turns = transitions.progressed(run, task, self.iterations.rest(), at, self.attempt.number)
        events += turns
        if not view.understood or view.unknown:
            data = {
                "profile": self.profile.name,
                "version": self.redact(view.version),
                "understood": view.understood,
                "unknown": {self.redact(name): count for name, count in view.unknown.items()},
            }
            events.append(transitions.event("worker.format_unknown", run, task, at, data, self.attempt.number))
        return task, tuple(events)

    def close(self) -> None:
        for stream in self._streams.values():
            stream.close()

    @property
    def _watch(self) -> WatchPlan:
        return self.attempt.plan.watch

    async def _hear(self, stream: Channel, lines: list[bytes | TooLong]) -> None:
        now = self.clock.read()
        for number, line in enumerate(lines, 1):
            if number % LINES_MAX == 0:
                await asyncio.sleep(0)
            try:
                signs = await self._take_in(stream.name, line, now)
            except Exception:
                # A defect of a reader costs what this line says, and nobody's life.
                self.defects["reader"] += 1
                if not self._defect:
                    self._defect = stream.name
                    log.exception("agent.reader_defect", attempt=self.attempt.name, profile=self.profile.name)
                continue
            for sign in signs:
                if isinstance(sign, Refused):
                    await self._was_refused(sign)

    async def _take_in(self, stream: Stream, line: bytes | TooLong, now: Reading) -> list[Sign]:
        """Understand a line, a large one in a thread; add up what it says here, where it is also looked at."""
        if isinstance(line, bytes) and len(line) > LARGE:
            async with self.one_large:
                signs = await asyncio.to_thread(self.story.understand, stream, line)
        else:
            signs = self.story.understand(stream, line)
        self.story.turn_to(stream, line, now.wall)
        for number, sign in enumerate(signs, 1):
            if number % SIGNS_MAX == 0:
                await asyncio.sleep(0)
            self.story.take(sign, now.mono)
            self._note_turn(now.mono)
        return signs

    def _note_turn(self, mono: float) -> None:
        if self.story.turns > self.iterations.newest:
            self.iterations.note(self.story.turns, mono)

    async def _was_refused(self, sign: Refused) -> None:
        self._refusals += 1
        failure = shortened(sign.failure, self.redact)
        if self._refusals == 1:
            data = {
                "error_class": failure.error_class.value,
                "error": failure.message,
                "retry_after": failure.retry_after,
                "profile": self.profile.name,
            }
            await self.tell(self.attempt, "worker.refused", data)
        permanent = self.story.is_permanent(sign)
        if permanent is not None and self._permanent is None:
            self._permanent = shortened(permanent, self.redact)
            self.attempt.end(Over(f"no repetition mends it: {self._permanent.message}", self._permanent))

    async def _heeded(self) -> None:
        try:
            await self._heed()
        except Exception:
            # A defect costs what would have followed from its words, and nobody's life.
            self.defects["heed"] += 1
            if not self._defect:
                self._defect = "heed"
                log.exception("agent.heed_defect", attempt=self.attempt.name, profile=self.profile.name)

    async def _heed(self) -> None:
        """What its words ask for: a wait that is too long, an alarm, a note of what was used."""
        if self.attempt.over is not None:
            return
        now = self.clock.read()
        view = self.story.view(now.mono)
        if view.ended:
            self._ended_at = self._ended_at if self._ended_at is not None else now.mono
            if now.mono - self._ended_at > EXIT_PATIENCE:
                self.attempt.end(Over(LINGERED))
                return
        else:
            self._ended_at = None
        self._park(view, now.mono)
        for alarm in self.alarms(self.attempt, view):
            await self._sound(alarm)
        if view.usage is not None and view.usage != self._noted and now.mono - self._noted_at >= NOTE_EVERY:
            self._noted, self._noted_at = view.usage, now.mono
            await self.note(self.attempt, self._redacted(view.usage))

    def _park(self, view: AgentView, now: float) -> None:
        """Whoever waits long for its provider gives its slot to others, and goes on when the wait is over."""
        until, patience = view.throttled_until, self._watch.park_after
        if until is None or view.refused is None:
            self._throttled_since = None
            return
        if self._throttled_since is None:
            self._throttled_since = now
        if not patience:
            return
        left = until - now
        if left == float("inf"):
            if now - self._throttled_since < patience:
                return
            after = None
            words = f"its provider has kept it waiting for {span(patience)} and does not say for how long"
        elif left >= patience:
            words, after = f"its provider asks it to wait for {span(round(left))} more", left
        else:
            return
        failure = Failure(
            view.refused.error_class,
            f"{words}: {view.refused.message}",
            code="parked",
            retry_after=after,
            guidance=handling_of(view.refused.error_class).guidance,
        )
        self.attempt.end(Over(words, shortened(failure, self.redact)))

    async def _sound(self, alarm: Alarm) -> None:
        known = self._told.get((alarm.cause, alarm.scope))
        if known is not None and WORSE[known] >= WORSE[alarm.then]:
            return
        self._told[alarm.cause, alarm.scope] = alarm.then
        data = {"scope": alarm.scope, "then": alarm.then, "because": self.redact(alarm.words)}
        await self.tell(self.attempt, ALARMS[alarm.cause], data)
        if alarm.then != "warn":
            self.attempt.end(Over(alarm.words, shortened(failure_of(alarm), self.redact)))

    def _waiting(self, view: AgentView, now: float) -> Waiting | None:
        until = view.throttled_until
        if until is None:
            return None
        why = self.redact(view.refused.message)[:200] if view.refused is not None else ""
        if until == float("inf"):
            return Waiting("throttled", detail=f"its provider did not say for how long; {why}")
        if self._wait_told is None or self._wait_told[0] != until:
            # Read once: what is shown stays the same for as long as it is true.
            self._wait_told = until, rfc3339(round(self.clock.read().wall + (until - now)))
        return Waiting("throttled", detail=f"until {self._wait_told[1]}; {why}")

    async def _find_session(self) -> None:
        """Follow the file that the program keeps of its session, once there is one."""
        now = self.clock.read().mono
        if not self.profile.session_file or "session" in self._streams:
            return
        session = self.story.view(now).session
        if not session or now - self._looked_at < LOOK_FOR_FILE_EVERY:
            return
        self._looked_at = now
        # In a thread: whoever is looked for may have filled the folder with ten thousand files.
        path = await asyncio.to_thread(sessions.find, self.profile, self.environ, session)
        if not path:
            return
        offset = self.opening.file_bytes if path == self.opening.file else 0
        stream = Channel("session")
        try:
            stream.follow = Follow.open(path, offset)
        except OSError as error:
            log.warning("agent.session_unreadable", attempt=self.attempt.name, error=str(error))
        self._streams["session"] = stream

    def _redacted(self, usage: Usage) -> Usage:
        # The name of a model becomes a label: whatever an agent writes there, a secret must not.
        return msgspec.structs.replace(usage, model=self.redact(usage.model)) if usage.model else usage


ALARMS = {"loop": "worker.looping", "burn": "worker.burning", "budget": "budget.alarmed"}


BUDGET_REMEDY = {
    "task": "Let the task go on with `crewd retry`: its budget counts anew then.",
    "run": "Submit what is left as a run of its own, with a budget of its own.",
    "crew": "Raise it in the settings, or let the task go on with `crewd retry` on the next day (UTC).",
    "day": "Raise it in the settings, or let the task go on with `crewd retry` on the next day (UTC).",
}


def failure_of(alarm: Alarm) -> Failure:
    """The failure as which an attempt ends for an alarm."""
    if alarm.cause == "budget":
        guidance = f"The {alarm.scope}'s own budget is spent. {BUDGET_REMEDY[alarm.scope]}"
        error_class, code = ErrorClass.BUDGET_EXCEEDED, f"budget_{alarm.scope}"
    else:
        guidance = "It uses tokens and gets nowhere. Look at its last tool calls; say in the prompt what to do."
        error_class, code = ErrorClass.TASK_ERROR, alarm.cause
    details = {"then": alarm.then, "scope": alarm.scope}
    return Failure(error_class, alarm.words, code=code, guidance=guidance, retryable=False, details=details)
