"""A line of JSON in, a struct of the few fields that a reader needs out. A wrong field costs that field only.

The quick way decodes a line at once and skips what the struct does not name, which costs next to nothing. Only where
that fails is the line taken apart field by field.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from crewd.sources.document import FAULTS
from crewd.sources.fields import COUNT_MAX

Shape = TypeVar("Shape", bound=msgspec.Struct)

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=float(COUNT_MAX))]

# An escaped backslash or both halves of a character, which stay; or one half alone.
HALVES = re.compile(
    rb"\\(?:(\\|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
ABSENT: Any = object()
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class LineDecoder(Generic[Shape]):
    """Decodes lines to one struct, every field of which must have a default. It never raises."""

    __slots__ = ("_quickly", "_shape")

    def __init__(self, shape: type[Shape]) -> None:
        self._shape = shape
        self._quickly = msgspec.json.Decoder(shape).decode

    def __call__(self, line: bytes | msgspec.Raw) -> Shape | None:
        """Decode a line; None: it is no JSON object."""
        try:
            return self._quickly(line)
        except FAULTS:
            return _piecemeal(self._shape, _without_halves(bytes(line)))


def _without_halves(line: bytes) -> bytes:
    """Replace what JSON.stringify writes of a text that was cut within a character: a strict decoder refuses it."""
    if b"\\ud" not in line and b"\\uD" not in line:
        return line
    return HALVES.sub(lambda found: b"\\" + (found[1] or b"ufffd"), line)


def _piecemeal(shape: type[Shape], data: bytes | msgspec.Raw) -> Shape | None:
    """Take from an object the fields that can be understood; None: it is no object."""
    try:
        parts = _OBJECT.decode(data)
    except FAULTS:
        return None
    known = {}
    for field in msgspec.structs.fields(shape):
        if (part := parts.get(field.encode_name)) is not None and (value := _value(field.type, part)) is not ABSENT:
            known[field.name] = value
    return shape(**known)


def _value(kind: Any, data: msgspec.Raw) -> Any:
    """As much of a value as has the type wanted, or ABSENT."""
    try:
        return _decoder(kind).decode(data)
    except FAULTS:
        pass
    found: Any
    for each in _alternatives(kind):
        match get_origin(each) or each:
            case origin if origin is list:
                found = _items(get_args(each)[0], data)
            case origin if origin is dict:
                found = _entries(get_args(each)[1], data)
            case type() as struct if issubclass(struct, msgspec.Struct):
                found = _piecemeal(struct, data)
            case _:
                found = None
        if found is not None:
            return found
    return ABSENT


def _items(kind: Any, data: msgspec.Raw) -> list[Any] | None:
    try:
        parts = _LIST.decode(data)
    except FAULTS:
        return None
    values = (_value(kind, part) for part in parts)
    return [value for value in values if value is not ABSENT]


def _entries(kind: Any, data: msgspec.Raw) -> dict[str, Any] | None:
    try:
        parts = _OBJECT.decode(data)
    except FAULTS:
        return None
    values = ((name, _value(kind, part)) for name, part in parts.items())
    return {name: value for name, value in values if value is not ABSENT}


def _alternatives(kind: Any) -> Iterator[Any]:
    if get_origin(kind) in (Union, UnionType):
        yield from get_args(kind)
    else:
        yield kind


@lru_cache(maxsize=256)  # as many types as all readers name, and few of them
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
