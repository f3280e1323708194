"""Keeping: day files of before yesterday become .gz, and the oldest go, by age and by the size of all together."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from crewd.host.archive import compress, remove, stored
from crewd.telemetry.sinks.day_file import SECONDS_A_DAY, day_of
from crewd.telemetry.sinks.options import SinkOptions

SINKS = ("events", "metrics")
DAY_FILE = re.compile(r"(?:events|metrics)-([0-9]{4}-[0-9]{2}-[0-9]{2})\.jsonl(\.gz|\.torn)?")
LEFT_OVER = re.compile(r"\.(?:events|metrics)-[0-9-]{10}\.jsonl\.gz\.tmp")


@dataclass
class Kept:
    """What one clean-up did."""

    compressed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def keep(options: SinkOptions, in_use: Callable[[], Collection[str]], now: float) -> Kept:
    """Clean up once. `in_use` names the files that are open: they are never touched. Raises OSError."""
    kept = Kept()
    # Yesterday's stay as they are: whoever ships lines by file and fell behind has a day to read them to their end.
    plain = (day_of(max(0.0, now - SECONDS_A_DAY)), day_of(now))
    horizon = day_of(max(0.0, now - options.retention_days * SECONDS_A_DAY))
    for name, _ in stored(options.folder):
        match = DAY_FILE.fullmatch(name)
        if LEFT_OVER.fullmatch(name) or (match and match[1] < horizon and name not in in_use()):
            remove(f"{options.folder}/{name}")
            kept.removed.append(name)
        elif match and match[2] is None and options.gzip and match[1] not in plain and name not in in_use():
            compress(f"{options.folder}/{name}")
            kept.compressed.append(name)
    _shrink(options, in_use, kept)
    return kept


def _shrink(options: SinkOptions, in_use: Callable[[], Collection[str]], kept: Kept) -> None:
    found = [(match[1], each) for each in stored(options.folder) if (match := DAY_FILE.fullmatch(each.name))]
    total = sum(each.size for _, each in found)
    for _, each in sorted(found):
        if total <= options.retention_bytes:
            return
        if each.name not in in_use():
            remove(f"{options.folder}/{each.name}")
            kept.removed.append(each.name)
            total -= each.size
