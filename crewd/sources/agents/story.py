"""One agent's story so far: the signs of its lines added up, and what they mean once it has ended (docs/agents.md).

No clock and no I/O: `now` is the caller's, in seconds of whatever clock it keeps, `wall` is wall time. The same lines
make the same story, so that a crewd that was started anew reads the output from its beginning and knows all again.
"""

import re
import statistics
from collections import Counter, deque
from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

import msgspec
from msgspec.structs import replace

from crewd.model.agent import AgentView, OpenTool, Profile
from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.model.run import Usage
from crewd.policy.handling import handling_of
from crewd.policy.retry import DELAY_MAX
from crewd.sources.agents.account import Account
from crewd.sources.agents.readers import READERS
from crewd.sources.agents.signs import (
    Began,
    Cost,
    Denied,
    Failing,
    Finished,
    LimitTold,
    Lives,
    Looped,
    Moved,
    Noise,
    Refused,
    Sign,
    ToolBegan,
    ToolEnded,
    Unknown,
    Used,
)
from crewd.sources.managed.framing import TooLong

Stream = Literal["stdout", "stderr", "session"]
# What no repetition mends: the program would only burn minutes.
PERMANENT = frozenset(
    {
        ErrorClass.AUTH_ERROR,
        ErrorClass.BUDGET_EXCEEDED,
        ErrorClass.CONFIG_INVALID,
        ErrorClass.CONTEXT_EXHAUSTED,
        ErrorClass.INPUT_INVALID,
    }
)
VAGUE = frozenset({ErrorClass.UNKNOWN, ErrorClass.TASK_ERROR, ErrorClass.PROVIDER_ERROR})
OPEN_MAX = 256  # tool calls that are open at one time
CALLS_KNOWN_MAX = 4096  # different tool calls that are told apart
GAPS_MAX = 50  # of tokens between two new things
GAPS_TELLING = 5  # as many make a median
NAMES_MAX = 32  # tools denied, and types not known, told apart by name
NAME_MAX = 200
OTHER = "other"
# As the four programs say it, before they do anything else (docs/agents.md).
SESSION_GONE = re.compile(
    rb"No conversation found with session ID|no rollout found for thread id|Error resuming session"
    rb"|No session found matching"
)
LAST_WORDS_MAX = 4096
# Terminal events by their names. A reader that cannot tell what one of them says calls it unknown.
TERMINALS = frozenset({"result", "turn.completed", "turn.failed", "agent_settled"})


class NotUnderstood(msgspec.Struct, frozen=True, gc=False):
    """Its output is none that the profile knows: it is judged as any other command."""

    why: str


class Story:
    """What one attempt of one agent has told. `base`: what its session had used before, where that is resumed."""

    def __init__(self, profile: Profile, base: Usage | None = None, base_cost: float | None = None) -> None:
        self.profile = profile
        self._reader = READERS[profile.name]()
        self._account = Account(base, base_cost)
        self._session = self._model = self._version = ""
        self._moves = self._beats = self._lines = self._noise = self._known = 0
        self._open: dict[str, tuple[OpenTool, bool]] = {}  # id -> the call, and whether it was counted
        self._begun = self._new = 0
        self.turns = 0  # rounds of work: see AgentView
        self._is_answered = True  # whatever it does next begins a turn
        self._calls: dict[bytes, None] = {}
        self._latest_call = b""
        self._repeats = 0
        self._latest_error = b""
        self._errors_repeated = 0
        self._gaps: deque[int] = deque(maxlen=GAPS_MAX)
        self._usual: int | None = 0  # None: to be worked out anew
        self._at_new = 0  # tokens used when it last did something new
        self._refused: Failure | None = None
        self._throttled_until: float | None = None
        self._limited_until: float | None = None  # wall time
        self._wall = 0.0
        self._denied: dict[str, None] = {}
        self._looped = ""
        self._failing: Failure | None = None
        self._is_gone = False  # the session that it was to go on with
        self._failing_in: Stream = "stdout"  # where that was told
        self._stream: Stream = "stdout"  # that is heard just now
        self._finished: Finished | None = None
        self._unknown: Counter[str] = Counter()

    def hear(self, stream: Stream, line: bytes | TooLong, now: float, wall: float) -> list[Sign]:
        """Take in one line, and give the signs that it holds."""
        signs = self.understand(stream, line)
        self.turn_to(stream, line, wall)
        for sign in signs:
            self.take(sign, now)
        return signs

    def understand(self, stream: Stream, line: bytes | TooLong) -> list[Sign]:
        """The signs that a line holds. A thread may do it: what is shown meanwhile stays as it was."""
        if isinstance(line, TooLong):
            return [Noise()] if stream == "stdout" else []
        return list(self._signs(stream, line))

    def turn_to(self, stream: Stream, line: bytes | TooLong, wall: float) -> None:
        """Begin with a line, the signs of which are taken next."""
        self._wall, self._stream = wall, stream
        if isinstance(line, bytes) and not self._moves and SESSION_GONE.search(line[:LAST_WORDS_MAX]):
            self._is_gone = True
        if stream == "stdout":
            self._lines += 1

    def view(self, now: float) -> AgentView:
        """How it stands at `now`."""
        until = self._throttled_until
        used = self._account.used
        return AgentView(
            profile=self.profile.name,
            understood=self._understood(),
            session=self._session,
            model=self._model,
            version=self._version,
            moves=self._moves,
            beats=self._beats,
            turns=self.turns,
            tools=tuple(tool for tool, _ in self._open.values()),
            tools_begun=self._begun,
            tools_new=self._new,
            usage=replace(used, model=used.model or self._model) if used is not None else None,
            thread_usage=self._account.thread,
            thread_cost=self._account.thread_cost,
            refused=self._refused,
            throttled_until=until if until is not None and until > now else None,
            denied=tuple(self._denied),
            repeats=self._repeats,
            errors_repeated=self._errors_repeated,
            tokens_since_new=max(0, self._account.tokens - self._at_new),
            tokens_usual=self._tokens_usual(),
            looped=self._looped,
            ended=self._finished is not None,
            unknown=dict(self._unknown),
            lines=self._lines,
            noise=self._noise,
        )

    def outcome(self, exit: Exit, *, denied_ok: bool = False) -> Failure | NotUnderstood | None:
        """What its words and its exit mean together. None: it succeeded.

        Success needs the terminal event, that event's own word, and exit status 0; whoever ended without the terminal
        event was killed or crashed, whatever the status (docs/agents.md).
        """
        if not self.profile.program:
            return NotUnderstood("it is a plain command, whose words mean nothing here")
        if self._is_gone and (exit.code or exit.signal):
            words = "the session that it was to go on with is not there"
            return replace(_failure(ErrorClass.UNKNOWN, words, "session_unknown"), retryable=True)
        if not self._understood():
            return NotUnderstood(f"not one line of its output is known to the profile {self.profile.name}")
        if self._finished is None:
            return self._without_end(exit)
        if self._finished.failure is not None:
            return self._completed(self._finished.failure)
        if self._looped:
            return _failure(ErrorClass.TASK_ERROR, f"it went in circles: {self._looped}", "loop")
        if self._denied and not denied_ok:
            names = ", ".join(self._denied)
            return _failure(ErrorClass.TASK_ERROR, f"it was not allowed to use {names}", "denied", DENIED_GUIDANCE)
        if exit.signal is not None:
            words = f"it said that it was done, and was ended by signal {exit.signal}"
            return _failure(ErrorClass.WORKER_KILLED, words)
        if exit.code is None:
            words = "it said that it was done, and no exit status was recorded"
            return _failure(ErrorClass.WORKER_KILLED, words, "no_exit_record")
        if exit.code:
            return self._by_exit(exit.code) or _failure(
                ErrorClass.WORKER_CRASH, f"it said that it was done, and ended with {exit.code}"
            )
        if self._asked_nobody():
            # Some programs take a prompt such as /help for a command of their own.
            return _failure(
                ErrorClass.OUTPUT_EMPTY, "it said that it was done, and never asked its model", "no_answer"
            )
        return None

    def is_permanent(self, sign: Sign) -> Failure | None:
        """The failure for which the attempt is ended at once; None: the program may go on."""
        if isinstance(sign, Refused) and sign.failure.error_class in PERMANENT:
            return _guided(sign.failure)
        return None

    def _signs(self, stream: Stream, line: bytes) -> Iterable[Sign]:
        match stream:
            case "stdout":
                return self._reader.stdout(line)
            case "stderr":
                return self._reader.stderr(line)
            case "session":
                return self._reader.session(line)

    def _asked_nobody(self) -> bool:
        used = self._account.used
        return used is not None and not (used.input or used.output or used.cache_read or used.cache_write)

    def _understood(self) -> bool:
        return self._known > 0 or self._lines == 0

    def take(self, sign: Sign, now: float) -> None:
        """Add one sign of the line that was turned to."""
        match sign:
            case Moved():
                self._turned()
                self._progressed()
            case Used():
                self._known += 1
                self._account.add(sign)
            case ToolBegan():
                self._tool_began(sign, now)
            case ToolEnded():
                self._tool_ended(sign)
            case Lives():
                self._lives()
            case Unknown():
                self._beats += 1
                self._count_unknown(sign.type)
            case Noise():
                self._noise += 1
            case Began():
                self._session = sign.session[:NAME_MAX] or self._session
                self._model = sign.model[:NAME_MAX] or self._model
                self._version = sign.version[:NAME_MAX] or self._version
                self._lives()
            case Refused():
                self._was_refused(sign, now)
            case LimitTold():
                self._limited(sign, now)
            case Cost():
                self._account.add_cost(sign)
            case Denied():
                self._deny(sign.tool)
            case Looped():
                self._looped = sign.words[:NAME_MAX] or "it says so itself"
                self._lives()
            case Failing():
                self._failing, self._failing_in = sign.failure, self._stream
                self._lives()
            case Finished():
                failing = self._failing  # told beside it, and not mended since
                self._open.clear()
                for name in sign.denied:
                    self._deny(name)
                self._progressed()
                self._finished, self._failing = sign, failing

    def _turned(self) -> None:
        """It does something: the first of a turn, where everything that it called has answered."""
        if self._is_answered:
            self.turns += 1
            self._is_answered = False

    def _progressed(self) -> None:
        self._moves += 1
        self._refused, self._throttled_until = None, None
        if self._failing_in == self._stream:
            self._failing = None  # whoever goes on has got over it; which of two files is newer nobody knows
        self._lives()

    def _lives(self) -> None:
        self._known += 1
        self._beats += 1

    def _tool_began(self, sign: ToolBegan, now: float) -> None:
        known = self._open.get(sign.id)
        if known is None:
            self._turned()
            self._begun += 1
            if len(self._open) >= OPEN_MAX:
                del self._open[next(iter(self._open))]
            known = OpenTool(sign.id[:NAME_MAX], sign.name[:NAME_MAX], now), False
        tool, is_counted = known
        if not is_counted and sign.input:
            self._count_call(sign.name, sign.input)
            is_counted = True
        self._open[sign.id] = tool, is_counted
        self._progressed()

    def _tool_ended(self, sign: ToolEnded) -> None:
        known = self._open.pop(sign.id, None)
        if known is not None and not self._open:
            self._is_answered = True
        name = known[0].name if known is not None else sign.name
        if known is not None and not known[1]:
            self._count_call(name, b"")
        if sign.denied:
            self._deny(name)
        if sign.ok:
            self._latest_error, self._errors_repeated = b"", 0
        else:
            words = _digest(name, sign.words.encode("utf-8", "replace"))
            self._errors_repeated = self._errors_repeated + 1 if words == self._latest_error else 1
            self._latest_error = words
        self._progressed()

    def _count_call(self, name: str, input: bytes) -> None:
        """Note whether this call was made before, and how often without another between."""
        call = _digest(name, input)
        self._repeats = self._repeats + 1 if call == self._latest_call else 1
        self._latest_call = call
        if call in self._calls:
            return
        if len(self._calls) >= CALLS_KNOWN_MAX:
            del self._calls[next(iter(self._calls))]
        self._calls[call] = None
        self._new += 1
        self._gaps.append(max(0, self._account.tokens - self._at_new))
        self._at_new = self._account.tokens
        self._usual = None  # a line may hold thousands of calls, and somebody asks now and then

    def _tokens_usual(self) -> int:
        if self._usual is None:
            self._usual = int(statistics.median(self._gaps)) if len(self._gaps) >= GAPS_TELLING else 0
        return self._usual

    def _was_refused(self, sign: Refused, now: float) -> None:
        wait = sign.failure.retry_after
        if wait is None and sign.until is not None:
            wait = self._left(sign.until)
        if wait is None and self._limited_until is not None and sign.failure.error_class is ErrorClass.RATE_LIMITED:
            wait = self._left(self._limited_until)
        self._refused = replace(sign.failure, retry_after=wait)
        if wait is not None:
            self._throttled_until = now + wait
        elif sign.failure.error_class is ErrorClass.RATE_LIMITED:
            self._throttled_until = float("inf")  # it waits, and does not say for how long
        self._lives()

    def _limited(self, sign: LimitTold, now: float) -> None:
        self._known += 1
        if not sign.rejected:
            self._limited_until = None
            return
        self._limited_until = sign.until
        wait = self._left(sign.until) if sign.until is not None else None
        words = f"the account's limit {sign.name} is reached".replace("  ", " ")
        self._refused = Failure(ErrorClass.RATE_LIMITED, words, code="account_limit", retry_after=wait)
        self._throttled_until = now + wait if wait is not None else float("inf")

    def _left(self, until: float) -> float:
        """Seconds until a wall time that an agent names; whoever names one in ten years is not believed."""
        return min(DELAY_MAX, max(0.0, until - self._wall))

    def _deny(self, tool: str) -> None:
        self._known += 1
        name = tool[:NAME_MAX] or "a tool"
        if len(self._denied) < NAMES_MAX:
            self._denied[name] = None

    def _count_unknown(self, type: str) -> None:
        name = type[:80]
        self._unknown[name if name in self._unknown or len(self._unknown) < NAMES_MAX else OTHER] += 1

    def _without_end(self, exit: Exit) -> Failure | NotUnderstood:
        """It ended without saying how its task did."""
        if self._failing is not None:
            return self._completed(self._failing)
        if exit.signal is not None:
            return _failure(ErrorClass.WORKER_KILLED, self._last(f"ended by signal {exit.signal}"))
        if exit.code is None:
            return _failure(ErrorClass.WORKER_KILLED, self._last("gone without an exit status"), "no_exit_record")
        is_strange = bool(self._unknown) and not self.profile.stopped_exits_0
        if exit.code == 0 and (is_strange or self._unknown.keys() & TERMINALS):
            kinds = ", ".join(sorted(self._unknown)[:5])
            return NotUnderstood(f"no end was told, and these event types are not known: {kinds}")
        if exit.code == 0:
            words = self._last("ended with 0, and never said how its task did: somebody stopped it")
            return _failure(ErrorClass.WORKER_KILLED, words, "no_terminal")
        if failure := self._by_exit(exit.code):
            return failure
        if self._lines == 0:
            return NotUnderstood(f"it ended with {exit.code} before it said a word")
        return _failure(ErrorClass.WORKER_CRASH, self._last(f"it ended with {exit.code}, and told no failure"))

    def _by_exit(self, code: int) -> Failure | None:
        failure = self._reader.exit(code)
        return self._completed(failure) if failure is not None else None

    def _completed(self, failure: Failure) -> Failure:
        """Add what was told beside it: a finer class, and how long to wait."""
        if failure.error_class is ErrorClass.CANCELLED:
            # Whoever stopped it, crewd did not: it would know.
            words = f"it was stopped from outside: {failure.message}"
            return _failure(ErrorClass.WORKER_KILLED, words, "interrupted")
        other = self._failing
        if other is not None and failure.error_class in VAGUE and other.error_class not in VAGUE:
            failure = replace(other, message=failure.message or other.message)
        if failure.error_class is ErrorClass.RATE_LIMITED and failure.retry_after is None:
            waits = [each.retry_after for each in (other, self._refused) if each is not None and each.retry_after]
            if self._limited_until is not None:
                waits = [self._left(self._limited_until)]
            failure = replace(failure, retry_after=waits[0] if waits else None)
        return _guided(failure)

    def _last(self, words: str) -> str:
        return f"{words}; before, its provider had refused: {self._refused.message}" if self._refused else words


DENIED_GUIDANCE = (
    'Allow the tool in the executor\'s permissions, or tell the agent to do without it; watch.on_denied = "allow" '
    "lets such an attempt count as completed."
)


def _failure(error_class: ErrorClass, message: str, code: str = "", guidance: str = "") -> Failure:
    return _guided(Failure(error_class, message, code=code, guidance=guidance))


def _guided(failure: Failure) -> Failure:
    return failure if failure.guidance else replace(failure, guidance=handling_of(failure.error_class).guidance)


def _digest(name: str, input: bytes) -> bytes:
    return blake2b(input, digest_size=12, key=name.encode("utf-8", "replace")[:64]).digest()
