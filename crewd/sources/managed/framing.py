"""Lines out of bytes that arrive in pieces of any size, for crewd-worker/1 (docs/reference/worker-protocol.md)."""

from collections.abc import Iterator

import msgspec

LINE_BYTES_MAX = 1 << 20


class TooLong(msgspec.Struct, frozen=True, gc=False):
    """Stands where a line was that is over the limit. None of it is kept."""


TOO_LONG = TooLong()


class Lines:
    """Cuts bytes at 0x0A and nowhere else: U+2028 stays inside its line, as does a lone carriage return.

    What comes out depends on the bytes alone and never on how they were cut into pieces. Of an unfinished line at
    most `line_bytes_max` bytes are kept.
    """

    __slots__ = ("_begun", "_most", "_skipping", "too_long")

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._most = line_bytes_max
        self._begun = bytearray()
        self._skipping = False  # inside a line that was told to be too long
        self.too_long = 0  # lines dropped so far

    def feed(self, data: bytes) -> Iterator[bytes | TooLong]:
        """Take more bytes, all of them at once, and give the lines that end in them.

        Blank lines are left out, and so is one carriage return before the newline. A line that is too long is told
        as soon as that is certain: whoever never ends a line must not stay unheard.
        """
        *whole, last = data.split(b"\n")
        found: list[bytes | TooLong] = []
        if whole:
            self._finish(whole)
            most = self._most
            for line in whole:
                if len(line) > most:
                    found.append(self._drop())
                elif line and not line.isspace():
                    found.append(line[:-1] if line[-1] == 13 else line)
        self._begin(last, found)
        return iter(found)

    def rest(self) -> bytes:
        """Give the last line of a stream that ended without a newline; b"" where there is none."""
        line = bytes(self._begun)
        self._begun.clear()
        self._skipping = False
        return b"" if line.isspace() else line.removesuffix(b"\r")

    def _finish(self, whole: list[bytes]) -> None:
        """Put the line that was begun before in front of the first that ends now."""
        if self._skipping:
            self._skipping = False
            del whole[0]
        elif self._begun:
            whole[0] = bytes(self._begun) + whole[0]
            self._begun.clear()

    def _begin(self, last: bytes, found: list[bytes | TooLong]) -> None:
        if self._skipping:
            return
        if len(self._begun) + len(last) > self._most:
            self._begun.clear()
            self._skipping = True
            found.append(self._drop())
        else:
            self._begun += last

    def _drop(self) -> TooLong:
        self.too_long += 1
        return TOO_LONG
