"""Bodies: what is JSON here, and what is not."""

import asyncio
import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.web.body import ARRAYS_MAX, BYTES_MAX, DEPTH_MAX, DETAILS_MAX, PARSED, Bodies, parse
from crewd.web.managed import RUN_BYTES_MAX
from crewd.web.refusal import Refused
from tests.web.world import State, change

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def wrongs(data: bytes) -> list[tuple[str, str]]:
    with pytest.raises(Refused) as caught:
        parse(data)
    assert caught.value.status == 400
    return [(detail.code, detail.path) for detail in caught.value.details]


@given(VALUES)
def test_every_document_is_read_as_it_was_meant(value: Any) -> None:
    assert parse(json.dumps(value).encode()) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789.eE+-\\u d8nulltrue\x00').map(str.encode))
def test_no_bytes_make_it_fail_otherwise_than_by_a_refusal(data: bytes) -> None:
    try:
        parse(data)
    except Refused as refused:
        assert refused.status == 400 and refused.details


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", [("not_json", "")]),
        (b"{", [("not_json", "")]),
        (b"{}{}", [("not_json", "")]),
        (b"{'a':1}", [("not_json", "")]),
        (b'{"a":1,}', [("not_json", "")]),
        (b'\xef\xbb\xbf{"a":1}', [("not_json", "")]),
        ('{"a":1}'.encode("utf-16"), [("not_json", "")]),
        (b'{"a":"\xff"}', [("not_json", "")]),
        (b'{"a":"\x01"}', [("not_json", "")]),
        (b'{"a":NaN}', [("out_of_range", "/a")]),
        (b'{"a":[1,-Infinity]}', [("out_of_range", "/a/1")]),
        (b'{"a":1e999}', [("out_of_range", "/a")]),
        (b'{"a":18446744073709551616}', [("out_of_range", "/a")]),
        (b'{"a":-9223372036854775809}', [("out_of_range", "/a")]),
        (b'{"a":' + b"9" * 60_000 + b"}", [("out_of_range", "/a")]),
        (b'{"a":"\\ud800"}', [("not_text", "/a")]),
        (b'{"\\udfff":1}', [("not_text", "/?")]),
        (b'{"a":1,"a":1}', [("duplicate_key", "/a")]),
        (b'{"x":[{"a/b":1,"~":2,"a/b":1e5,"~":2}]}', [("duplicate_key", "/x/0/a~1b"), ("duplicate_key", "/x/0/~0")]),
        (b'{"a":1,"\\u0061":1,"c":NaN}', [("duplicate_key", "/a"), ("out_of_range", "/c")]),
        (b"[" * 50_000, [("too_deep", "")]),
        (b"[" * 100_000, [("too_many", "")]),
        (b'{"a":' * 100_000, [("too_deep", "")]),
    ],
)  # fmt: skip
def test_everything_wrong_is_named_with_its_place(data: bytes, expected: Sequence[tuple[str, str]]) -> None:
    assert wrongs(data) == expected


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_it_goes_sixty_four_deep_and_no_deeper(opened: bytes, closed: bytes) -> None:
    inner = b"[]" if opened == b"[" else b"{}"
    parse(opened * (DEPTH_MAX - 1) + inner + closed * (DEPTH_MAX - 1))
    ((code, place),) = wrongs(opened * DEPTH_MAX + inner + closed * DEPTH_MAX)
    assert code == "too_deep" and place.startswith("/")


def test_brackets_in_a_text_are_no_arrays() -> None:
    for text in ("[" * (ARRAYS_MAX + 1), '\\"[' * (ARRAYS_MAX + 1), "\\\\"):
        assert parse(json.dumps([text]).encode()) == [text]
    assert wrongs(b"[" + b"[]," * ARRAYS_MAX + b'"["]') == [("too_many", "")]
    assert wrongs(b'["\\\\",' + b"[]," * ARRAYS_MAX + b"0]") == [("too_many", "")]  # a string that is a backslash
    assert len(parse(b"[" + b"[]," * (ARRAYS_MAX - 1) + b'"[\\"["]')) == ARRAYS_MAX


def test_a_flood_of_wrongs_is_told_up_to_a_bound() -> None:
    assert len(wrongs(b"[" + b",".join([b"NaN"] * 5000) + b"]")) == DETAILS_MAX


@given(st.floats())
def test_only_finite_numbers_pass(number: float) -> None:
    data = json.dumps([number]).encode()
    if isfinite(number):
        assert parse(data) == [number]
    else:
        assert wrongs(data) == [("out_of_range", "/0")]


@pytest.mark.parametrize(("path", "bytes_max"), [("/api/v1/runs", RUN_BYTES_MAX), ("/api/v1/pause", BYTES_MAX)])
def test_a_body_may_be_so_large_and_no_larger(path: str, bytes_max: int) -> None:
    state = State()
    envelope = b'{"run":{},"scope":"daemon"}'
    fits = envelope + b" " * (bytes_max - len(envelope))
    assert change(state, path, fits).status_code == 400  # understood: one of the fields does not belong here
    assert change(state, path, fits + b" ").status_code == 413


def test_a_body_of_unknown_length_is_bounded_as_well() -> None:
    sent = 0

    async def flood() -> dict[str, Any]:
        nonlocal sent
        sent += 1
        assert sent < 1000
        return {"type": "http.request", "body": b" " * 1000, "more_body": True}

    with pytest.raises(Refused) as caught:
        asyncio.run(Bodies(None, {})(post("/x"), flood, None))  # type: ignore[arg-type]
    assert caught.value.status == 413 and sent == BYTES_MAX // 1000 + 1


def test_a_length_alone_is_enough_to_refuse() -> None:
    for length in (b"65537", b"9" * 400):
        with pytest.raises(Refused) as caught:
            asyncio.run(Bodies(None, {})(post("/x", length), None, None))  # type: ignore[arg-type]
        assert caught.value.status == 413


def test_a_sender_who_leaves_ends_the_reading() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(Refused) as caught:
        asyncio.run(Bodies(None, {})(post("/x"), gone, None))  # type: ignore[arg-type]
    assert caught.value.status == 408


def test_so_many_large_bodies_are_taken_at_once_and_no_more() -> None:
    async def run() -> None:
        go, taken = asyncio.Event(), []

        async def slow() -> dict[str, Any]:
            await go.wait()
            return {"type": "http.request", "body": b"{}"}

        async def app(scope: Any, receive: Any, send: Any) -> None:
            taken.append(scope["state"][PARSED])

        bodies = Bodies(app, {"/runs": 100}, large_at_once_max=2)
        under_way = [asyncio.create_task(bodies(post("/runs"), slow, None)) for _ in range(2)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(Refused) as caught:
            async with asyncio.timeout(5.0):
                await bodies(post("/runs"), slow, None)  # type: ignore[arg-type]
        assert caught.value.status == 503 and caught.value.headers == {"retry-after": "1"}
        go.set()
        await asyncio.gather(*under_way)
        await bodies(post("/runs"), slow, None)  # type: ignore[arg-type]
        assert taken == [{}, {}, {}]

    asyncio.run(run())


def post(path: str, length: bytes | None = None) -> dict[str, Any]:
    headers = [] if length is None else [(b"content-length", length)]
    return {"type": "http", "method": "POST", "path": path, "headers": headers}
