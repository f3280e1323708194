"""What Claude Code prints is understood: genuine runs by a table, the others by hand-made lines of the same form."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar, get_args

import pytest
from hypothesis import example, given, settings

from crewd.model.failure import ErrorClass, Failure
from crewd.model.run import Usage
from crewd.sources.agents.claude import ClaudeReader
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
from tests.sources.agents.mangled import CORPUS, genuine, mangled

MODEL = "claude-sonnet-4-5-20250929"
Kind = TypeVar("Kind")


def read(lines: Iterable[bytes], reader: ClaudeReader | None = None) -> list[Sign]:
    reader = reader or ClaudeReader()
    return [sign for line in lines for sign in reader.stdout(line)]


def told(*events: dict[str, Any]) -> list[Sign]:
    return read(json.dumps(event).encode() for event in events)


def case(name: str) -> list[Sign]:
    folder, _, part = name.partition(":")
    path = CORPUS / "claude" / folder / (f"{part}.stdout.jsonl" if part else "stdout.jsonl")
    return read(path.read_bytes().splitlines())


def of(kind: type[Kind], signs: Iterable[Sign]) -> list[Kind]:
    return [sign for sign in signs if isinstance(sign, kind)]


def end(signs: list[Sign]) -> Finished:
    (finished,) = of(Finished, signs)
    return finished


def failure(signs: list[Sign]) -> Failure:
    found = end(signs).failure
    assert found is not None
    return found


# --- genuine runs -----------------------------------------------------------------------------------------------


class Run(NamedTuple):
    """What matters of one run."""

    ends: str = ""  # class and code of its failure; "": done; "-": no terminal event
    refused: str = ""  # classes of all refusals, how many, and the first wait in seconds
    tools: str = ""  # begun and ended, in order; "!": it failed, "x": it was denied
    used: tuple[int, int, int, int] = (0, 0, 0, 0)  # input, output, from a cache, into a cache: of the whole run
    usd: float | None = None


TOOL_AND_WORDS = (74, 145, 22_528, 4_096)
THREE_TOOLS = (111, 264, 33_792, 6_144)
OK = Run(tools="+Bash -", used=TOOL_AND_WORDS, usd=0.0245154)
DENIED = OK._replace(tools="+Bash -x")

GENUINE = {
    "401": Run("-", "auth_error 10 0.575"),
    "401_maxretries": Run("auth_error ", "auth_error 1 0.606"),
    "429": Run("rate_limited ", "rate_limited 10 4.465"),
    "429_maxretries": Run("rate_limited "),
    "500": Run("provider_error ", "provider_error 10 0.58"),
    "529": Run("provider_error ", "provider_error 10 0.541"),
    "api_timeout": Run("-"),
    "ctx": Run("context_exhausted prompt_too_long"),
    "editperm": DENIED._replace(tools="+Write -x"),
    # Asked twice: `usage` of its result counts 6 tokens out, the cost is that of 15.
    "hang": Run(used=(74, 15, 22_528, 4_096), usd=0.0225654),
    "hdr_hang": Run("-", "provider_error 1 0.56"),
    "long": OK,
    # `usage` of its result leaves out the message at which the budget ended.
    "max_budget": Run("task_error max_budget", "", "+Bash - +Bash - +Bash", THREE_TOOLS, 0.0374706),
    "max_turns": Run("task_error max_turns", "", "+Bash - +Bash - +Bash -", THREE_TOOLS, 0.0374706),
    "no_auth": Run("auth_error "),
    "ok": OK,
    "ok_partial": OK,
    "otel": OK,
    "perm": DENIED,
    "perm_dontask": DENIED,
    "perm_prompts_none": DENIED,
    "resume": OK,
    "resume:resume": Run(used=(37, 57, 11_264, 2_048), usd=0.0120252),
    "retry_cfg": Run("provider_error ", "provider_error 2 0.532"),
    "sigkill_tool": Run("-", tools="+Bash"),
    "sigterm_stream": Run("-"),
    "sigterm_tool": Run("-", tools="+Bash -!"),
    "slow": Run(used=(37, 57, 11_264, 2_048), usd=0.0120252),
    "slow_partial": Run(used=(37, 57, 11_264, 2_048), usd=0.0120252),
    "sub_warning": OK,
}


def summary(signs: list[Sign]) -> Run:
    finished, refused = of(Finished, signs), of(Refused, signs)
    ends = "-"
    if finished:
        failed = finished[-1].failure
        ends = f"{failed.error_class} {failed.code}" if failed else ""
    classes = " ".join(sorted({sign.failure.error_class for sign in refused}))
    tools = []
    for sign in signs:
        if isinstance(sign, ToolBegan):
            tools.append(f"+{sign.name}")
        elif isinstance(sign, ToolEnded):
            tools.append("-x" if sign.denied else "-" if sign.ok else "-!")
    runs = [sign.usage for sign in of(Used, signs) if sign.scope is Scope.RUN] or [Usage()]
    costs = [sign.usd for sign in of(Cost, signs) if sign.scope is Scope.RUN]
    used = runs[-1]
    return Run(
        ends,
        f"{classes} {len(refused)} {refused[0].failure.retry_after:g}" if refused else "",
        " ".join(tools),
        (used.input, used.output, used.cache_read, used.cache_write),
        costs[-1] if costs else None,
    )


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_run_is_understood(name: str) -> None:
    signs = case(name)
    assert summary(signs) == GENUINE[name]
    assert not of(Unknown, signs)
    assert not of(Noise, signs)
    (began,) = of(Began, signs)
    assert (began.model, began.version, len(began.session)) == (MODEL, "2.1.329", 36)


def test_every_genuine_run_is_in_the_table() -> None:
    assert {path.name for path in (CORPUS / "claude").iterdir()} <= GENUINE.keys()


def test_a_resumed_run_keeps_its_session_and_its_cost_counts_on() -> None:
    first, second = case("resume"), case("resume:resume")
    assert of(Began, first)[0].session == of(Began, second)[0].session
    assert Cost(0.0245154, Scope.THREAD) in first
    assert Cost(0.0365406, Scope.THREAD) in second


def test_pieces_of_a_stream_move_and_tell_each_word_once() -> None:
    signs = case("ok_partial")
    words = "".join(sign.words for sign in of(Moved, signs))
    assert words == "I will run it.Done: the command printed hello-from-worker. Task complete. "


def test_the_end_of_a_message_is_under_the_same_key_as_its_beginning() -> None:
    figures: dict[str, int] = {}
    for sign in of(Used, case("ok_partial")):
        if sign.scope is Scope.MESSAGE:
            figures[sign.key] = max(figures.get(sign.key, 0), sign.usage.output)
    assert figures == {"msg_mock0001": 88, "msg_mock0002": 57}


def test_a_tool_that_works_for_long_lives() -> None:
    signs = case("long")
    began = next(at for at, sign in enumerate(signs) if isinstance(sign, ToolBegan))
    ended = next(at for at, sign in enumerate(signs) if isinstance(sign, ToolEnded))
    assert of(Lives, signs[began:ended])


def test_a_limit_that_comes_near_is_told() -> None:
    assert of(LimitTold, case("sub_warning")) == [LimitTold(False, 1795229971.0, "five_hour", 0.93)]


# --- what no genuine run shows ----------------------------------------------------------------------------------


def retry(error: str | None, status: int | None = None, **more: Any) -> dict[str, Any]:
    event = {"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10, "retry_delay_ms": 500}
    return {**event, "error_status": status, "error": error, **more}


def stands_in(text: str, error: str | None = None, status: int | None = None, **more: Any) -> dict[str, Any]:
    message = {"id": "1", "model": "<synthetic>", "content": [{"type": "text", "text": text}], "usage": ZERO}
    return {"type": "assistant", "message": message, "error": error, "api_error_status": status, **more}


def result(text: str = "", **more: Any) -> dict[str, Any]:
    return {"subtype": "success", "is_error": True, "result": text, "type": "result", **more}


ZERO = {"input_tokens": 0, "output_tokens": 0}

REFUSALS = [
    ("authentication_failed", 401, "auth_error"),
    ("oauth_org_not_allowed", 403, "auth_error"),
    ("account_on_hold", 403, "auth_error"),
    ("verification_required", 403, "auth_error"),
    ("cloud_credential_error", None, "auth_error"),
    ("billing_error", 402, "budget_exceeded"),
    ("rate_limit", 429, "rate_limited"),
    ("overloaded", 529, "provider_error"),
    ("server_error", 500, "provider_error"),
    ("unknown", None, "provider_error"),
    ("unknown", 401, "auth_error"),
    ("invalid_request", 400, "config_invalid"),
    ("model_not_found", 404, "config_invalid"),
    ("max_output_tokens", None, "task_error"),
    ("a word of a later version", 429, "rate_limited"),
    (None, None, "provider_error"),
]


@pytest.mark.parametrize(("error", "status", "error_class"), REFUSALS)
def test_a_refusal_is_classified_when_it_is_first_told(
    error: str | None, status: int | None, error_class: str
) -> None:
    (sign,) = told(retry(error, status))
    assert isinstance(sign, Refused)
    assert (sign.failure.error_class, sign.failure.retry_after) == (error_class, 0.5)
    assert (sign.attempt, sign.attempts_max) == (1, 10)


def test_a_wait_is_believed_within_bounds_and_a_missing_one_is_none() -> None:
    waits = [sign.failure.retry_after for sign in of(Refused, told(retry("rate_limit", retry_delay_ms=10**12)))]
    waits += [sign.failure.retry_after for sign in of(Refused, told(retry("rate_limit", retry_delay_ms=None)))]
    assert waits == [86_400.0, None]


ENDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a full context": (result("Prompt is too long", terminal_reason="prompt_too_long"), "context_exhausted", ""),
    "a full context by its words": (
        result("Prompt is too long", terminal_reason="api_error", api_error_status=400),
        "context_exhausted",
        "",
    ),
    "a bad request": (result("no", terminal_reason="api_error", api_error_status=400), "config_invalid", ""),
    "an unknown model": (result("no", terminal_reason="api_error", api_error_status=404), "config_invalid", ""),
    "no permission": (result("no", terminal_reason="api_error", api_error_status=403), "auth_error", ""),
    "an unpaid bill": (result("no", terminal_reason="api_error", api_error_status=402), "budget_exceeded", ""),
    "no login": (result("Not logged in · Please run /login", terminal_reason="api_error"), "auth_error", ""),
    "the account's limit": (
        result("You've hit your 5-hour limit · resets 2:59am (UTC)", terminal_reason="api_error"),
        "rate_limited",
        "",
    ),
    "no answer": (result("Connection error.", terminal_reason="api_error"), "provider_error", ""),
    "a status alone": (result("no", api_error_status=529), "provider_error", ""),
    "an error without a reason": (result("no", is_error=True), "task_error", ""),
    "an image": (result("no", terminal_reason="image_error"), "task_error", "image_error"),
    "an image, by its subtype too": (
        result("no", subtype="error_during_execution", terminal_reason="image_error"),
        "task_error",
        "image_error",
    ),
    "turns": (result(subtype="error_max_turns", terminal_reason="max_turns"), "task_error", "max_turns"),
    "turns by the subtype": (result(subtype="error_max_turns", is_error=False), "task_error", "max_turns"),
    "its own budget": (result(subtype="error_max_budget_usd"), "task_error", "max_budget"),
    "an interrupt": (
        result(subtype="error_during_execution", is_error=False, terminal_reason="aborted_tools"),
        "worker_killed",
        "aborted",
    ),
    "an interrupt without a reason": (
        result(subtype="error_during_execution", is_error=False),
        "worker_killed",
        "aborted",
    ),
    "an error that is none by its own word": (
        result(subtype="error_of_a_later_version", is_error=False, terminal_reason="completed"),
        "task_error",
        "completed",
    ),
    "an interrupt that says success": (
        result(is_error=False, terminal_reason="aborted_streaming"),
        "worker_killed",
        "",
    ),
    "no word of success": ({"type": "result", "terminal_reason": "a later version"}, "task_error", ""),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_end_is_read_from_more_than_its_subtype(name: str) -> None:
    event, error_class, code = ENDS[name]
    failed = failure(told(event))
    assert failed.error_class == error_class
    assert code in ("", failed.code)


def test_a_spent_budget_of_its_own_is_not_tried_again_and_nobodys_bill() -> None:
    failed = failure(told(result(subtype="error_max_budget_usd", errors=["Reached maximum budget ($0.03)"])))
    assert failed.retryable is False
    assert failed.message == "Reached maximum budget ($0.03)"
    assert "--max-budget-usd" in failed.guidance


def test_an_end_without_an_error_is_one() -> None:
    signs = told(result("done", is_error=False, terminal_reason="completed"))
    assert end(signs) == Finished(None, "done")
    assert end(told(result("done", is_error=None))).failure is None


def test_an_end_that_says_nothing_of_how_it_ended_is_none() -> None:
    assert told({"type": "result", "status": "success", "stats": {}}) == [Unknown("result")]


def test_a_long_result_is_cut_between_words() -> None:
    finished = end(told(result("word " * 5000, is_error=False)))
    assert len(finished.words) <= 2000
    assert finished.words.endswith("word")


def test_a_rejected_limit_says_until_when() -> None:
    info = {"status": "rejected", "resetsAt": 1795229971, "rateLimitType": "seven_day", "utilization": 1}
    assert told({"type": "rate_limit_event", "rate_limit_info": info}) == [
        LimitTold(True, 1795229971.0, "seven_day", 1.0)
    ]


def test_a_limit_beyond_which_somebody_pays_rejects_nothing() -> None:
    info = {"status": "rejected", "resetsAt": None, "isUsingOverage": True}
    assert told({"type": "rate_limit_event", "rate_limit_info": info}) == [LimitTold(False, None)]


def test_a_message_that_stands_for_an_answer_moves_nothing_and_uses_nothing() -> None:
    (sign,) = told(stands_in("Invalid API key", "authentication_failed", 401))
    assert isinstance(sign, Failing)
    assert (sign.failure.error_class, sign.failure.code) == (ErrorClass.AUTH_ERROR, "authentication_failed")


def test_what_a_bad_request_is_about_is_in_its_words() -> None:
    signs = told(
        stands_in("Prompt is too long", "invalid_request", 400),
        stands_in("messages: wrong", "invalid_request", 400),
    )
    assert [sign.failure.error_class for sign in of(Failing, signs)] == ["context_exhausted", "config_invalid"]


def test_a_failure_within_a_sub_agent_is_none_of_the_run() -> None:
    assert told(stands_in("no", "server_error", 500, parent_tool_use_id="toolu_1")) == [Lives()]
    assert told(stands_in("No response requested.")) == [Lives()]


def test_a_sub_agent_moves_and_uses_under_a_message_of_its_own() -> None:
    usage = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": None}
    message = {"id": "msg_sub", "model": "haiku", "content": [{"type": "thinking", "thinking": "hm"}], "usage": usage}
    signs = told({"type": "assistant", "parent_tool_use_id": "toolu_1", "message": message})
    assert signs == [Used(Usage(5, 7, model="haiku"), Scope.MESSAGE, "msg_sub"), Moved()]


def test_calls_without_anything_in_them_are_calls() -> None:
    blocks = [{"type": "tool_use"}, {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]
    signs = told({"type": "assistant", "message": {"content": blocks}})
    assert signs == [ToolBegan("", ""), ToolBegan("t", "Bash", b"{}")]


def test_an_answer_without_anything_in_it_is_a_step() -> None:
    assert told({"type": "assistant", "message": {"id": "m", "content": []}}) == [Moved()]


def test_a_failed_call_tells_its_words_in_either_form() -> None:
    blocks = [
        {"type": "tool_result", "tool_use_id": "a", "is_error": True, "content": [{"type": "text", "text": "bad"}]},
        {"type": "tool_result", "tool_use_id": "b", "is_error": True, "content": "worse"},
        {"type": "tool_result", "tool_use_id": "c", "content": None},
    ]
    signs = told({"type": "user", "message": {"role": "user", "content": blocks}})
    assert signs == [ToolEnded("a", False, words="bad"), ToolEnded("b", False, words="worse"), ToolEnded("c")]


def test_words_of_the_user_only_live() -> None:
    assert told({"type": "user", "message": {"role": "user", "content": "Go on."}}) == [Lives()]


def test_a_denial_is_told_with_its_tool() -> None:
    signs = told({"type": "system", "subtype": "permission_denied", "tool_name": "WebFetch", "tool_use_id": "t"})
    assert signs == [Denied("WebFetch")]


def test_several_ends_add_up() -> None:
    """A program that is given more to do tells at each end what is new since the one before."""
    reader = ClaudeReader()
    for tokens, usd in ((10, 0.5), (20, 0.25)):
        models = {"m": {"inputTokens": tokens, "outputTokens": 1, "costUSD": usd}}
        line = json.dumps(result(is_error=False, usage=ZERO, model_usage_since_last_result=models)).encode()
        signs = read([line], reader)
    assert of(Used, signs) == [Used(Usage(30, 2, cost_usd=0.75, model="m"), Scope.RUN)]
    assert of(Cost, signs) == [Cost(0.75, Scope.RUN)]


def test_a_cost_of_nothing_for_tokens_is_not_known() -> None:
    models = {"m": {"inputTokens": 5, "outputTokens": 1, "costUSD": 0}}
    signs = told(result(is_error=False, total_cost_usd=0, model_usage_since_last_result=models))
    assert not of(Cost, signs)
    assert of(Used, signs)[0].usage.cost_usd is None


def test_a_version_without_figures_by_model_is_counted_by_its_usage() -> None:
    usage = {"input_tokens": 3, "output_tokens": 4, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 6}
    signs = told(result(is_error=False, usage=usage, total_cost_usd=0.1))
    assert of(Used, signs) == [Used(Usage(3, 4, 6, 5), Scope.RUN)]
    assert of(Cost, signs) == [Cost(0.1, Scope.THREAD)]


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        (b'{"type":"keep_alive"}', Lives()),
        (b'{"type":"system","subtype":"hook_started"}', Lives()),
        (b'{"type":"system","subtype":"compact_boundary"}', Moved()),
        (b'{"type":"system","subtype":"dreaming"}', Unknown("system/dreaming")),
        (b'{"type":"' + b"x" * 500 + b'"}', Unknown("x" * 80)),
        (b"Warning: no stdin data received", Noise()),
        (b"[1,2]", Noise()),
        (b'{"level":"info"}', Noise()),
        (b'{"type":5}', Noise()),
        (b'{"type":"assistant"', Noise()),
    ],
)
def test_a_line_that_is_not_known_is_counted(line: bytes, sign: Sign) -> None:
    assert read([line]) == [sign]


def test_an_empty_line_is_nothing() -> None:
    assert read([b"", b"  \r"]) == []


def test_standard_error_and_the_session_file_are_not_listened_to() -> None:
    reader = ClaudeReader()
    assert [*reader.stderr(b"Error"), *reader.session(b"{}")] == []


def test_an_exit_after_sigterm_says_so() -> None:
    reader = ClaudeReader()
    killed = reader.exit(143)
    assert killed is not None
    assert killed.error_class is ErrorClass.WORKER_KILLED
    assert reader.exit(1) is None


def test_half_a_character_costs_nothing() -> None:
    line = rb'{"type":"stream_event","event":{"type":"content_block_delta","delta":{"text":"a\ud83d"}}}'
    assert read([line]) == [Moved("a\ufffd")]


HAND_MADE = [
    json.dumps(event).encode()
    for event in (
        retry("rate_limit", 429),
        stands_in("no", "server_error", 500),
        result("no", permission_denials=[{"tool_name": "Bash"}], usage=ZERO, errors=["x"], total_cost_usd=1.0),
        result("no", model_usage_since_last_result={"m": {"inputTokens": 5, "costUSD": 0.5}}),
        {"type": "system", "subtype": "init", "session_id": "s", "model": "m", "claude_code_version": "2"},
        {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 5, "utilization": 1}},
        {"type": "stream_event", "event": {"type": "message_delta", "usage": {"output_tokens": 5}}},
        {"type": "stream_event", "event": {"type": "message_start", "message": {"id": "m", "usage": ZERO}}},
        {
            "type": "assistant",
            "message": {"id": "m", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"a": [1]}}]},
        },
        {
            "type": "user",
            "message": {"content": [{"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": "x"}]},
            "tool_result_meta": [{"id": "t", "permission_decision": {"decision": "reject"}}],
        },
    )
]


@given(mangled([*HAND_MADE, *genuine("claude")]))
@example(b'{"type":"system","subtype":"api_retry","retry_delay_ms":1e999,"attempt":1e999,"error":"rate_limit"}')
@settings(max_examples=400)
def test_no_line_makes_it_raise(line: bytes) -> None:
    reader = ClaudeReader()
    for signs in (reader.stdout(line), reader.stderr(line), reader.session(line), reader.stdout(HAND_MADE[2])):
        assert all(isinstance(sign, get_args(Sign)) for sign in signs)


@pytest.mark.parametrize("odd", [7, "x", [], {}, None, True, [None], -1, 1.5])
@pytest.mark.parametrize("key", ["attempt", "max_retries", "retry_delay_ms", "error_status"])
def test_a_field_of_a_wrong_type_costs_that_field_only(key: str, odd: Any) -> None:
    (sign,) = told(retry("rate_limit", 429, **{key: odd}))
    assert isinstance(sign, Refused)
    assert sign.failure.error_class is ErrorClass.RATE_LIMITED


def test_a_wrong_block_costs_that_block_only() -> None:
    blocks = [7, {"type": 5}, {"type": "tool_use", "id": "t", "name": ["n"], "input": [1]}]
    signs = told({"type": "assistant", "message": {"id": 7, "content": blocks, "usage": {"input_tokens": "x"}}})
    assert ToolBegan("t", "", b"[1]") in signs
