"""What pi prints with `--mode json`. Tried with 0.87.1 (docs/agents.md).

It exits with 0 whatever happened: how its task ended is in the stop reason of its last answer. Each message is
printed three times, in `message_end`, `turn_end` and `agent_end`: the first alone counts. It denies nothing.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from crewd.model.failure import ErrorClass, Failure
from crewd.model.run import Usage
from crewd.policy.last_words import MESSAGE_MAX, one_line
from crewd.policy.retry import RETRY_AFTER_MAX
from crewd.sources.agents.decoding import Amount, Count, LineDecoder
from crewd.sources.agents.reasons import failure_of
from crewd.sources.agents.signs import (
    Began,
    Failing,
    Finished,
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
from crewd.sources.fields import cut

NAME_MAX = 200  # characters of ids and names
WORDS_MAX = 2000  # of its last answer, or of what a failed tool call says
TYPE_MAX = 80
SIGTERM_HEARD = 143  # the exit status after SIGTERM: it ends its tools first

# "429: {...}" or "401 {...}": the status of a failed request comes before what the provider wrote.
STATUS = re.compile(r"\s{0,8}([45]\d\d)(?=[:\s{])", re.ASCII)
# Stop reasons of the last answer with which nothing failed, and the task is not done all the same.
UNDONE: Mapping[str, str] = MappingProxyType(
    {
        "length": "its last answer was cut off at the limit of output tokens",
        "toolUse": "it ended after a tool call, without a last answer",
        "": "it ended without an answer",
    }
)

NOISE: tuple[Sign, ...] = (Noise(),)
LIVES: tuple[Sign, ...] = (Lives(),)
MOVED: tuple[Sign, ...] = (Moved(),)


class _Price(msgspec.Struct, gc=False):
    total: Amount | None = None


class _Tokens(msgspec.Struct, gc=False, rename="camel"):
    input: Count = 0
    output: Count = 0
    cache_read: Count = 0
    cache_write: Count = 0
    cost: _Price | None = None


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str = ""


class _Result(msgspec.Struct, gc=False):
    content: str | list[_Block] = ""


class _Message(msgspec.Struct, gc=False, rename="camel"):
    role: str = ""
    content: str | list[_Block] = ""
    model: str = ""
    usage: _Tokens | None = None
    stop_reason: str = ""
    error_message: str | None = None


class _Piece(msgspec.Struct, gc=False):
    delta: str = ""
    type: str = ""


class _Line(msgspec.Struct, gc=False, rename="camel"):
    """What every line is told apart by, and all of a piece of an answer: there are more of those than of others."""

    type: str = ""
    assistant_message_event: _Piece | None = None


class _Session(msgspec.Struct, gc=False):
    id: str = ""


class _MessageLine(msgspec.Struct, gc=False):
    message: _Message | None = None


class _Retry(msgspec.Struct, gc=False, rename="camel"):
    attempt: Count = 0
    max_attempts: Count | None = None
    delay_ms: Amount | None = None
    error_message: str | None = None
    success: bool | None = None
    final_error: str | None = None


class _Tool(msgspec.Struct, gc=False, rename="camel"):
    tool_call_id: str = ""
    tool_name: str = ""
    args: msgspec.Raw = msgspec.Raw()
    result: _Result | None = None
    is_error: bool | None = None


_line = LineDecoder(_Line)
_session = LineDecoder(_Session)
_message_line = LineDecoder(_MessageLine)
_retry = LineDecoder(_Retry)
_tool = LineDecoder(_Tool)


class PiReader:
    """Reads one run of pi."""

    __slots__ = ("_failure", "_messages", "_model", "_session", "_stopped", "_words")

    def __init__(self) -> None:
        self._session = self._model = ""
        self._messages = 0  # answers so far: each is printed as ended once
        self._stopped = ""  # stop reason of the last one
        self._failure: Failure | None = None  # with which it failed
        self._words = ""  # of the last one

    def stdout(self, line: bytes) -> Iterable[Sign]:
        head = _line(line)
        if head is None or not head.type:
            return NOISE if line.strip() else ()
        match head.type:
            case "message_update":
                return _piece(head.assistant_message_event)
            case "message_end":
                return self._message_ended(line)
            case "message_start":
                return self._message_began(line)
            case "tool_execution_start":
                tool = _tool(line) or _Tool()
                return (ToolBegan(tool.tool_call_id[:NAME_MAX], tool.tool_name[:NAME_MAX], bytes(tool.args)),)
            case "tool_execution_end":
                return _tool_ended(_tool(line) or _Tool())
            case "auto_retry_start":
                return (_refused(_retry(line) or _Retry()),)
            case "auto_retry_end":
                return _retried(_retry(line) or _Retry())
            case "session":
                self._session = (_session(line) or _Session()).id[:NAME_MAX]
                return (Began(self._session),)
            case "agent_settled":
                return (Finished(self._verdict(), self._words),)
            case "agent_start" | "agent_end" | "turn_start" | "turn_end" | "entry_appended" | "tool_execution_update":
                return LIVES
            case other:
                return (Unknown(other[:TYPE_MAX]),)

    def stderr(self, line: bytes) -> Iterable[Sign]:
        return ()

    def session(self, line: bytes) -> Iterable[Sign]:
        return ()

    def exit(self, code: int) -> Failure | None:
        if code == SIGTERM_HEARD:
            return Failure(ErrorClass.WORKER_KILLED, "ended by SIGTERM before its task was done", code="sigterm")
        return None  # of its task it says 0, whatever happened

    def _message_began(self, line: bytes) -> Iterable[Sign]:
        message = _message(line)
        if message.role != "assistant":
            return LIVES
        answers = MOVED if message.stop_reason not in ("error", "aborted") else LIVES
        if message.model[:NAME_MAX] == self._model:
            return answers
        self._model = message.model[:NAME_MAX]
        return Began(self._session, self._model), *answers

    def _message_ended(self, line: bytes) -> Iterable[Sign]:
        """An answer is over. That it failed is no failing yet: it may be asked for again, and well answered."""
        message = _message(line)
        if message.role != "assistant":
            return LIVES
        self._messages += 1
        self._stopped = message.stop_reason
        self._words = _joined(message.content)
        used = _used(message.usage, str(self._messages), message.model[:NAME_MAX])
        if message.stop_reason not in ("error", "aborted"):
            return *used, *MOVED
        self._failure = _failure(message.error_message or message.stop_reason, message.stop_reason)
        return *used, *LIVES

    def _verdict(self) -> Failure | None:
        match self._stopped:
            case "stop":
                return None
            case "error" | "aborted":
                return self._failure
            case reason:
                words = UNDONE.get(reason, f"its last answer stopped for {reason[:TYPE_MAX]!r}")
                return Failure(
                    ErrorClass.TASK_ERROR, one_line(words), code=one_line(reason)[:TYPE_MAX] or "no_answer"
                )


def _piece(piece: _Piece | None) -> Iterable[Sign]:
    if piece is None or piece.type == "error":
        return LIVES
    return (Moved(piece.delta),) if piece.type == "text_delta" else MOVED


def _message(line: bytes) -> _Message:
    found = _message_line(line)
    return found.message if found is not None and found.message is not None else _Message()


def _tool_ended(tool: _Tool) -> Iterable[Sign]:
    ok = not tool.is_error
    words = _joined(tool.result.content) if tool.result is not None and not ok else ""
    return (ToolEnded(tool.tool_call_id[:NAME_MAX], ok, words=words, name=tool.tool_name[:NAME_MAX]),)


def _refused(retry: _Retry) -> Sign:
    """It asks again after a few seconds, even where the provider wants an hour: the longer wait is the true one."""
    failure = _failure(retry.error_message or "", "error")
    waits = [retry.delay_ms / 1000] if retry.delay_ms is not None else []
    if failure.retry_after is not None:
        waits.append(failure.retry_after)
    wait = min(max(waits), RETRY_AFTER_MAX) if waits else None
    return Refused(msgspec.structs.replace(failure, retry_after=wait), retry.attempt, retry.max_attempts)


def _retried(retry: _Retry) -> Iterable[Sign]:
    if retry.success is not False:
        return LIVES
    return (Failing(_failure(retry.final_error or "", "error")),)


def _failure(text: str, stop_reason: str) -> Failure:
    """Why an answer failed. "terminated" and "Request timed out." are the provider's silence."""
    if stop_reason == "aborted":
        return Failure(ErrorClass.WORKER_KILLED, cut(one_line(text), MESSAGE_MAX), code="aborted")
    status = STATUS.match(text)
    return failure_of(text, ErrorClass.PROVIDER_ERROR, status=int(status[1]) if status is not None else None)


def _used(tokens: _Tokens | None, key: str, model: str) -> tuple[Used, ...]:
    """The figures of one answer. A failed request has none, which is not to say that it cost nothing."""
    if tokens is None or not (tokens.input or tokens.output or tokens.cache_read or tokens.cache_write):
        return ()
    usage = Usage(
        input=tokens.input,
        output=tokens.output,
        cache_read=tokens.cache_read,
        cache_write=tokens.cache_write,
        # 0 is what it reckons for a model whose prices nobody gave.
        cost_usd=tokens.cost.total or None if tokens.cost is not None else None,
        model=model,
    )
    return (Used(usage, Scope.MESSAGE, key),)


def _joined(content: str | list[_Block]) -> str:
    return cut(content if isinstance(content, str) else " ".join(block.text for block in content), WORDS_MAX)
