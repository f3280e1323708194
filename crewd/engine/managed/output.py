"""Output: what attempts wrote, read in pieces, and given back to the disk where it is too much."""

from collections.abc import Sequence

from crewd.engine.managed.attempt import Attempt
from crewd.host.attempt_folder import STDERR, STDOUT, folder_of
from crewd.host.holes import give_back
from crewd.host.tails import Follow, size
from crewd.model.asking import OutputPiece
from crewd.model.managed import AT_WORK, ManagedTask
from crewd.model.plan import Mode

STREAMS = {"stdout": STDOUT, "stderr": STDERR}


def read_output(
    root: str, task: ManagedTask, attempt: int, stream: str, offset: int, limit: int
) -> OutputPiece | None:
    """Read a piece of one attempt's output; None: there is no such attempt, or nothing is kept of it."""
    if not 1 <= attempt <= task.attempt or stream not in STREAMS:
        return None
    path = f"{folder_of(root, task.run_id, task.task_id, attempt)}/{STREAMS[stream]}"
    # First whether it may still grow, and then the reading: nothing can be missed between the two.
    ended = not (isinstance(task.state, AT_WORK) and attempt == task.attempt)
    try:
        with Follow.open(path, offset) as follow:
            data = follow.read(limit)
            begins = follow.offset - len(data)
            return OutputPiece(data, begins, ended and follow.offset >= follow.size(), attempt)
    except OSError:
        return None


def trim(attempts: Sequence[Attempt]) -> int:
    """Give the older output of those back who wrote more than they may keep; returns how many did."""
    trimmed = 0
    for attempt in attempts:
        most = attempt.plan.limits.output_bytes
        # What a protocol worker says is read from its beginning after a restart: too much of it ends the attempt.
        names = (STDERR,) if attempt.plan.mode is Mode.PROTOCOL else (STDOUT, STDERR)
        for name in names:
            heard = attempt.heard if name == STDOUT else None
            trimmed += bool(attempt.folder) and _trimmed(f"{attempt.folder}/{name}", most, heard)
    return trimmed


def _trimmed(path: str, most: int, heard: int | None) -> bool:
    try:
        surplus = size(path) - most
        if heard is not None:
            surplus = min(surplus, heard)
        return surplus > 0 and give_back(path, surplus)
    except OSError:
        return False  # its worker put something else in its place, or takes it away just now
