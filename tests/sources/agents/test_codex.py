"""Codex: every genuine run told right, and no line that makes its reader raise."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.failure import ErrorClass, Failure
from crewd.model.run import Usage
from crewd.sources.agents.codex import OPEN_MAX, CodexReader
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
from tests.sources.agents.mangled import STREAMS, spliced, with_any_value
from tests.sources.agents.recorded import every_line, exit_of, run_folder, signs_of

MODEL = "gpt-5.1-codex"


@dataclass(frozen=True)
class Run:
    """What one run is known to have been."""

    end: str | None = "ok"  # class of its terminal event; None: it told no end
    refusals: tuple[int, int] = (0, 0)  # how many, and of how many at most
    usage: Usage | None = None  # input without cache, output, cache
    tools: int = 0
    denied: int = 0
    open: int = 0


def used(input: int, output: int, cache_read: int) -> Usage:
    return Usage(input=input, output=output, cache_read=cache_read)


TWO_ANSWERS = used(26698 - 22528, 145, 22528)
RUNS = {
    "ok": Run(usage=TWO_ANSWERS, tools=1),
    "otel": Run(usage=TWO_ANSWERS, tools=1),
    "resume": Run(usage=TWO_ANSWERS, tools=1),
    "long": Run(usage=used(53396 - 45056, 321, 45056), tools=1),  # polls of a running command are no calls
    "slow": Run(usage=used(13349 - 11264, 57, 11264)),
    "401": Run("auth_error", refusals=(5, 5)),
    "429": Run("rate_limited", refusals=(5, 5)),
    "500": Run("provider_error", refusals=(5, 5)),
    "retry_cfg": Run("provider_error", refusals=(1, 1)),
    "529": Run("provider_error"),
    "ctx": Run("context_exhausted"),
    "no_auth": Run("auth_error"),
    "hang": Run(None, refusals=(2, 5)),
    "hdr_hang": Run(None),
    "sigterm_stream": Run(None),
    "sigterm_tool": Run(None, tools=1, open=1),
    "sigkill_tool": Run(None, tools=1, open=1),
    "perm": Run(usage=TWO_ANSWERS, tools=1, denied=1),  # its sandbox was read-only, and touch said so
    "perm_workspace_write": Run(usage=TWO_ANSWERS, tools=1),  # where it may write, the same command is not stopped
    "editperm": Run(usage=TWO_ANSWERS),  # its call had arguments of a wrong type: it was no matter of permission
}


def class_at_end(signs: list[Sign]) -> str | None:
    ends = [sign for sign in signs if isinstance(sign, Finished)]
    assert len(ends) <= 1
    if not ends:
        return None
    return "ok" if ends[0].failure is None else ends[0].failure.error_class.value


@pytest.mark.parametrize("case", RUNS)
def test_a_genuine_run_is_told_right(case: str) -> None:
    signs, known = signs_of(CodexReader(), f"codex/{case}"), RUNS[case]
    assert class_at_end(signs) == known.end
    assert not [sign for sign in signs if isinstance(sign, Unknown | Noise)]
    assert isinstance(signs[0], Began)
    assert len(signs[0].session) == 36

    refusals = [sign for sign in signs if isinstance(sign, Refused)]
    count, attempts_max = known.refusals
    assert [refusal.attempt for refusal in refusals] == list(range(1, count + 1))
    assert {refusal.attempts_max for refusal in refusals} <= {attempts_max}
    if known.end is not None and count:
        assert {refusal.failure.error_class.value for refusal in refusals} == {known.end}

    assert [sign.usage for sign in signs if isinstance(sign, Used)] == ([known.usage] if known.usage else [])
    began = [sign for sign in signs if isinstance(sign, ToolBegan)]
    ended = [sign for sign in signs if isinstance(sign, ToolEnded)]
    assert len(began) == known.tools
    assert len(began) - len(ended) == known.open
    assert sum(sign.denied for sign in ended) == known.denied
    assert all(sign.name == "command_execution" and sign.input.startswith(b'"/bin/bash -lc ') for sign in began)


@pytest.mark.parametrize("case", RUNS)
def test_the_table_knows_how_it_exited(case: str) -> None:
    known, record = RUNS[case], exit_of(f"codex/{case}")
    assert record["exit_code"] == {"ok": 0, None: None}.get(known.end, 1)


def test_every_genuine_run_is_in_the_table() -> None:
    assert {folder.name for folder in run_folder("codex/ok").parent.iterdir()} == set(RUNS)


def test_a_resumed_run_counts_all_of_its_thread_and_keeps_its_session() -> None:
    first = signs_of(CodexReader(), "codex/resume")
    second = signs_of(CodexReader(), "codex/resume", prefix="resume.")
    assert first[0] == second[0]
    assert [(sign.usage, sign.scope) for sign in second if isinstance(sign, Used)] == [
        (used(40047 - 33792, 202, 33792), Scope.THREAD)
    ]
    assert class_at_end(second) == "ok"


@pytest.mark.parametrize(
    ("case", "usage", "failing"),
    [
        ("ok", TWO_ANSWERS, None),
        ("long", used(8340, 321, 45056), None),
        ("resume", used(40047 - 33792, 202, 33792), None),
        # A killed run: written before the tool was begun, and told nowhere else.
        ("sigkill_tool", used(13349 - 11264, 88, 11264), None),
        ("sigterm_tool", used(13349 - 11264, 88, 11264), None),
        ("ctx", used(0, 0, 0), ("context_exhausted", "context_window_exceeded")),
        ("401", None, ("auth_error", "http_connection_failed")),
        ("429", None, ("rate_limited", "response_too_many_failed_attempts")),
        ("500", None, ("provider_error", "internal_server_error")),
    ],
)
def test_the_rollout_knows_what_stdout_leaves_out(
    case: str, usage: Usage | None, failing: tuple[str, str] | None
) -> None:
    signs = signs_of(CodexReader(), f"codex/{case}", stream="session")
    began = [sign for sign in signs if isinstance(sign, Began)]
    assert {sign.version for sign in began} == {"0.169.0", ""}
    assert {sign.model for sign in began} == {MODEL, ""}
    told = [sign for sign in signs if isinstance(sign, Used)]
    assert (told[-1] if told else None) == (
        Used(Usage(usage.input, usage.output, usage.cache_read, model=MODEL), Scope.THREAD) if usage else None
    )
    failures = [(sign.failure.error_class.value, sign.failure.code) for sign in signs if isinstance(sign, Failing)]
    assert failures == ([failing] if failing else [])
    assert not [sign for sign in signs if isinstance(sign, Unknown | Noise | ToolBegan | ToolEnded | Finished)]


def test_the_rollout_tells_the_windows_of_the_account() -> None:
    limits = [sign for sign in signs_of(CodexReader(), "codex/ok", stream="session") if isinstance(sign, LimitTold)]
    assert limits[:2] == [
        LimitTold(rejected=False, until=1795227569.0, name="five_hour", used_ratio=0.425),
        LimitTold(rejected=False, until=1795310369.0, name="seven_day", used_ratio=0.07),
    ]


@pytest.mark.parametrize("case", ["ok", "editperm", "401", "sigkill_tool"])
def test_stderr_of_ordinary_runs_says_nothing(case: str) -> None:
    assert signs_of(CodexReader(), f"codex/{case}", stream="stderr") == []


# What follows is not in the corpus: it is written after AGENT_CLIS.md and the event types of Codex's public source.


def stdout(**event: Any) -> list[Sign]:
    return list(CodexReader().stdout(json.dumps(event).encode()))


def item(stage: str = "completed", **fields: Any) -> bytes:
    return json.dumps({"type": f"item.{stage}", "item": {"id": "item_1", **fields}}).encode()


REFUSALS = [
    ("exceeded retry limit, last status: 429 Too Many Requests, request id: r", "rate_limited", None),
    (
        "stream disconnected before completion: rate limit exceeded: too fast. Please try again in 3.5s",
        "rate_limited",
        3.5,
    ),
    ("You've hit your usage limit. Upgrade or try again in 3 hours 5 minutes.", "rate_limited", 11_100.0),
    ("You've hit your usage limit. Upgrade or try again in 3 days 4 hours.", "rate_limited", 86_400.0),  # the most
    ("unexpected status 401 Unauthorized: Incorrect API key provided: dummy.", "auth_error", None),
    ("unexpected status 403 Forbidden: no, url: http://127.0.0.1:8080/v1/responses", "auth_error", None),
    ("Missing environment variable: `ACME_LOGIN`.", "auth_error", None),
    ("Your access token could not be refreshed. Please log out and sign in again.", "auth_error", None),
    ("We’re currently experiencing high demand, which may cause temporary errors.", "provider_error", None),
    ("Selected model is at capacity. Please try a different model.", "provider_error", None),
    ("stream disconnected before completion: idle timeout waiting for SSE", "provider_error", None),
    (
        "stream disconnected before completion: Transport error: network error: error decoding response body",
        "provider_error",
        None,
    ),
    ("Request timed out.", "provider_error", None),
    ("unexpected status 502 Bad Gateway: <html>", "provider_error", None),
    ("something never heard of", "provider_error", None),
    ("Quota exceeded. Check your plan and billing details.", "budget_exceeded", None),
    ("unexpected status 402 Payment Required", "budget_exceeded", None),
    ("Codex ran out of room in the model's context window. Start a new thread.", "context_exhausted", None),
    ("unexpected status 404 Not Found: The model `gpt-9` does not exist", "config_invalid", None),
    ("unexpected status 400 Bad Request: Unsupported parameter", "input_invalid", None),
]


@pytest.mark.parametrize(("words", "error_class", "wait"), REFUSALS)
def test_a_reconnection_has_the_class_of_what_broke_the_request(
    words: str, error_class: str, wait: float | None
) -> None:
    (refused,) = stdout(type="error", message=f"Reconnecting... 2/5 ({words})")
    assert isinstance(refused, Refused)
    assert (refused.attempt, refused.attempts_max) == (2, 5)
    assert (refused.failure.error_class, refused.failure.retry_after) == (error_class, wait)
    assert refused.failure.message.startswith(words[:20])


@pytest.mark.parametrize(
    ("words", "error_class", "wait"), [each for each in REFUSALS if "never heard" not in each[0]]
)
def test_the_end_has_the_same_class_as_the_reconnections_before_it(
    words: str, error_class: str, wait: float | None
) -> None:
    (failing,) = stdout(type="error", message=words)
    (finished,) = stdout(type="turn.failed", error={"message": words})
    assert isinstance(failing, Failing)
    assert isinstance(finished, Finished)
    assert finished.failure == failing.failure
    assert (failing.failure.error_class, failing.failure.retry_after) == (error_class, wait)


def test_a_failed_turn_that_says_nothing_known_is_the_failure_of_its_task() -> None:
    (finished,) = stdout(type="turn.failed", error={"message": "the moon is made of cheese"})
    assert finished == Finished(Failure(ErrorClass.TASK_ERROR, "the moon is made of cheese"))
    assert stdout(type="turn.failed") == [Finished(Failure(ErrorClass.TASK_ERROR, "it does not say why"))]


@pytest.mark.parametrize(
    ("fields", "name", "input", "ok"),
    [
        (
            {"type": "file_change", "changes": [{"path": "a", "kind": "add"}], "status": "completed"},
            "file_change",
            b'[{"path": "a", "kind": "add"}]',
            True,
        ),
        ({"type": "file_change", "changes": [], "status": "failed"}, "file_change", b"[]", False),
        (
            {
                "type": "mcp_tool_call",
                "server": "s",
                "tool": "t",
                "arguments": {"a": 1},
                "status": "completed",
                "error": None,
            },
            "s.t",
            b'{"a": 1}',
            True,
        ),
        (
            {
                "type": "mcp_tool_call",
                "server": "s",
                "tool": "t",
                "arguments": None,
                "status": "failed",
                "error": {"message": "no"},
            },
            "s.t",
            b"",
            False,
        ),
        ({"type": "web_search", "query": "crewd"}, "web_search", b'"crewd"', True),
        (
            {"type": "collab_tool_call", "tool": "spawn_agent", "prompt": "go", "status": "completed"},
            "spawn_agent",
            b'"go"',
            True,
        ),
        (
            {"type": "command_execution", "command": "false", "exit_code": 1, "status": "failed"},
            "command_execution",
            b'"false"',
            False,
        ),
    ],
)
def test_a_tool_that_is_told_only_at_its_end_began_and_ended(
    fields: dict[str, Any], name: str, input: bytes, ok: bool
) -> None:
    began, ended = CodexReader().stdout(item(**fields))
    assert began == ToolBegan("item_1", name, input)
    assert isinstance(ended, ToolEnded)
    assert (ended.id, ended.ok, ended.denied) == ("item_1", ok, False)


def test_what_is_searched_for_may_be_told_at_the_end_of_the_search() -> None:
    reader = CodexReader()
    assert reader.stdout(item("started", type="web_search", query="")) == (ToolBegan("item_1", "web_search"),)
    assert reader.stdout(item(type="web_search", query="x"))[0] == ToolBegan("item_1", "web_search", b'"x"')


def test_a_tool_that_goes_on_moves_and_is_not_begun_again() -> None:
    reader = CodexReader()
    command = {"type": "command_execution", "command": "make"}
    assert reader.stdout(item("started", **command)) == (ToolBegan("item_1", "command_execution", b'"make"'),)
    assert reader.stdout(item("updated", **command)) == (Moved(),)
    assert reader.stdout(item(**command, exit_code=0)) == (ToolEnded("item_1", name="command_execution"),)


@pytest.mark.parametrize("kind", ["agent_message", "reasoning", "todo_list"])
def test_words_and_thoughts_move(kind: str) -> None:
    assert CodexReader().stdout(item("started", type=kind)) == (Moved(),)
    assert CodexReader().stdout(item(type=kind, text="Done.")) == (Moved("Done."),)


DENIALS = [
    ("touch: cannot touch 'x': Read-only file system\ndone\n", 0),
    ("OSError: [Errno 30] Read-only file system: 'x'\n", 1),
    ("Error: EROFS: read-only file system, open 'x'\n", 1),
    ("open x: read-only file system\n", 2),
    ("Error: Read-only file system (os error 30)\n", 101),
]
OTHER_FAILURES = [
    ("chown: changing ownership of 'x': Operation not permitted\n", 1),
    ("cat: /etc/shadow: Permission denied\n", 1),
    ("docs: what to do when a Read-only file system is mounted\n", 0),
    ("make: *** [all] Error 2\n", 2),
]


def command_ended(reader: CodexReader, output: str, exit_code: int) -> ToolEnded:
    status = "failed" if exit_code else "completed"
    line = item(type="command_execution", command="x", aggregated_output=output, exit_code=exit_code, status=status)
    *_, ended = reader.stdout(line)
    assert isinstance(ended, ToolEnded)
    return ended


@pytest.mark.parametrize(("output", "exit_code"), DENIALS)
def test_a_command_that_a_read_only_sandbox_stopped_was_denied_whatever_its_exit(output: str, exit_code: int) -> None:
    ended = command_ended(CodexReader(), output, exit_code)
    assert (ended.ok, ended.denied) == (False, True)
    assert "read-only" in ended.words.lower()


@pytest.mark.parametrize(("output", "exit_code"), OTHER_FAILURES)
def test_a_command_that_fails_otherwise_was_not_denied(output: str, exit_code: int) -> None:
    ended = command_ended(CodexReader(), output, exit_code)
    assert (ended.ok, ended.denied) == (exit_code == 0, False)


def test_without_a_sandbox_a_read_only_disk_denies_nothing() -> None:
    reader = CodexReader()
    policy = {"type": "turn_context", "payload": {"model": "m", "sandbox_policy": {"type": "danger-full-access"}}}
    assert reader.session(json.dumps(policy).encode()) == (Began(model="m"),)
    assert not command_ended(reader, DENIALS[0][0], 0).denied


def test_a_command_that_codex_turns_down_was_denied() -> None:
    *_, ended = CodexReader().stdout(item(type="command_execution", command="rm", status="declined"))
    assert isinstance(ended, ToolEnded)
    assert (ended.ok, ended.denied) == (False, True)


@pytest.mark.parametrize(
    ("words", "tool"),
    [
        (
            "patch rejected: writing is blocked by read-only sandbox; rejected by user approval settings",
            "apply_patch",
        ),
        ("patch rejected: writing outside of the project; rejected by user approval settings", "apply_patch"),
        ('exec_command failed for `rm`: CreateProcess { message: "rejected by user" }', "exec_command"),
        ("failed to parse function arguments: invalid type: null, expected a string at line 1 column 12", None),
    ],
)
def test_a_call_that_is_turned_down_is_told_on_stderr_alone(words: str, tool: str | None) -> None:
    line = f"2026-11-21T01:22:56.587171Z ERROR codex_core::tools::router: error={words}".encode()
    assert CodexReader().stderr(line) == ((Denied(tool),) if tool else ())


def test_failures_that_differ_only_at_their_end_are_told_apart() -> None:
    head = "=" * 30 + " test session starts " + "=" * 30 + "\n" + "tests/test_a.py .....\n" * 40
    one = command_ended(CodexReader(), f"{head}E  assert 1 == 2", 1)
    other = command_ended(CodexReader(), f"{head}E  assert 1 == 3", 1)
    assert one.words != other.words
    assert len(one.words) < 500


def session(**record: Any) -> list[Sign]:
    return list(CodexReader().session(json.dumps(record).encode()))


@pytest.mark.parametrize(
    ("info", "words", "error_class"),
    [
        ("usage_limit_exceeded", "no more", "rate_limited"),
        ("rate_limit_exceeded", "Rate limit reached. Please try again in 3.5s.", "rate_limited"),
        ("server_overloaded", "no", "provider_error"),
        ("unauthorized", "no", "auth_error"),
        ("bad_request", "no", "input_invalid"),
        ("bad_request", "maximum context length exceeded", "context_exhausted"),
        ({"response_stream_disconnected": {"http_status_code": None}}, "no", "provider_error"),
        ({"response_stream_connection_failed": {"http_status_code": 503}}, "no", "provider_error"),
        ({"http_connection_failed": {"http_status_code": 403}}, "no", "auth_error"),
        ({"http_connection_failed": {"http_status_code": 400}}, "no", "input_invalid"),
        ({"http_connection_failed": {"http_status_code": 400}}, "maximum context length", "context_exhausted"),
        ("never_heard_of", "something", "task_error"),
        ("other", "Missing environment variable: `X`.", "auth_error"),
        (None, "exceeded retry limit, last status: 429 Too Many Requests", "rate_limited"),
        (17, "unexpected status 401 Unauthorized", "auth_error"),
        ({}, "", "task_error"),
    ],
)
def test_the_rollout_tells_why_a_turn_failed(info: Any, words: str, error_class: str) -> None:
    error = {"message": words, "codex_error_info": info}
    (failing,) = session(type="event_msg", payload={"type": "task_complete", "error": error})
    assert isinstance(failing, Failing)
    assert failing.failure.error_class == error_class


def test_an_interrupted_turn_was_broken_off_by_nobody_known() -> None:
    (failing,) = session(type="event_msg", payload={"type": "turn_aborted", "reason": "interrupted"})
    assert isinstance(failing, Failing)
    assert (failing.failure.error_class, failing.failure.code) == (ErrorClass.CANCELLED, "interrupted")


def test_a_limit_that_is_reached_is_the_last_word() -> None:
    limits = {
        "primary": {"used_percent": 100.0, "window_minutes": 300, "resets_at": 2000},
        "secondary": {"used_percent": 50.0, "window_minutes": 15},
        "rate_limit_reached_type": "rate_limit_reached",
    }
    assert session(type="event_msg", payload={"type": "token_count", "info": None, "rate_limits": limits}) == [
        LimitTold(rejected=False, until=None, name="secondary", used_ratio=0.5),
        LimitTold(rejected=True, until=2000.0, name="five_hour", used_ratio=1.0),
    ]


def test_a_full_window_refuses_nothing_by_itself() -> None:
    limits = {"primary": {"used_percent": 100, "window_minutes": 300}, "rate_limit_reached_type": None}
    assert session(type="event_msg", payload={"type": "token_count", "rate_limits": limits}) == [
        LimitTold(rejected=False, until=None, name="five_hour", used_ratio=1.0)
    ]


def test_a_call_with_an_error_failed_though_its_status_is_left_out() -> None:
    *_, ended = CodexReader().stdout(item(type="mcp_tool_call", tool="t", error={"message": "no such page"}))
    assert ended == ToolEnded("item_1", ok=False, words="no such page", name="t")


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        (b'{"type":"turn.started"}', Lives()),
        (b'{"type":"item.completed","item":{"type":"error","message":"a warning"}}', Lives()),
        (b'{"type":"item.completed","item":17}', Lives()),
        (b'{"type":"hook.started"}', Unknown("hook.started")),
        (b'{"type":"item.completed","item":{"type":"dream"}}', Unknown("item/dream")),
        (b'{"type":["x"]}', Unknown("(no type)")),
        (b'{"type":"' + b"x" * 999 + b'"}', Unknown("x" * 80)),
        (b"panicked at src/main.rs", Noise()),
        (b"[1, 2]", Noise()),
        (b"null", Noise()),
        (b"", Noise()),
        (b'{"type":"turn.st', Noise()),
    ],
)
def test_every_line_has_a_meaning(line: bytes, sign: Sign) -> None:
    assert CodexReader().stdout(line) == (sign,)


def test_a_field_of_a_wrong_type_costs_that_field_only() -> None:
    line = b'{"type":"turn.completed","usage":{"input_tokens":"many","cached_input_tokens":3,"output_tokens":-1}}'
    assert CodexReader().stdout(line) == (Used(Usage(cache_read=3), Scope.THREAD), Finished())
    assert CodexReader().stdout(b'{"type":"turn.completed","usage":[]}') == (Finished(),)
    assert CodexReader().stdout(b'{"type":"thread.started","thread_id":7}') == (Began(),)


def test_what_it_remembers_is_bounded() -> None:
    reader = CodexReader()
    for number in range(OPEN_MAX * 2):
        reader.stdout(item("started", type="command_execution").replace(b"item_1", b"item_%d" % number))
    # The oldest are forgotten, which costs no more than that their beginning is told again.
    assert len(reader.stdout(item(type="command_execution").replace(b"item_1", b"item_0"))) == 2
    assert len(reader.stdout(item(type="command_execution").replace(b"item_1", b"item_%d" % (OPEN_MAX * 2 - 1)))) == 1


def test_an_address_that_knows_no_websockets_is_tried_otherwise_and_ends_nobody() -> None:
    words = "Reconnecting... 2/5 (unexpected status 404 Not Found: , url: ws://127.0.0.1:9/v1/responses)"
    (sign,) = CodexReader().stdout(json.dumps({"type": "error", "message": words}).encode())
    assert isinstance(sign, Refused)
    assert sign.failure.error_class is ErrorClass.PROVIDER_ERROR


LINES = [
    *every_line("codex"),
    ("stdout", item(type="web_search", query="x")),
    ("stderr", b"codex_core::tools::router: error=patch rejected: no"),
]


@given(line=spliced(LINES), stream=STREAMS)
def test_a_mutated_line_never_raises(line: bytes, stream: str) -> None:
    assert all(isinstance(sign, Sign) for sign in getattr(CodexReader(), stream)(line))


@given(genuine=st.sampled_from(LINES), data=st.data())
def test_a_line_with_any_value_in_any_field_never_raises(genuine: tuple[str, bytes], data: st.DataObject) -> None:
    line = with_any_value(genuine, data)
    for stream in ("stdout", "stderr", "session") if line is not None else ():
        assert all(isinstance(sign, Sign) for sign in getattr(CodexReader(), stream)(line))


@given(line=st.binary(max_size=200))
def test_no_bytes_make_it_raise(line: bytes) -> None:
    reader = CodexReader()
    for signs in (reader.stdout(line), reader.stderr(line), reader.session(line)):
        assert all(isinstance(sign, Sign) for sign in signs)
    assert all(reader.exit(code) is None for code in range(256))
