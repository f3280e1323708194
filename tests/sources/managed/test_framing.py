"""Lines out of bytes, however they arrive."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.sources.managed.framing import LINE_BYTES_MAX, TOO_LONG, Lines, TooLong

SMALL = 16


def lines_of(*pieces: bytes, most: int = SMALL) -> list[bytes | TooLong]:
    """All lines of a stream that came in these pieces and then ended."""
    lines = Lines(most)
    found = [line for piece in pieces for line in lines.feed(piece)]
    rest = lines.rest()
    return [*found, rest] if rest else found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb\r\r\n", [b"a", b"b\r"]),
        (b"a\rb\n", [b"a\rb"]),
        (b"\n\r\n \t \na\n\n", [b"a"]),
        (b"a\nrest", [b"a", b"rest"]),
        (b"rest\r", [b"rest"]),
        (b"   ", []),
        ("a\u2028b\u0085c\x0bd\n".encode(), ["a\u2028b\u0085c\x0bd".encode()]),
        (b"x" * SMALL + b"\n", [b"x" * SMALL]),
        (b"x" * (SMALL + 1) + b"\ny\n", [TOO_LONG, b"y"]),
        (b"x" * (SMALL + 1), [TOO_LONG]),
        (b"x" * 100 + b"\n" + b"y" * 100 + b"\nz", [TOO_LONG, TOO_LONG, b"z"]),
        (b" " * (SMALL + 1) + b"\n", [TOO_LONG]),
    ],
)
def test_only_newlines_end_lines_and_blank_ones_are_left_out(data: bytes, expected: list[bytes | TooLong]) -> None:
    assert lines_of(data) == expected


@given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\n", b"\r\n", b"x" * 20]), max_size=30))
def test_how_the_bytes_were_cut_makes_no_difference(pieces: list[bytes]) -> None:
    whole = lines_of(b"".join(pieces))
    assert lines_of(*pieces) == whole
    assert lines_of(*(bytes([each]) for each in b"".join(pieces))) == whole


def test_a_line_that_never_ends_is_told_at_once_and_dropped_lines_are_counted() -> None:
    lines = Lines(SMALL)
    assert list(lines.feed(b"x" * (SMALL + 1))) == [TOO_LONG]
    assert list(lines.feed(b"x" * 1000)) == []
    assert list(lines.feed(b"x\nnext\n")) == [b"next"]
    assert lines.too_long == 1


def test_feeding_takes_effect_even_if_nobody_looks_at_the_lines() -> None:
    lines = Lines()
    lines.feed(b"a\nbe")
    assert list(lines.feed(b"gun\n")) == [b"begun"]


def test_an_endless_line_costs_no_more_memory_than_the_limit() -> None:
    lines = Lines()
    piece = b"x" * (1 << 16)
    tracemalloc.start()
    try:
        for _ in range(40 * LINE_BYTES_MAX // len(piece)):
            list(lines.feed(piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * LINE_BYTES_MAX


def test_a_long_line_in_tiny_pieces_is_no_matter_of_its_square() -> None:
    # Copied anew with each piece this would move 30 GB.
    lines = Lines()
    for _ in range(LINE_BYTES_MAX // 16):
        lines.feed(b"0123456789abcdef")
    (line,) = lines.feed(b"\n")
    assert line == b"0123456789abcdef" * (LINE_BYTES_MAX // 16)


def test_the_order_of_lines_is_that_of_the_bytes() -> None:
    numbers = [b"%d" % number for number in range(5000)]
    data = b"\n".join(numbers)
    chance = random.Random(7)
    lines, found, at = Lines(), [], 0
    while at < len(data):
        size = chance.randrange(1, 700)
        found += lines.feed(data[at : at + size])
        at += size
    assert [*found, lines.rest()] == numbers
