"""Bytes in, a value or a named fault out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.look import ReadResult
from crewd.sources.document import parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (b"", ReadResult.TORN),
        (b'{"a":', ReadResult.TORN),
        (b'[{"a":"b', ReadResult.TORN),
        (b'{"a":NaN}', ReadResult.INVALID),
        (b'{"a":Infinity}', ReadResult.INVALID),
        (b'{"a":1,"a":2}', ReadResult.INVALID),
        (b'[{"a":{"b":1,"b":1}}]', ReadResult.INVALID),
        (b'{"a":1}{"b":2}', ReadResult.INVALID),
        (b"\x00" * 64, ReadResult.INVALID),
        (b'\xff\xfe{"a":1}', ReadResult.INVALID),
        (b"[" * 100_000, ReadResult.INVALID),
        (b"[" * 100_000 + b"]" * 100_000, ReadResult.INVALID),
        (b'{"a":1e999}', ReadResult.INVALID),
        (b"[" + b"9" * 100_000 + b"]", ReadResult.INVALID),
        (b'{"a":"\xc3"}', ReadResult.INVALID),
        (b'  {"a": [1, 2.50, -0.0, 1e2]}\n', ReadResult.OK),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_each_kind_of_bytes_has_its_result(data: bytes, result: ReadResult) -> None:
    assert parse(data).result is result


def test_nesting_beyond_reason_is_called_by_its_name() -> None:
    assert parse(b"[" * 100_000 + b"]" * 100_000).why == "nested too deeply"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"cut \ud83d"', "cut �"),
        (r'"\ude00 cut"', "� cut"),
        (r'"\ud83d\ud83d\ude00"', "�\U0001f600"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\\ud83d"', r"\ud83d"),
        (r'"\uD83D-\uDE00"', "�-�"),
    ],
)
def test_text_that_was_cut_inside_a_character_is_mended(text: str, value: str) -> None:
    document = parse(text.encode())
    assert (document.result, document.value) == (ReadResult.OK, value)


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    parse(data)


@given(JSON, st.sampled_from([None, 2]))
def test_what_json_writes_is_read_back(value: object, indent: int | None) -> None:
    document = parse(json.dumps(value, indent=indent).encode())
    assert (document.result, document.value) == (ReadResult.OK, value)
