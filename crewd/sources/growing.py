"""Following a file that others append to: every whole line once, whatever becomes of the file meanwhile."""

import msgspec

from crewd.host.files import Root, Signature
from crewd.model.look import ReadResult

STRETCH = 1 << 20  # bytes of one read, and so the longest line that is taken


class Line(msgspec.Struct, frozen=True, gc=False):
    """One whole line, without its newline."""

    data: bytes
    # The file was replaced or cut, and this line stood in it when that was seen: it may have been read before.
    repeated: bool = False
    backlog: bool = False  # was there before the file was first seen


class Lines(msgspec.Struct, frozen=True):
    """What one read of a growing file brought."""

    lines: tuple[Line, ...] = ()
    too_long: int = 0  # lines over `STRETCH`, dropped
    result: ReadResult = ReadResult.OK
    why: str = ""


NOTHING = Lines()


class Growing:
    """The place up to which one append-only file has been read.

    A line without its newline waits for it. A file that was replaced (another inode) or cut (shorter than what was
    read) is read again from its beginning, its lines marked `repeated`.
    """

    __slots__ = ("_backlog_end", "_behind", "_inode", "_offset", "_repeated_end", "_signature", "_skipping")

    def __init__(self) -> None:
        self._inode = 0
        self._offset = 0
        self._signature: Signature | None = None
        self._behind = False
        self._skipping = False  # inside a line that is too long, or one that began before the first sight
        self._repeated_end = 0
        self._backlog_end = -1  # not known yet

    @property
    def place(self) -> tuple[int, int]:
        """Inode and offset up to which everything was read."""
        return self._inode, self._offset

    @property
    def settled(self) -> Signature | None:
        """The signature under which there is nothing new; None where there was no file, or there is more to read."""
        return None if self._behind else self._signature

    def is_settled(self, signature: Signature | None) -> bool:
        """Say whether a file of this signature has nothing new to give."""
        return signature == self._signature and not self._behind

    def skip_to_end(self, signature: Signature) -> None:
        """Leave unread what stands there now; only what is appended later counts."""
        self._inode, self._signature, self._behind = signature.inode, signature, False
        # One byte back: if it is no newline, the rest of that line is not a line.
        self._offset = max(0, signature.size - 1)
        self._skipping = signature.size > 0
        self._backlog_end = self._repeated_end = 0

    def note_absent(self) -> None:
        """Note that there is no such file yet: all that it will hold is new."""
        if self._inode == 0:
            self._backlog_end = 0

    def was_replaced(self, signature: Signature) -> bool:
        """Say whether the file of this signature is not the one, or not the length, that was read before."""
        return self._inode != 0 and (signature.inode != self._inode or signature.size < self._offset)

    def read(self, root: Root, relative: str, signature: Signature) -> Lines:
        """Read on by at most one stretch."""
        if self._inode == 0:
            self._inode = signature.inode
            if self._backlog_end < 0:
                self._backlog_end = signature.size
        elif self.was_replaced(signature):
            self._inode, self._offset, self._skipping = signature.inode, 0, False
            self._repeated_end, self._backlog_end = signature.size, 0
        self._signature = signature
        self._behind = False
        if signature.size <= self._offset:
            return NOTHING
        got = root.read_range(relative, self._offset, STRETCH)
        if got.result is not ReadResult.OK or got.signature is None:
            self._signature = None  # try again next time
            return Lines(result=got.result, why=got.why)
        if got.signature.inode != self._inode or got.signature.size < self._offset:
            self._signature = None  # replaced in this moment; the next look sees a new signature
            return NOTHING
        self._behind = got.end < got.signature.size
        return self._cut(got.data)

    def declare_new(self) -> None:
        """Take the lines of a replaced file for new ones: the former file lives on under another name."""
        self._repeated_end = 0

    def _cut(self, data: bytes) -> Lines:
        end = data.rfind(b"\n") + 1
        if end == 0:
            return self._without_newline(data)
        pieces = data[: end - 1].split(b"\n")
        position = self._offset
        self._offset += end
        lines: list[Line] = []
        for piece in pieces:
            if self._skipping:
                self._skipping = False
            elif piece.strip():
                lines.append(Line(piece, position < self._repeated_end, position < self._backlog_end))
            position += len(piece) + 1
        return Lines(tuple(lines))

    def _without_newline(self, data: bytes) -> Lines:
        if self._skipping:
            self._offset += len(data)
            return NOTHING
        if len(data) < STRETCH:
            return NOTHING
        self._offset += len(data)
        self._skipping = True
        return Lines(too_long=1)
