"""Comparing: what is different between two attempts of one task. Pure."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

LINES_MAX = 400  # of each text: beyond it a comparison line by line helps nobody, and costs the square of it
CONTEXT = 2  # lines that are equal, around those that are not


def differences(base: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Name every field that is not the same in both; `change` is the difference where both are numbers.

    A field that is missing is None, which is not 0. Fields within a mapping are named with a dot: usage.input.
    """
    before, after = dict(_flat(base)), dict(_flat(other))
    for name in dict.fromkeys((*before, *after)):
        one, two = before.get(name), after.get(name)
        if one != two:
            yield {"field": name, "base": one, "other": two, "change": _change(one, two)}


def line_differences(base: str, other: str) -> list[dict[str, str]]:
    """Compare two texts line by line. Each line with a sign: "-" only in base, "+" only in other, " " in both.

    A line with the sign "@" stands where equal lines are left out. No lines: they are the same.
    """
    before, after = (text.splitlines()[-LINES_MAX:] for text in (base, other))
    found = difflib.unified_diff(before, after, lineterm="", n=CONTEXT)
    lines = list(found)[2:]  # without the names of the two files
    return [{"sign": "@", "text": ""} if line[:1] == "@" else {"sign": line[:1], "text": line[1:]} for line in lines]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, each in value.items():
        if isinstance(each, Mapping):
            yield from _flat(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each


def _change(one: Any, two: Any) -> float | None:
    # A bool is a number to Python, and none to a person.
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in (one, two)):
        return None
    change: float = round(two - one, 6)
    return change
