"""What Gemini CLI (`gemini -o stream-json`) prints, and what it keeps of a session in its chat file.

Read from genuine runs of 0.61.0. Retries are told on stderr alone, in words; on stdout an error is a text with JSON
in it. The exit status of a failed request is its HTTP status, of which only the lowest byte arrives.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from crewd.model.failure import ErrorClass, Failure
from crewd.model.run import Usage
from crewd.sources.agents.decoding import Count, LineDecoder
from crewd.sources.agents.reasons import MAX_TURNS, both_ends, class_of_status, failure_of, wait_of
from crewd.sources.agents.signs import (
    Began,
    Failing,
    Finished,
    Lives,
    Looped,
    Moved,
    Noise,
    Refused,
    Scope,
    Sign,
    ToolBegan,
    ToolEnded,
    Unknown,
    Used,
)
from crewd.sources.document import parse
from crewd.sources.fields import count, cut, fields, text

Signs = tuple[Sign, ...]
NONE: Signs = ()
LIVES: Signs = (Lives(),)
NOISE: Signs = (Noise(),)

NOTHING = msgspec.Raw(b"")
NO_TYPE = "(no type)"
TYPE_MAX = 80  # characters of a type that is not known
NAME_MAX = 256  # of ids and names; an id holds the name of its tool twice
WORDS_MAX = 4096  # of what it says in one piece
STDERR_MAX = 16 * 1024  # bytes of a line that are looked at
STORY_LINES_MAX = 40  # lines of stderr over which one failed attempt may be told
JSON_MAX = 16 * 1024  # characters of a text in which an error of the API is looked for
NESTED_MAX = 3  # errors within the text of errors
SAYINGS = frozenset({"user", "info", "warning", "error"})  # types of messages in a chat file without tokens
DENIED = frozenset({"tool_not_registered", "policy_violation", "execution_denied"})
DENIED_WORDS = re.compile(
    r"tool execution\b[^\n]{0,300}?\b(?:denied by policy|not supported in non-interactive mode)", re.IGNORECASE
)
LOOP = re.compile(r"\bloop detected\b", re.IGNORECASE)

ATTEMPT = re.compile(r"Attempt (\d{1,6}) failed(?: with status (\d{3}))?(?:: |\. |$)(.*)", re.ASCII | re.DOTALL)
RETRYING = re.compile(r"\bRetrying after (\d{1,9}(?:\.\d{1,9})?)ms\b", re.ASCII)
BACKOFF, GIVEN_UP = "Retrying with backoff...", "Max attempts reached"
NO_LOGIN = re.compile(
    rb"must specify the \w{1,64} environment variable|Please set an Auth method|FatalAuthenticationError"
)

# Documented exit statuses.
EXITS: Mapping[int, tuple[ErrorClass, str, str]] = MappingProxyType(
    {
        41: (ErrorClass.AUTH_ERROR, "it is not logged in", ""),
        42: (ErrorClass.INPUT_INVALID, "it rejects its arguments or prompt", ""),
        44: (ErrorClass.CONFIG_INVALID, "its sandbox cannot be used", "sandbox"),
        52: (ErrorClass.CONFIG_INVALID, "it rejects its settings", "settings"),
        53: (ErrorClass.TASK_ERROR, "it took as many turns as its settings allow", MAX_TURNS),
        54: (ErrorClass.TASK_ERROR, "one of its tools failed for good", "tool"),
        55: (ErrorClass.CONFIG_INVALID, "it does not trust its folder; add --skip-trust", "untrusted_folder"),
        130: (ErrorClass.CANCELLED, "it was interrupted", "interrupted"),
    }
)
# HTTP statuses modulo 256; none of them is 128 and the number of a signal that ends a process.
STATUS_OF_EXIT = {status % 256: status for status in (400, 401, 402, 403, 404, 408, 429, *range(500, 512))}


class _Error(msgspec.Struct, gc=False):
    type: str = ""
    message: str = ""


class _Stats(msgspec.Struct, gc=False):
    total_tokens: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    cached: Count = 0
    models: dict[str, msgspec.Raw] | None = None


class _Event(msgspec.Struct, gc=False):
    """A line of stdout. What a tool was given is kept as it is printed."""

    type: str = ""
    role: str = ""
    content: str = ""
    session_id: str = ""
    model: str = ""
    tool_id: str = ""
    tool_name: str = ""
    parameters: msgspec.Raw = NOTHING
    status: str = ""
    output: str | None = None
    error: _Error | None = None
    severity: str = ""
    message: str = ""
    stats: _Stats | None = None


class _Tokens(msgspec.Struct, gc=False):
    input: Count = 0
    output: Count = 0
    cached: Count = 0
    thoughts: Count = 0
    tool: Count = 0


class _Record(msgspec.Struct, gc=False):
    """A line of the chat file."""

    type: str = ""
    id: str = ""
    sessionId: str = ""
    model: str = ""
    tokens: _Tokens | None = None


class _Said(NamedTuple):
    """An error as the API told it, wherever it was found."""

    words: str
    status: int | None = None
    wait: float | None = None  # seconds


_event = LineDecoder(_Event)
_record = LineDecoder(_Record)


class GeminiReader:
    """Understands one run of Gemini CLI."""

    __slots__ = ("_failing", "_lines_left", "_refused")

    def __init__(self) -> None:
        self._failing: Failure | None = None  # the latest error that stdout told
        self._refused: Refused | None = None  # the failed attempt that stderr is telling
        self._lines_left = 0

    def stdout(self, line: bytes) -> Signs:
        event = _event(line)
        if event is None:
            return NOISE
        match event.type:
            case "message":
                return (Moved(cut(event.content, WORDS_MAX)),) if event.role == "assistant" else LIVES
            case "tool_use":
                name = cut(event.tool_name, NAME_MAX)
                return (ToolBegan(cut(event.tool_id, NAME_MAX), name, bytes(event.parameters)),)
            case "tool_result":
                return (_ended(event),)
            case "init":
                return (Began(session=cut(event.session_id, NAME_MAX), model=cut(event.model, NAME_MAX)),)
            case "error":
                return self._error(event.message, event.severity == "warning")
            case "result" if event.status:
                return (*_used_by_run(event.stats), Finished(self._failure(event)))
            case other:
                return (Unknown(other[:TYPE_MAX] or NO_TYPE),)

    def stderr(self, line: bytes) -> Signs:
        line = line[:STDERR_MAX]
        if NO_LOGIN.search(line):
            return (Failing(failure_of(_text(line), ErrorClass.AUTH_ERROR)),)
        if line.startswith(b"Attempt "):
            return self._attempt(_text(line))
        return self._told_on(_text(line)) if self._refused is not None else NONE

    def session(self, line: bytes) -> Signs:
        if line.startswith(b'{"$'):
            return LIVES  # a change to the file as a whole, often all that was said so far
        record = _record(line)
        if record is None:
            return NOISE
        match record.type:
            case "gemini":
                return _used_by_message(record) or LIVES
            case "" if record.sessionId:
                return (Began(session=cut(record.sessionId, NAME_MAX)),)
            case known if known in SAYINGS:
                return LIVES
            case other:
                return (Unknown(f"chat/{other or NO_TYPE}"[:TYPE_MAX]),)

    def exit(self, code: int) -> Failure | None:
        if (documented := EXITS.get(code)) is not None:
            error_class, words, finer = documented
            return Failure(error_class, f"exit status {code}: {words}", code=finer)
        status = STATUS_OF_EXIT.get(code)
        error_class_of_status = class_of_status(status)
        if error_class_of_status is None:
            return None
        return Failure(error_class_of_status, f"exit status {code}: the provider answered {status}")

    def _error(self, words: str, is_warning: bool) -> Signs:
        if LOOP.search(words):
            return (Looped(cut(words, NAME_MAX)),)
        if is_warning:
            return LIVES
        self._failing = _failure(words, ErrorClass.TASK_ERROR)
        return (Failing(self._failing),)

    def _failure(self, event: _Event) -> Failure | None:
        """How a run failed by the word of its last event; None: it did not."""
        if event.status == "success":
            return None
        words = event.error.message if event.error is not None else ""
        failure = _failure(words or "it does not say why", ErrorClass.TASK_ERROR)
        # The last event may leave out what an error before it told.
        vague = failure.error_class is ErrorClass.TASK_ERROR and not failure.code
        return self._failing if vague and self._failing is not None else failure

    def _attempt(self, line: str) -> Signs:
        """The line that begins to tell of a failed request."""
        self._refused = None
        if (found := ATTEMPT.match(line)) is None:
            return NONE
        status, words = found[2], found[3].replace(BACKOFF, "").strip()
        said = _said(words)
        failure = failure_of(
            said.words or f"status {status}",
            ErrorClass.PROVIDER_ERROR,
            status=int(status) if status else said.status,
            wait=said.wait,
        )
        if failure.error_class is ErrorClass.BUDGET_EXCEEDED:
            # It gives up at once on a quota that stays used up: whatever it repeats is a rate.
            failure = replace(failure, error_class=ErrorClass.RATE_LIMITED)
        if GIVEN_UP in line:
            return (Failing(failure),)
        refused = Refused(_with_wait(failure, line), attempt=int(found[1]))
        if BACKOFF in line or RETRYING.search(line) is not None:
            return (refused,)
        # The lines below tell whether it is repeated at all.
        self._refused, self._lines_left = refused, STORY_LINES_MAX
        return LIVES

    def _told_on(self, line: str) -> Signs:
        """The lines below it: one tells how long the program itself waits, or that it gives up."""
        refused = self._refused
        self._lines_left -= 1
        if refused is None:
            return NONE
        if self._lines_left <= 0:
            self._refused = None
            return (refused,)
        if GIVEN_UP in line:
            self._refused = None
            return (Failing(refused.failure),)
        if RETRYING.search(line) is None:
            return NONE
        self._refused = None
        return (replace(refused, failure=_with_wait(refused.failure, line)),)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _with_wait(failure: Failure, line: str) -> Failure:
    """The failure with the wait that the program chose, where the line tells it."""
    found = RETRYING.search(line)
    return failure if found is None else replace(failure, retry_after=float(found[1]) / 1000)


def _failure(words: str, otherwise: ErrorClass) -> Failure:
    said = _said(words[:JSON_MAX])
    return failure_of(said.words, otherwise, status=said.status, wait=said.wait)


def _said(words: str, depth: int = 0) -> _Said:
    """Find the API's own error in a text: it is JSON within it, sometimes with the next one in its message."""
    start, end = words.find("{"), words.rfind("}")
    if start < 0 or end < start or depth == NESTED_MAX:
        return _Said(words)
    error = fields(fields(parse(words[start : end + 1].encode("utf-8", "replace")).value).get("error"))
    message = text(error, "message", JSON_MAX)
    if not message:
        return _Said(words)
    within = _said(message, depth + 1)
    return _Said(within.words, within.status or count(error, "code"), within.wait or _wait(error.get("details")))


def _wait(details: object) -> float | None:
    """The seconds of a google.rpc.RetryInfo."""
    for detail in details[:32] if isinstance(details, list) else ():
        if delay := text(fields(detail), "retryDelay", 64):
            return wait_of(f"retry after {delay}") or None
    return None


def _ended(event: _Event) -> ToolEnded:
    id, error = cut(event.tool_id, NAME_MAX), event.error or _Error()
    if event.status == "success":
        return ToolEnded(id)
    words = error.message or event.output or ""
    denied = error.type in DENIED or DENIED_WORDS.match(words) is not None
    return ToolEnded(id, ok=False, denied=denied, words=both_ends(words))


def _used_by_run(stats: _Stats | None) -> Signs:
    """The figures of a run. `input_tokens` counts what came from a cache; what was thought is only in the total."""
    if stats is None:
        return NONE
    models = list(stats.models or ())
    usage = Usage(
        input=max(0, stats.input_tokens - stats.cached),
        output=max(stats.output_tokens, stats.total_tokens - stats.input_tokens),
        cache_read=stats.cached,
        model=cut(models[0], NAME_MAX) if len(models) == 1 else "",
    )
    return (Used(usage, Scope.RUN),)


def _used_by_message(record: _Record) -> Signs:
    """The figures of one answer; it is written again when its tools have ended."""
    tokens = record.tokens
    if tokens is None or not record.id:
        return NONE
    usage = Usage(
        input=max(0, tokens.input - tokens.cached) + tokens.tool,
        output=tokens.output + tokens.thoughts,
        cache_read=tokens.cached,
        model=cut(record.model, NAME_MAX),
    )
    return (Used(usage, Scope.MESSAGE, cut(record.id, NAME_MAX)),)
