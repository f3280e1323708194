"""Durations and sizes as people write them: "1m30s", "500ms", "16MiB"."""

import math
import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
DURATION_PATTERN = r"^(\d+(\.\d+)?(ms|s|m|h|d))+$|^\d+(\.\d+)?$"
SIZE_PATTERN = r"^\d+(\.\d+)? ?(B|[kK]B|MB|GB|KiB|MiB|GiB|TiB)?$"

# No quantity is longer. In a longer text the search for parts would take time that grows with its square.
_TEXT_MAX = 64

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)")


def seconds(value: object) -> float:
    """Read a duration: a number is seconds, a text is `1d2h3m4s5ms` or any part of it. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a duration")  # noqa: TRY004 - pydantic passes on ValueError alone
    try:
        number = _seconds_of(value.strip()) if isinstance(value, str) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{_shown(value)} is not a duration")
    return number


def size(value: object) -> int:
    """Read a size in bytes: a whole number, or a text with a unit. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is not a size in bytes")  # noqa: TRY004 - pydantic passes on ValueError alone
    if isinstance(value, int):
        number = value
    else:
        match = _SIZE.fullmatch(value.strip()) if len(value) <= _TEXT_MAX else None
        if match is None or match[2] not in _BYTES:
            raise ValueError(f"{_shown(value)} is not a size in bytes")
        number = int(float(match[1]) * _BYTES[match[2]])
    if number < 0:
        raise ValueError(f"{_shown(value)} is not a size in bytes")
    return number


def duration_text(value: float) -> str:
    """Write seconds the shortest way that `seconds` reads back: 90 is "1m30s"."""
    left = round(value * 1000)
    if left == 0:
        return "0s"
    parts = []
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def size_text(value: int) -> str:
    """Write bytes the shortest way that `size` reads back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return str(value)


def _seconds_of(text: str) -> float:
    if len(text) > _TEXT_MAX:
        raise ValueError(f"{_shown(text)} is not a duration")
    parts = _PART.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a duration") from None


def _shown(value: object) -> str:
    # Not even repr() of every whole number: beyond 4300 digits Python refuses to write one.
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a number beyond 2**63"
    text = repr(value)
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…"
