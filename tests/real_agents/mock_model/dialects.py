"""How four providers are spoken to, and how they answer: pure text in, pure text out.

A dialect turns an answer of the model (words, or a call of the shell tool, with fixed usage) into the events of its
stream or into one document, and a trouble into the error that this provider is known to send.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

Document = dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """What one answer uses. `fresh` is input that did not come from the cache."""

    fresh: int
    cached: int
    output: int

    @property
    def billed(self) -> int:
        """In and out, without what came from a cache."""
        return self.fresh + self.output

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.fresh + other.fresh, self.cached + other.cached, self.output + other.output)


TOOL_TOKENS = Tokens(1000, 300, 20)  # of every answer that calls the shell tool
TEXT_TOKENS = Tokens(1100, 400, 7)  # of every answer in words


@dataclass(frozen=True)
class Answer:
    """What the model says: `command` for the shell tool, or `words`."""

    number: int  # of this answer; makes its ids differ from those of others
    model: str
    words: tuple[str, ...] = ()
    command: str | None = None

    @property
    def tokens(self) -> Tokens:
        return TEXT_TOKENS if self.command is None else TOOL_TOKENS


class Trouble(StrEnum):
    RATE_LIMIT = "rate_limit"
    UNAUTHORIZED = "unauthorized"
    OVERLOADED = "overloaded"
    CONTEXT_FULL = "context_full"


@dataclass(frozen=True)
class Refusal:
    """An error as the provider sends it."""

    status: int
    body: Document


class Dialect(Protocol):
    name: str

    def results(self, body: Document) -> int:
        """How many results of tools the request carries."""
        ...

    def tools(self, body: Document) -> tuple[str, ...]: ...

    def streams(self, path: str, body: Document) -> bool: ...

    def stream(self, answer: Answer, tools: tuple[str, ...]) -> list[str]:
        """The events in their order, as written on the wire."""
        ...

    def document(self, answer: Answer, tools: tuple[str, ...]) -> Document: ...

    def refusal(self, trouble: Trouble, retry_after: int) -> Refusal: ...


class Anthropic:
    """Messages: Claude Code."""

    name = "anthropic"

    def results(self, body: Document) -> int:
        blocks = [block for each in body.get("messages", ()) for block in _list(each.get("content"))]
        return sum(block.get("type") == "tool_result" for block in blocks)

    def tools(self, body: Document) -> tuple[str, ...]:
        return tuple(str(tool.get("name", "")) for tool in body.get("tools") or ())

    def streams(self, path: str, body: Document) -> bool:
        return bool(body.get("stream"))

    def stream(self, answer: Answer, tools: tuple[str, ...]) -> list[str]:
        whole = self.document(answer, tools)
        block = whole["content"][0]
        if answer.command is None:
            empty: Document = {"type": "text", "text": ""}
            pieces: list[Document] = [{"type": "text_delta", "text": word} for word in answer.words]
        else:
            empty = {**block, "input": {}}
            pieces = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        # The stream opens with the input counted and one token of output; the true output comes at its end.
        opening = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
        ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        events: list[Document] = [
            {"type": "message_start", "message": opening},
            {"type": "content_block_start", "index": 0, "content_block": empty},
            *({"type": "content_block_delta", "index": 0, "delta": piece} for piece in pieces),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": ending, "usage": {"output_tokens": answer.tokens.output}},
            {"type": "message_stop"},
        ]
        return [_event(each, each["type"]) for each in events]

    def document(self, answer: Answer, tools: tuple[str, ...]) -> Document:
        block: Document = {"type": "text", "text": "".join(answer.words)}
        if answer.command is not None:
            given = {"command": answer.command, "description": "Run the command", "timeout": 600_000}
            block = {"type": "tool_use", "id": f"toolu_mock{answer.number:04}", "name": "Bash", "input": given}
        return {
            "id": f"msg_mock{answer.number:04}",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": [block],
            "stop_reason": "end_turn" if answer.command is None else "tool_use",
            "stop_sequence": None,
            "usage": {
                "input_tokens": answer.tokens.fresh,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": answer.tokens.cached,
                "output_tokens": answer.tokens.output,
            },
        }

    def refusal(self, trouble: Trouble, retry_after: int) -> Refusal:
        status, kind, words = {
            Trouble.RATE_LIMIT: (429, "rate_limit_error", "This request would exceed your account's rate limit."),
            Trouble.UNAUTHORIZED: (401, "authentication_error", "invalid x-api-key"),
            Trouble.OVERLOADED: (529, "overloaded_error", "Overloaded"),
            Trouble.CONTEXT_FULL: (
                400,
                "invalid_request_error",
                "prompt is too long: 210000 tokens > 200000",
            ),
        }[trouble]
        return Refusal(status, {"type": "error", "error": {"type": kind, "message": words}})


class Responses:
    """OpenAI Responses: Codex."""

    name = "responses"

    def results(self, body: Document) -> int:
        return sum(str(item.get("type", "")).endswith("_call_output") for item in _list(body.get("input")))

    def tools(self, body: Document) -> tuple[str, ...]:
        return tuple(str(tool.get("name") or tool.get("type", "")) for tool in body.get("tools") or ())

    def streams(self, path: str, body: Document) -> bool:
        return bool(body.get("stream"))

    def stream(self, answer: Answer, tools: tuple[str, ...]) -> list[str]:
        whole = self.document(answer, tools)
        item = whole["output"][0]
        opening = {**whole, "status": "in_progress", "output": [], "usage": None}
        begun = {**item, "status": "in_progress"}
        if answer.command is None:
            begun |= {"content": []}
            kind, pieces = "response.output_text.delta", list(answer.words)
        else:
            begun |= {"arguments": ""}
            kind, pieces = "response.function_call_arguments.delta", [item["arguments"]]
        where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        events: list[Document] = [
            {"type": "response.created", "response": opening},
            {"type": "response.in_progress", "response": opening},
            {"type": "response.output_item.added", "output_index": 0, "item": begun},
            *({"type": kind, **where, "delta": piece} for piece in pieces),
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        return [_event({**each, "sequence_number": at}, each["type"]) for at, each in enumerate(events)]

    def document(self, answer: Answer, tools: tuple[str, ...]) -> Document:
        tokens = answer.tokens
        prompt = tokens.fresh + tokens.cached
        item: Document = {
            "type": "message",
            "id": f"msg_mock{answer.number:04}",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "".join(answer.words), "annotations": []}],
        }
        if answer.command is not None:
            item = {
                "type": "function_call",
                "id": f"fc_mock{answer.number:04}",
                "call_id": f"call_mock{answer.number:04}",
                "status": "completed",
                **_codex_call(answer.command, tools),
            }
        return {
            "id": f"resp_mock{answer.number:04}",
            "object": "response",
            "created_at": 1_700_000_000,
            "status": "completed",
            "model": answer.model,
            "output": [item],
            "usage": {
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": tokens.cached},
                "output_tokens": tokens.output,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": prompt + tokens.output,
            },
        }

    def refusal(self, trouble: Trouble, retry_after: int) -> Refusal:
        return _openai_refusal(trouble)


class Chat:
    """OpenAI chat completions: pi, and every compatible server."""

    name = "chat"

    def results(self, body: Document) -> int:
        return sum(each.get("role") == "tool" for each in _list(body.get("messages")))

    def tools(self, body: Document) -> tuple[str, ...]:
        return tuple(str(tool.get("function", {}).get("name", "")) for tool in body.get("tools") or ())

    def streams(self, path: str, body: Document) -> bool:
        return bool(body.get("stream"))

    def stream(self, answer: Answer, tools: tuple[str, ...]) -> list[str]:
        whole = self.document(answer, tools)
        message = whole["choices"][0]["message"]
        deltas: list[Document] = [{"role": "assistant", "content": ""}]
        if answer.command is None:
            deltas += [{"content": word} for word in answer.words]
        else:
            deltas += [{"tool_calls": [{"index": 0, **message["tool_calls"][0]}]}]
        head = {**whole, "object": "chat.completion.chunk", "usage": None}
        chunks: list[Document] = [
            *({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas),
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": whole["choices"][0]["finish_reason"]}]},
            {**head, "choices": [], "usage": whole["usage"]},
        ]
        return [*(_event(each) for each in chunks), "data: [DONE]\n\n"]

    def document(self, answer: Answer, tools: tuple[str, ...]) -> Document:
        tokens = answer.tokens
        prompt = tokens.fresh + tokens.cached
        message: Document = {"role": "assistant", "content": "".join(answer.words)}
        if answer.command is not None:
            function = {"name": "bash", "arguments": json.dumps({"command": answer.command})}
            call = {"id": f"call_mock{answer.number:04}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        finish = "stop" if answer.command is None else "tool_calls"
        return {
            "id": f"chatcmpl-mock{answer.number:04}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": answer.model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": prompt,
                "prompt_tokens_details": {"cached_tokens": tokens.cached},
                "completion_tokens": tokens.output,
                "total_tokens": prompt + tokens.output,
            },
        }

    def refusal(self, trouble: Trouble, retry_after: int) -> Refusal:
        return _openai_refusal(trouble)


class Gemini:
    """generateContent and streamGenerateContent: Gemini CLI."""

    name = "gemini"

    def results(self, body: Document) -> int:
        parts = [part for each in body.get("contents", ()) for part in _list(each.get("parts"))]
        return sum("functionResponse" in part for part in parts)

    def tools(self, body: Document) -> tuple[str, ...]:
        declared = [each for tool in body.get("tools") or () for each in tool.get("functionDeclarations") or ()]
        return tuple(str(each.get("name", "")) for each in declared)

    def streams(self, path: str, body: Document) -> bool:
        return ":streamGenerateContent" in path

    def stream(self, answer: Answer, tools: tuple[str, ...]) -> list[str]:
        if answer.command is not None:
            return [_event(self.document(answer, tools))]
        pieces = [self._document(answer, [{"text": word}], finish=None) for word in answer.words]
        return [*(_event(piece) for piece in pieces), _event(self._document(answer, [{"text": ""}], finish="STOP"))]

    def document(self, answer: Answer, tools: tuple[str, ...]) -> Document:
        if answer.command is None:
            return self._document(answer, [{"text": "".join(answer.words)}], finish="STOP")
        given = {"command": answer.command, "description": "Run the command"}
        return self._document(answer, [{"functionCall": {"name": "run_shell_command", "args": given}}], finish="STOP")

    def refusal(self, trouble: Trouble, retry_after: int) -> Refusal:
        status, kind, words = {
            Trouble.RATE_LIMIT: (
                429,
                "RESOURCE_EXHAUSTED",
                "You exceeded your current quota.",
            ),
            Trouble.UNAUTHORIZED: (401, "UNAUTHENTICATED", "API keys are not supported by this API."),
            Trouble.OVERLOADED: (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
            Trouble.CONTEXT_FULL: (
                400,
                "INVALID_ARGUMENT",
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            ),
        }[trouble]
        error: Document = {"code": status, "message": words, "status": kind}
        if trouble is Trouble.RATE_LIMIT:
            info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after}s"}
            error["details"] = [info]
        return Refusal(status, {"error": error})

    def _document(self, answer: Answer, parts: list[Document], finish: str | None) -> Document:
        candidate: Document = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        tokens = answer.tokens
        prompt = tokens.fresh + tokens.cached
        return {
            "candidates": [candidate],
            "usageMetadata": {
                "promptTokenCount": prompt,
                "cachedContentTokenCount": tokens.cached,
                "candidatesTokenCount": tokens.output,
                "totalTokenCount": prompt + tokens.output,
            },
            "modelVersion": answer.model,
            "responseId": f"mock{answer.number:04}",
        }


def dialect_of(path: str) -> Dialect | None:
    """The dialect that a request path belongs to; None: nothing that a model is asked."""
    route = path.partition("?")[0]
    if route.endswith("/messages"):
        return Anthropic()
    if route.endswith("/responses"):
        return Responses()
    if route.endswith("/chat/completions"):
        return Chat()
    if route.endswith((":streamGenerateContent", ":generateContent")):
        return Gemini()
    return None


def model_of(path: str, body: Document) -> str:
    """The model that is asked for: Gemini names it in the path, the others in the request."""
    named = path.partition("?")[0].rpartition("/")[2].partition(":")[0]
    return str(body.get("model") or named)


def _codex_call(command: str, tools: tuple[str, ...]) -> Document:
    # Codex offers the shell under a name that depends on what it knows of the model.
    if "shell_command" in tools:
        return {"name": "shell_command", "arguments": json.dumps({"command": command, "timeout_ms": 600_000})}
    return {"name": "exec_command", "arguments": json.dumps({"cmd": command, "yield_time_ms": 30_000})}


def _openai_refusal(trouble: Trouble) -> Refusal:
    status, kind, code, words = {
        Trouble.RATE_LIMIT: (429, "requests", "rate_limit_exceeded", "Rate limit reached for requests."),
        Trouble.UNAUTHORIZED: (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
        Trouble.OVERLOADED: (
            503,
            "server_error",
            "server_is_overloaded",
            "The server is overloaded.",
        ),
        Trouble.CONTEXT_FULL: (
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "Your input exceeds the context window of this model: its maximum context length is 200000 tokens.",
        ),
    }[trouble]
    return Refusal(status, {"error": {"message": words, "type": kind, "code": code, "param": None}})


def _event(data: Document, name: str = "") -> str:
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


def _list(value: Any) -> list[Document]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
