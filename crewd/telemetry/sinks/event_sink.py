"""The event sink: every event of the ledger as one line, in order, at least once."""

import threading
from collections.abc import Iterable
from typing import Protocol

import msgspec
import structlog

from crewd.host.clock import Clock
from crewd.host.files import Root, write_atomically
from crewd.model.event import Event, as_record
from crewd.model.look import ReadResult
from crewd.telemetry.json_text import encode
from crewd.telemetry.redact import Redactor
from crewd.telemetry.sinks.day_file import DayFile, day_of
from crewd.telemetry.sinks.options import SinkOptions
from crewd.telemetry.sinks.tally import SinkTally

SIDE_FILE = "events-position.json"
SIDE_FILE_MAX = 4096


class EventLog(Protocol):
    """The ledger, read-only, as far as a sink needs it."""

    def events(self, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return the events after a seq, oldest first."""

    def last_seq(self) -> int: ...


class _Line(msgspec.Struct):
    seq: int


class SourceFailed(Exception):
    """The ledger could not be read just now."""


class EventSink:
    """Follows the ledger into day files. One thread at a time.

    Its position is the seq of the last line that it finds in its own newest file: lines and position cannot
    disagree. A side file remembers it as well, for the day on which someone removes that file.
    """

    def __init__(
        self,
        options: SinkOptions,
        log: EventLog,
        clock: Clock,
        redactor: Redactor,
        tally: SinkTally,
        hurry: threading.Event | None = None,
    ) -> None:
        self.file = DayFile(options.folder, "events", options.linger, hurry)
        self._options = options
        self._log = log
        self._clock = clock
        self._redactor = redactor
        self._tally = tally
        self._position: int | None = None  # None: to be found
        self._known_position = 0  # the latest that was found

    def pump(self) -> bool:
        """Write one batch of what is not yet written; True: there may be more.

        Raises OSError or SourceFailed. Then nothing is lost: the next pump begins where the files end.
        """
        try:
            position = self._find_position() if self._position is None else self._position
            events = self._read(position)
            for wall, batch in _by_day(events):
                self._write(batch, wall)
        except BaseException as error:
            if not isinstance(error, SourceFailed):
                self._note_lag()  # how far behind it is matters most while it cannot write
            self._position = None
            self.file.close()
            raise
        self._note_lag()
        return len(events) == self._options.batch

    def _note_lag(self) -> None:
        if self._position is not None:
            self._known_position = self._position
        self._tally.lag(max(0, self._last_seq() - self._known_position))

    def _write(self, events: list[Event], wall: float) -> None:
        now = self._clock.read().wall
        data = b"".join(encode(self._redactor.value(as_record(event))) + b"\n" for event in events)
        day = self.file.day
        self.file.write(data, wall, now)
        self._position = events[-1].seq
        self._tally.wrote(len(events), len(data), now)
        # Written after the lines are safe, so that it never claims more than there is.
        side = encode({"seq": self._position})
        write_atomically(f"{self._options.folder}/{SIDE_FILE}", side, durable=self.file.day != day)

    def _find_position(self) -> int:
        if self.file.open():
            self._tally.failed("torn_tail")
        position = max(self._last_written(), self._remembered())
        last = self._last_seq()
        if position > last:
            # The ledger was replaced by a younger one. Waiting for it to catch up would lose what it holds now.
            self._tally.failed("position_ahead")
            structlog.get_logger("crewd.sinks").warning("sink.position_ahead", position=position, ledger=last)
            position = 0
        self._position = position
        return position

    def _last_written(self) -> int:
        decoder = msgspec.json.Decoder(_Line)
        for line in self.file.lines_from_end():
            try:
                return decoder.decode(line).seq
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # damaged by someone else: the line before it counts
        return 0

    def _remembered(self) -> int:
        with Root(self._options.folder) as root:
            side = root.read(SIDE_FILE, SIDE_FILE_MAX)
        if side.result is not ReadResult.OK:
            return 0
        try:
            return msgspec.json.decode(side.data, type=_Line).seq
        except (msgspec.DecodeError, UnicodeDecodeError):
            return 0

    def _read(self, position: int) -> list[Event]:
        try:
            return self._log.events(after=position, limit=self._options.batch)
        except Exception as error:
            raise SourceFailed(f"ledger: {error}") from error

    def _last_seq(self) -> int:
        try:
            return self._log.last_seq()
        except Exception as error:
            raise SourceFailed(f"ledger: {error}") from error


def _by_day(events: Iterable[Event]) -> list[tuple[float, list[Event]]]:
    """Part events, in their order, where the UTC day changes."""
    parts: list[tuple[float, list[Event]]] = []
    for event in events:
        if not parts or day_of(parts[-1][0]) != day_of(event.at):
            parts.append((event.at, []))
        parts[-1][1].append(event)
    return parts
