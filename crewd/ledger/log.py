"""The write-ahead log beside the ledger: how large it is, and whether anything acknowledged was lost from its middle.

SQLite reads its log up to the first frame whose checksum is wrong, and says nothing. At the end of the log that is
right: a torn last transaction was never acknowledged. Damage further up silently takes every later commit with it.
Layout of the file: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

import struct
from pathlib import Path
from typing import BinaryIO

import apsw

from crewd.ledger.schema import PAGE_SIZE

HEADER = 32
FRAME_HEADER = 24
FRAMES_MAX = 100_000  # looked at: bounds the length of a start
MAGIC_BIG_ENDIAN = 0x377F0683
MAGIC = (0x377F0682, MAGIC_BIG_ENDIAN)

Sum = tuple[int, int]
Pages = dict[int, int]  # page number -> the frame that holds it


def size(path: Path) -> int:
    """Bytes of the log beside the ledger `path`; 0 where there is none."""
    try:
        return _log_of(path).stat().st_size
    except FileNotFoundError:
        return 0


def lost_with_head(path: Path) -> str:
    """Say what was lost because the head of the log is broken; "" where nothing was.

    Call before the ledger is opened: closing a file that SQLite has open as well gives up its locks (fcntl(2)).
    """
    with _log_of(path).open("rb") as file, path.open("rb") as main:
        log = _Log(file)
        if log.sound or not log.frame(0):
            return ""  # a log that was just being begun holds nothing
        # The head is synced before the first frame is written, so it broke later; or it broke while the log was being
        # begun anew, which happens only when all of the old one is in the main file. All but the last transaction,
        # perhaps, which may have failed and never been acknowledged.
        if any(log.is_in(main, pages) for pages in log.last_states()):
            return ""
        return "the head of its log is broken, and acknowledged transactions lie behind it"


def lost_after(path: Path, connection: apsw.Connection) -> str:
    """Say what was lost from the middle of the log; "" where nothing was. Call before anything is written."""
    accepted, _ = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
    with _log_of(path).open("rb") as file:
        log = _Log(file)
        return log.lost_after(max(accepted, 0)) if log.sound else ""


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


class _Log:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        header = file.read(HEADER).ljust(HEADER, b"\0")
        magic, _, size, _, *self._salts, one, two = struct.unpack(">8I", header)
        self._order = ">" if magic == MAGIC_BIG_ENDIAN else "<"
        self._start: Sum = (one, two)
        self.sound = magic in MAGIC and checksum(header[:24], (0, 0), self._order) == self._start
        self.page_size = size if self.sound else PAGE_SIZE

    def last_states(self) -> tuple[Pages, Pages]:
        """What the newest frames make of the ledger: without their last transaction, and with it."""
        first = self.frame(0)
        salts = [] if first is None else first.salts
        # In the wrong order of bytes no frame continues another.
        return max((self._last_states(salts, order) for order in "<>"), key=lambda states: len(states[1]))

    def is_in(self, main: BinaryIO, pages: Pages) -> bool:
        for number, place in pages.items():
            main.seek((number - 1) * self.page_size)
            frame = self.frame(place)
            if frame is None or frame.page != main.read(self.page_size):
                return False
        return True

    def _last_states(self, salts: list[int], order: str) -> tuple[Pages, Pages]:
        before: Sum | None = None
        seen: Pages = {}
        former: Pages = {}
        last: Pages = {}
        for place in range(FRAMES_MAX):
            frame = self.frame(place)
            if frame is None or frame.salts != salts or (before and frame.sum_after(before, order) != frame.written):
                break
            seen[frame.number] = place
            before = frame.written
            if frame.commits:  # the size of the ledger in pages from here on
                former, last = last, {number: at for number, at in seen.items() if number <= frame.commits}
        return former, last

    def lost_after(self, accepted: int) -> str:
        """Look behind the last frame that SQLite accepts for a transaction that can only have been acknowledged.

        Each commit is synced before the next is written. So behind a broken transaction no other may continue its
        checksum, unless the break came later.
        """
        last = self.frame(accepted - 1) if accepted else None
        before = self._start if last is None else last.written
        continued: set[Sum] = set()  # what the frame behind the broken transaction has to continue
        for place in range(accepted, accepted + FRAMES_MAX):
            frame = self.frame(place)
            if frame is None:
                return ""
            if continued:
                # If not: the frame of an older log, or what is left of a longer attempt that failed.
                if frame.salts != self._salts or frame.written not in {
                    frame.sum_after(each, self._order) for each in continued
                }:
                    return ""
                return f"the transaction at frame {accepted + 1} is broken, and acknowledged ones lie behind it"
            if frame.commits:
                # What it carries, or what it should carry: the checksum itself may be what broke.
                continued = {frame.written, frame.sum_after(before, self._order)}
            before = frame.written
        return ""

    def frame(self, place: int) -> "_Frame | None":
        """Read a frame, from 0; None behind the end."""
        self._file.seek(HEADER + place * (FRAME_HEADER + self.page_size))
        data = self._file.read(FRAME_HEADER + self.page_size)
        return _Frame(data) if len(data) == FRAME_HEADER + self.page_size else None


class _Frame:
    """One page in the log, as it stands there."""

    def __init__(self, data: bytes) -> None:
        self.number, self.commits, *self.salts, one, two = struct.unpack(">6I", data[:FRAME_HEADER])
        self.written: Sum = (one, two)
        self.page = data[FRAME_HEADER:]
        self._head = data[:8]

    def sum_after(self, before: Sum, order: str) -> Sum:
        """What this frame should carry behind one that carries `before`."""
        return checksum(self._head + self.page, before, order)


def checksum(data: bytes, before: Sum, order: str) -> Sum:
    """Continue the log's running checksum over `data`, whose length is a multiple of 8."""
    one, two = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
