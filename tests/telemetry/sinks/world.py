"""A ledger in memory, and day files read back as a shipper would read them."""

import gzip
import json
from pathlib import Path
from typing import Any

from crewd.model.event import Event

DAY = 86400.0
NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


class Log:
    """A ledger of events; `broken` makes it unreadable."""

    def __init__(self) -> None:
        self.kept: list[Event] = []
        self.broken = False

    def add(self, count: int = 1, at: float = NOON, **data: Any) -> None:
        for _ in range(count):
            seq = len(self.kept) + 1
            self.kept.append(Event("task.started", at, {"n": seq, **data}, "r1", "t1", 1, "pi_crew", "blue", seq=seq))

    def events(self, after: int = 0, limit: int = 1000) -> list[Event]:
        if self.broken:
            raise RuntimeError("the ledger is busy")
        return [event for event in self.kept if event.seq > after][:limit]

    def last_seq(self) -> int:
        return len(self.kept)


def seqs(path: Path) -> list[int]:
    """Every line of one day file, which must be whole."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line)["seq"] for line in data.splitlines()]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.is_symlink()}
