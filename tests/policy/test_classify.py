"""Classification: what real and invented ends of attempts say, and what must not be read into them."""

import json
import math
import signal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.action import Ended
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import Success
from crewd.policy.classify import NO_RECORD, UNDIAGNOSED, classify
from crewd.policy.handling import handling_of
from crewd.policy.last_words import MESSAGE_MAX, TAIL_MAX, wait_in
from crewd.policy.retry import RETRY_AFTER_MAX
from tests.genuine_agents import CORPUS

PLAIN = Success()
TRACEBACK = (
    'Traceback (most recent call last):\n  File "t.py", line 3, in <module>\n    assert done\nAssertionError\n'
)


def classified(ended: Ended, terminal: Failure | None = None, success: Success = PLAIN) -> Failure:
    failure = classify(ended, success, terminal)
    assert failure is not None
    return failure


def class_of(stderr: str, code: int = 1) -> str:
    return classified(Ended(code=code, stderr_tail=stderr)).error_class


@pytest.mark.parametrize(
    ("ended", "error_class"),
    [
        (Ended(code=1, stderr_tail=TRACEBACK), "worker_crash"),  # E1
        (Ended(code=1, stderr_tail="Traceback ... AssertionError"), "worker_crash"),  # E1
        (Ended(code=127, stderr_tail="sh: 1: command not found: claude"), "spawn_failed"),  # E5
        (Ended(code=126, stderr_tail="sh: ./run: Permission denied"), "spawn_failed"),
        (Ended(code=1, stderr_tail="401 Unauthorized: token expired"), "auth_error"),  # E6
        (Ended(code=1, stderr_tail="tar: x: Cannot write: No space left on device"), "disk_full"),  # E7
        (Ended(signal=9), "worker_killed"),  # E8
        (Ended(code=1, stderr_tail="API error: connection reset"), "provider_error"),  # E10
        (Ended(code=1, stderr_tail="something went wrong"), "unknown"),  # E11
        (Ended(code=1), "unknown"),  # E11
        (Ended(code=1, stderr_tail="Error: timed out waiting for response"), "timeout"),  # E12
        (Ended(code=1, stderr_tail="HTTP 503"), "provider_error"),  # E13
        (Ended(code=1, stderr_tail="billing quota exhausted"), "budget_exceeded"),  # E13
    ],
)
def test_an_attempt_without_a_structured_word_is_known_by_its_end(ended: Ended, error_class: str) -> None:
    failure = classified(ended)
    assert failure.error_class == error_class
    assert failure.message
    assert failure.guidance == handling_of(failure.error_class).guidance


def test_an_exit_that_the_task_declares_as_its_own_failure_is_one() -> None:  # E1
    tests_red = Success(task_error_codes=(1, 127))
    for ended in (Ended(code=1, stderr_tail=TRACEBACK), Ended(code=127), Ended(code=1, stderr_tail="HTTP 503")):
        assert classified(ended, success=tests_red).error_class == "task_error"
    assert classified(Ended(code=2, stderr_tail=TRACEBACK), success=tests_red).error_class == "worker_crash"


@pytest.mark.parametrize("tail", ["Process finished with exit code 0", "429 rate limit", TRACEBACK, "HTTP 503"])
def test_words_of_an_attempt_that_succeeded_mean_nothing(tail: str) -> None:  # E2
    assert classify(Ended(code=0, stderr_tail=tail, stdout_tail=tail), PLAIN, None) is None
    assert classify(Ended(code=3, stderr_tail=tail), Success(exit_codes=(0, 3)), None) is None


def test_the_workers_structured_word_wins_over_everything_else() -> None:  # E14
    said = Failure(ErrorClass.INPUT_INVALID, "no such repository", code="x", retryable=True, retry_after=3.0)
    ends = [
        Ended(code=1, stderr_tail="HTTP 429 Too Many Requests"),
        Ended(code=0),
        Ended(signal=9),
        Ended(code=127),
        Ended(code=1, stopped_for=ErrorClass.TIMEOUT),
    ]
    for ended in ends:
        failure = classified(ended, said)
        assert (failure.error_class, failure.message, failure.code) == ("input_invalid", "no such repository", "x")
        assert (failure.retryable, failure.retry_after) == (True, 3.0)


def test_what_the_worker_left_out_is_filled_in() -> None:
    ended = Ended(code=1, stderr_tail="first\nthe schema wants a list\n")
    failure = classified(
        ended, Failure(ErrorClass.OUTPUT_INVALID, details={"missing_fields": ["priority", 7, "due"]})
    )
    assert failure.message == "the schema wants a list"
    assert failure.guidance == handling_of(ErrorClass.OUTPUT_INVALID).guidance + " Missing: priority, due."
    own = classified(
        ended, Failure(ErrorClass.OUTPUT_INVALID, guidance="Look here.", details={"missing_fields": "x"})
    )
    assert own.guidance == "Look here."
    odd = classified(ended, Failure(ErrorClass.OUTPUT_INVALID, details={"missing_fields": "priority"}))
    assert odd.guidance == handling_of(ErrorClass.OUTPUT_INVALID).guidance


@pytest.mark.parametrize(
    ("named", "message", "waited"),
    [
        (7.0, "", 7.0),
        (None, "slow down, try again in 12s", 12.0),
        (3.0, "try again in 12s", 3.0),
        (math.nan, "", None),
        (-1.0, "", None),
        (math.inf, "", RETRY_AFTER_MAX),
        (None, "", None),
    ],
)
def test_the_wait_that_a_worker_names_is_a_number_of_seconds(
    named: float | None, message: str, waited: float | None
) -> None:
    said = Failure(ErrorClass.RATE_LIMITED, message, retry_after=named)
    assert classified(Ended(code=1), said).retry_after == waited


def test_why_crewd_ended_an_attempt_is_what_crewd_knows() -> None:
    ended = Ended(
        code=0, stderr_tail="429 Too Many Requests", stopped_for=ErrorClass.TIMEOUT, stopped_why="600 s are over"
    )
    for terminal in (None, Failure(ErrorClass.CANCELLED, "stopped as asked")):
        failure = classified(ended, terminal)
        assert (failure.error_class, failure.message) == ("timeout", "600 s are over")
    by_itself = classified(Ended(code=0), Failure(ErrorClass.CANCELLED, "the user left"))
    assert by_itself.error_class == "cancelled"


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 13, 15])
def test_a_shell_that_passes_a_signal_on_as_its_exit_status_is_understood(number: int) -> None:
    for ended in (Ended(signal=number), Ended(code=128 + number, stderr_tail="401 Unauthorized")):
        failure = classified(ended)
        assert failure.error_class == "worker_killed"
        assert signal.Signals(number).name in failure.message


@pytest.mark.parametrize("code", [145, 144, 173, 244, 247, 255])
def test_an_http_status_that_was_cut_to_a_byte_is_no_signal(code: int) -> None:
    assert class_of("something went wrong", code) == "unknown"
    assert class_of("status: 401", code) == "auth_error"


def test_the_last_words_of_a_killed_worker_are_kept() -> None:
    failure = classified(Ended(signal=9, stderr_tail="loading the index\n"))
    assert failure.message == "ended by SIGKILL; its last words: loading the index"
    assert classified(Ended(signal=35)).message == "ended by signal 35"


def test_an_end_that_nobody_recorded_is_a_kill() -> None:
    failure = classified(Ended(stderr_tail="HTTP 503"))
    assert (failure.error_class, failure.code) == ("worker_killed", NO_RECORD)


@pytest.mark.parametrize("tail", ["", "\n \r\n\t\n", "\x00\x00", "\x1b[31m\x1b[0m\n"])
def test_a_failure_without_a_word_is_marked_as_undiagnosed(tail: str) -> None:
    failure = classified(Ended(code=1, stderr_tail=tail))
    assert (failure.error_class, failure.code) == ("unknown", UNDIAGNOSED)
    assert failure.message == "exit status 1, and not a word of why"
    assert classified(Ended(code=1, stderr_tail="x")).code == ""


RATE_LIMITED = [
    "HTTP 429",
    "429 Too Many Requests",
    "status 429",
    "status: 429",
    '{"error":{"code":429,"message":"Resource has been exhausted"}}',
    "HTTP/1.1 429",
    "openai.RateLimitError: Error code: 429 - {'error': {'message': 'slow down'}}",
    "httpx.HTTPStatusError: Client error '429 Too Many Requests' for url 'https://api.example/v1'",
    "rate limit exceeded: please slow down",
    "Rate limit reached for model",
    "You've hit your 5-hour limit - resets 2:59am (UTC)",
    "You exceeded your current quota. Please retry in 34.074824224s.",
    "Quota exceeded for requests per minute\nSuggested retry after 4s.",
    "\x1b[31mError:\x1b[0m \x1b[1m429\x1b[0m Too Many Requests",
]
AUTH = [
    "HTTP 401",
    "403 Forbidden",
    "curl: (22) The requested URL returned error: 401",
    "Invalid API key provided",
    "Not logged in · Please run /login",
    "Missing environment variable: `MOCK_API_KEY`.",
    "you must specify the GEMINI_API_KEY environment variable.",
    "git@example.org: Permission denied (publickey).",
    "fatal: Authentication failed for 'https://example.org/x.git'",
    "OAuth token has expired",
]
PROVIDER = [
    "HTTP 500",
    "Error code: 529 - overloaded",
    "HTTP Error 503: Service Unavailable",
    "502 Bad Gateway",
    "504 Gateway Timeout",
    "The model is overloaded. Please try again later.",
    "connect ECONNREFUSED 127.0.0.1:8080",
    "requests.exceptions.ConnectionError: Connection refused",
    "curl: (6) Could not resolve host: api.example",
    "TypeError: fetch failed",
    "stream disconnected before completion: idle timeout waiting for SSE",
    "ssh: connect to host x port 22: Connection timed out",
]
CONTEXT = [
    "Prompt is too long",
    "This model's maximum context length is 8192 tokens",
    "The input token count (1200345) exceeds the maximum number of tokens allowed (1048576).",
    "ran out of room in the model's context window",
    "your input exceeds the context window of this model",
    '"code": "context_length_exceeded"',
]
OTHERS = [
    ("disk_full", "OSError: [Errno 28] No space left on device: 'x'"),
    ("disk_full", "write ENOSPC"),
    ("disk_full", "cp: error writing 'x': Disk quota exceeded"),
    ("disk_full", "sqlite3.OperationalError: database or disk is full"),
    ("budget_exceeded", "Error code: 429 - {'type': 'insufficient_quota', 'message': 'You exceeded your quota'}"),
    ("budget_exceeded", "Your credit balance is too low to access the API"),
    ("budget_exceeded", "You exceeded your current quota, please check your plan and billing details."),
    ("timeout", "TimeoutError"),
    ("timeout", "context deadline exceeded"),
    ("task_error", '{"subtype":"error_max_turns","errors":["Reached maximum number of turns (3)"]}'),
    ("worker_killed", "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"),
    ("worker_crash", "Segmentation fault (core dumped)"),
    ("worker_crash", "thread 'main' panicked at src/main.rs:3:5"),
    ("worker_crash", "panic: runtime error: index out of range"),
    ("worker_crash", "TypeError: x is not a function"),
]
NOTHING = [
    "wrote 429 rows",
    "status: 4290",
    "http 50123",
    "line 503: unexpected token",
    "FAILED tests/test_rate_limit.py::test_429 - 1 failed",
    "FAILED tests/test_billing.py::test_quota",
    "assert response.status_code == 500",
    "port 8401 is in use",
    "see the section on rate limits",
    "1401 errors",
    "the context window was resized",
    "Error: expected 401 lines",
    "v5.0.3 is not supported",
    "option timeout is deprecated",
]


@pytest.mark.parametrize(
    ("error_class", "words"),
    [
        *(("rate_limited", words) for words in RATE_LIMITED),
        *(("auth_error", words) for words in AUTH),
        *(("provider_error", words) for words in PROVIDER),
        *(("context_exhausted", words) for words in CONTEXT),
        *OTHERS,
        *(("unknown", words) for words in NOTHING),
    ],
)
def test_words_name_a_class_only_where_they_mean_it(error_class: str, words: str) -> None:
    assert class_of(f"starting up\n{words}\n") == error_class
    assert class_of(f"starting up\r\n  {words}  \r\n\r\n") in (error_class, "unknown")


def test_the_last_complaint_decides() -> None:
    assert class_of("HTTP 429, trying again\nworking\n401 Unauthorized\ngiving up\n") == "auth_error"


def test_older_complaints_above_a_crash_do_not_explain_it() -> None:
    assert class_of(f"HTTP 429, trying again\n{TRACEBACK}") == "worker_crash"


def test_a_crash_belongs_to_the_cause_that_python_prints_above_it() -> None:
    cause = TRACEBACK.replace("AssertionError", "openai.RateLimitError: Error code: 429")
    joint = "\nThe above exception was the direct cause of the following exception:\n\n"
    crash = TRACEBACK.replace("AssertionError", "RuntimeError: the model call failed")
    assert class_of(cause + joint + crash) == "rate_limited"
    assert class_of("HTTP 429\n" + TRACEBACK + joint + crash) == "worker_crash"


def test_complaints_long_ago_are_not_read() -> None:
    assert class_of("HTTP 429\n" + "working\n" * 100) == "unknown"


def test_standard_output_counts_only_where_the_standard_error_says_nothing() -> None:
    out = '{"type":"turn.failed","error":{"message":"exceeded retry limit, last status: 429 Too Many Requests"}}\n'
    for stderr in ("", "\n", "Reading additional input from stdin...\n"):
        failure = classified(Ended(code=1, stderr_tail=stderr, stdout_tail=out))
        assert (failure.error_class, failure.message) == (
            "rate_limited",
            "exceeded retry limit, last status: 429 Too Many Requests",
        )
    assert classified(Ended(code=1, stderr_tail="oh no", stdout_tail=out)).error_class == "unknown"


def test_what_a_worker_worked_on_is_not_taken_for_its_own_failure() -> None:
    out = "the README says: HTTP 429 Too Many Requests\n" + "a line of work\n" * 6
    assert classified(Ended(code=1, stdout_tail=out)).error_class == "unknown"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("retry after 7s", 7.0),
        ("Please try again in 3.5s.", 3.5),
        ("Please retry in 34.074824224s", 34.074824224),
        ("Retry-After: 30", 30.0),
        ("retry_after=30", 30.0),
        ('"retryDelay":"4s"', 4.0),
        ("try again in 250ms", 0.25),
        ("try again in 1m3.5s", 63.5),
        ("try again in 2 minutes", 120.0),
        ("wait for 1 hour", 3600.0),
        ("try again in 1h 2m 3s", 3723.0),
        ("retry after 4s, then retry after 5s", 5.0),
        ("retry after 9999999 s", RETRY_AFTER_MAX),
        ("Retry-After: 1800000000", 0.0),  # a wall time
        ("Retrying after 5594ms", 0.0),  # its own decision
        ("retry later", 0.0),
        ("retry after 7 xs", 7.0),
        ("retry after 7x", 0.0),
        ("entry after 7s", 0.0),
    ],
)
def test_a_wait_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert wait_in(text) == pytest.approx(seconds)


def test_a_wait_counts_for_what_passes_by_waiting_and_for_nothing_else() -> None:
    limited = classified(Ended(code=1, stderr_tail="try again in 7s\nstatus: 429\n}"))
    assert (limited.error_class, limited.retry_after) == ("rate_limited", 7.0)
    far = classified(Ended(code=1, stderr_tail="try again in 7s\n" + "at x\n" * 20 + "status: 429\n}"))
    assert (far.error_class, far.retry_after) == ("rate_limited", None)
    crash = classified(Ended(code=1, stderr_tail=f"retry after 7s\n{TRACEBACK}"))
    assert (crash.error_class, crash.retry_after) == ("worker_crash", None)


def test_the_message_is_the_line_that_tells_most() -> None:
    stack = "ApiError: Quota exceeded, please retry in 4s\n    at async call (file:///x.js:1:2) {\n  status: 429\n}\n"
    assert classified(Ended(code=1, stderr_tail=stack)).message == "ApiError: Quota exceeded, please retry in 4s"
    assert classified(Ended(code=1, stderr_tail="  status: 429\n}")).message == "status: 429"


def test_of_a_long_line_the_message_shows_what_is_around_the_telling_words() -> None:
    message = classified(Ended(code=1, stderr_tail="x" * 900 + " HTTP 503 from the gateway " + "y" * 900)).message
    assert len(message) == MESSAGE_MAX
    assert "HTTP 503 from the gateway" in message


def test_no_message_is_longer_than_a_line_for_a_person() -> None:
    for ended in (
        Ended(code=1, stopped_for=ErrorClass.TIMEOUT, stopped_why="y" * 9_000),
        Ended(signal=9, stderr_tail="x" * 9_000),
        Ended(code=1, stderr_tail="x" * 9_000),
    ):
        assert len(classified(ended).message) == MESSAGE_MAX
    assert len(classified(Ended(code=1), Failure(ErrorClass.TASK_ERROR, "z" * 9_000)).message) == MESSAGE_MAX


def test_a_message_is_one_line_without_control_characters() -> None:
    tail = "\x1b[1mfatal\x1b[0m:\tHTTP\u2028503 \x07\x00\udcff ok\n"
    assert classified(Ended(code=1, stderr_tail=tail)).message == "fatal: HTTP 503 ok"


HOSTILE = {
    "one letter": "a" * 65_536,
    "newlines": "\n" * 65_536,
    "nothing": "\0" * 65_536,
    "statuses": "status " * 9_000,
    "numbers": "429 " * 16_000,
    "quotas": "quota billing " * 4_600,
    "waits": "quota exceeded wait 1h1m1" * 2_600,
    "waits without spaces": "retry_after1." * 5_000,
    "escapes": "\x1b[" + "1;" * 32_000,
    "quotes": '{"message":"' * 5_400,
    "backslashes": '{"result":"' + "\\" * 65_000,
    "errors": ("a" * 99 + "error.") * 600,
    "crashes": "Traceback x\nFooError\n" * 3_000,
    "lines": ("http status " * 80 + "\n") * 64,
    "grows in lower case": "\u0130" * 65_536,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_output_is_read_in_bounded_work(text: str) -> None:
    # Two of the same: what is looked at has a fixed size, so more text must not be able to change the answer.
    failure = classified(Ended(code=1, stderr_tail=text, stdout_tail=text))
    assert len(failure.message) <= MESSAGE_MAX
    assert classified(Ended(code=1, stderr_tail=text[-TAIL_MAX:], stdout_tail=text[-TAIL_MAX:])) == failure


texts = st.text(max_size=400) | st.lists(
    st.sampled_from(
        ["HTTP 429", "retry after 4s", "quota exceeded", "Traceback", "\n", "\r", "\x1b[1m", '{"message":"', "}"]
    )
    | st.text(max_size=9),
    max_size=40,
).map(" ".join)
codes = st.none() | st.integers(0, 255)


@given(texts, texts, codes, st.none() | st.integers(1, 64), st.none() | st.sampled_from(ErrorClass))
def test_every_end_has_one_class_with_words_for_a_person(
    stderr: str, stdout: str, code: int | None, number: int | None, stopped_for: ErrorClass | None
) -> None:
    ended = Ended(code=code, signal=number, stderr_tail=stderr, stdout_tail=stdout, stopped_for=stopped_for)
    failure = classify(ended, PLAIN, None)
    if failure is None:
        assert (code, number, stopped_for) == (0, None, None)
        return
    assert failure.guidance
    assert len(failure.message) <= MESSAGE_MAX
    assert failure.message.isprintable() or not failure.message.isascii()
    assert failure.retry_after is None or 0 < failure.retry_after <= RETRY_AFTER_MAX
    if stopped_for is not None:
        assert failure.error_class is stopped_for


GENUINE = {
    "claude/401_maxretries": "auth_error",
    "claude/no_auth": "auth_error",
    "claude/429": "rate_limited",
    "claude/429_maxretries": "rate_limited",
    "claude/500": "provider_error",
    "claude/529": "provider_error",
    "claude/ctx": "context_exhausted",
    "claude/max_turns": "task_error",
    "claude/max_budget": "task_error",
    "claude/sigterm_tool": "worker_killed",
    "codex/401": "auth_error",
    "codex/no_auth": "auth_error",
    "codex/429": "rate_limited",
    "codex/500": "provider_error",
    "codex/529": "provider_error",
    "codex/ctx": "context_exhausted",
    "codex/sigkill_tool": "worker_killed",
    "gemini/401": "auth_error",
    "gemini/no_auth": "auth_error",
    "gemini/429": "rate_limited",
    "gemini/500": "provider_error",
    "gemini/ctx": "context_exhausted",
}


def genuine(case: str) -> Ended:
    folder = CORPUS / case
    record: dict[str, Any] = json.loads((folder / "exit.json").read_text(encoding="utf-8"))
    return Ended(
        code=record["exit_code"],
        signal=signal.Signals[record["signal"]] if record["signal"] else None,
        stderr_tail=(folder / "stderr.txt").read_text(encoding="utf-8", errors="replace"),
        stdout_tail=(folder / "stdout.jsonl").read_text(encoding="utf-8", errors="replace"),
    )


@pytest.mark.parametrize("case", GENUINE)
def test_genuine_agents_are_understood_by_their_words_alone(case: str) -> None:
    failure = classified(genuine(case))
    assert failure.error_class == GENUINE[case]
    assert failure.retry_after == (4.0 if case == "gemini/429" else None)


@pytest.mark.parametrize("case", ["claude/ok", "codex/perm", "gemini/slow", "pi/429"])
def test_a_genuine_exit_with_0_is_left_to_the_success_contract(case: str) -> None:
    assert classify(genuine(case), PLAIN, None) is None
