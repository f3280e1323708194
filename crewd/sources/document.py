"""Bytes of a JSON file in, a value or a named fault out; no bytes make it raise.

Foreign files are decoded whole rather than by typed structs: a whole value is needed anyway to notice a key that
stands twice and fields that this version does not know, and it lets one field of a wrong type cost that field only.
"""

import json
import re
from collections import Counter
from typing import Any

import msgspec

from crewd.model.look import ReadResult

# What Node writes when text was cut inside a surrogate pair: valid to JSON.parse, not to a strict decoder.
ESCAPES = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
FAULTS = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)

_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()


class Document(msgspec.Struct, frozen=True):
    """What one file holds. `value` means something only where `result` is OK."""

    result: ReadResult
    value: Any = None
    why: str = ""


def parse(data: bytes) -> Document:
    """Decode one JSON document. Cut short: TORN; not JSON, a key twice, nested beyond reason: INVALID."""
    try:
        value, data = _decode(data)
        if _may_repeat_keys(data, value) and (key := _repeated_key(data)) is not None:
            return Document(ReadResult.INVALID, why=f"the key {key[:80]!r} stands twice in one object")
    except msgspec.DecodeError as error:
        torn = "truncated" in str(error)
        return Document(ReadResult.TORN if torn else ReadResult.INVALID, why=str(error)[:200])
    except RecursionError:
        return Document(ReadResult.INVALID, why="nested too deeply")
    except FAULTS as error:
        return Document(ReadResult.INVALID, why=str(error)[:200])
    return Document(ReadResult.OK, value)


def as_text(value: object, limit: int) -> str:
    """Write a value back as JSON of at most `limit` characters."""
    try:
        return _ENCODER.encode(value).decode()[:limit]
    except (*FAULTS, TypeError):
        return ""


def _decode(data: bytes) -> tuple[Any, bytes]:
    """Decode, and say also which bytes could be decoded."""
    try:
        return _DECODER.decode(data), data
    except msgspec.DecodeError:
        mended = _without_lone_surrogates(data)
        if mended == data:
            raise
        return _DECODER.decode(mended), mended


def _without_lone_surrogates(data: bytes) -> bytes:
    if b"\\ud" not in data and b"\\uD" not in data:
        return data
    pieces: list[bytes] = []
    done = 0
    high: tuple[int, int] | None = None  # where an unanswered high surrogate stands
    alone: list[tuple[int, int]] = []
    for escape in ESCAPES.finditer(data):
        digits = escape[1]
        code = int(digits, 16) if digits else 0
        if high is not None and not (0xDC00 <= code < 0xE000 and escape.start() == high[1]):
            alone.append(high)
            high = None
        if 0xD800 <= code < 0xDC00:
            high = escape.span()
        elif 0xDC00 <= code < 0xE000:
            if high is None:
                alone.append(escape.span())
            high = None
    if high is not None:
        alone.append(high)
    for start, end in alone:
        pieces += (data[done:start], b"\\ufffd")
        done = end
    return b"".join((*pieces, data[done:]))


def _may_repeat_keys(data: bytes, value: object) -> bool:
    """Compare lengths, which is quick: a pair that was lost to a later one makes the value shorter than the text."""
    return len(_ENCODER.encode(value)) != len(msgspec.json.format(data, indent=-1))


def _repeated_key(data: bytes) -> str | None:
    """Look for a key that stands twice in one object, slowly and surely."""
    found: list[str] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        names = {name for name, _ in pairs}
        if len(names) != len(pairs):
            found.extend(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)

    json.loads(data, object_pairs_hook=note)
    return found[0] if found else None
