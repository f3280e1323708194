"""What a row is made of: texts, numbers, times and JSON that SQLite keeps as they are, and the check over them."""

import math
import zlib
from collections.abc import Callable
from operator import index
from typing import Any, TypeVar

import msgspec

Row = tuple[Any, ...]
V = TypeVar("V")

# What encoding a value can end in. Nothing of it has to do with the disk.
REFUSALS = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)

_encoder = msgspec.json.Encoder()
_INTEGER_MAX = 2**63 - 1  # of SQLite


class Unsound(Exception):
    """A row is not what was written. Whoever knows the file turns this into LedgerDamaged."""


def check_of(*content: object) -> int:
    """CRC-32 over a row's content, in the order of its columns."""
    return zlib.crc32(_encoder.encode(content))


def checked(*columns: object) -> Row:
    """Close a row with its check."""
    return *columns, check_of(*columns)


def verify(name: str, key: object, row: Row) -> bool:
    """Raise Unsound unless the row's last column is the check over the others."""
    if check_of(*row[:-1]) != row[-1]:
        raise Unsound(f"the {name} {key!r} is not what was written")
    return True


def body_reader(kind: type[V]) -> Callable[[Row], V]:
    """Make the function that turns a row (columns .., body, check) into a value. It raises Unsound."""
    decoder = msgspec.json.Decoder(kind)
    name = kind.__name__

    def read(row: Row) -> V:
        verify(name, row[0], row)
        try:
            return decoder.decode(row[-2])
        except msgspec.MsgspecError as error:
            raise Unsound(f"the {name} {row[0]!r} cannot be understood: {error}") from error

    return read


def parse(kind: type[V], text: str, name: str, key: object) -> V:
    """Read the JSON of one column. Raises Unsound."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise Unsound(f"the {name} {key!r} cannot be understood: {error}") from error


def json(value: object) -> str:
    """Write a value that was read somewhere: what is no Unicode in it is spelled out."""
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        return _encoder.encode(_legible(msgspec.to_builtins(value))).decode()


def exact_json(value: object) -> str:
    """Write a value that will be acted upon: it comes back as it is, or is refused with a UnicodeEncodeError."""
    return _encoder.encode(value).decode()


def text(value: str) -> str:
    """Spell out what is no Unicode: a folder's name may hold any bytes, and a ledger only text."""
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


def exact_text(value: str) -> str:
    """A name that must not become another's by being spelled out. Raises UnicodeEncodeError."""
    if not value.isascii():
        value.encode("utf-8")
    return value


def integer(value: int) -> int:
    value = int(index(value))  # a truth value is kept as a number, and the check would tell the two apart
    if not -_INTEGER_MAX <= value <= _INTEGER_MAX:
        raise ValueError(f"{value} is too large a number for a column")
    return value


def moment(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is no time")
    return value + 0.0  # SQLite keeps no sign of zero, and the check would tell the two apart


def moment_or_none(value: float | None) -> float | None:
    return None if value is None else moment(value)


def _legible(value: Any) -> Any:
    match value:
        case str():
            return text(value)
        case dict():
            return {_legible(key): _legible(each) for key, each in value.items()}
        case list() | tuple():
            return [_legible(each) for each in value]
    return value
