"""Gemini CLI: every genuine run told right, on stdout and on stderr, and no line that makes its reader raise."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.failure import ErrorClass, Failure
from crewd.model.run import Usage
from crewd.sources.agents.gemini import STORY_LINES_MAX, GeminiReader
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
from tests.sources.agents.mangled import STREAMS, spliced, with_any_value
from tests.sources.agents.recorded import every_line, exit_of, run_folder, signs_of

MODEL = "gemini-2.5-pro"


@dataclass(frozen=True)
class Run:
    """What one run is known to have been."""

    end: str | None = "ok"  # class of its terminal event; None: it told no end
    usage: Usage | None = None
    chat: Usage | None = None  # as added up from the chat file; None: it holds no figure
    tools: int = 0
    failed: int = 0
    denied: int = 0
    pieces: int = 0  # of the answer
    refusals: int = 0  # different attempts that stderr tells of
    refused_as: str = ""
    exits: str | None = None  # class of its exit status


def used(answers: int, output: int) -> Usage:
    """Every answer of these runs read 13349 tokens, 11264 of them from a cache."""
    return Usage(input=2085 * answers, output=output, cache_read=11264 * answers, model=MODEL)


TWO_ANSWERS = used(2, 145 + 2 * 16)  # what was thought is only in the total
NOTHING = Usage(model=MODEL)
RUNS = {
    "ok": Run("ok", TWO_ANSWERS, TWO_ANSWERS, tools=1, pieces=7),
    "otel": Run("ok", TWO_ANSWERS, TWO_ANSWERS, tools=1, pieces=7),
    "long": Run("ok", TWO_ANSWERS, TWO_ANSWERS, tools=1, pieces=7),
    "resume": Run("ok", TWO_ANSWERS, used(3, 177 + 73), tools=1, pieces=7),  # its chat holds both runs
    "slow": Run("ok", used(1, 73), used(1, 73), pieces=28),
    # Tools that are not allowed are not offered, and a call of one is a call of nothing.
    "perm": Run("ok", TWO_ANSWERS, TWO_ANSWERS, tools=1, failed=1, denied=1, pieces=7),
    # Its call had the wrong arguments: it was no matter of permission.
    "editperm": Run("ok", TWO_ANSWERS, TWO_ANSWERS, tools=1, failed=1, pieces=7),
    "401": Run("auth_error", NOTHING, exits="auth_error"),
    "ctx": Run("context_exhausted", NOTHING, exits="input_invalid"),
    "429": Run("rate_limited", NOTHING, refusals=10, refused_as="rate_limited", exits="rate_limited"),
    "500": Run("provider_error", NOTHING, refusals=9, refused_as="provider_error", exits="provider_error"),
    "529": Run(None, refusals=8, refused_as="provider_error"),
    "hdr_hang": Run(None, refusals=5, refused_as="provider_error"),
    "hang": Run(None, pieces=24),  # the same eight words, three times
    "no_auth": Run(None, exits="auth_error"),
    "sigterm_stream": Run(None, pieces=8),
    "sigterm_tool": Run(None, chat=used(1, 104), tools=1),
    "sigterm_relaunch": Run(None, chat=used(1, 104), tools=1),
    "sigkill_tool": Run(None, chat=used(1, 104), tools=1),
    "sigkill_relaunch": Run(None, chat=used(1, 104), tools=1),
}


def class_at_end(signs: list[Sign]) -> str | None:
    ends = [sign for sign in signs if isinstance(sign, Finished)]
    assert len(ends) <= 1
    if not ends:
        return None
    return "ok" if ends[0].failure is None else ends[0].failure.error_class.value


@pytest.mark.parametrize("case", RUNS)
def test_a_genuine_run_is_told_right(case: str) -> None:
    signs, known = signs_of(GeminiReader(), f"gemini/{case}"), RUNS[case]
    assert class_at_end(signs) == known.end
    assert not [sign for sign in signs if isinstance(sign, Unknown | Noise)]
    if signs:
        assert isinstance(signs[0], Began)
        assert (len(signs[0].session), signs[0].model) == (36, MODEL)
    assert [sign for sign in signs if isinstance(sign, Used)] == (
        [Used(known.usage, Scope.RUN)] if known.usage else []
    )
    assert sum(isinstance(sign, Moved) for sign in signs) == known.pieces

    began = [sign for sign in signs if isinstance(sign, ToolBegan)]
    ended = [sign for sign in signs if isinstance(sign, ToolEnded)]
    assert len(began) == known.tools
    assert [sign.id for sign in ended] == [sign.id for sign in began][: len(ended)]
    assert (len(ended) == len(began)) == (known.end is not None or not known.tools)
    assert all(sign.name and sign.input.startswith(b"{") for sign in began)
    assert sum(not sign.ok for sign in ended) == known.failed
    assert sum(sign.denied for sign in ended) == known.denied


@pytest.mark.parametrize("case", RUNS)
def test_its_retries_are_told_on_stderr_alone(case: str) -> None:
    signs, known = signs_of(GeminiReader(), f"gemini/{case}", stream="stderr"), RUNS[case]
    refusals = [sign for sign in signs if isinstance(sign, Refused)]
    given_up = case == "429"  # its last attempt is told on two lines, of which the second says that it gives up
    assert [refusal.attempt for refusal in refusals] == list(range(1, known.refusals + 1 - given_up))
    assert {refusal.failure.error_class.value for refusal in refusals} <= {known.refused_as}
    failing = {sign.failure.error_class.value for sign in signs if isinstance(sign, Failing)}
    known_failing = {"429": {"rate_limited"}, "500": {"provider_error"}, "no_auth": {"auth_error"}}
    assert failing == known_failing.get(case, set())
    lives = [sign for sign in signs if isinstance(sign, Lives)]
    assert len(signs) == len(refusals) + len(failing) + len(lives)


def test_the_wait_is_the_one_that_the_program_chose() -> None:
    signs = signs_of(GeminiReader(), "gemini/429", stream="stderr")
    waits = [(sign.attempt, sign.failure.retry_after) for sign in signs if isinstance(sign, Refused)]
    assert waits[:2] == [(1, 5.594), (2, 11.008)]
    assert waits[-1][0] == 9  # after the tenth it gives up


@pytest.mark.parametrize("case", RUNS)
def test_the_chat_file_knows_what_was_used_where_the_run_did_not_end(case: str) -> None:
    signs, known = signs_of(GeminiReader(), f"gemini/{case}", stream="session"), RUNS[case]
    assert not [sign for sign in signs if isinstance(sign, Unknown | Noise)]
    figures = {sign.key: sign.usage for sign in signs if isinstance(sign, Used)}
    assert {sign.scope for sign in signs if isinstance(sign, Used)} <= {Scope.MESSAGE}
    if known.chat is None:
        assert figures == {}
        return
    each = figures.values()
    assert known.chat == Usage(
        input=sum(usage.input for usage in each),
        output=sum(usage.output for usage in each),
        cache_read=sum(usage.cache_read for usage in each),
        model=MODEL,
    )


@pytest.mark.parametrize("case", RUNS)
def test_its_exit_status_tells_the_same_class(case: str) -> None:
    code = exit_of(f"gemini/{case}")["exit_code"]
    failure = GeminiReader().exit(code) if code else None
    assert (failure.error_class if failure else None) == RUNS[case].exits


def test_every_genuine_run_is_in_the_table() -> None:
    assert {folder.name for folder in run_folder("gemini/ok").parent.iterdir()} == set(RUNS)


def test_a_resumed_run_keeps_its_session_and_counts_itself_alone() -> None:
    first = signs_of(GeminiReader(), "gemini/resume")
    second = signs_of(GeminiReader(), "gemini/resume", prefix="resume.")
    assert first[0] == second[0]
    assert [sign for sign in second if isinstance(sign, Used)] == [Used(used(1, 73), Scope.RUN)]
    assert class_at_end(second) == "ok"


# What follows is not in the corpus: it is written after AGENT_CLIS.md and the public source of Gemini CLI.


def stdout(**event: Any) -> list[Sign]:
    return list(GeminiReader().stdout(json.dumps(event).encode()))


def finished(words: str) -> Failure:
    (sign,) = stdout(type="result", status="error", error={"type": "unknown", "message": words})
    assert isinstance(sign, Finished)
    assert sign.failure is not None
    return sign.failure


def api_error(code: int, message: str, status: str = "", **more: Any) -> str:
    return f"[API Error: {json.dumps({'error': {'code': code, 'message': message, 'status': status, **more}})}]"


RETRY_INFO = {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]}
QUOTA = "You exceeded your current quota, please check your plan and billing details."
ENDS = [
    (f"[API Error: {QUOTA} Please retry in 4s.\nSuggested retry after 4s.]\nPlease wait.", "rate_limited", 4.0),
    (f"[API Error: {QUOTA}\nSuggested retry after 3600s.]", "rate_limited", 3600.0),
    (api_error(429, QUOTA, "RESOURCE_EXHAUSTED", **RETRY_INFO), "rate_limited", 34.5),
    (api_error(429, QUOTA, "RESOURCE_EXHAUSTED"), "budget_exceeded", None),
    (api_error(429, "Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED"), "rate_limited", None),
    ("You have exhausted your capacity on this model. Your quota will reset after 2h30m15s.", "rate_limited", 9015.0),
    (api_error(401, "API keys are not supported by this API", "UNAUTHENTICATED"), "auth_error", None),
    (api_error(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"), "auth_error", None),
    (api_error(403, "The caller does not have permission", "PERMISSION_DENIED"), "auth_error", None),
    (
        api_error(400, "The input token count (9) exceeds the maximum number of tokens allowed (8)."),
        "context_exhausted",
        None,
    ),
    (api_error(400, "Unknown name", "INVALID_ARGUMENT"), "input_invalid", None),
    (api_error(404, "models/gemini-9 is not found for API version v1beta", "NOT_FOUND"), "config_invalid", None),
    (api_error(500, "An internal error has occurred.", "INTERNAL"), "provider_error", None),
    (api_error(503, "The model is overloaded. Please try again later.", "UNAVAILABLE"), "provider_error", None),
    (
        api_error(0, json.dumps({"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}})),
        "provider_error",
        None,
    ),
    ("[API Error: terminated]", "provider_error", None),
    ("Model stream ended without a finish reason.", "provider_error", None),
    ("[API Error: exception TypeError: fetch failed sending request]", "provider_error", None),
    ("Reached max session turns for this session.", "task_error", None),
    ("the moon is made of cheese", "task_error", None),
    ("{}}{", "task_error", None),
    ("", "task_error", None),
]


@pytest.mark.parametrize(("words", "error_class", "wait"), ENDS)
def test_the_class_of_an_end_is_in_its_words(words: str, error_class: str, wait: float | None) -> None:
    failure = finished(words)
    assert (failure.error_class, failure.retry_after) == (error_class, wait)
    assert failure.message


def test_an_error_within_an_error_is_the_one_that_is_told() -> None:
    innermost = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    between = {"error": {"code": 500, "message": json.dumps(innermost)}}
    assert finished(api_error(0, json.dumps(between))).message == "The model is overloaded."


def test_finer_words_have_a_code() -> None:
    assert finished("models/gemini-9 is not found for API version v1beta").code == "model_not_found"
    assert finished("Reached max session turns for this session.").code == "max_turns"


def test_a_loop_is_its_own_word_though_the_end_is_a_success() -> None:
    assert stdout(type="error", severity="warning", message="Loop detected, stopping execution") == [
        Looped("Loop detected, stopping execution")
    ]
    assert stdout(type="result", status="success") == [Finished()]


def test_another_warning_is_a_sign_of_life() -> None:
    assert stdout(type="error", severity="warning", message="Maximum size reached") == [Lives()]


@pytest.mark.parametrize("last", ["", "something went wrong"])
def test_an_end_that_leaves_out_why_is_completed_by_the_error_before_it(last: str) -> None:
    reader = GeminiReader()
    words = {"type": "error", "severity": "error", "message": "Model stream ended without a finish reason."}
    (failing,) = reader.stdout(json.dumps(words).encode())
    (end,) = reader.stdout(json.dumps({"type": "result", "status": "error", "error": {"message": last}}).encode())
    assert isinstance(failing, Failing)
    assert failing.failure.error_class is ErrorClass.PROVIDER_ERROR
    assert end == Finished(failing.failure)


NOT_ASKED = (
    'Tool execution for "run_shell_command" requires user confirmation, '
    "which is not supported in non-interactive mode."
)


@pytest.mark.parametrize(
    ("error", "denied"),
    [
        ({"type": "tool_not_registered", "message": 'Tool "run_shell_command" not found.'}, True),
        ({"type": "policy_violation", "message": "no"}, True),
        ({"type": "execution_denied", "message": "no"}, True),
        (
            {
                "type": "unhandled_exception",
                "message": NOT_ASKED,
            },
            True,
        ),
        ({"type": "unknown", "message": "Tool execution denied by policy."}, True),
        ({"type": "invalid_tool_params", "message": "params must have required property 'x'"}, False),
        ({"type": "permission_denied", "message": "EACCES: permission denied, open '/etc/shadow'"}, False),
        ({"type": "path_not_in_workspace", "message": "Path not in workspace"}, False),
        ({"type": "shell_execute_error", "message": "x was denied by policy"}, False),
        (None, False),
        ("broken", False),
    ],
)
def test_a_tool_that_is_not_allowed_is_told_apart_from_one_that_fails(error: Any, denied: bool) -> None:
    (ended,) = stdout(type="tool_result", tool_id="t", status="error", output="o", error=error)
    assert isinstance(ended, ToolEnded)
    assert (ended.id, ended.ok, ended.denied) == ("t", False, denied)


def test_a_retry_on_one_line_has_its_wait_at_once() -> None:
    reader = GeminiReader()
    (refused,) = reader.stderr(b"Attempt 3 failed: Please retry in 4s. Retrying after 5212ms...")
    assert isinstance(refused, Refused)
    assert (refused.attempt, refused.failure.retry_after) == (3, 5.212)
    assert reader.stderr(b"Suggested retry after 4s.. Retrying after 1ms...") == ()


def test_a_quota_that_it_tries_again_is_a_rate_wherever_the_wait_is_told() -> None:
    reader = GeminiReader()
    (first,) = reader.stderr(f"Attempt 1 failed: {QUOTA} See the docs.".encode())
    assert reader.stderr(b"* Quota exceeded for metric: generate_content_free_tier_requests, limit: 0") == ()
    (second,) = reader.stderr(b"Suggested retry after 34s.. Retrying after 35123ms...")
    assert isinstance(first, Lives)  # whether it is tried again is not told yet
    assert isinstance(second, Refused)
    assert (second.failure.error_class, second.failure.retry_after) == (ErrorClass.RATE_LIMITED, 35.123)


def test_the_words_of_a_failed_attempt_are_waited_for_within_bounds() -> None:
    reader = GeminiReader()
    reader.stderr(b"Attempt 1 failed: no")
    for _ in range(STORY_LINES_MAX - 1):
        assert reader.stderr(b"more of it") == ()
    (refused,) = reader.stderr(b"more of it")
    assert isinstance(refused, Refused)
    assert reader.stderr(b"Retrying after 5ms...") == ()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"YOLO mode is enabled. All tool calls will be automatically approved.",
        b"Attempt to read a file",
        b"Attempt 7 was fine",
        b"Error executing tool update_topic: params must have required property 'strategic_intent'",
        b"\xff\xfe",
    ],
)
def test_other_words_on_stderr_say_nothing(line: bytes) -> None:
    assert GeminiReader().stderr(line) == ()


@pytest.mark.parametrize(
    ("code", "error_class", "finer"),
    [
        (41, "auth_error", ""),
        (42, "input_invalid", ""),
        (44, "config_invalid", "sandbox"),
        (52, "config_invalid", "settings"),
        (53, "task_error", "max_turns"),
        (54, "task_error", "tool"),
        (55, "config_invalid", "untrusted_folder"),
        (130, "cancelled", "interrupted"),
        (144, "input_invalid", ""),
        (145, "auth_error", ""),
        (147, "auth_error", ""),
        (148, "config_invalid", ""),
        (173, "rate_limited", ""),
        (244, "provider_error", ""),
        (247, "provider_error", ""),
    ],
)
def test_an_exit_status_is_documented_or_the_low_byte_of_an_http_status(
    code: int, error_class: str, finer: str
) -> None:
    failure = GeminiReader().exit(code)
    assert failure is not None
    assert (failure.error_class, failure.code) == (error_class, finer)


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 137, 143])
def test_other_exit_statuses_say_nothing(code: int) -> None:
    assert GeminiReader().exit(code) is None


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        (b'{"type":"message","role":"user","content":"do it"}', Lives()),
        (b'{"type":"message","role":"assistant","content":"Done: ","delta":true}', Moved("Done: ")),
        (b'{"type":"message","role":"assistant","content":"half a smile \\ud83d"}', Moved("half a smile \ufffd")),
        (b'{"type":"message","role":"assistant","content":7}', Moved()),
        (b'{"type":"thought","content":"hm"}', Unknown("thought")),
        (b'{"type":{}}', Unknown("(no type)")),
        (b"{}", Unknown("(no type)")),
        (b'{"type":"' + b"x" * 999 + b'"}', Unknown("x" * 80)),
        (b"[]", Noise()),
        (b"Loaded cached credentials.", Noise()),
        (b'{"type":"message","ro', Noise()),
    ],
)
def test_every_line_has_a_meaning(line: bytes, sign: Sign) -> None:
    assert GeminiReader().stdout(line) == (sign,)


def test_a_field_of_a_wrong_type_costs_that_field_only() -> None:
    stats = {"input_tokens": 10, "cached": "***", "output_tokens": 3, "total_tokens": [], "models": 5}
    assert stdout(type="result", status="success", stats=stats) == [
        Used(Usage(input=10, output=3), Scope.RUN),
        Finished(),
    ]
    assert stdout(type="init", session_id=5, model="m") == [Began(model="m")]
    line = b'{"type":"gemini","id":"a","tokens":{"input":9,"cached":1e999,"output":2,"thoughts":1,"tool":4}}'
    assert GeminiReader().session(line) == (Used(Usage(input=13, output=3), Scope.MESSAGE, "a"),)


def test_an_end_without_a_status_proves_nothing() -> None:
    assert stdout(type="result") == [Unknown("result")]


LINES = [*every_line("gemini"), ("stderr", b"Attempt 1 failed: no"), ("session", b'{"type":"gemini","tokens":{}}')]


@given(line=spliced(LINES), stream=STREAMS)
def test_a_mutated_line_never_raises(line: bytes, stream: str) -> None:
    assert all(isinstance(sign, Sign) for sign in getattr(GeminiReader(), stream)(line))


@given(genuine=st.sampled_from(LINES), data=st.data())
def test_a_line_with_any_value_in_any_field_never_raises(genuine: tuple[str, bytes], data: st.DataObject) -> None:
    line = with_any_value(genuine, data)
    for stream in ("stdout", "stderr", "session") if line is not None else ():
        assert all(isinstance(sign, Sign) for sign in getattr(GeminiReader(), stream)(line))


@given(lines=st.lists(st.binary(max_size=60) | st.just(b"Attempt 1 failed: x"), max_size=6), code=st.integers())
def test_no_bytes_make_it_raise(lines: list[bytes], code: int) -> None:
    reader = GeminiReader()
    for line in lines:
        for signs in (reader.stdout(line), reader.stderr(line), reader.session(line)):
            assert all(isinstance(sign, Sign) for sign in signs)
    failure = reader.exit(code)
    assert failure is None or isinstance(failure, Failure)


@given(words=st.text(max_size=80) | st.text('{}"\\:error,message', max_size=80))
def test_any_words_of_an_error_make_a_failure(words: str) -> None:
    assert finished(words).error_class in ErrorClass
