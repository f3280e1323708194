"""What pi prints is understood: genuine runs by a table, the others by hand-made lines of the same form."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeVar, get_args

import pytest
from hypothesis import example, given, settings

from crewd.model.failure import ErrorClass, Failure
from crewd.model.run import Usage
from crewd.sources.agents.pi import PiReader
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
from tests.sources.agents.mangled import CORPUS, genuine, mangled

Kind = TypeVar("Kind")


def read(lines: Iterable[bytes], reader: PiReader | None = None) -> list[Sign]:
    reader = reader or PiReader()
    return [sign for line in lines for sign in reader.stdout(line)]


def told(*events: dict[str, Any]) -> list[Sign]:
    return read(json.dumps(event).encode() for event in events)


def case(name: str) -> list[Sign]:
    folder, _, part = name.partition(":")
    path = CORPUS / "pi" / folder / (f"{part}.stdout.jsonl" if part else "stdout.jsonl")
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

    ends: str = ""  # class of its failure; "": done; "-": no terminal event
    refused: str = ""  # classes of all refusals, how many, and the first wait in seconds
    tools: str = ""  # begun and ended, in order
    used: tuple[int, int, int] = (0, 0, 0)  # input, output, from a cache: of all messages
    usd: float = 0.0


OK = Run(tools="+bash -", used=(4_170, 145, 22_528), usd=0.0067128)
WORDS = Run(used=(2_085, 57, 11_264), usd=0.0033254)
CUT = Run("-", tools="+bash", used=(2_085, 88, 11_264), usd=0.0033874)

GENUINE = {
    "401": Run("auth_error"),
    "429": Run("rate_limited", "rate_limited 3 4"),  # it waits 2 s where it was asked for 4
    "500": Run("provider_error", "provider_error 3 2"),
    "529": Run("provider_error", "provider_error 3 2"),
    "ctx": Run("context_exhausted"),
    "editperm": OK._replace(tools="+write -"),
    "hang": Run("-", "provider_error 2 2"),
    "hdr_hang": Run("-", "provider_error 1 2"),
    "long": OK,
    "ok": OK,
    "otel": OK,
    "perm": OK,
    "resume": OK,
    "resume:resume": WORDS,
    "sigkill_tool": CUT,
    "sigterm_stream": Run("-"),
    "sigterm_tool": CUT,
    "slow": WORDS,
}


def summary(signs: list[Sign]) -> Run:
    finished, refused = of(Finished, signs), of(Refused, signs)
    ends = "-"
    if finished:
        failed = finished[-1].failure
        ends = failed.error_class.value if failed else ""
    classes = " ".join(sorted({sign.failure.error_class for sign in refused}))
    tools = [
        f"+{sign.name}" if isinstance(sign, ToolBegan) else "-" if sign.ok else "-!"
        for sign in signs
        if isinstance(sign, ToolBegan | ToolEnded)
    ]
    newest = {sign.key: sign.usage for sign in of(Used, signs)}.values()
    return Run(
        ends,
        f"{classes} {len(refused)} {refused[0].failure.retry_after:g}" if refused else "",
        " ".join(tools),
        (
            sum(used.input for used in newest),
            sum(used.output for used in newest),
            sum(used.cache_read for used in newest),
        ),
        round(sum(used.cost_usd or 0.0 for used in newest), 9),
    )


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_run_is_understood(name: str) -> None:
    signs = case(name)
    assert summary(signs) == GENUINE[name]
    assert not of(Unknown, signs)
    assert not of(Noise, signs)
    began = of(Began, signs)
    assert began[-1].model == "mock-model"
    assert len({sign.session for sign in began}) == 1
    assert len(began[0].session) == 36


def test_every_genuine_run_is_in_the_table() -> None:
    assert {path.name for path in (CORPUS / "pi").iterdir()} <= GENUINE.keys()


def test_a_resumed_run_keeps_its_session_and_counts_anew() -> None:
    first, second = case("resume"), case("resume:resume")
    assert of(Began, first)[0].session == of(Began, second)[0].session
    assert len(of(Used, second)) == 1


def test_pieces_of_an_answer_move_and_tell_each_word_once() -> None:
    words = "".join(sign.words for sign in of(Moved, case("ok")))
    assert words == "Done: the command printed hello-from-worker. Task complete. "
    assert end(case("ok")).words == words


def test_a_request_that_fails_moves_nothing() -> None:
    assert not of(Moved, case("429"))
    assert told(answer("error", "500: {}")) == [Lives()]
    assert told(answer("stop")) == [Moved()]


def test_a_failure_is_told_with_its_words_and_its_wait() -> None:
    failed = failure(case("429"))
    assert failed.message.startswith("429: ")
    assert failed.retry_after == 4.0


# --- what no genuine run shows ----------------------------------------------------------------------------------

USAGE = {"input": 5, "output": 7, "cacheRead": 9, "cacheWrite": 11, "cost": {"total": 0.5}}


def answer(stopped: str, error: str | None = None, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"type": "text", "text": "So."}], "stopReason": stopped, "model": "m"}
    return {"type": "message_end", "message": {**message, "errorMessage": error, **more}}


SETTLED: dict[str, Any] = {"type": "agent_settled"}

ERRORS = [
    ('429: {"code":"rate_limit_exceeded"}', "rate_limited"),
    ('429 {"type":"error","error":{"type":"rate_limit_error"}}', "rate_limited"),
    ('429: {"message":"You exceeded your current quota.","code":"insufficient_quota"}', "budget_exceeded"),
    ('401: {"code":"invalid_api_key"}', "auth_error"),
    ('403: {"message":"no"}', "auth_error"),
    ('402: {"message":"no"}', "budget_exceeded"),
    ('400: {"code":"context_length_exceeded"}', "context_exhausted"),
    ('500: {"code":"server_error"}', "provider_error"),
    ('529 {"error":{"type":"overloaded_error"}}', "provider_error"),
    ("terminated", "provider_error"),
    ("Request timed out.", "provider_error"),
    ("Connection error.", "provider_error"),
    ("something else", "provider_error"),
    ("No API key found for openai", "auth_error"),
    ("", "provider_error"),
    (None, "provider_error"),
]


@pytest.mark.parametrize(("error", "error_class"), ERRORS)
def test_a_failed_answer_is_classified_by_its_status_and_its_words(error: str | None, error_class: str) -> None:
    assert failure(told(answer("error", error), SETTLED)).error_class == error_class
    (sign,) = told({"type": "auto_retry_start", "errorMessage": error, "delayMs": 2000, "attempt": 1})
    assert isinstance(sign, Refused)
    assert sign.failure.error_class == error_class


def test_a_bad_request_is_not_repeated_for_long() -> None:
    failed = failure(told(answer("error", '400: {"message":"messages[1] is odd"}'), SETTLED))
    assert failed.error_class in (ErrorClass.CONFIG_INVALID, ErrorClass.INPUT_INVALID)


def test_the_longer_wait_is_the_true_one() -> None:
    events: list[dict[str, Any]] = [
        {"type": "auto_retry_start", "delayMs": delay, "errorMessage": f"429: try again in {asked}"}
        for delay, asked in ((2000, "3600s"), (8000, "4s"), (10**12, "4s"), (None, "4s"), (None, "a while"))
    ]
    waits = [sign.failure.retry_after for sign in of(Refused, told(*events))]
    assert waits == [3600.0, 8.0, 86_400.0, 4.0, None]


def test_a_refusal_that_was_overcome_is_no_failure() -> None:
    """Refused twice, then answered."""
    refused = {"type": "auto_retry_start", "attempt": 1, "maxAttempts": 3, "delayMs": 2000, "errorMessage": "429: {}"}
    overcome = {"type": "auto_retry_end", "success": True, "attempt": 1}
    signs = told(answer("error", "429: {}"), refused, answer("stop"), overcome, SETTLED)
    assert end(signs) == Finished(None, "So.")
    assert not of(Failing, signs)


def test_the_end_of_all_repetitions_is_told_before_the_end() -> None:
    (sign,) = told({"type": "auto_retry_end", "success": False, "attempt": 3, "finalError": "500: {}"})
    assert isinstance(sign, Failing)
    assert sign.failure.error_class is ErrorClass.PROVIDER_ERROR


@pytest.mark.parametrize(
    ("events", "error_class", "code"),
    [
        ([answer("aborted", "Request was aborted")], "worker_killed", "aborted"),
        ([answer("length")], "task_error", "length"),
        ([answer("toolUse")], "task_error", "toolUse"),
        ([answer("a word of a later version")], "task_error", "a word of a later version"),
        ([], "task_error", "no_answer"),
    ],
)
def test_only_a_last_answer_that_was_finished_is_success(
    events: list[dict[str, Any]], error_class: str, code: str
) -> None:
    failed = failure(told(*events, SETTLED))
    assert (failed.error_class, failed.code) == (error_class, code)
    assert failed.message


def test_a_message_counts_once_however_often_it_is_printed() -> None:
    message = answer("stop", usage=USAGE)["message"]
    signs = told(
        {"type": "message_start", "message": message},
        {"type": "message_end", "message": message},
        {"type": "turn_end", "message": message, "toolResults": []},
        {"type": "agent_end", "messages": [message], "willRetry": False},
    )
    assert of(Used, signs) == [Used(Usage(5, 7, 9, 11, 0.5, "m"), Scope.MESSAGE, "1")]


def test_messages_of_one_response_id_are_told_apart() -> None:
    """Servers of one's own give every answer the same."""
    signs = told(answer("toolUse", usage=USAGE, responseId="x"), answer("stop", usage=USAGE, responseId="x"))
    assert len({sign.key for sign in of(Used, signs)}) == 2


@pytest.mark.parametrize("cost", [None, {}, {"total": 0}, {"total": "x"}, 7])
def test_a_cost_of_nothing_for_tokens_is_not_known(cost: Any) -> None:
    (used,) = of(Used, told(answer("stop", usage={**USAGE, "cost": cost})))
    assert used.usage == Usage(5, 7, 9, 11, None, "m")


def test_a_failed_tool_tells_its_words() -> None:
    result = {"content": [{"type": "text", "text": "no such file"}]}
    events: list[dict[str, Any]] = [
        {"type": "tool_execution_start", "toolCallId": "t", "toolName": "read", "args": {"path": "x"}},
        {"type": "tool_execution_update", "toolCallId": "t", "partialResult": {"content": []}},
        {"type": "tool_execution_end", "toolCallId": "t", "toolName": "read", "result": result, "isError": True},
    ]
    assert told(*events) == [
        ToolBegan("t", "read", b'{"path": "x"}'),
        Lives(),
        ToolEnded("t", ok=False, words="no such file", name="read"),
    ]


def test_a_model_is_told_when_it_changes() -> None:
    started = {"type": "message_start", "message": {"role": "assistant", "model": "m"}}
    signs = told({"type": "session", "id": "s"}, started, started)
    assert signs == [Began("s"), Began("s", "m"), Moved(), Moved()]


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        (b'{"type":"message_update"}', Lives()),
        (b'{"type":"message_update","assistantMessageEvent":{"type":"thinking_delta","delta":"hm"}}', Moved()),
        (b'{"type":"message_update","assistantMessageEvent":{"type":"error"}}', Lives()),
        (b'{"type":"message_end","message":{"role":"user","usage":{"input":5}}}', Lives()),
        (b'{"type":"message_end"}', Lives()),
        (b'{"type":"compaction_start"}', Unknown("compaction_start")),
        (b'{"type":"' + b"x" * 500 + b'"}', Unknown("x" * 80)),
        (b"npm warn deprecated", Noise()),
        (b"7", Noise()),
        (b'{"level":"info"}', Noise()),
        (b'{"type":"agent_settled"', Noise()),
    ],
)
def test_a_line_that_is_not_known_is_counted(line: bytes, sign: Sign) -> None:
    assert read([line]) == [sign]


def test_an_empty_line_is_nothing() -> None:
    assert read([b"", b"  \r"]) == []


def test_standard_error_and_the_session_file_are_not_listened_to() -> None:
    reader = PiReader()
    assert [*reader.stderr(b"Error"), *reader.session(b"{}")] == []


def test_an_exit_after_sigterm_says_so() -> None:
    reader = PiReader()
    killed = reader.exit(143)
    assert killed is not None
    assert killed.error_class is ErrorClass.WORKER_KILLED
    assert reader.exit(1) is None


def test_half_a_character_costs_nothing() -> None:
    line = rb'{"type":"message_update","assistantMessageEvent":{"type":"text_delta","delta":"a\ud83d"}}'
    assert read([line]) == [Moved("a\ufffd")]


HAND_MADE = [
    json.dumps(event).encode()
    for event in (
        answer("error", "429: try again in 4s", usage=USAGE),
        {"type": "session", "id": "s"},
        {"type": "message_start", "message": {"role": "assistant", "model": "m", "stopReason": "pending"}},
        {"type": "message_update", "assistantMessageEvent": {"type": "text_delta", "delta": "x"}},
        {"type": "auto_retry_start", "attempt": 1, "maxAttempts": 3, "delayMs": 2000, "errorMessage": "500: {}"},
        {"type": "auto_retry_end", "success": False, "attempt": 3, "finalError": "500: {}"},
        {"type": "tool_execution_start", "toolCallId": "t", "toolName": "read", "args": {"path": "x"}},
        {"type": "tool_execution_end", "toolCallId": "t", "isError": True, "result": {"content": [{"text": "x"}]}},
        SETTLED,
    )
]


@given(mangled([*HAND_MADE, *genuine("pi")]))
@example(b'{"type":"auto_retry_start","delayMs":1e999,"attempt":1e999}')
@settings(max_examples=400)
def test_no_line_makes_it_raise(line: bytes) -> None:
    reader = PiReader()
    for signs in (reader.stdout(line), reader.stderr(line), reader.session(line), reader.stdout(HAND_MADE[-1])):
        assert all(isinstance(sign, get_args(Sign)) for sign in signs)


@pytest.mark.parametrize("odd", [7, "x", [], {}, None, True, [None], -1, 1.5])
@pytest.mark.parametrize("key", ["content", "model", "usage", "responseId"])
def test_a_field_of_a_wrong_type_costs_that_field_only(key: str, odd: Any) -> None:
    signs = told(answer("error", "401: no", **{key: odd}), SETTLED)
    assert failure(signs).error_class is ErrorClass.AUTH_ERROR
