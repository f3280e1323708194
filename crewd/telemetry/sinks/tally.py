"""What a sink counts of itself, as one immutable value that another thread may read at any time."""

import errno
from collections.abc import Mapping
from dataclasses import replace

from crewd.telemetry.figures import SinkFigures

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NOT_PERMITTED = (errno.EACCES, errno.EPERM, errno.EROFS)


class SinkTally:
    """The figures of one sink. One thread writes; `figures` is replaced, never changed."""

    def __init__(self, sink: str, has_backlog: bool) -> None:
        self.figures = SinkFigures(sink, lag=0 if has_backlog else None)

    def wrote(self, records: int, size: int, at: float) -> None:
        """Count what is on disk."""
        figures = self.figures
        self.figures = replace(
            figures, records=figures.records + records, bytes=figures.bytes + size, last_write_at=at
        )

    def failed(self, reason: str) -> None:
        """Count a failure under one of families.SINK_ERRORS."""
        errors: Mapping[str, int] = self.figures.errors
        self.figures = replace(self.figures, errors={**errors, reason: errors.get(reason, 0) + 1})

    def lag(self, records: int) -> None:
        """Note how many events wait in the ledger."""
        self.figures = replace(self.figures, lag=records)

    def kept(self, at: float) -> None:
        """Note a complete clean-up."""
        self.figures = replace(self.figures, retention_at=at)


def reason_of(error: BaseException) -> str:
    """Name an error for the label `reason`."""
    if isinstance(error, OSError):
        if error.errno in NO_SPACE:
            return "no_space"
        return "permission" if error.errno in NOT_PERMITTED else "io_error"
    return "unexpected"
