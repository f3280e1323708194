"""Lines are decoded to structs: what is wrong with one field costs that field, and nothing raises."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.sources.agents.decoding import Amount, Count, LineDecoder


class Inner(msgspec.Struct):
    word: str = ""
    count: Count = 0


class Shape(msgspec.Struct, rename="camel"):
    name: str | None = None
    some_count: Count = 0
    amount: Amount | None = None
    inner: Inner | None = None
    mixed: str | list[Inner] = ""
    by_name: dict[str, Inner] | None = None
    raw: msgspec.Raw = msgspec.Raw()


decode = LineDecoder(Shape)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
KEYS = ("name", "someCount", "amount", "inner", "mixed", "byName", "raw")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"{}", Shape()),
        (b'{"name":7,"someCount":5}', Shape(some_count=5)),
        (b'{"name":"x","someCount":-1}', Shape(name="x")),
        (b'{"name":"x","someCount":1e999}', Shape(name="x")),
        (b'{"name":"x","amount":1e999,"strange":1e999}', Shape(name="x")),
        (b'{"someCount":99999999999999999999}', Shape()),
        (b'{"inner":{"word":"x","count":"y"}}', Shape(inner=Inner("x"))),
        (b'{"inner":[]}', Shape()),
        (b'{"mixed":[{"word":"x"},7,{"word":7,"count":3}]}', Shape(mixed=[Inner("x"), Inner(count=3)])),
        (b'{"mixed":"x","name":[]}', Shape(mixed="x")),
        (b'{"byName":{"a":{"word":"x"},"b":7}}', Shape(by_name={"a": Inner("x")})),
        (b'{"name":"x","name":"y","amount":"z"}', Shape(name="y")),
        (rb'{"name":"a\ud83d!"}', Shape(name="a\ufffd!")),
        (rb'{"name":"\ude00\ud83d\ude00\\ud83d\uD83D"}', Shape(name="\ufffd\U0001f600\\ud83d\ufffd")),
        (b'{"name":"\xff","someCount":5}', Shape(some_count=5)),
        (b'{"someCount":5', None),
        (b"[]", None),
        (b"", None),
        (b"\xff", None),
        (b'{"raw":' + b"[" * 100_000, None),
        (b'{"strange":' + b"[" * 3000 + b"]" * 3000 + b"}", None),
    ],
)
def test_as_much_is_taken_as_can_be_understood(line: bytes, expected: Shape | None) -> None:
    assert decode(line) == expected


def test_raw_parts_stay_as_they_were_printed() -> None:
    found = decode(b'{"raw": {"b" : 1,"a":2.50},"name":7}')
    assert found is not None
    assert bytes(found.raw) == b'{"b" : 1,"a":2.50}'


@given(st.dictionaries(st.sampled_from([*KEYS, "strange"]), JSON))
def test_every_object_makes_a_shape_whose_fields_have_their_types(value: dict[str, Any]) -> None:
    found = decode(json.dumps(value).encode())
    assert isinstance(found, Shape)
    assert found.name is None or isinstance(found.name, str)
    assert found.some_count >= 0
    assert isinstance(found.mixed, str) or all(isinstance(each, Inner) for each in found.mixed)
    assert found.name == value.get("name") or not isinstance(value.get("name"), str)


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(line: bytes) -> None:
    assert decode(line) is None or isinstance(decode(line), Shape)
