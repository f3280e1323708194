"""The journal: whether what is written to a stream ends there."""

import os
from typing import TextIO


def leads_to_journal(stream: TextIO, journal_stream: str) -> bool:
    """Compare a stream with $JOURNAL_STREAM, `DEVICE:INODE` of the journal's socket (systemd.exec(5)).

    The variable alone proves nothing: it is inherited by children whose output was led elsewhere.
    """
    if not journal_stream:
        return False
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return journal_stream == f"{seen.st_dev}:{seen.st_ino}"
