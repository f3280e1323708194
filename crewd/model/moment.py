"""Moments: what three clocks said at once, and how a wall time is written."""

from datetime import UTC, datetime
from functools import lru_cache

import msgspec

# The first and the last second that can be written (years 1 to 9999).
MOMENT_MIN, MOMENT_MAX = -62_135_596_800.0, 253_402_300_799.0


class Reading(msgspec.Struct, frozen=True, gc=False):
    """All three clocks, read together. Only `wall` may jump; only `boot` runs on while the machine sleeps.

    `mono` is CLOCK_MONOTONIC, which on Linux stands still in suspend, `boot` is CLOCK_BOOTTIME, which
    does not (clock_gettime(2)). All three are seconds.
    """

    wall: float
    mono: float
    boot: float


@lru_cache(maxsize=256)  # one round tells many things at one moment
def rfc3339(wall: float) -> str:
    """Write epoch seconds as RFC 3339 in UTC with milliseconds and `Z`: `2026-11-21T02:13:00.250Z`."""
    # Rounded down, as a clock shows it: a record never carries a time that has not yet come.
    moment = datetime.fromtimestamp(wall, UTC)
    # %Y is not filled up to the four digits of RFC 3339.
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def parse_rfc3339(text: str) -> float | None:
    """Read what a runtime wrote as a time; None where it is no time. A time without a zone is UTC.

    None also where its zone carries it out of the years that can be written.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        wall = moment.timestamp()
    except (OverflowError, ValueError):
        return None
    return wall if MOMENT_MIN <= wall <= MOMENT_MAX else None
