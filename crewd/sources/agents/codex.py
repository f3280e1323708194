"""What Codex (`codex exec --json`) prints, and what it keeps of a session in its rollout file.

Read from genuine runs of 0.169.0 and from the event types of its public source. It prints no model, no version and no
usage before the end: those are in the rollout, which is the only account of a run that was killed.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import replace

from crewd.model.failure import ErrorClass, Failure
from crewd.model.run import Usage
from crewd.sources.agents.decoding import Amount, Count, LineDecoder
from crewd.sources.agents.reasons import TEXT_MAX, both_ends, class_of_status, failure_of
from crewd.sources.agents.signs import (
    Began,
    Denied,
    Failing,
    Finished,
    LimitTold,
    Lives,
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
from crewd.sources.fields import count, cut, fields

Signs = tuple[Sign, ...]
NONE: Signs = ()
LIVES: Signs = (Lives(),)
MOVED: Signs = (Moved(),)
NOISE: Signs = (Noise(),)

NOTHING = msgspec.Raw(b"")
NO_TYPE = "(no type)"
TYPE_MAX = 80  # characters of a type that is not known
NAME_MAX = 128  # of ids and names
WORDS_MAX = 4096  # of what it says in one piece
STDERR_MAX = 4096  # bytes of a line that are looked at
OPEN_MAX = 256  # tool calls that are open at one time
TOOLS = frozenset({"command_execution", "file_change", "mcp_tool_call", "web_search", "collab_tool_call"})
SPEECH = frozenset({"agent_message", "reasoning", "plan", "todo_list"})
# Types of lines in a rollout that say nothing here beyond life: stdout tells the same of tools and words.
QUIET = frozenset({"response_item", "world_state", "compacted", "inter_agent_communication", "ghost_snapshot"})
# Without any of these a command runs in no sandbox of Codex's own, and what denied it is the machine.
UNCONFINED = frozenset({"danger-full-access", "external-sandbox"})

RECONNECTING = re.compile(r"Reconnecting\.{3} (\d{1,6})/(\d{1,6})(?: \((.*)\))?\s*", re.DOTALL | re.ASCII)
WEBSOCKET = re.compile(r"\bwss?://")
STATUS = re.compile(r"\bstatus(?: code)?:? (\d{3})\b", re.ASCII)
# As the C library, Python, Node, Go and Rust end a line that tells of a write which a read-only sandbox stopped. The
# command's exit status says nothing: `touch x && y; echo done` ends with 0 (a genuine run).
READ_ONLY = re.compile(
    r"(?:: |\[errno 30\] |\berofs: )read-only file system(?:\s*$|[:,] ?['\"o]| \(os error 30\))",
    re.IGNORECASE | re.MULTILINE | re.ASCII,
)
# The log line of a call that Codex itself turned down; it prints no item for it.
ROUTER = b"codex_core::tools::router: error="
TURNED_DOWN = re.compile(rb"(patch) rejected|rejected by user|rejected: blocked by policy")

WINDOWS = {300: "five_hour", 10080: "seven_day"}  # minutes
# Words of `codex_error_info` that have a class of their own; others are read by the status and words beside them.
INFO: Mapping[str, ErrorClass] = MappingProxyType(
    {
        "context_window_exceeded": ErrorClass.CONTEXT_EXHAUSTED,
        "usage_limit_exceeded": ErrorClass.RATE_LIMITED,
        "rate_limit_exceeded": ErrorClass.RATE_LIMITED,
        "session_budget_exceeded": ErrorClass.TASK_ERROR,  # a limit that the session was given
        "unauthorized": ErrorClass.AUTH_ERROR,
        "server_overloaded": ErrorClass.PROVIDER_ERROR,
        "flex_unavailable": ErrorClass.PROVIDER_ERROR,
        "internal_server_error": ErrorClass.PROVIDER_ERROR,
    }
)
CONNECTIONS = frozenset(
    {
        "http_connection_failed",
        "response_stream_connection_failed",
        "response_stream_disconnected",
        "response_too_many_failed_attempts",
    }
)


class _Tokens(msgspec.Struct, gc=False):
    input_tokens: Count = 0
    cached_input_tokens: Count = 0
    cache_write_input_tokens: Count = 0
    output_tokens: Count = 0


class _Error(msgspec.Struct, gc=False):
    message: str = ""
    codex_error_info: str | dict[str, Any] | None = None


class _Event(msgspec.Struct, gc=False):
    """A line of stdout."""

    type: str = ""
    thread_id: str = ""
    item: "_Item | None" = None
    usage: _Tokens | None = None
    message: str = ""
    error: _Error | None = None


class _Item(msgspec.Struct, gc=False):
    """A step of a turn. What a tool was given is kept as it is printed."""

    id: str = ""
    type: str = ""
    status: str | None = None
    text: str = ""
    command: msgspec.Raw = NOTHING
    aggregated_output: str = ""
    exit_code: int | None = None
    changes: msgspec.Raw = NOTHING
    server: str = ""
    tool: str = ""
    arguments: msgspec.Raw = NOTHING
    error: _Error | None = None
    query: msgspec.Raw = NOTHING
    prompt: msgspec.Raw = NOTHING
    receiver_thread_ids: msgspec.Raw = NOTHING


class _Window(msgspec.Struct, gc=False):
    used_percent: Amount | None = None
    window_minutes: Count | None = None
    resets_at: Amount | None = None


class _Limits(msgspec.Struct, gc=False):
    primary: _Window | None = None
    secondary: _Window | None = None
    rate_limit_reached_type: str | None = None


class _Info(msgspec.Struct, gc=False):
    total_token_usage: _Tokens | None = None


class _Policy(msgspec.Struct, gc=False):
    type: str = ""


class _Record(msgspec.Struct, gc=False):
    """A line of the rollout."""

    type: str = ""
    payload: msgspec.Raw = NOTHING


class _Payload(msgspec.Struct, gc=False):
    type: str = ""
    id: str = ""
    cli_version: str = ""
    model: str = ""
    sandbox_policy: _Policy | None = None
    info: _Info | None = None
    rate_limits: _Limits | None = None
    thread_token_usage: _Tokens | None = None
    error: _Error | None = None
    reason: str = ""


_event = LineDecoder(_Event)
_record = LineDecoder(_Record)
_payload = LineDecoder(_Payload)


class CodexReader:
    """Understands one run of Codex."""

    __slots__ = ("_confined", "_model", "_open")

    def __init__(self) -> None:
        self._open: dict[str, None] = {}  # ids of tool calls that were begun
        self._model = ""
        self._confined = True  # until the rollout says that there is no sandbox

    def stdout(self, line: bytes) -> Signs:
        event = _event(line)
        if event is None:
            return NOISE
        match event.type:
            case "item.started" | "item.updated" | "item.completed":
                return LIVES if event.item is None else self._item(event.item, event.type == "item.completed")
            case "turn.started":
                return LIVES
            case "thread.started":
                return (Began(session=cut(event.thread_id, NAME_MAX)),)
            case "turn.completed":
                return (*self._used(event.usage), Finished())
            case "turn.failed":
                return (Finished(_failure(event.error.message if event.error else "")),)
            case "error":
                return (_error(event.message),)
            case other:
                return (Unknown(other[:TYPE_MAX] or NO_TYPE),)

    def stderr(self, line: bytes) -> Signs:
        start = line.find(ROUTER, 0, STDERR_MAX)
        found = TURNED_DOWN.search(line[:STDERR_MAX], start) if start >= 0 else None
        return (Denied("apply_patch" if found[1] else "exec_command"),) if found else NONE

    def session(self, line: bytes) -> Signs:
        record = _record(line)
        if record is None:
            return NOISE
        match record.type:
            case "event_msg" | "turn_context" | "session_meta" | "token_usage_record":
                payload = _payload(record.payload)
                return LIVES if payload is None else self._told(record.type, payload)
            case quiet if quiet in QUIET:
                return LIVES
            case other:
                return (Unknown(f"rollout/{other or NO_TYPE}"[:TYPE_MAX]),)

    def exit(self, code: int) -> Failure | None:
        return None  # it is 1 whatever went wrong

    def _item(self, item: _Item, completed: bool) -> Signs:
        match item.type:
            case kind if kind in TOOLS:
                return self._tool(item, completed)
            case kind if kind in SPEECH:
                return (Moved(cut(item.text, WORDS_MAX)),) if completed and item.text else MOVED
            case "error":
                return LIVES  # a warning: every run with a model that it does not know has one
            case other:
                return (Unknown(f"item/{other or NO_TYPE}"[:TYPE_MAX]),)

    def _tool(self, item: _Item, completed: bool) -> Signs:
        id, name = cut(item.id, NAME_MAX), _name(item)
        known = id in self._open
        if not completed:
            if len(self._open) >= OPEN_MAX:
                del self._open[next(iter(self._open))]
            self._open[id] = None
            return MOVED if known else (ToolBegan(id, name, _input(item)),)
        self._open.pop(id, None)
        ended = self._ended(item, id, name)
        # A change of files is told only when it is done; what is searched for is sometimes known only then.
        return (ended,) if known and item.type != "web_search" else (ToolBegan(id, name, _input(item)), ended)

    def _ended(self, item: _Item, id: str, name: str) -> ToolEnded:
        denied = item.status == "declined" or (item.type == "command_execution" and self._stopped(item))
        if not denied and _is_ok(item):
            return ToolEnded(id, name=name)
        return ToolEnded(id, ok=False, denied=denied, words=_words(item), name=name)

    def _stopped(self, item: _Item) -> bool:
        """Whether a command tells that its sandbox is read-only."""
        output = item.aggregated_output
        # The search for a fixed text is quick; a long output is looked at closely only where that is found.
        return self._confined and "ead-only file system" in output and READ_ONLY.search(output) is not None

    def _told(self, kind: str, payload: _Payload) -> Signs:
        match kind:
            case "session_meta":
                return (Began(session=cut(payload.id, NAME_MAX), version=cut(payload.cli_version, NAME_MAX)),)
            case "turn_context":
                self._model = cut(payload.model, NAME_MAX)
                self._confined = payload.sandbox_policy is None or payload.sandbox_policy.type not in UNCONFINED
                return (Began(model=self._model),)
            case "token_usage_record":  # written before the tool calls of an answer are carried out
                return self._used(payload.thread_token_usage) or LIVES
        match payload.type:
            case "token_count":
                used = self._used(payload.info.total_token_usage if payload.info else None)
                return (*used, *_limits(payload.rate_limits)) or LIVES
            case "task_complete" | "turn_complete" if payload.error is not None:
                return (Failing(_told_by_rollout(payload.error)),)
            case "turn_aborted":
                return (Failing(_aborted(payload.reason)),)
            case _:
                return LIVES

    def _used(self, tokens: _Tokens | None) -> Signs:
        """The figures of a whole thread: input counts what came from a cache, output what was thought."""
        if tokens is None:
            return NONE
        read, written = tokens.cached_input_tokens, tokens.cache_write_input_tokens
        usage = Usage(
            input=max(0, tokens.input_tokens - read - written),
            output=tokens.output_tokens,
            cache_read=read,
            cache_write=written,
            model=self._model,
        )
        return (Used(usage, Scope.THREAD),)


def _error(words: str) -> Sign:
    if (again := RECONNECTING.fullmatch(words[:TEXT_MAX])) is None:
        return Failing(_failure(words))
    failure = _failure(again[3] or words, ErrorClass.PROVIDER_ERROR)
    if failure.error_class is ErrorClass.CONFIG_INVALID and WEBSOCKET.search(words[:TEXT_MAX]):
        # A proxy that knows no WebSockets answers 404; Codex goes on over HTTPS after a few tries (a genuine run).
        failure = replace(failure, error_class=ErrorClass.PROVIDER_ERROR)
    return Refused(failure, attempt=int(again[1]), attempts_max=int(again[2]))


def _failure(words: str, otherwise: ErrorClass = ErrorClass.TASK_ERROR) -> Failure:
    status = STATUS.search(words[:TEXT_MAX])
    return failure_of(words or "it does not say why", otherwise, status=int(status[1]) if status else None)


def _told_by_rollout(error: _Error) -> Failure:
    """The failure of a turn as the rollout tells it: by a word, or a word with an HTTP status."""
    info = error.codex_error_info
    name, detail = (next(iter(info.items()), ("", None))) if isinstance(info, dict) else (info or "", None)
    if not name:
        return _failure(error.message)
    status = count(fields(detail), "http_status_code")
    failure = failure_of(error.message or name, _otherwise(name), status=status, code=name[:TYPE_MAX])
    # A status of 400 says less than the words beside it.
    own = INFO.get(name) or (class_of_status(status) if name in CONNECTIONS and status != 400 else None)
    return replace(failure, error_class=own) if own is not None else failure


def _otherwise(name: str) -> ErrorClass:
    if name in CONNECTIONS:
        return ErrorClass.PROVIDER_ERROR
    return ErrorClass.INPUT_INVALID if name in ("bad_request", "invalid_prompt") else ErrorClass.TASK_ERROR


def _aborted(reason: str) -> Failure:
    """A turn that was broken off. SIGINT interrupts it, and nothing in the file says who sent that."""
    if reason == "budget_limited":
        return Failure(ErrorClass.TASK_ERROR, "the budget of its turn is used up", code=reason)
    word = cut(reason, TYPE_MAX)
    return Failure(ErrorClass.CANCELLED, f"its turn was broken off: {word or 'no reason is told'}", code=word)


def _limits(limits: _Limits | None) -> Signs:
    """The windows of an account's limit; one that is reached comes last, so that it is what counts."""
    if limits is None:
        return NONE
    reached = bool(limits.rate_limit_reached_type)
    told = [
        _limit(window, name, reached)
        for name, window in (("primary", limits.primary), ("secondary", limits.secondary))
        if window is not None
    ]
    return tuple(sorted(told, key=lambda limit: limit.rejected))


def _limit(window: _Window, name: str, reached: bool) -> LimitTold:
    percent = window.used_percent
    return LimitTold(
        # A window that is full does not yet refuse anything: credits may follow, or the work is done.
        rejected=reached and percent is not None and percent >= 100,
        until=window.resets_at,
        name=WINDOWS.get(window.window_minutes or 0, name),
        used_ratio=percent / 100 if percent is not None else None,
    )


def _name(item: _Item) -> str:
    match item.type:
        case "mcp_tool_call" if item.tool:
            return cut(f"{item.server}.{item.tool}".lstrip("."), NAME_MAX)
        case "collab_tool_call" if item.tool:
            return cut(item.tool, NAME_MAX)
        case kind:
            return kind


def _input(item: _Item) -> bytes:
    match item.type:
        case "command_execution":
            return _printed(item.command)
        case "file_change":
            return _printed(item.changes)
        case "mcp_tool_call":
            return _printed(item.arguments)
        case "web_search":
            return _printed(item.query)
        case _:
            return _printed(item.prompt) + _printed(item.receiver_thread_ids)


def _printed(value: msgspec.Raw) -> bytes:
    printed = bytes(value)
    return b"" if printed in (b'""', b"null") else printed


def _is_ok(item: _Item) -> bool:
    if item.exit_code is not None:
        return item.exit_code == 0
    return item.status in (None, "completed") and item.error is None


def _words(item: _Item) -> str:
    if item.type != "command_execution":
        return both_ends(item.error.message if item.error else item.status or "")
    ending = f"exit status {item.exit_code}: " if item.exit_code else ""
    return f"{ending}{both_ends(item.aggregated_output)}".strip(": ")
