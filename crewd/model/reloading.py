"""What came of reading the settings again."""

from dataclasses import dataclass

from crewd.errors import Complaint


@dataclass(frozen=True)
class Reloaded:
    """The new settings are in force, or, where there are complaints, the old ones stay."""

    changed: tuple[str, ...] = ()  # dotted keys that differ from the settings that were in force
    need_restart: tuple[str, ...] = ()  # keys that differ from those the daemon started with, and wait for a restart
    complaints: tuple[Complaint, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.complaints
