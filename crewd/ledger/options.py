"""How the ledger is kept."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class LedgerOptions:
    """Bounds of the ledger. The defaults suit every installation; tests narrow them."""

    check_bytes_max: int = 256 * MIB  # above it the file is checked only after an unclean stop
    checkpoint_pages: int = 1000  # SQLite's own default for wal_autocheckpoint
    wal_bytes_max: int = 64 * MIB  # above it a checkpoint waits for readers, within `busy_seconds`
    busy_seconds: float = 5.0  # patience with a foreign connection that holds a lock
    group_rows_max: int = 20_000  # rows in one transaction: bounds how long the first of a group waits
    close_seconds: float = 5.0
    vfs: str = ""  # SQLite's name for the door to the disk; "" = its default

    def __post_init__(self) -> None:
        for name in ("check_bytes_max", "checkpoint_pages", "wal_bytes_max", "group_rows_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is too small; use 1 or more")
        for name in ("busy_seconds", "close_seconds"):
            if not 0 < getattr(self, name) <= 3600:
                raise ValueError(f"{name}: {getattr(self, name)} seconds; use more than 0 and at most 3600")
