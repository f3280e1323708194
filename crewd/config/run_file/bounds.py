"""The bounds of any value that comes from outside, whatever it means: depth, number, and what JSON can hold."""

import math
from typing import Any

from crewd.config.run_file.problems import Code, Finds, shown

DEPTH_MAX = 64
NODES_MAX = 500_000
INTEGER_MAX = 2**63

_Place = tuple[Any, object] | None  # (place of the table above, name or position): a list that grows at its end


def check_bounds(value: Any, finds: Finds) -> bool:
    """Look through a nested value, without recursion. False: nothing in it can be looked at any further."""
    if not isinstance(value, dict | list):
        return _is_sound(value, None, finds)
    sound, nodes = True, 0
    stack: list[tuple[dict[Any, Any] | list[Any], _Place, int]] = [(value, None, 1)]
    while stack:
        table, place, depth = stack.pop()
        nodes += len(table)
        if nodes > NODES_MAX:
            finds.add((), Code.TOO_LARGE, f"holds more than {NODES_MAX} values", "split the run")
            return False
        if depth > DEPTH_MAX:
            finds.add(_location(place)[:8], Code.TOO_LARGE, f"is nested deeper than {DEPTH_MAX}", "flatten it")
            sound = False
            continue
        if isinstance(table, dict) and not _names_are_texts(table, place, finds):
            sound = False
        for name, inner in table.items() if isinstance(table, dict) else enumerate(table):
            kind = type(inner)
            if kind is dict or kind is list:
                stack.append((inner, (place, name), depth + 1))
            elif not (kind is str and inner.isascii()) and not _is_sound(inner, (place, name), finds):
                sound = False
    return sound


def _is_sound(value: Any, place: _Place, finds: Finds) -> bool:
    """Look at one value that holds no others. A number that is none is told; what is around it can be judged on."""
    match value:
        case None | bool():
            return True
        case str() if _is_unicode(value):
            return True
        case str():
            finds.add(_location(place), Code.BAD_TEXT, "is not Unicode: it holds half of a surrogate pair", "mend it")
            return False
        case int():
            if not -INTEGER_MAX <= value < INTEGER_MAX:
                message = f"{shown(value)} is too large"
                finds.add(_location(place), Code.VALUE_OUT_OF_RANGE, message, "write a text")
            return True
        case float():
            if not math.isfinite(value):
                finds.add(_location(place), Code.VALUE_OUT_OF_RANGE, f"{value} is no number", "write a finite one")
            return True
        case _:
            message = f"a {type(value).__name__} is no JSON value"
            finds.add(_location(place), Code.TYPE_MISMATCH, message, "write it as a text, in quotes")
            return False


def _names_are_texts(table: dict[Any, Any], place: _Place, finds: Finds) -> bool:
    sound = True
    for name in table:
        if not isinstance(name, str):
            finds.add(_location(place), Code.TYPE_MISMATCH, f"the name {shown(name)} is no text", "put it in quotes")
            sound = False
        elif not _is_unicode(name):
            finds.add(_location(place), Code.BAD_TEXT, f"the name {shown(name)} is not Unicode", "mend the surrogate")
            sound = False
    return sound


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _location(place: _Place) -> tuple[object, ...]:
    parts: list[object] = []
    while place is not None:
        place, part = place
        parts.append(part)
    return tuple(reversed(parts))
