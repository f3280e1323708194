"""The write-ahead log beside the ledger: how large it is, and whether anything acknowledged was lost from its middle.

SQLite reads its log up to the first frame whose checksum is wrong, and says nothing. At the end of the log that is
right: a torn last transaction was never acknowledged. Damage further up silently takes every later commit with it.
Layout of the file: https://sqlite.org/fileformat2.html#the_write_ahead_log
"""

import struct
from pathlib import Path
from typing import BinaryIO

import apsw

HEADER = 32
FRAME_HEADER = 24
FRAMES_MAX = 100_000  # looked at: bounds the length of a start
MAGIC_BIG_ENDIAN = 0x377F0683

Sum = tuple[int, int]


def size(path: Path) -> int:
    """Bytes of the log beside the ledger `path`; 0 where there is none."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def lost_after(path: Path, connection: apsw.Connection) -> str:
    """Say what was lost from the middle of the log; "" where nothing was. Call before anything is written."""
    accepted, _ = connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_NOOP)
    with path.with_name(path.name + "-wal").open("rb") as file:
        header = file.read(HEADER)
        if len(header) < HEADER or not file.read(1):
            return ""  # the log was being begun; nothing was in it
        log = _Log(file, header)
        # It is synced before the first frame is written behind it.
        return log.lost_after(max(accepted, 0)) if log.sound else "its head is broken, and frames lie behind it"


class _Log:
    def __init__(self, file: BinaryIO, header: bytes) -> None:
        magic, _, self._page_size, _, *self._salts, one, two = struct.unpack(">8I", header)
        self._file = file
        self._order = ">" if magic == MAGIC_BIG_ENDIAN else "<"
        self._start: Sum = (one, two)
        self.sound = checksum(header[:24], (0, 0), self._order) == self._start

    def lost_after(self, accepted: int) -> str:
        """Look behind the last frame that SQLite accepts for a transaction that can only have been acknowledged.

        Each commit is synced before the next is written. So behind a broken transaction no other may continue its
        checksum, unless the break came later.
        """
        last = self._frame(accepted - 1) if accepted else None
        before = self._start if last is None else last.written
        continued: set[Sum] = set()  # what the frame behind the broken transaction has to continue
        for number in range(accepted, accepted + FRAMES_MAX):
            frame = self._frame(number)
            if frame is None:
                return ""
            if continued:
                # If not: the frame of an older log, or what is left of a longer attempt that failed.
                if frame.salts != self._salts or not any(frame.follows(each) for each in continued):
                    return ""
                return f"the transaction at frame {accepted + 1} is broken, and acknowledged ones lie behind it"
            if frame.commits:
                # What it carries, or what it should carry: the checksum itself may be what broke.
                continued = {frame.written, frame.sum_after(before)}
            before = frame.written
        return ""

    def _frame(self, number: int) -> "_Frame | None":
        self._file.seek(HEADER + number * (FRAME_HEADER + self._page_size))
        data = self._file.read(FRAME_HEADER + self._page_size)
        return _Frame(data, self._order) if len(data) == FRAME_HEADER + self._page_size else None


class _Frame:
    """One page in the log, as it stands there."""

    def __init__(self, data: bytes, order: str) -> None:
        _, self.commits, *self.salts, one, two = struct.unpack(">6I", data[:FRAME_HEADER])
        self.written: Sum = (one, two)
        self._covered = data[:8] + data[FRAME_HEADER:]
        self._order = order

    def follows(self, before: Sum) -> bool:
        return self.sum_after(before) == self.written

    def sum_after(self, before: Sum) -> Sum:
        return checksum(self._covered, before, self._order)


def checksum(data: bytes, before: Sum, order: str) -> Sum:
    """Continue the log's running checksum over `data`, whose length is a multiple of 8."""
    one, two = before
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
