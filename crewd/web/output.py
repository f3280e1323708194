"""Output: what may be told of a piece that a worker wrote, and how it is told without its secrets.

A secret is recognised in a whole line. So a piece ends where a line ends; what comes after it is told once its line
is whole, or nothing more comes.
"""

from crewd.telemetry.redact import Redactor

BEGIN, END = b"-----BEGIN ", b"-----END "
WORD_BYTES_MAX = 8 * 1024  # longer ones are cut anywhere


def ripe(data: bytes, full: bool, ended: bool) -> int:
    """Say how many bytes of a piece may be told. `full`: the piece is as large as was asked for."""
    if ended:
        return len(data)
    cut = data.rfind(b"\n") + 1
    if not cut and full:
        # A line larger than the piece has to be told in parts: between two words, since no secret has a blank in it.
        blank = max(data.rfind(b" "), data.rfind(b"\t")) + 1
        cut = blank if blank > max(0, len(data) - WORD_BYTES_MAX) else len(data)
    # A key of many lines is a secret as a whole: its beginning waits for its end, unless no piece can hold both.
    begin = data.rfind(BEGIN, 0, cut)
    if begin >= 0 and b"PRIVATE KEY" in data[begin : begin + 80] and data.find(END, begin, cut) < 0:
        return begin or (cut if full else 0)
    return cut


def redacted(data: bytes, redactor: Redactor, whole: bool = True) -> bytes:
    """Take the secrets out. Bytes that are no UTF-8 stay as they are.

    Where the last line is not `whole`, a secret may be half written: its first half is left out as well.
    """
    text = data.decode("utf-8", "surrogateescape")
    shown = text if whole else text[: len(text) - redactor.begun(text)]
    return redactor.text(shown).encode("utf-8", "surrogateescape")
