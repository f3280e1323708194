"""The end of a run's event log: the number of its last event, and whether one ended the run."""

from typing import Any

import msgspec

from crewd.host.files import Root
from crewd.model.look import ReadResult
from crewd.model.recovery import LogSeen
from crewd.sources.fields import count, fields
from crewd.sources.pi_crew.layout import EVENTS

READ_MAX = 1 << 20  # bytes of its end
ENDING = frozenset({"run.completed", "run.failed", "run.cancelled"})
# After one of these the run goes on, whatever was written before.
GOING_ON = frozenset({"run.running", "run.started", "run.planning", "crew.run.resumed", "task.started"})


class _Event(msgspec.Struct):
    type: str
    metadata: Any = None


_LINE = msgspec.json.Decoder(_Event)


def last_event(folder: str) -> LogSeen:
    """Read the end of the log of the run in `folder`. Never raises.

    A last line without its end is a torn append, and left out. Any other line that is no event, and a log without
    a single number, is a log from which nobody can say how far the run has come.
    """
    root = Root(folder)
    try:
        return _read(root)
    finally:
        root.close()


def _read(root: Root) -> LogSeen:
    found = root.read_range(EVENTS, 0, 1)
    if found.result is not ReadResult.OK or found.signature is None:
        return LogSeen(None, why=f"{EVENTS}: {found.why or found.result.value}")
    start = max(0, found.signature.size - READ_MAX)
    read = root.read_range(EVENTS, start, READ_MAX)
    if read.result is not ReadResult.OK:
        return LogSeen(None, why=f"{EVENTS}: {read.why or read.result.value}")
    lines = read.data.split(b"\n")
    lines = lines[1 if start else 0 : -1]  # whole ones
    highest, ended = 0, ""
    for line in lines:
        if not line.strip():
            continue
        try:
            event = _LINE.decode(line)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return LogSeen(None, why=f"{EVENTS}: a line of it is no event")
        highest = max(highest, count(fields(event.metadata), "seq") or 0)
        if event.type in ENDING:
            ended = event.type
        elif event.type in GOING_ON:
            ended = ""
    if not highest:
        return LogSeen(None, why=f"{EVENTS}: none of its events bears a number")
    return LogSeen(highest, ended)
