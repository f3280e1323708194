"""The end of a run's event log: the number of its last event, and whether one ended the run."""

from typing import Any

import msgspec

from crewd.host.files import Root
from crewd.model.look import ReadResult
from crewd.model.recovery import LogSeen
from crewd.sources.fields import count, fields
from crewd.sources.pi_crew.layout import EVENTS

END = 16 << 10  # bytes of its end, in which every line must be an event: some 45 of them
READ_MAX = 1 << 20  # bytes of its end in which is looked for the latest word on the run
ENDING = frozenset({"run.completed", "run.failed", "run.cancelled"})
# After one of these the run goes on, whatever was written before.
GOING_ON = frozenset({"run.running", "run.started", "run.planning", "crew.run.resumed", "task.started"})
BEGINNINGS = (b'"run.', b'"crew.run.resumed"', b'"task.started"')  # how each of them is written, whatever the spacing


class _Event(msgspec.Struct):
    type: str
    metadata: Any = None


_LINE = msgspec.json.Decoder(_Event)


def last_event(folder: str) -> LogSeen:
    """Read the end of the log of the run in `folder`. Never raises.

    A last line without its end is a torn append, and left out. Any other line at the end that is no event, and an end
    without a single number, is a log from which nobody can say how far the run has come. Numbers may be out of order
    where several write, but not by more than a moment.
    """
    root = Root(folder)
    try:
        return _read(root, END)
    finally:
        root.close()


def _read(root: Root, end: int) -> LogSeen:
    read = root.read_end(EVENTS, end)
    if read.result is not ReadResult.OK:
        return LogSeen(None, why=f"{EVENTS}: {read.why or read.result.value}")
    lines = read.data.split(b"\n")
    whole = lines[1 if read.offset else 0 : -1]
    highest, latest = 0, ""
    for line in whole:
        if not line.strip():
            continue
        event = _event(line)
        if event is None:
            return LogSeen(None, why=f"{EVENTS}: a line of it is no event")
        highest = max(highest, count(fields(event.metadata), "seq") or 0)
        latest = event.type if event.type in ENDING or event.type in GOING_ON else latest
    if not highest and read.offset and end < READ_MAX:
        return _read(root, READ_MAX)  # its last lines are long ones
    if not highest:
        return LogSeen(None, why=f"{EVENTS}: none of its events bears a number")
    if not latest and read.offset:
        latest = _latest_before(root, read.offset + len(lines[0]))
    return LogSeen(highest, latest if latest in ENDING else "")


def _latest_before(root: Root, end: int) -> str:
    """Look further up for the type of the latest event that says whether the run goes on; "" where there is none.

    What a busy agent does fills the log by the thousand: only lines that may be such an event are taken apart.
    """
    start = max(0, end - (READ_MAX - END))
    data = root.read_range(EVENTS, start, end - start).data
    end = len(data)
    while (at := max(data.rfind(word, 0, end) for word in BEGINNINGS)) >= 0:
        begins = data.rfind(b"\n", 0, at) + 1
        ends = data.find(b"\n", at)
        event = _event(data[begins:] if ends < 0 else data[begins:ends])
        if event is not None and (event.type in ENDING or event.type in GOING_ON):
            return event.type
        end = begins
    return ""


def _event(line: bytes) -> _Event | None:
    try:
        return _LINE.decode(line)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
