"""What can go wrong with the ledger: after two of these errors a caller goes on, after the rest it cannot start."""

from pathlib import Path
from typing import ClassVar

from crewd.errors import CrewdError, DaemonUnreachable, Refused
from crewd.model.work import Unavailable


class LedgerError(CrewdError):
    """Everything that the ledger raises on purpose."""


class LedgerFailed(LedgerError, Unavailable):
    """Nothing of this call may be relied upon: the ledger goes on without it, in this process.

    Should the process end before the disk works again, its successor may find the batch whole, or not at all. A later
    commit is tried on a fresh connection; until one succeeds: degraded.
    """


class LedgerForbidden(LedgerFailed):
    """The state folder is not this user's to write. Nothing was touched."""

    exit_code: ClassVar[int] = Refused.exit_code


class BatchRefused(LedgerError):
    """The batch holds a value that cannot be written; it was left out whole, and no other batch suffered."""


class KeyTaken(BatchRefused):
    """Another run was submitted with this idempotency key: the caller's run is that one. `run_id` names it."""

    def __init__(self, run_id: str, key: str = "") -> None:
        super().__init__(f"the idempotency key {key!r} is that of run {run_id}; look at that run, or use another key")
        self.run_id = run_id
        self.key = key


class LedgerMissing(LedgerError):
    """There is no ledger to read; `crewd serve` makes one."""

    exit_code: ClassVar[int] = DaemonUnreachable.exit_code

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: there is no ledger here; start `crewd serve` once, or name its state folder")
        self.path = path


class LedgerLocked(LedgerError):
    """Another crewd writes this ledger. Nothing was touched."""

    exit_code: ClassVar[int] = Refused.exit_code

    def __init__(self, folder: Path, pid: int) -> None:
        super().__init__(f"{folder}: process {pid} already keeps this ledger; stop it, or use another state folder")
        self.folder = folder
        self.pid = pid


class LedgerTooNew(LedgerError):
    """A later version of crewd wrote this ledger. Nothing was touched."""

    exit_code: ClassVar[int] = Refused.exit_code

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"{path}: schema version {found}, but this crewd knows versions up to {known}; "
            "install the version of crewd that wrote it, or use another state folder"
        )
        self.found = found


class LedgerDamaged(LedgerError):
    """The file is not what crewd wrote. It is never repaired, skipped over or replaced unasked."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path}: damaged: {what}; restore {path.name} and {path.name}-wal together from a backup, or move both "
            "aside to begin a new history (`sqlite3 FILE .recover` reads what is left of the old one)"
        )
        self.path = path
        self.what = what
