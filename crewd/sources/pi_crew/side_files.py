"""The small files beside a manifest that name processes, read when one of them changed."""

from collections.abc import Iterator

import msgspec

from crewd.host.files import Signature
from crewd.model.look import ReadResult
from crewd.sources.document import parse
from crewd.sources.file_watch import FileWatch
from crewd.sources.pi_crew.layout import ASYNC_PID, HEARTBEAT, OWNERSHIP
from crewd.sources.pi_crew.runner import NO_SIDE, async_pid_of, heartbeat_of, owners_of
from crewd.sources.pi_crew.where import Where

SIDE_FILES = (ASYNC_PID, HEARTBEAT, OWNERSHIP)


class SideFiles:
    """What they say of one run. What cannot be read leaves the former word in force."""

    __slots__ = ("_met", "side")

    def __init__(self) -> None:
        self.side = NO_SIDE
        self._met: tuple[tuple[str, FileWatch], ...] = ()

    def settled(self) -> Iterator[tuple[str, Signature | None]]:
        """Name those that were met, each with the signature under which there is nothing to be read."""
        for name, watch in self._met:
            yield name, watch.settled

    def read(self, where: Where, names: frozenset[str]) -> bool:
        """Read what changed of those that stand in the folder, or once did. Say whether another process is named."""
        before = self.side
        if len(self._met) < len(SIDE_FILES):
            known = {name for name, _ in self._met}
            new = (name for name in SIDE_FILES if name in names and name not in known)
            self._met += tuple((name, FileWatch(where.folder, name)) for name in new)
        for name, watch in self._met:
            got = watch.read(where.root, f"{where.relative}/{name}", where.options.file_max)
            if got is None or got.result is not ReadResult.OK:
                continue
            document = parse(got.data)
            if document.result is ReadResult.OK:
                self._take(name, document.value)
            else:
                watch.reject(document.result, document.why)
        return self.side is not before

    def _take(self, name: str, value: object) -> None:
        if name == ASYNC_PID:
            self.side = msgspec.structs.replace(self.side, async_pid=async_pid_of(value))
        elif name == OWNERSHIP:
            self.side = msgspec.structs.replace(self.side, owners=owners_of(value))
        else:
            record = heartbeat_of(value)
            former = self.side.heartbeat
            if record is not None and (former is None or former.pid != record.pid):
                # The runner beats every 15 s; that it is the same process as before is no news.
                self.side = msgspec.structs.replace(self.side, heartbeat=record)
