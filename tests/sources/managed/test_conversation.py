"""One worker's conversation: what follows from each line, and what an end without a word means."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.model.managed import Artifact
from crewd.model.run import Lease, Usage
from crewd.sources.managed.conversation import (
    ARTIFACTS_MAX,
    HINT_MAX,
    NAMES_MAX,
    BadHeard,
    Conversation,
    LateHeard,
    ReadyHeard,
    TerminalHeard,
    TooManyBadLines,
    VersionRefused,
    contradicts,
    failure_of,
    failure_of_bad_lines,
    failure_of_startup,
    failure_of_stdin,
    failure_of_version,
    outcome_without_terminal,
    restore,
)
from crewd.sources.managed.framing import TOO_LONG, Lines
from crewd.sources.managed.messages import Chunk, Error, Log, Result

ID = "run/task/1"
READY = b'{"type":"ready","protocol":"crewd-worker/1","heartbeat_interval_s":2}'


def line(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, "id": ID, **fields}).encode()


def talk(*lines: bytes, ready: bool = True, now: float = 100.0, **options: Any) -> tuple[Conversation, list[Any]]:
    return restore(ID, [READY, *lines] if ready else lines, now, **options)


# --- the cases of the protocol


def test_w1_ready_heartbeat_result() -> None:
    said, heard = talk(line("heartbeat", seq=1), line("result", output="done"))
    assert heard == [ReadyHeard(2.0), TerminalHeard(Result(ID, "done"))]
    assert (said.is_ready, said.heartbeat_interval, said.terminal) == (True, 2.0, Result(ID, "done"))
    assert (said.bad_lines, said.late, said.output_size) == (0, 0, 4)


def test_w2_a_result_wins_over_the_exit_status() -> None:
    assert contradicts(Result(ID), Exit(code=3))
    assert contradicts(Result(ID), Exit(signal=15))
    assert not contradicts(Result(ID), Exit(code=0))
    assert not contradicts(Result(ID), Exit())
    assert not contradicts(Error(ID, "timeout"), Exit(code=0))
    assert not contradicts(Error(ID, "timeout"), Exit(code=1))


@pytest.mark.parametrize(
    ("exit", "error_class", "code"),
    [
        (Exit(code=0), ErrorClass.PROTOCOL_ERROR, "no_result"),
        (Exit(code=1), ErrorClass.WORKER_CRASH, ""),
        (Exit(code=255), ErrorClass.WORKER_CRASH, ""),
        (Exit(signal=9), ErrorClass.WORKER_KILLED, ""),
        (Exit(), ErrorClass.WORKER_KILLED, "no_status"),
    ],
)
def test_w4_w5_an_end_without_a_word(exit: Exit, error_class: ErrorClass, code: str) -> None:
    failure = outcome_without_terminal(exit)
    assert (failure.error_class, failure.code) == (error_class, code)
    assert failure.message


def test_w7_no_ready_tells_of_the_noise_there_was_instead() -> None:
    said, _ = talk(b"booting", ready=False)
    failure = failure_of_startup(said, 1.0)
    assert (failure.error_class, failure.code) == (ErrorClass.PROTOCOL_ERROR, "startup_timeout")
    assert failure.message == "no ready within 1 s; 1 bad lines meanwhile"
    assert failure_of_startup(Conversation(ID), 1.5).message == "no ready within 1.5 s"


def test_w8_another_protocol_is_refused_and_not_tried_again() -> None:
    said, heard = talk(b'{"type":"ready","protocol":"crewd-worker/2"}', line("result"), ready=False)
    assert heard == [VersionRefused("crewd-worker/2")]
    assert (said.is_ready, said.is_refused, said.terminal) == (False, True, None)
    failure = failure_of_version(heard[0])
    assert (failure.error_class, failure.code, failure.retryable) == (ErrorClass.PROTOCOL_ERROR, "version", False)


def test_w9_unknown_types_are_ignored_and_counted() -> None:
    said, heard = talk(b'{"type":"sparkle"}', b'{"type":"sparkle"}', line("result"))
    assert heard[1:] == [TerminalHeard(Result(ID))]
    assert said.messages == {"ready": 1, "unknown": 2, "result": 1}
    assert said.unknown == {"sparkle": 2}
    assert said.bad_lines == 0


def test_unknown_types_do_not_pile_up() -> None:
    said, _ = talk(*(b'{"type":"t%d"}' % number for number in range(1000)))
    assert len(said.unknown) == NAMES_MAX + 1
    assert said.unknown["other"] == 1000 - NAMES_MAX


def test_w10_three_lines_of_plain_text_are_forgiven_and_with_a_limit_of_two_they_are_not() -> None:
    noise = [b"starting", b"loading", b"done"]
    said, heard = talk(*noise, line("result"))
    assert said.bad == {"bad_json": 3}
    assert [type(each) for each in heard] == [ReadyHeard, BadHeard, BadHeard, BadHeard, TerminalHeard]
    said, heard = talk(*noise, line("result"), bad_lines_max=2)
    assert [type(each) for each in heard] == [ReadyHeard, BadHeard, BadHeard, TooManyBadLines]
    assert (said.terminal, said.is_refused) == (None, True)
    failure = failure_of_bad_lines(heard[-1])
    assert (failure.error_class, failure.code) == (ErrorClass.PROTOCOL_ERROR, "bad_lines")
    assert "2 bad lines on stdout (bad_json 2)" in failure.message


def test_the_tenth_bad_line_is_the_last_straw() -> None:
    said, _heard = talk(*[b"noise"] * 9)
    assert not said.is_refused
    assert said.hear(b"noise", 1.0)[-1] == TooManyBadLines(10, {"bad_json": 10}, "not JSON: 'noise'")
    assert said.hear(b"noise", 1.0) == []
    assert said.hear(line("result"), 1.0) == []


def test_w11_a_line_that_is_too_long_is_one_bad_line() -> None:
    lines = Lines()
    data = READY + b"\n" + b"x" * (2 << 20) + b"\n" + line("result", output=1) + b"\n"
    said, heard = restore(ID, lines.feed(data), 0.0)
    assert said.bad == {"line_too_long": 1}
    assert said.terminal == Result(ID, 1)
    assert len(heard) == 3


def test_w12_line_separators_and_carriage_returns() -> None:
    text = "one\u2028two"
    data = READY + b"\r\n" + json.dumps({"type": "result", "id": ID, "output": text}, ensure_ascii=False).encode()
    said, _ = restore(ID, Lines().feed(data + b"\r\n"), 0.0)
    assert said.terminal == Result(ID, text)


def test_w13_each_fault_of_a_line_is_counted_by_its_kind() -> None:
    deep = b'{"a":' * 100 + b"1" + b"}" * 100
    faults = [line("result", output=float("nan")), b'{"type":"pong","type":"pong"}', b"[]", deep, b"\xff", TOO_LONG]
    said, _ = talk(*faults)  # type: ignore[arg-type]
    assert said.bad == dict.fromkeys(
        ("nan", "duplicate_key", "not_object", "too_deep", "bad_utf8", "line_too_long"), 1
    )
    assert said.terminal is None


def test_w16_plain_output_is_no_sign_of_life() -> None:
    said, _ = talk(line("heartbeat", seq=1))
    before = (said.seq, said.moves, said.heard_at)
    said.hear(b"still working", 200.0)
    said.hear(b'{"type":"sparkle"}', 200.0)
    assert (said.seq, said.moves, said.heard_at) == before


def test_w22_a_rate_limit_says_when_to_come_back() -> None:
    said, _ = talk(line("error", **{"class": "rate_limited", "message": "429", "retry_after_s": 7}))
    assert isinstance(said.terminal, Error)
    assert failure_of(said.terminal) == Failure(ErrorClass.RATE_LIMITED, "429", retry_after=7.0)


@pytest.mark.parametrize(("told", "kept"), [(-5, 0.0), (0, 0.0), (7.5, 7.5), (1e9, 86_400.0), (None, None)])
def test_retry_after_is_kept_within_a_day(told: float | None, kept: float | None) -> None:
    assert failure_of(Error(ID, "rate_limited", retry_after_s=told)).retry_after == kept


def test_w24_missing_fields_become_guidance() -> None:
    error = Error(ID, "output_invalid", guidance="Fill all in.", details={"missing_fields": ["priority", 7, "owner"]})
    failure = failure_of(error)
    assert failure.error_class is ErrorClass.OUTPUT_INVALID
    assert failure.guidance == "Fill all in. The output lacks: priority, owner."
    assert failure_of(Error(ID, "output_invalid", details={"missing_fields": "priority"})).guidance == ""


def test_w26_output_is_counted_from_chunks_and_result() -> None:
    said, _ = talk(line("result", output=""))
    assert said.output_size == 0
    said, _ = talk(
        line("chunk", text="é"), line("chunk", text="xx", stream="stderr"), line("result", output={"a": 1})
    )
    assert said.output_size == 2 + 7


def test_w28_a_worker_that_was_cancelled_says_so() -> None:
    assert failure_of(Error(ID, "cancelled")).error_class is ErrorClass.CANCELLED


def test_w34_a_bool_is_no_number() -> None:
    said, _ = talk(line("heartbeat", seq=True))
    assert said.bad == {"bad_field": 1}


def test_stdin_that_is_not_read_is_a_protocol_error() -> None:
    failure = failure_of_stdin(30.0)
    assert (failure.error_class, failure.code) == (ErrorClass.PROTOCOL_ERROR, "stdin_timeout")


# --- places


def test_a_class_that_crewd_does_not_know_is_unknown_and_kept() -> None:
    failure = failure_of(Error(ID, "weird", "two\nlines", details={"a": 1}))
    assert failure == Failure(ErrorClass.UNKNOWN, "two lines", details={"a": 1, "class": "weird"})


def test_every_class_of_crewd_may_be_told() -> None:
    for each in ErrorClass:
        assert failure_of(Error(ID, each.value, retryable=True)) == Failure(each, retryable=True)


def test_the_first_terminal_message_wins() -> None:
    said, heard = talk(line("result", output=1), line("result", output=2), line("error", **{"class": "timeout"}))
    assert heard[1:] == [
        TerminalHeard(Result(ID, 1)),
        LateHeard(Result(ID, 2)),
        LateHeard(Error(ID, "timeout")),
    ]
    assert (said.terminal, said.late) == (Result(ID, 1), 2)


def test_what_comes_after_the_terminal_message_changes_nothing() -> None:
    said, _ = talk(line("usage", input_tokens=1), line("busy", until_s=900), line("result", output="x"))
    before = (said.seq, said.moves, said.usage, said.artifacts, said.step, said.hint, said.output_size)
    for each in (
        line("heartbeat", seq=9, step="late"), line("usage", input_tokens=9), line("artifact", path="late"),
        line("chunk", text="late"), line("log", msg="late"), line("busy", until_s=9),
    ):  # fmt: skip
        assert said.hear(each, 200.0) == []
    after = (said.seq, said.moves, said.usage, said.artifacts, said.step, said.hint, said.output_size)
    assert (after, said.lease(200.0), said.late) == (before, None, 0)


def test_noise_after_the_terminal_message_cannot_refuse_it() -> None:
    said, heard = talk(line("result", output=1), *[b"noise"] * 50)
    assert said.terminal == Result(ID, 1)
    assert not said.is_refused
    assert not any(isinstance(each, TooManyBadLines) for each in heard)


@pytest.mark.parametrize(
    "fields",
    [
        ("heartbeat", {"seq": 1}),
        ("busy", {"until_s": 1}),
        ("chunk", {"text": "x"}),
        ("artifact", {"path": "x"}),
        ("usage", {}),
        ("result", {"output": 1}),
        ("error", {"class": "timeout"}),
    ],
)
def test_a_message_about_another_attempt_is_a_bad_line(fields: tuple[str, dict[str, Any]]) -> None:
    kind, others = fields
    said, heard = talk(line(kind, **{**others, "id": "run/task/2"}))
    assert (said.bad, said.seq, said.terminal) == ({"wrong_id": 1}, 1, None)
    assert isinstance(heard[-1], BadHeard) and "run/task/2" in heard[-1].words


def test_before_ready_only_a_log_is_heard() -> None:
    said, heard = talk(line("log", msg="importing"), line("result"), b'{"type":"pong"}', ready=False)
    assert said.bad == {"before_ready": 2}
    assert isinstance(heard[0], Log)
    assert said.terminal is None


def test_a_second_ready_is_a_bad_line_and_changes_nothing() -> None:
    said, _ = talk(b'{"type":"ready","protocol":"crewd-worker/9"}')
    assert (said.bad, said.is_refused, said.heartbeat_interval) == ({"ready_again": 1}, False, 2.0)


# --- life and work


def test_heartbeats_prove_life_and_only_progress_proves_work() -> None:
    said, _ = talk()
    seen = [(said.seq, said.moves)]
    for beat in (
        line("heartbeat", seq=1),
        line("heartbeat", seq=2),
        line("heartbeat", seq=2),  # an echo
        line("heartbeat", seq=3, step="link"),
        line("heartbeat", seq=4, step="link"),
        line("heartbeat", seq=5),  # a bare one takes nothing back
        line("heartbeat", seq=6, step="link", progress=0.5),
        line("heartbeat", seq=7, step="link", progress=0.5),
        line("heartbeat", seq=7, step="link", progress=0.6),
        b'{"type":"pong"}',
        line("busy", until_s=0),
    ):
        said.hear(beat, 1.0)
        seen.append((said.seq, said.moves))
    assert [later[0] - sooner[0] for sooner, later in itertools.pairwise(seen)] == [
        1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1,
    ]  # fmt: skip
    assert [later[1] - sooner[1] for sooner, later in itertools.pairwise(seen)] == [
        0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0,
    ]  # fmt: skip
    assert (said.step, said.progress) == ("link", "0.6")


@pytest.mark.parametrize("kind", ["chunk", "log", "artifact", "usage"])
def test_output_and_cost_prove_work(kind: str) -> None:
    said, _ = talk()
    before = said.moves
    said.hear(line(kind, text="x", msg="x", path="x"), 7.0)
    assert (said.moves, said.heard_at) == (before + 1, 7.0)


def test_a_lease_runs_out_is_replaced_and_taken_back() -> None:
    said, _ = talk(line("busy", until_s=60, tool="make"), now=100.0)
    assert said.lease(100.0) == Lease(60.0, "make")
    said.hear(line("heartbeat", seq=1), 110.0)
    assert said.lease(130.0) == Lease(30.0, "make")
    assert said.lease(160.0) is None
    said.hear(line("busy", until_s=1e9, tool="sleep"), 200.0)
    assert said.lease(200.0) == Lease(86_400.0, "sleep")
    said.hear(line("busy", until_s=0), 201.0)
    assert said.lease(201.0) is None


def test_usage_adds_up_per_model_and_over_all() -> None:
    said, _ = talk(
        line("usage", model="small", input_tokens=10, output_tokens=1, cost_usd=0.5),
        line("usage", model="large", input_tokens=100, cache_read_tokens=7),
        line("usage", model="small", input_tokens=5, cache_write_tokens=3, cost_usd=0.25),
    )
    assert said.usage_by_model["small"] == Usage(15, 1, 0, 3, 0.75, "small")
    assert said.usage_by_model["large"] == Usage(100, 0, 7, 0, None, "large")
    assert said.usage == Usage(115, 1, 7, 3, 0.75, "large")
    assert talk()[0].usage is None


def test_models_beyond_a_few_are_counted_together() -> None:
    said, _ = talk(*(line("usage", model=f"m{number}", input_tokens=1) for number in range(100)))
    assert len(said.usage_by_model) == NAMES_MAX + 1
    assert said.usage_by_model["other"].input == 100 - NAMES_MAX
    assert said.usage is not None and said.usage.input == 100


def test_the_newest_word_about_an_artifact_counts() -> None:
    said, _ = talk(
        line("artifact", path="a", bytes=1), line("artifact", path="b"), line("artifact", path="a", bytes=2)
    )
    assert said.artifacts == (Artifact("a", bytes=2), Artifact("b"))


def test_artifacts_do_not_pile_up() -> None:
    said, _ = talk(*(line("artifact", path=f"p{number}") for number in range(ARTIFACTS_MAX + 5)))
    assert (len(said.artifacts), said.artifacts_dropped) == (ARTIFACTS_MAX, 5)


def test_chunks_and_logs_are_told_and_their_end_is_kept_as_a_hint() -> None:
    said, heard = talk(
        line("chunk", text="half a "), line("chunk", text="line\n"), line("log", msg="stuck", level="warn")
    )
    assert heard[1:] == [Chunk(ID, "half a "), Chunk(ID, "line\n"), Log("stuck", "warn")]
    assert said.hint == "half a line\nstuck\n"
    said.hear(line("chunk", text="word " * 10_000 + "end"), 1.0)
    assert len(said.hint) <= HINT_MAX
    assert said.hint.endswith("word end")


# --- replay, and whatever bytes there are

SAYINGS = st.sampled_from(
    [
        READY, b'{"type":"ready","protocol":"x"}', b"noise", b"", b"\xff\x00", b'{"type":"sparkle"}', b"x" * 300,
        line("heartbeat", seq=1), line("heartbeat", seq=2, progress={"a": [1]}), line("busy", until_s=5, tool="t"),
        line("chunk", text="a\u2028b"), line("log", msg="m"), line("artifact", path="p"), b'{"type":"pong"}',
        line("usage", model="m", input_tokens=3, cost_usd=0.5), line("result", output=1), line("error", id="other"),
        line("error", **{"class": "timeout"}), b'{"a":1,"a":2}', b"[" * 70, line("result", id="run/task/2"),
    ]
)  # fmt: skip


def state_of(said: Conversation) -> dict[str, Any]:
    return dict(vars(said))


def hear_all(data: bytes, sizes: list[int]) -> tuple[dict[str, Any], list[Any]]:
    """Hear a stream in pieces of these sizes, over and over, up to its end."""
    said, lines, heard, at, turn = Conversation(ID), Lines(200), [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        for each in lines.feed(data[at : at + size]):
            heard += said.hear(each, 5.0)
        at, turn = at + size, turn + 1
    if rest := lines.rest():
        heard += said.hear(rest, 5.0)
    return state_of(said), heard


@given(
    st.lists(SAYINGS | st.binary(max_size=40), max_size=25),
    st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
    st.lists(st.integers(1, 90), min_size=1, max_size=5),
)
def test_the_same_bytes_make_the_same_conversation_however_they_arrive(
    sayings: list[bytes], newline: bytes, sizes: list[int]
) -> None:
    data = newline.join(sayings)
    whole = hear_all(data, [max(1, len(data))])
    assert hear_all(data, sizes) == whole
    assert hear_all(data, [1]) == whole


@given(st.lists(SAYINGS, max_size=25))
def test_one_terminal_message_at_most_and_silence_after_a_refusal(sayings: list[bytes]) -> None:
    said, heard = restore(ID, sayings, 0.0)
    terminal = [each for each in heard if isinstance(each, TerminalHeard)]
    refusals = [each for each in heard if isinstance(each, VersionRefused | TooManyBadLines)]
    assert len(terminal) + len(refusals) <= 1
    assert (said.terminal is not None) == bool(terminal)
    assert said.is_refused == bool(refusals)
    assert not refusals or heard[-1] == refusals[0]
    assert said.bad_lines == sum(said.bad.values())
    assert said.moves <= said.seq


@given(st.lists(SAYINGS, max_size=25))
def test_a_replay_knows_what_was_known_and_counts_nothing_twice(sayings: list[bytes]) -> None:
    lived = Conversation(ID)
    told = [heard for each in sayings for heard in lived.hear(each, 9.0)]
    again, retold = restore(ID, sayings, 9.0)
    assert (state_of(again), retold) == (state_of(lived), told)
