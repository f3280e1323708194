"""Fingerprints: what differs from one time to the next makes no difference, and what is another cause does."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.policy.fingerprint import TEXT_MAX, fingerprint, normalised


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        ("exit status 1", "exit status <n>"),
        ("took 12.5s of 1,000.00", "took <n>s of <n>"),
        ("at 2026-03-01T10:11:12.345Z it ended", "at <n> it ended"),
        ("at 2026-03-01 10:11:12 it ended", "at <n> <n> it ended"),
        ("Request 550e8400-e29b-41d4-a716-446655440000 failed", "request <id> failed"),
        ("object at 0x7f18456cfbe0", "object at <id>"),
        ("commit a94a8fe5ccb19ba6 is gone", "commit <id> is gone"),
        ("request_id: req_011CSHoEeqs5C35K2UUqR7Fy", "request_id: req_<id>"),
        ("cannot open /home/ann/x/y.py: no such file", "cannot open <path> no such file"),
        ("cannot open '/home/ann/my files/y'", "cannot open <path>"),
        ('cannot open "a b/c"', "cannot open <path>"),
        ("cannot open `./a b`", "cannot open <path>"),
        ("in src/main.rs:12:5", "in <path>"),
        (r"cannot open C:\Users\ann\x", "cannot open <path>"),
        ("POST https://api.example.com:443/v1/messages/17 failed", "post https://api.example.com<path> failed"),
        ("main.py:12:5: syntax error", "main.py:<n>: syntax error"),
        ("can't do what it won't do", "can't do what it won't do"),
        ("key 'priority' is missing", "key 'priority' is missing"),
        ("commit a94a8fe is gone", "commit <id> is gone"),
        ("defaced, effaced", "defaced, effaced"),
        ("internationalization", "internationalization"),
        ("configuration2", "configuration<n>"),
        ("http123x", "http<n>x"),
        ("ghijklmn123 ghijklmno123", "ghijklmn<n> <id>"),
        ("ghijklmnop12 ghijklmnopq3", "ghijklmnop<n> ghijklmnopq<n>"),
        ("\x1b[31mError\x1b[0m:\n\n  it\tfailed ", "error: it failed"),
        ("test_http2_404_retry failed", "test_http<n>_<n>_retry failed"),
        ("", ""),
    ],
)
def test_what_is_left_of_an_error(error: str, kept: str) -> None:
    assert normalised(error) == kept


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("529 overloaded (req_011CSHoEeqs5C35K2UUqR7Fy)", "529 overloaded (req_01Ab9cDEf7GhiJ2kLmNoPqRs)"),
        ("worker pid 4711 at 10:00:00 lost", "worker pid 12 at 23:59:59.123 lost"),
        ("no space left: '/srv/a/1'", "no space left: '/var/b c/2'"),
        ("Timeout after 30.5 s", "timeout after 31 s"),
        ("object <Foo at 0x7f18456cfbe0>", "object <Foo at 0x7f00000012ab>"),
    ],
)  # fmt: skip
def test_the_same_cause_has_the_same_fingerprint(one: str, other: str) -> None:
    assert fingerprint("unknown", one) == fingerprint("unknown", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("connection refused", "connection reset"),
        ("key 'priority' is missing", "key 'title' is missing"),
        ("https://api.example.com/v1 failed", "https://api.example.org/v1 failed"),
        ("AssertionError in test_a", "AssertionError in test_b"),
        ("", "it failed"),
    ],
)
def test_another_cause_has_another_fingerprint(one: str, other: str) -> None:
    assert fingerprint("unknown", one) != fingerprint("unknown", other)


def test_the_class_is_a_part_of_the_cause() -> None:
    assert fingerprint("timeout", "it failed") != fingerprint("worker_crash", "it failed")
    assert fingerprint("a", "b") != fingerprint("a\nb", "")


def test_fingerprints_that_were_kept_stay_what_they_are() -> None:
    assert fingerprint("rate_limited", "HTTP 429: too many requests") == "d9b11cc7c2f6"
    assert fingerprint("disk_full", "write /data/x-17: No space left on device") == "c57c774f76c6"
    assert fingerprint("unknown", "") == "7f51b4fb44db"


def test_no_more_than_the_beginning_of_a_long_text_is_looked_at() -> None:
    same = "x " * (TEXT_MAX // 2)
    assert fingerprint("unknown", same + "a") == fingerprint("unknown", same + "b")
    assert fingerprint("unknown", same[:-1] + "a") != fingerprint("unknown", same[:-1] + "b")


@given(st.text(max_size=300))
def test_any_text_has_twelve_hex_digits(error: str) -> None:
    assert re.fullmatch("[0-9a-f]{12}", fingerprint("unknown", error))


def test_half_a_surrogate_is_a_text_too() -> None:
    assert re.fullmatch("[0-9a-f]{12}", fingerprint("unknown", "bad byte \udcff here"))


@given(st.integers(min_value=0), st.integers(min_value=0))
def test_no_number_makes_a_difference(one: int, other: int) -> None:
    assert fingerprint("unknown", f"line {one} of it") == fingerprint("unknown", f"line {other} of it")


@given(st.uuids(), st.uuids())
def test_no_uuid_makes_a_difference(one: object, other: object) -> None:
    assert fingerprint("unknown", f"call {one}: no") == fingerprint("unknown", f"call {other}: no")


@pytest.mark.parametrize(
    "unit",
    ["a", "'", "\"'", "1.", "0a-", "/a", " ", "\x1b[", "0", "a://", "a+", "'\n", "aaaaaaaa-", "a1", "\\", "0x"],
)
def test_no_text_makes_it_slow(unit: str) -> None:
    # Eight times the text takes eight times as long, or somewhat more; with the square of it, sixty-four times.
    text = unit * (TEXT_MAX // len(unit))
    assert cpu_seconds(text) < 24 * cpu_seconds(text[: TEXT_MAX // 8])


def cpu_seconds(text: str) -> float:
    """Of this process alone, the least of some tries: whatever else the machine does is left out."""
    tries = []
    for _ in range(7):
        before = time.process_time()
        normalised(text)
        tries.append(time.process_time() - before)
    return min(tries)
