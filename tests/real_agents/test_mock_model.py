"""The mock model itself, asked as each agent asks: needs none of them."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_agents.mock_model import TEXT_TOKENS, TOOL_TOKENS, MockModel, Scenario

pytestmark = pytest.mark.real_time
Document = dict[str, Any]

SHELL = {"name": "shell", "input_schema": {}}
FUNCTION = {"type": "function", "name": "exec_command", "function": {"name": "bash"}}
# How each dialect is asked: path, and the request without and with the result of a tool.
ASKING: dict[str, tuple[str, Document, Document]] = {
    "anthropic": (
        "/v1/messages?beta=true",
        {"model": "m", "tools": [SHELL], "stream": True, "messages": []},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]},
    ),
    "responses": (
        "/v1/responses",
        {"model": "m", "tools": [FUNCTION], "stream": True, "input": []},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
    ),
    "chat": (
        "/v1/chat/completions",
        {"model": "m", "tools": [FUNCTION], "stream": True, "messages": []},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]},
    ),
    "gemini": (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"tools": [{"functionDeclarations": [{"name": "run_shell_command"}]}], "contents": []},
        {"contents": [{"role": "user", "parts": [{"functionResponse": {"name": "run_shell_command"}}]}]},
    ),
}


@pytest.fixture(params=ASKING)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model() -> Iterator[MockModel]:
    with MockModel("echo hello") as running:
        yield running


def test_it_calls_the_tool_and_is_done_once_it_has_the_result(model: MockModel, dialect: str) -> None:
    path, first, then = ASKING[dialect]
    called = _events(_ask(model, path, first))
    said = _events(_ask(model, path, {**first, **then}))
    assert model.answers == ("tool", "text")
    assert "echo hello" in json.dumps(called)
    assert "has been run." in json.dumps(said)
    assert [(each.dialect, each.model, each.results) for each in model.asked] == [
        (dialect, "m", 0),
        (dialect, "m", 1),
    ]


def test_every_answer_uses_what_it_always_uses(model: MockModel, dialect: str) -> None:
    path, first, then = ASKING[dialect]
    for body, tokens in ((first, TOOL_TOKENS), ({**first, **then}, TEXT_TOKENS)):
        text = json.dumps(_events(_ask(model, path, body)))
        # Anthropic counts the input without the cache, the others with it.
        prompt = tokens.fresh if dialect == "anthropic" else tokens.fresh + tokens.cached
        for figure in (prompt, tokens.cached, tokens.output):
            assert f": {figure}" in text


def test_a_request_without_tools_is_answered_in_words(model: MockModel, dialect: str) -> None:
    path, first, _ = ASKING[dialect]
    _ask(model, path, {**first, "tools": None})
    assert model.answers == ("text",)


def test_it_answers_in_one_piece_where_no_stream_is_asked_for(model: MockModel, dialect: str) -> None:
    path, first, _ = ASKING[dialect]
    answer = _ask(model, path.replace("streamGenerateContent?alt=sse", "generateContent"), {**first, "stream": False})
    assert "echo hello" in json.dumps(json.loads(answer))


@pytest.mark.parametrize(
    ("scenario", "statuses", "wait"),
    [
        (Scenario.RATE_LIMITED_ONCE, {429}, "1"),
        (Scenario.RATE_LIMITED_LONG, {429}, "3600"),
        (Scenario.UNAUTHORIZED, {401}, None),
        (Scenario.OVERLOADED, {529, 503}, None),
        (Scenario.CONTEXT_FULL, {400}, None),
    ],
)
def test_a_refusal_is_as_the_provider_sends_it(
    model: MockModel, dialect: str, scenario: Scenario, statuses: set[int], wait: str | None
) -> None:
    path, first, _ = ASKING[dialect]
    model.play(scenario)
    with pytest.raises(urllib.error.HTTPError) as refused:
        _ask(model, path, first)
    with refused.value as error:
        assert error.code in statuses
        assert error.headers["retry-after"] == wait
        assert json.loads(error.read())["error"]["message"]
    assert model.answers == (scenario.value,)


def test_a_rate_limit_passes_after_two(model: MockModel, dialect: str) -> None:
    path, first, _ = ASKING[dialect]
    model.play(Scenario.RATE_LIMITED_ONCE)
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError) as refused:
            _ask(model, path, first)
        refused.value.close()
    _ask(model, path, first)
    assert model.answers == ("rate_limited_once", "rate_limited_once", "tool")


def test_a_hang_says_a_few_words_and_ends_with_the_server(dialect: str) -> None:
    path, first, _ = ASKING[dialect]
    heard: list[bytes] = []
    with MockModel("echo hello", scenario=Scenario.HANG) as model:
        answer = _open(model, path, first)
        heard.append(answer.read1())
        rest = threading.Thread(target=lambda: heard.append(answer.read()))
        rest.start()
        rest.join(0.3)
        assert rest.is_alive(), "it did not hang"
    rest.join(5)
    answer.close()
    assert not rest.is_alive()
    assert b"data: " in heard[0]


def test_the_scenario_changes_while_an_answer_hangs(model: MockModel, dialect: str) -> None:
    path, first, _ = ASKING[dialect]
    model.play(Scenario.HANG)
    with _open(model, path, first) as answer:
        assert answer.read1()
        model.play(Scenario.TOOL_THEN_DONE, "echo other")
        assert b"echo other" in _ask(model, path, first)


def test_a_stream_that_is_dropped_ends_before_its_end_once(model: MockModel, dialect: str) -> None:
    path, first, _ = ASKING[dialect]
    model.play(Scenario.DROPPED_ONCE)
    dropped, whole = _ask(model, path, first), _ask(model, path, first)
    assert model.answers == ("dropped_once", "tool")
    assert b"echo hello" not in dropped
    assert b"echo hello" in whole


def test_what_is_no_question_to_a_model_is_kept_apart(model: MockModel) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        _ask(model, "/v1/reports", {})
    refused.value.close()
    assert model.strays == ("POST /v1/reports",)
    assert model.asked == ()


def test_the_credential_is_kept_so_that_it_can_be_compared(model: MockModel) -> None:
    path, first, _ = ASKING["chat"]
    _ask(model, path, first, authorization="Bearer mock-key")
    assert model.asked[0].credential == "mock-key"


def _open(model: MockModel, path: str, body: Document, **headers: str) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(model.url + path, data, {"content-type": "application/json", **headers})
    # Whatever proxy this machine has is none of ours.
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10)


def _ask(model: MockModel, path: str, body: Document, **headers: str) -> bytes:
    with _open(model, path, body, **headers) as answer:
        return bytes(answer.read())


def _events(stream: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in stream.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]
