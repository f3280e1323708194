"""One worker's side of crewd-worker/1, heard line by line (docs/reference/worker-protocol.md).

No clock and no I/O: `now` is the caller's, in seconds of whatever clock it keeps. The same lines make the same
conversation, so that a crewd that was started anew reads a worker's output from its beginning and knows all again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.model.managed import Artifact
from crewd.model.run import Lease, Usage, added
from crewd.sources.document import as_text
from crewd.sources.fields import tail
from crewd.sources.managed.framing import TooLong
from crewd.sources.managed.messages import (
    PROTOCOL,
    ArtifactMade,
    Bad,
    Busy,
    Chunk,
    Error,
    FromWorker,
    Heartbeat,
    Log,
    Pong,
    Ready,
    Result,
    Unknown,
    UsageTold,
    capped,
    decode,
    output_bytes,
)

BAD_LINES_MAX = 10
LEASE_MAX = 86_400.0  # no worker is believed to be busy for longer on its word alone
RETRY_AFTER_MAX = 86_400.0
PROGRESS_MAX = 1024  # characters
HINT_MAX = 2048
ARTIFACTS_MAX = 1000
NAMES_MAX = 16  # models, and unknown types, told apart by name; the rest are OTHER
OTHER = "other"


class ReadyHeard(msgspec.Struct, frozen=True, gc=False):
    """The handshake: the task may be sent."""

    heartbeat_interval: float | None


class VersionRefused(msgspec.Struct, frozen=True, gc=False):
    """The worker speaks another protocol. Nothing more is heard of it, and another attempt would say the same."""

    protocol: str


class TerminalHeard(msgspec.Struct, frozen=True, gc=False):
    """The first terminal message: the outcome of the attempt, whatever its exit status will be."""

    message: Result | Error


class LateHeard(msgspec.Struct, frozen=True, gc=False):
    """Another terminal message. Evidence; it changes nothing."""

    message: Result | Error


class BadHeard(msgspec.Struct, frozen=True, gc=False):
    """A line that is no message, or not in its place. `words` may quote it: to be redacted."""

    kind: str  # one of messages.BAD_KINDS
    words: str


class TooManyBadLines(msgspec.Struct, frozen=True, gc=False):
    """The last straw, told once. Nothing more is heard of the worker."""

    count: int
    kinds: Mapping[str, int]
    words: str  # about the last of them


Heard = ReadyHeard | VersionRefused | TerminalHeard | LateHeard | BadHeard | TooManyBadLines | Chunk | Log


class Conversation:
    """What one worker has said so far. `id` is that of its attempt, RUN/TASK/ATTEMPT."""

    def __init__(self, id: str, bad_lines_max: int = BAD_LINES_MAX) -> None:
        self.id = id
        self.bad_lines_max = bad_lines_max
        self.is_ready = False
        self.is_refused = False  # speaks another protocol, or too badly: nothing more is heard of it
        self.heartbeat_interval: float | None = None  # seconds, as declared
        self.heard_at: float | None = None  # when `seq` last moved
        self.seq = 0  # moves with every message that proves life; compared, never subtracted
        self.moves = 0  # moves when the work does: anything but a bare heartbeat, a lease or a pong
        self.step = ""
        self.progress = ""
        self.iterations = 0  # how often these two said something new
        self.hint = ""  # the end of what it wrote in chunks and logs
        self.terminal: Result | Error | None = None
        self.late = 0  # terminal messages after the first
        self.bad_lines = 0
        self.bad: Counter[str] = Counter()  # bad lines by kind
        self.messages: Counter[str] = Counter()  # sound ones by type; "unknown" is one of them
        self.unknown: Counter[str] = Counter()  # those by their word; a few are told apart
        self.streamed_bytes = 0  # of output in chunks; stderr is not output
        self.artifacts_dropped = 0
        self._beat: tuple[int, str, str] | None = None
        self._lease_until = float("-inf")
        self._lease_tool = ""
        self._artifacts: dict[str, Artifact] = {}
        self._usage: dict[str, Usage] = {}

    def hear(self, line: bytes | TooLong, now: float) -> list[Heard]:
        """Take in one line and tell what follows from it. After a refusal nothing does."""
        if self.is_refused:
            return []
        message = decode(line)
        if isinstance(message, Unknown):
            self._note_unknown(message.type)
            return []
        if not isinstance(message, Bad):
            message = self._in_place(message)
        if isinstance(message, Bad):
            return self._bad(message)
        self.messages[_tag(message)] += 1
        if self.terminal is not None:
            return self._after_the_end(message)
        return self._take(message, now)

    def lease(self, now: float) -> Lease | None:
        """What is left at `now` of the silence that the worker announced."""
        left = self._lease_until - now
        return Lease(left, self._lease_tool) if left > 0 and self.terminal is None else None

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files that it made, each path once, the newest word about it."""
        return tuple(self._artifacts.values())

    @property
    def usage_by_model(self) -> Mapping[str, Usage]:
        """What each model used: the sum of all messages of usage."""
        return self._usage

    @property
    def usage(self) -> Usage | None:
        """What all models used, under the name of the one that used most. A cost that was told in part is kept."""
        if not self._usage:
            return None
        name = max(self._usage.values(), key=lambda each: each.input + each.output).model
        total = Usage()
        for each in self._usage.values():
            total = added(total, each)
        return msgspec.structs.replace(total, model=name)

    @property
    def output_size(self) -> int:
        """Bytes of output so far: of the chunks, and of the result once it is there."""
        of_result = len(output_bytes(self.terminal.output)) if isinstance(self.terminal, Result) else 0
        return self.streamed_bytes + of_result

    def _in_place(self, message: FromWorker) -> FromWorker | Bad:
        match message:
            case Ready():
                return Bad("ready_again", "a second `ready`") if self.is_ready else message
            case Log():
                return message
            case _ if not self.is_ready:
                return Bad("before_ready", f"`{_tag(message)}` before `ready`")
            case Pong():
                return message
            case _ if message.id != self.id:
                return Bad("wrong_id", f"the id {message.id[:160]!r} is not that of this attempt, {self.id!r}")
        return message

    def _take(self, message: FromWorker, now: float) -> list[Heard]:
        match message:
            case Heartbeat():
                self._beat_heard(message, now)
            case Chunk():
                if message.stream != "stderr":
                    self.streamed_bytes += len(message.text.encode())
                self.hint = tail(self.hint + message.text[-HINT_MAX:], HINT_MAX)
                self._moved(now)
                return [message]
            case Log():
                self.hint = tail(f"{self.hint}{message.msg}\n", HINT_MAX)
                self._moved(now)
                return [message]
            case UsageTold():
                self._add_usage(message)
                self._moved(now)
            case ArtifactMade():
                self._add_artifact(message)
                self._moved(now)
            case Busy():
                self._lease_until = now + min(message.until_s, LEASE_MAX)
                self._lease_tool = message.tool
                self._lives(now)
            case Pong():
                self._lives(now)
            case Ready():
                return self._ready(message, now)
            case Result() | Error():
                self.terminal = message
                self._moved(now)
                return [TerminalHeard(message)]
        return []

    def _ready(self, message: Ready, now: float) -> list[Heard]:
        if message.protocol != PROTOCOL:
            self.is_refused = True
            return [VersionRefused(message.protocol)]
        self.is_ready = True
        self.heartbeat_interval = message.heartbeat_interval_s
        self._moved(now)
        return [ReadyHeard(message.heartbeat_interval_s)]

    def _beat_heard(self, message: Heartbeat, now: float) -> None:
        progress = _as_text(message.progress)
        beat = (message.seq, message.step, progress)
        if beat == self._beat:
            return  # an echo of the one before: no news
        self._beat = beat
        if (message.step, progress) != (self.step, self.progress):
            # What is left out is not taken back: a bare heartbeat only says that its sender lives.
            self.step, self.progress = message.step or self.step, progress or self.progress
            if message.step or progress:
                self.iterations += 1
                self._moved(now)
                return
        self._lives(now)

    def _after_the_end(self, message: FromWorker) -> list[Heard]:
        # A last heartbeat may race with the result, and is nobody's fault.
        if not isinstance(message, Result | Error):
            return []
        self.late += 1
        return [LateHeard(message)]

    def _bad(self, bad: Bad) -> list[Heard]:
        self.bad_lines += 1
        self.bad[bad.kind] += 1
        heard: list[Heard] = [BadHeard(bad.kind, bad.words)]
        # The outcome is known once the terminal message is there; noise after it changes nothing.
        if self.terminal is None and self.bad_lines >= self.bad_lines_max:
            self.is_refused = True
            heard.append(TooManyBadLines(self.bad_lines, dict(self.bad), bad.words))
        return heard

    def _note_unknown(self, name: str) -> None:
        self.messages["unknown"] += 1
        self.unknown[name if name in self.unknown or len(self.unknown) < NAMES_MAX else OTHER] += 1

    def _add_usage(self, told: UsageTold) -> None:
        model = told.model if told.model in self._usage or len(self._usage) < NAMES_MAX else OTHER
        used = Usage(
            input=told.input_tokens,
            output=told.output_tokens,
            cache_read=told.cache_read_tokens,
            cache_write=told.cache_write_tokens,
            cost_usd=told.cost_usd,
            model=model,
        )
        before = self._usage.get(model)
        self._usage[model] = added(before, used) if before is not None else used

    def _add_artifact(self, made: ArtifactMade) -> None:
        if made.path not in self._artifacts and len(self._artifacts) >= ARTIFACTS_MAX:
            self.artifacts_dropped += 1
            return
        self._artifacts[made.path] = Artifact(made.path, made.sha256, made.bytes)

    def _moved(self, now: float) -> None:
        self.moves += 1
        self._lives(now)

    def _lives(self, now: float) -> None:
        self.seq += 1
        self.heard_at = now


def restore(
    id: str, lines: Iterable[bytes | TooLong], now: float, bad_lines_max: int = BAD_LINES_MAX
) -> tuple[Conversation, list[Heard]]:
    """Hear a worker's output again from its beginning, and tell all that it ever gave to tell.

    Nothing is counted twice, since nothing was kept. A lease begins anew: nobody saw how much of it is over.
    """
    conversation = Conversation(id, bad_lines_max)
    return conversation, [heard for line in lines for heard in conversation.hear(line, now)]


def failure_of(error: Error) -> Failure:
    """What the worker itself says went wrong. A class that crewd does not know is `unknown`, and kept in details."""
    details = dict(capped(error.details))
    error_class = _CLASSES.get(error.error_class)
    if error_class is None:
        details["class"] = error.error_class
    after = error.retry_after_s
    return Failure(
        error_class or ErrorClass.UNKNOWN,
        message=" ".join(error.message.split()),
        retryable=error.retryable,
        retry_after=min(max(after, 0.0), RETRY_AFTER_MAX) if after is not None else None,
        guidance=_guidance(error),
        details=details,
    )


def outcome_without_terminal(exit: Exit) -> Failure:
    """What an exit means whose worker never said how its task ended."""
    if exit.signal is not None:
        return Failure(ErrorClass.WORKER_KILLED, f"ended by signal {exit.signal}, without a result")
    if exit.code is None:
        return Failure(ErrorClass.WORKER_KILLED, "gone without a result, and without an exit status", "no_status")
    if exit.code == 0:
        return Failure(
            ErrorClass.PROTOCOL_ERROR,
            "ended with 0 and never sent a result",
            "no_result",
            guidance='Send one `result` or `error` before the end, or run it with mode = "command".',
        )
    return Failure(ErrorClass.WORKER_CRASH, f"ended with {exit.code}, without a result")


def failure_of_version(refused: VersionRefused) -> Failure:
    """The worker speaks a protocol that crewd does not: to try again changes nothing."""
    return Failure(
        ErrorClass.PROTOCOL_ERROR,
        f"speaks {refused.protocol!r}, not {PROTOCOL!r}",
        "version",
        retryable=False,
        guidance=f"Use a worker that speaks {PROTOCOL}.",
    )


def failure_of_bad_lines(bad: TooManyBadLines) -> Failure:
    """The worker writes to stdout what is no message."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(bad.kinds.items()))
    return Failure(
        ErrorClass.PROTOCOL_ERROR,
        f"{bad.count} bad lines on stdout ({kinds}); the last: {bad.words}",
        "bad_lines",
        guidance='Print to stderr, or run it with mode = "command".',
        details={"kinds": dict(bad.kinds)},
    )


def failure_of_startup(conversation: Conversation, seconds: float) -> Failure:
    """No `ready` within the time allowed for it."""
    noise = f"; {conversation.bad_lines} bad lines meanwhile" if conversation.bad_lines else ""
    return Failure(
        ErrorClass.PROTOCOL_ERROR,
        f"no ready within {seconds:g} s{noise}",
        "startup_timeout",
        guidance="Send `ready` as the first line and flush it; a slow start needs a longer startup_timeout.",
    )


def failure_of_stdin(seconds: float) -> Failure:
    """The worker does not read what it is sent."""
    return Failure(
        ErrorClass.PROTOCOL_ERROR,
        f"stdin was not read for {seconds:g} s",
        "stdin_timeout",
        guidance="Read stdin line by line for as long as the task is worked on.",
    )


def contradicts(terminal: Result | Error, exit: Exit) -> bool:
    """Whether the exit status says otherwise than a result, which wins. After an error any exit is fitting."""
    return isinstance(terminal, Result) and (exit.signal is not None or exit.code not in (0, None))


_CLASSES: Mapping[str, ErrorClass] = {each.value: each for each in ErrorClass}


def _tag(message: FromWorker) -> str:
    return str(type(message).__struct_config__.tag)


def _guidance(error: Error) -> str:
    missing = error.details.get("missing_fields")
    names = [name for name in missing if isinstance(name, str)] if isinstance(missing, list) else []
    if not names:
        return error.guidance
    lacking = f"The output lacks: {', '.join(name[:128] for name in names[:32])}."
    return f"{error.guidance} {lacking}".strip()


def _as_text(progress: object) -> str:
    if progress is None:
        return ""
    return progress[:PROGRESS_MAX] if isinstance(progress, str) else as_text(progress, PROGRESS_MAX)
