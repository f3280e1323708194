"""Lines as they should never be: cut, with flipped bytes, with any value at any place, nested beyond reason."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from tests.genuine_agents import CORPUS

KEPT_MAX = 4096  # characters of a line: a longer one makes slow examples, and nothing new

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    -(10**30),
    1.5,
    1e308,
    "",
    "x",
    "\ud83d",
    "\u0000\u2028",
    "x" * 3000,
    [],
    [None, 7, "x", {}],
    {},
    {"type": {}, "content": 5, "usage": [], "message": "x"},
)


def genuine(program: str) -> list[bytes]:
    """One line of each shape that a program printed."""
    found: dict[str, bytes] = {}
    for path in sorted(CORPUS.glob(f"{program}/*/*stdout.jsonl")):
        for line in path.read_bytes().splitlines():
            if len(line) <= KEPT_MAX:
                value = json.loads(line)
                shape = [value.get(key) for key in ("type", "subtype")]
                inner = [value.get(key) for key in ("message", "event", "assistantMessageEvent")]
                kinds = [[part.get(key) for key in ("type", "role")] for part in inner if isinstance(part, dict)]
                found.setdefault(json.dumps([shape, kinds]), line)
    return list(found.values())


def mangled(lines: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    line = st.sampled_from(lines)
    return st.one_of(
        line.flatmap(_cut), line.flatmap(_flipped), line.flatmap(_replaced), line.flatmap(_nested), _raw()
    )


STREAMS = st.sampled_from(["stdout", "stderr", "session"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def spliced(lines: Sequence[tuple[str, bytes]]) -> st.SearchStrategy[bytes]:
    """A line with a piece taken out at some place, and another put in."""
    return st.builds(
        _spliced, st.sampled_from(lines), st.integers(0, 1 << 16), st.binary(max_size=12), st.integers(0, 40)
    )


def _spliced(genuine: tuple[str, bytes], at: int, piece: bytes, cut: int) -> bytes:
    line = genuine[1]
    at %= len(line) + 1
    return line[:at] + piece + line[at + cut :]


def with_any_value(genuine: tuple[str, bytes], data: st.DataObject) -> bytes | None:
    """A line in which one field, however deep, holds any value; None: it is no event."""
    try:
        value = json.loads(genuine[1])
    except ValueError:
        return None
    where: Any = value
    while isinstance(where, dict) and where:
        key = data.draw(st.sampled_from(sorted(where)))
        if isinstance(where[key], dict) and where[key] and data.draw(st.booleans()):
            where = where[key]
            continue
        where[key] = data.draw(VALUES)
        break
    return json.dumps(value).encode()


def _raw() -> st.SearchStrategy[bytes]:
    return st.one_of(st.binary(max_size=200), st.sampled_from([b"[]", b"{}", b"null", b'"x"', b"7", b'{"type":7}']))


def _cut(line: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, len(line)).map(lambda end: line[:end])


def _flipped(line: bytes) -> st.SearchStrategy[bytes]:
    places = st.lists(st.tuples(st.integers(0, len(line) - 1), st.integers(1, 255)), min_size=1, max_size=8)
    return places.map(lambda found: _with_bytes(line, found))


def _with_bytes(line: bytes, places: list[tuple[int, int]]) -> bytes:
    changed = bytearray(line)
    for place, bits in places:
        changed[place] ^= bits
    return bytes(changed)


def _replaced(line: bytes) -> st.SearchStrategy[bytes]:
    """Any value at any place, several at once."""
    paths = list(_paths(json.loads(line)))
    changes = st.lists(st.tuples(st.sampled_from(paths), st.sampled_from(ODD)), min_size=1, max_size=3)
    return changes.map(lambda found: _with_values(line, found))


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*path, key)
        yield from _paths(part, (*path, key))


def _with_values(line: bytes, changes: list[tuple[tuple[str | int, ...], Any]]) -> bytes:
    value = json.loads(line)
    for path, new in changes:
        holder: Any = value
        for key in path[:-1]:
            try:
                holder = holder[key]
            except (KeyError, IndexError, TypeError):
                break
        else:
            if isinstance(holder, dict) or (isinstance(holder, list) and isinstance(path[-1], int) and holder):
                where: Any = path[-1] if isinstance(holder, dict) else -1
                holder[where] = new
    return json.dumps(value).encode()


def _nested(line: bytes) -> st.SearchStrategy[bytes]:
    """Deep within a value, known or not, and numbers that no float holds."""
    deep = st.sampled_from([b"[" * 3000 + b"]" * 3000, b'{"content":' * 900 + b"1" + b"}" * 900, b"1e999", b"-1e999"])
    keys = sorted({str(path[-1]) for path in _paths(json.loads(line)) if isinstance(path[-1], str)})
    named = st.sampled_from(["strange", *keys])
    return st.tuples(named, deep).map(lambda found: b'{"%s":%s,%s' % (found[0].encode(), found[1], line[1:]))
