"""Output: where a piece may end, so that no secret is told in halves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.telemetry.redact import Redactor
from crewd.web.output import redacted, ripe

KEY = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabcdef\n-----END RSA PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("data", "full", "ended", "told"),
    [
        (b"", False, False, b""),
        (b"a\nb\n", False, False, b"a\nb\n"),
        (b"a\nb", False, False, b"a\n"),
        (b"a\nb", True, False, b"a\n"),
        (b"a\nb", False, True, b"a\nb"),
        (b"abc", False, False, b""),
        (b"abc def", True, False, b"abc "),
        (b"abcdef", True, False, b"abcdef"),
        (b"x" * 5 + b" " + b"y" * 9000, True, False, b"x" * 5 + b" " + b"y" * 9000),
        (b"before\n" + KEY, False, False, b"before\n" + KEY),
        (b"before\n" + KEY[:45], False, False, b"before\n"),
        (b"before\n" + KEY[:45], True, False, b"before\n"),
        (b"before\n" + KEY[:45], False, True, b"before\n" + KEY[:45]),
        (KEY[:45], False, False, b""),
        (KEY[:45], True, False, KEY[: KEY[:45].rfind(b"\n") + 1]),
        (b"-----BEGIN CERTIFICATE-----\nabc\n", False, False, b"-----BEGIN CERTIFICATE-----\nabc\n"),
    ],
)
def test_a_piece_ends_where_nothing_is_torn(data: bytes, full: bool, ended: bool, told: bytes) -> None:
    assert data[: ripe(data, full, ended)] == told


@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_whoever_asks_on_always_comes_to_the_end(data: bytes, full: bool, ended: bool) -> None:
    told = ripe(data, full, ended)
    assert 0 <= told <= len(data)
    assert told == len(data) if ended else not (data and full) or told > 0


@given(st.binary(max_size=300))
def test_bytes_without_secrets_stay_as_they_are(data: bytes) -> None:
    shown = redacted(data, Redactor())
    assert shown == data or b"***" in shown


def test_a_literal_secret_is_found_among_bytes_that_are_no_text() -> None:
    assert redacted(b"\xff hunter2-9 \x00\n" + KEY, Redactor(["hunter2-9"])) == b"\xff *** \x00\n***\n"


def test_a_secret_that_is_half_written_is_not_told_by_its_first_half() -> None:
    redactor = Redactor(["correct-horse-battery"])
    assert redacted(b"done\nkey correct-ho", redactor, whole=False) == b"done\nkey "
    assert redacted(b"key correct-horse-battery", redactor, whole=False) == b"key ***"
    assert redacted(b"key correct-ho", redactor) == b"key correct-ho"  # nothing follows: it is none
