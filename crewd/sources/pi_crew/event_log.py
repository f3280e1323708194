"""The event log of one run, `events.jsonl`: each line once, through appends, compaction and rotation.

pi-crew rewrites the log in place with its last 1,000 events (a new inode, shorter, the same lines) or moves it aside
as `events.jsonl.<time>.archive.jsonl` and begins anew. Sequence numbers are nearly unique, have holes, and need not
stand in order.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from crewd.host.files import Root, Signature, signature
from crewd.model.look import Happening, ReadResult
from crewd.sources.fields import count, cut, fields, moment, text
from crewd.sources.growing import Growing, Line, Lines
from crewd.sources.names import valid_id
from crewd.sources.pi_crew.layout import ARCHIVE_ENDING, EVENTS

DATA_MAX = 4096  # bytes of one event's data; more is left out
WINDOW = 1024  # sequence numbers remembered below the highest: pi-crew keeps 1,000 events when it compacts
STRETCHES_OF_ARCHIVE = 8  # read at once when a log was moved aside

# Types that are told whole. All others are counted, and move the task that they name.
TOLD = frozenset({"crew.task.retry_attempt"})

# Written about a task by those who watch over it, not by its own moving.
ABOUT_NOT_BY = (
    "agent.",
    "budget.",
    "crew.",
    "mailbox.",
    "policy.",
    "recovery.",
    "review.",
    "run.",
    "task.attention",
    "task.claim",
    "task.reconciled",
    "task.status_transitioned",
    "task.steer",
    "worker.hard_kill",
    "worker.kill_stale",
    "worker.response_timeout",
)


class _Event(msgspec.Struct):
    type: Any = None
    time: Any = None
    taskId: Any = None
    message: Any = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    metadata: Any = None


_LINE = msgspec.json.Decoder(_Event)


class News(msgspec.Struct, frozen=True):
    """What one read of the log brought."""

    happenings: list[Happening]
    counted: int = 0  # events of types that are not told
    dropped: int = 0  # lines too long or not an event
    result: ReadResult = ReadResult.OK
    why: str = ""


class EventLog:
    """Follows the log of one run."""

    __slots__ = ("_counted", "_highest", "_log", "_seen", "moves")

    def __init__(self) -> None:
        self._log = Growing()
        self._highest = 0
        self._seen = 0  # bit i: the sequence number `_highest - i` was met
        self._counted = 0  # in the read under way
        self.moves: dict[str, int] = {}  # task id -> lines that tell of its moving, since the log was first seen

    def skip_to_end(self, seen: Signature) -> None:
        self._log.skip_to_end(seen)

    def note_absent(self) -> None:
        self._log.note_absent()

    @property
    def settled(self) -> Signature | None:
        """The signature under which there is nothing new; None where there was no file, or there is more to read."""
        return self._log.settled

    def is_settled(self, seen: Signature | None) -> bool:
        return self._log.is_settled(seen)

    def read(self, root: Root, folder: str, path: str, seen: Signature, run_id: str) -> News:
        """Read on. `folder` is the run's folder relative to `root`, `path` the log's full name."""
        news = News([])
        self._counted = 0
        if self._log.was_replaced(seen):
            rest, dropped, found = self._rest_of_archive(root, folder, path, run_id)
            brought = self._log.read(root, f"{folder}/{EVENTS}", seen)
            if found:
                brought = _as_new(brought)
                self._log.declare_new()
            news = News(rest, dropped=dropped)
        else:
            brought = self._log.read(root, f"{folder}/{EVENTS}", seen)
        happenings, malformed = self._take(brought.lines, run_id)
        return News(
            news.happenings + happenings,
            self._counted,
            news.dropped + malformed + brought.too_long,
            brought.result,
            brought.why,
        )

    def _rest_of_archive(self, root: Root, folder: str, path: str, run_id: str) -> tuple[list[Happening], int, bool]:
        """Find the log under the name it was moved to, and read what it gained before that."""
        inode, _ = self._log.place
        try:
            entries = root.names(folder)
        except OSError:
            return [], 0, False
        for entry in entries:
            if not entry.name.startswith(EVENTS + ".") or not entry.name.endswith(ARCHIVE_ENDING):
                continue
            moved = signature(f"{path[: -len(EVENTS)]}{entry.name}")
            if moved is None or moved.inode != inode:
                continue
            happenings: list[Happening] = []
            dropped = 0
            for _ in range(STRETCHES_OF_ARCHIVE):
                brought = self._log.read(root, f"{folder}/{entry.name}", moved)
                new, malformed = self._take(brought.lines, run_id)
                happenings += new
                dropped += malformed + brought.too_long
                if self._log.is_settled(moved) or brought.result is not ReadResult.OK:
                    break
            return happenings, dropped, True
        return [], 0, False

    def _take(self, lines: tuple[Line, ...], run_id: str) -> tuple[list[Happening], int]:
        happenings: list[Happening] = []
        malformed = 0
        for line in lines:
            try:
                event = _LINE.decode(line.data)
            except (msgspec.MsgspecError, RecursionError, ValueError):
                malformed += not line.repeated
                continue
            if not isinstance(event.type, str):
                malformed += not line.repeated
                continue
            seq = count(fields(event.metadata), "seq")
            if self._was_met(seq, line.repeated):
                continue
            task_id = event.taskId if valid_id(event.taskId) else ""
            if event.type in TOLD:
                happenings.append(_happening(event, run_id, task_id, seq))
            else:
                self._counted += 1
            if task_id and not line.backlog and not event.type.startswith(ABOUT_NOT_BY):
                self.moves[task_id] = self.moves.get(task_id, 0) + 1
        return happenings, malformed

    def _was_met(self, seq: int | None, repeated: bool) -> bool:
        """Say whether an event of this number was taken before, and remember it."""
        if seq is None:
            return repeated
        ahead = seq - self._highest
        if ahead > 0:
            self._seen = ((self._seen << ahead) | 1) & ((1 << WINDOW) - 1) if ahead < WINDOW else 1
            self._highest = seq
            return False
        if -ahead >= WINDOW:
            # Far below: read before, unless the numbers began anew while the file was read on.
            return repeated
        bit = 1 << -ahead
        if self._seen & bit:
            return True
        self._seen |= bit
        return False


def _as_new(brought: Lines) -> Lines:
    return Lines(tuple(Line(line.data) for line in brought.lines), brought.too_long, brought.result, brought.why)


def _happening(event: _Event, run_id: str, task_id: str, seq: int | None) -> Happening:
    data: dict[str, object] = {}
    if len(event.data) <= DATA_MAX:
        try:
            decoded = msgspec.json.decode(event.data)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            decoded = None
        if isinstance(decoded, dict):
            data = decoded
    if isinstance(event.message, str) and "message" not in data:
        data["message"] = cut(event.message, 512)
    written: Mapping[str, Any] = {"type": event.type, "time": event.time}
    return Happening(run_id, task_id, text(written, "type", 128), seq, moment(written, "time"), data)
