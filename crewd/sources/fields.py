"""Lenient reading of foreign objects, field by field: a field of a wrong type counts as absent."""

import math
from collections.abc import Mapping
from sys import intern
from typing import Any

from crewd.model.moment import parse_rfc3339
from crewd.sources.document import as_text

Fields = Mapping[str, Any]
NO_FIELDS: Fields = {}
NO_EXTRA: dict[str, str] = {}  # one for all: most runs have none, and there are many
EXTRA_MAX = 4096  # characters, for all unknown fields of one object
COUNT_MAX = 1 << 53  # what a JSON number of JavaScript can count to


def fields(value: object) -> Fields:
    """Take an object; nothing else has fields."""
    return value if isinstance(value, dict) else NO_FIELDS


def text(of: Fields, name: str, limit: int = 512) -> str:
    value = of.get(name)
    return cut(value, limit) if isinstance(value, str) else ""


def cut(value: str, limit: int) -> str:
    """Shorten a text without cutting a word in two: half a secret would be recognised by nobody, and read by all."""
    if len(value) <= limit:
        return value
    front = value[:limit]
    if value[limit].isspace():
        return front
    whole = front.rsplit(None, 1)
    return whole[0] if len(whole) == 2 or front[-1:].isspace() else ""


def tail(value: str, limit: int) -> str:
    """The end of a text, from the beginning of a word on."""
    if len(value) <= limit:
        return value
    end = value[-limit:]
    if value[-limit - 1].isspace():
        return end
    whole = end.split(None, 1)
    return whole[1] if len(whole) == 2 else ""


def word(of: Fields, name: str) -> str:
    """Take a text that comes from a small set, so that many runs share one copy."""
    value = of.get(name)
    return intern(value[:128]) if isinstance(value, str) else ""


def count(of: Fields, name: str) -> int | None:
    """Take a number that counts something. A redacted one (`"***"`) is none."""
    value = of.get(name)
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 <= value <= COUNT_MAX else None


def amount(of: Fields, name: str) -> float | None:
    """Take a number that is not below 0."""
    value = of.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= COUNT_MAX:
        return None
    return float(value)


def moment(of: Fields, name: str) -> float | None:
    """Take a time written as RFC 3339."""
    value = of.get(name)
    return parse_rfc3339(value) if isinstance(value, str) and len(value) <= 64 else None


def moment_of_milliseconds(of: Fields, name: str) -> float | None:
    """Take a time written as milliseconds since 1970."""
    value = amount(of, name)
    return value / 1000 if value is not None and math.isfinite(value) else None


def pid_of(of: Fields, name: str) -> int | None:
    value = count(of, name)
    return value if value is not None and 0 < value < 1 << 22 else None  # PID_MAX_LIMIT of 64-bit Linux


def unknown(of: Fields, known: frozenset[str]) -> dict[str, str]:
    """Keep what this version has no name for, as JSON text, all of it within `EXTRA_MAX` characters."""
    strangers = of.keys() - known
    if not strangers:
        return NO_EXTRA
    kept: dict[str, str] = {}
    left = EXTRA_MAX
    for name in sorted(strangers):
        label = name[:128]
        if left <= len(label):
            break
        kept[label] = as_text(of[name], left - len(label))
        left -= len(label) + len(kept[label])
    return kept
