"""What Claude Code prints with `--output-format stream-json`. Tried with 2.1.329 (docs/agents.md).

A failure of its provider ends it with a result whose subtype is "success": only `is_error`, `terminal_reason` and
`api_error_status` tell. One message of the model comes as several `assistant` events that have its id; their count of
output tokens is that of the message's beginning, the true one comes with `message_delta` of the partial stream. Of
the figures of one message the greatest hold, and `result` replaces them all.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from crewd.model.failure import ErrorClass, Failure
from crewd.model.run import Usage
from crewd.policy.last_words import MESSAGE_MAX, one_line
from crewd.policy.retry import RETRY_AFTER_MAX
from crewd.sources.agents.decoding import Amount, Count, LineDecoder
from crewd.sources.agents.reasons import class_of_status, failure_of, wait_of
from crewd.sources.agents.signs import (
    Began,
    Cost,
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
from crewd.sources.document import FAULTS
from crewd.sources.fields import cut

NAME_MAX = 200  # characters of ids and names
WORDS_MAX = 2000  # of a result, or of what a failed tool call says
TYPE_MAX = 80
DENIALS_MAX = 32
MAX_BUDGET = "max_budget"
MAX_BUDGET_GUIDANCE = "It spent what its own --max-budget-usd allows. Allow more, or give the task in smaller pieces."
BAD_REQUEST = 400
SIGTERM_HEARD = 143  # the exit status after SIGTERM: it ends its tools first
SYNTHETIC = "<synthetic>"  # the model of messages that no model wrote

# The words of `error`, in `api_retry` and in messages that stand for an answer (schema of 2.1.329).
ERRORS: Mapping[str, ErrorClass] = MappingProxyType(
    {
        "authentication_failed": ErrorClass.AUTH_ERROR,
        "oauth_org_not_allowed": ErrorClass.AUTH_ERROR,
        "account_on_hold": ErrorClass.AUTH_ERROR,
        "verification_required": ErrorClass.AUTH_ERROR,
        "cloud_credential_error": ErrorClass.AUTH_ERROR,
        "billing_error": ErrorClass.BUDGET_EXCEEDED,
        "rate_limit": ErrorClass.RATE_LIMITED,
        "overloaded": ErrorClass.PROVIDER_ERROR,
        "server_error": ErrorClass.PROVIDER_ERROR,
        "model_not_found": ErrorClass.CONFIG_INVALID,
        "invalid_request": ErrorClass.CONFIG_INVALID,
        "max_output_tokens": ErrorClass.TASK_ERROR,
    }
)
# Ends that are a failure whatever `is_error` says. What is not here and an error all the same is a task_error.
REASONS: Mapping[str, tuple[ErrorClass, str]] = MappingProxyType(
    {
        "prompt_too_long": (ErrorClass.CONTEXT_EXHAUSTED, "prompt_too_long"),
        "blocking_limit": (ErrorClass.CONTEXT_EXHAUSTED, "blocking_limit"),
        "rapid_refill_breaker": (ErrorClass.CONTEXT_EXHAUSTED, "rapid_refill_breaker"),
        "max_turns": (ErrorClass.TASK_ERROR, "max_turns"),
        "budget_exhausted": (ErrorClass.TASK_ERROR, MAX_BUDGET),
        "aborted_streaming": (ErrorClass.WORKER_KILLED, "aborted"),
        "aborted_tools": (ErrorClass.WORKER_KILLED, "aborted"),
        "model_error": (ErrorClass.PROVIDER_ERROR, "model_error"),
    }
)
SUBTYPES: Mapping[str, tuple[ErrorClass, str]] = MappingProxyType(
    {
        "error_max_turns": REASONS["max_turns"],
        "error_max_budget_usd": REASONS["budget_exhausted"],
        "error_max_structured_output_retries": (ErrorClass.TASK_ERROR, "structured_output"),
    }
)
# What an interrupt leaves, where no reason is told.
INTERRUPTED: Mapping[str, tuple[ErrorClass, str]] = MappingProxyType(
    {"error_during_execution": REASONS["aborted_streaming"]}
)

NOISE: tuple[Sign, ...] = (Noise(),)
LIVES: tuple[Sign, ...] = (Lives(),)
MOVED: tuple[Sign, ...] = (Moved(),)


class _Tokens(msgspec.Struct, gc=False):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None


class _Block(msgspec.Struct, gc=False):
    """A part of a message: words, a tool call, or its result."""

    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw()
    tool_use_id: str = ""
    is_error: bool | None = None
    content: msgspec.Raw = msgspec.Raw()


class _Message(msgspec.Struct, gc=False):
    id: str = ""
    model: str = ""
    content: str | list[_Block] = ""
    usage: _Tokens | None = None


class _Delta(msgspec.Struct, gc=False):
    text: str = ""


class _Opening(msgspec.Struct, gc=False):
    id: str = ""
    model: str = ""
    usage: _Tokens | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: _Delta | None = None
    message: _Opening | None = None
    usage: _Tokens | None = None


class _Line(msgspec.Struct, gc=False):
    """What every line is told apart by, and all of a piece of the stream: there are more of those than of others."""

    type: str = ""
    subtype: str = ""
    event: _Event | None = None
    api_message_id: str | None = None


class _System(msgspec.Struct, gc=False):
    session_id: str = ""
    model: str = ""
    claude_code_version: str = ""
    attempt: Count = 0
    max_retries: Count | None = None
    retry_delay_ms: Amount | None = None
    error_status: Count | None = None
    error: str = ""
    tool_name: str = ""
    tool_use_id: str = ""


class _Assistant(msgspec.Struct, gc=False):
    message: _Message | None = None
    parent_tool_use_id: str | None = None  # of the call that started the sub-agent whose message this is
    error: str | None = None
    is_api_error_message: bool = False
    api_error_status: Count | None = None


class _Decision(msgspec.Struct, gc=False):
    decision: str = ""


class _Meta(msgspec.Struct, gc=False):
    id: str = ""
    permission_decision: _Decision | None = None


class _User(msgspec.Struct, gc=False):
    message: _Message | None = None
    tool_result_meta: list[_Meta] | None = None


class _LimitInfo(msgspec.Struct, gc=False, rename="camel"):
    status: str = ""
    resets_at: Amount | None = None
    rate_limit_type: str | None = None
    utilization: Amount | None = None
    is_using_overage: bool | None = None


class _Limit(msgspec.Struct, gc=False):
    rate_limit_info: _LimitInfo | None = None


class _ModelUsage(msgspec.Struct, gc=False, rename="camel"):
    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_input_tokens: Count = 0
    cache_creation_input_tokens: Count = 0
    cost_usd: Amount | None = msgspec.field(name="costUSD", default=None)


class _Denial(msgspec.Struct, gc=False):
    tool_name: str = ""


class _Result(msgspec.Struct, gc=False):
    subtype: str = ""
    is_error: bool | None = None
    terminal_reason: str | None = None
    api_error_status: Count | None = None
    result: str | None = None
    errors: list[str] | None = None
    permission_denials: list[_Denial] | None = None
    total_cost_usd: Amount | None = None
    usage: _Tokens | None = None
    model_usage_since_last_result: dict[str, _ModelUsage] | None = None


_line = LineDecoder(_Line)
_system = LineDecoder(_System)
_assistant = LineDecoder(_Assistant)
_user = LineDecoder(_User)
_limit = LineDecoder(_Limit)
_result = LineDecoder(_Result)
_text_or_blocks: msgspec.json.Decoder[str | list[_Block]] = msgspec.json.Decoder(str | list[_Block])


class ClaudeReader:
    """Reads one run of Claude Code."""

    __slots__ = ("_run", "_streamed")

    def __init__(self) -> None:
        self._streamed = ""  # id of the message that came in pieces last: its words were told then
        self._run: Usage | None = None  # since the program was started

    def stdout(self, line: bytes) -> Iterable[Sign]:
        head = _line(line)
        if head is None or not head.type:
            return NOISE if line.strip() else ()
        match head.type:
            case "stream_event":
                return self._piece(head)
            case "assistant":
                return self._said(_assistant(line) or _Assistant())
            case "user":
                return _answered(_user(line) or _User())
            case "system":
                return _told(head.subtype, line)
            case "result":
                return self._ended(_result(line) or _Result())
            case "rate_limit_event":
                return _limited(_limit(line) or _Limit())
            case "tool_progress" | "keep_alive":
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
        return None  # 1 says no more than the result before it

    def _piece(self, head: _Line) -> Iterable[Sign]:
        event = head.event
        if event is None:
            return LIVES
        match event.type:
            case "content_block_delta":
                return (Moved(event.delta.text),) if event.delta is not None and event.delta.text else MOVED
            case "message_start" if event.message is not None:
                self._streamed = event.message.id[:NAME_MAX]
                return *MOVED, *_used(event.message.usage, self._streamed, event.message.model)
            case "message_delta":
                return *MOVED, *_used(event.usage, (head.api_message_id or self._streamed)[:NAME_MAX], "")
            case "ping" | "error":
                return LIVES  # a broken stream is asked for again, at once and without a word
            case _:
                return MOVED

    def _said(self, line: _Assistant) -> Iterable[Sign]:
        message = line.message
        if message is None:
            return LIVES
        if message.model == SYNTHETIC or line.is_api_error_message:
            return _stood_in(line, message)
        key = message.id[:NAME_MAX]
        signs: list[Sign] = [*_used(message.usage, key, message.model)]
        if isinstance(message.content, str):
            return *signs, Moved("" if key == self._streamed else message.content)
        for block in message.content:
            if block.type == "tool_use":
                signs.append(ToolBegan(block.id[:NAME_MAX], block.name[:NAME_MAX], bytes(block.input)))
            else:
                signs.append(Moved("" if key == self._streamed else block.text))
        return signs or MOVED

    def _ended(self, line: _Result) -> Iterable[Sign]:
        if line.is_error is None and not line.subtype and not line.terminal_reason:
            # Another format, or another program's: it says neither that its task is done nor that it is not.
            return *self._accounts(line), Unknown("result")
        text = line.result or " ".join(line.errors or ())
        denied = dict.fromkeys(each.tool_name[:NAME_MAX] for each in line.permission_denials or ())
        return (
            *self._accounts(line),
            Finished(_verdict(line, text), cut(text, WORDS_MAX), tuple(denied)[:DENIALS_MAX]),
        )

    def _accounts(self, line: _Result) -> Iterable[Sign]:
        """What the run used.

        `usage` leaves out the message at which a budget ends and whatever a broken stream had cost; the figures by
        model do not. Those count from one result to the next: a program that has several tells what is new.
        """
        models = line.model_usage_since_last_result
        if models or self._run is not None:
            self._run = _sum(self._run, models or {})
            yield Used(self._run, Scope.RUN)
            if self._run.cost_usd is not None:
                yield Cost(self._run.cost_usd, Scope.RUN)
        elif line.usage is not None:
            for used in _used(line.usage, "", ""):
                yield Used(used.usage, Scope.RUN)
        if line.total_cost_usd:  # 0: nothing was answered, or nobody knows the price
            yield Cost(line.total_cost_usd, Scope.THREAD)


def _told(subtype: str, line: bytes) -> Iterable[Sign]:
    match subtype:
        case "init" | "api_retry" | "permission_denied":
            return _of_system(subtype, _system(line) or _System())
        case "task_notification" | "compact_boundary":
            return MOVED
        case "status" | "session_state_changed" | "model_fallback":
            return LIVES
        case other if other.startswith(("task_", "hook_")):
            return LIVES
        case other:
            return (Unknown(f"system/{other}"[:TYPE_MAX]),)


def _of_system(subtype: str, line: _System) -> Iterable[Sign]:
    match subtype:
        case "init":
            return (Began(line.session_id[:NAME_MAX], line.model[:NAME_MAX], line.claude_code_version[:NAME_MAX]),)
        case "api_retry":
            return (Refused(_refusal(line), line.attempt, line.max_retries),)
        case _:
            return (Denied(line.tool_name[:NAME_MAX]),)


def _refusal(line: _System) -> Failure:
    error = cut(one_line(line.error), TYPE_MAX)
    error_class = ERRORS.get(error) or class_of_status(line.error_status) or ErrorClass.PROVIDER_ERROR
    status = f"HTTP {line.error_status}" if line.error_status else "no answer"
    wait = None if line.retry_delay_ms is None else min(line.retry_delay_ms / 1000, RETRY_AFTER_MAX)
    return Failure(error_class, f"the provider refused a request: {error} ({status})", code=error, retry_after=wait)


def _answered(line: _User) -> Iterable[Sign]:
    message = line.message
    if message is None or isinstance(message.content, str):
        return LIVES
    rejected = {
        each.id
        for each in line.tool_result_meta or ()
        if each.permission_decision is not None and each.permission_decision.decision == "reject"
    }
    signs: list[Sign] = []
    for block in message.content:
        if block.type == "tool_result":
            ok = not block.is_error
            words = "" if ok else cut(_text_of(block.content), WORDS_MAX)
            signs.append(ToolEnded(block.tool_use_id[:NAME_MAX], ok, block.tool_use_id in rejected, words))
    return signs or LIVES


def _stood_in(line: _Assistant, message: _Message) -> Iterable[Sign]:
    """What it says itself where an answer of the model should be. Of a sub-agent it is no end of the run."""
    if line.parent_tool_use_id is not None or not (line.error or line.is_api_error_message):
        return LIVES
    content = message.content
    text = content if isinstance(content, str) else " ".join(block.text for block in content)
    error = cut(line.error or "", TYPE_MAX)
    return (Failing(_request_failed(error, line.api_error_status, text)),)


def _limited(line: _Limit) -> Iterable[Sign]:
    info = line.rate_limit_info
    if info is None:
        return LIVES
    return (
        LimitTold(
            # What is beyond the limit may be paid for; then it goes on.
            rejected=info.status == "rejected" and not info.is_using_overage,
            until=info.resets_at or None,
            name=(info.rate_limit_type or "")[:NAME_MAX],
            used_ratio=info.utilization,
        ),
    )


def _verdict(line: _Result, text: str) -> Failure | None:
    reason = line.terminal_reason or ""
    if reason == "api_error":
        return _request_failed("", line.api_error_status, text)
    if named := REASONS.get(reason) or SUBTYPES.get(line.subtype) or (not reason and INTERRUPTED.get(line.subtype)):
        error_class, code = named
        return _failure(error_class, text or code, code)
    is_said = line.subtype != "success" if line.is_error is None else line.is_error
    if not is_said and not line.subtype.startswith("error"):
        return None
    code = cut(reason or line.subtype, TYPE_MAX)
    if not reason:
        return failure_of(text, ErrorClass.TASK_ERROR, status=line.api_error_status, code=code)
    return _failure(ErrorClass.TASK_ERROR, text, code)


def _request_failed(error: str, status: int | None, text: str) -> Failure:
    """A request that failed for good. Its kind is the clearest; a bad request may be one for many reasons."""
    kind = ERRORS.get(error)
    if kind is not None and kind is not ErrorClass.CONFIG_INVALID:
        return _failure(kind, text, error)
    if status == BAD_REQUEST:
        kind, status = ErrorClass.CONFIG_INVALID, None
    return failure_of(text, kind or ErrorClass.PROVIDER_ERROR, status=status, code=error)


def _failure(error_class: ErrorClass, text: str, code: str) -> Failure:
    message = cut(one_line(text), MESSAGE_MAX)
    if code == MAX_BUDGET:
        # This run's own limit, and no bill: nobody else has to wait, and whoever begins anew would use as much again.
        return Failure(error_class, message, code=code, retryable=False, guidance=MAX_BUDGET_GUIDANCE)
    is_passing = error_class in (ErrorClass.RATE_LIMITED, ErrorClass.PROVIDER_ERROR)
    return Failure(error_class, message, code=code, retry_after=(wait_of(text) or None) if is_passing else None)


def _used(tokens: _Tokens | None, key: str, model: str) -> tuple[Used, ...]:
    if tokens is None:
        return ()
    usage = Usage(
        input=tokens.input_tokens or 0,
        output=tokens.output_tokens or 0,
        cache_read=tokens.cache_read_input_tokens or 0,
        cache_write=tokens.cache_creation_input_tokens or 0,
        model=model[:NAME_MAX],
    )
    return (Used(usage, Scope.MESSAGE, key),)


def _sum(before: Usage | None, models: Mapping[str, _ModelUsage]) -> Usage:
    """Add figures by model to what was used before. The cost is known if it is of all of them."""
    total = before or Usage(cost_usd=0.0)
    costs = [total.cost_usd, *(_cost(used) for used in models.values())]
    known = [cost for cost in costs if cost is not None]
    # The program may ask a smaller model for small things: the one that wrote most is the one that did the work.
    busiest = max(models, key=lambda name: models[name].output_tokens, default="")
    return Usage(
        input=total.input + sum(used.input_tokens for used in models.values()),
        output=total.output + sum(used.output_tokens for used in models.values()),
        cache_read=total.cache_read + sum(used.cache_read_input_tokens for used in models.values()),
        cache_write=total.cache_write + sum(used.cache_creation_input_tokens for used in models.values()),
        cost_usd=sum(known) if len(known) == len(costs) else None,
        model=total.model or busiest[:NAME_MAX],
    )


def _cost(used: _ModelUsage) -> float | None:
    """A cost of 0 for tokens that were used is none that anybody knows."""
    return used.cost_usd or (None if used.input_tokens or used.output_tokens else 0.0)


def _text_of(content: msgspec.Raw) -> str:
    """The words of a tool's result."""
    try:
        decoded = _text_or_blocks.decode(content)
    except FAULTS:
        return ""
    return decoded if isinstance(decoded, str) else " ".join(block.text for block in decoded)
