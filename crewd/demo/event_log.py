"""The event log of one played run, with its sidecar, kept short as pi-crew keeps it."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from crewd.demo.records import Record, event_record
from crewd.host.files import write_atomically

# pi-crew 0.10: every 100 appends, a log above this size is replaced by its last 1,000 lines, in a new file.
COMPACT_ABOVE = 4_000_080
COMPACT_EVERY = 100
KEPT = 1_000


class EventLog:
    """`events.jsonl`: one line an event, `seq` in its metadata, the latest `seq` in a file beside it."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._path = folder / "events.jsonl"
        self._run_id = run_id
        self._unchecked = 0
        self.seq = 0
        self.bytes_written = 0

    def line(self, type: str, wall: float, task_id: str = "", message: str = "", data: Record | None = None) -> bytes:
        """Number one event and write it as a line; `append` puts it into the log."""
        self.seq += 1
        return msgspec.json.encode(event_record(self.seq, type, self._run_id, wall, task_id, message, data)) + b"\n"

    def append(self, lines: Iterable[bytes]) -> None:
        """Add lines at the end."""
        lines = list(lines)
        data = b"".join(lines)
        with self._path.open("ab") as log:
            log.write(data)
        self.bytes_written += len(data)
        self._path.with_name("events.jsonl.seq").write_text(str(self.seq))
        self._unchecked += len(lines)
        if self._unchecked >= COMPACT_EVERY:
            self._unchecked = 0
            self._compact()

    def _compact(self) -> None:
        if self._path.stat().st_size > COMPACT_ABOVE:
            kept = self._path.read_bytes().splitlines(keepends=True)[-KEPT:]
            write_atomically(self._path, b"".join(kept), durable=False)
