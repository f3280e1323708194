"""What the beat source may be told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BeatOptions:
    """Caps of one beat root. Sizes are bytes, times seconds."""

    crew: str = ""  # name of the crew where a beat names none; "" = the root folder's name
    may_be_missing: bool = False  # a root that was never there is empty, and no fault: for defaults nobody asked for
    file_max: int = 64 << 10  # of one beat
    tasks_max: int = 10_000  # of one run
    lease_max: float = 86_400.0  # no worker is believed to be busy for longer on its word alone
    relist_every: int = 60  # looks between two full checks that trust no signature of a folder or an ended task

    def __post_init__(self) -> None:
        if self.file_max < 1024:
            raise ValueError(f"file_max must be at least 1024 bytes: got {self.file_max}; the default is {64 << 10}")
        for name in ("tasks_max", "relist_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1: got {getattr(self, name)}")
        if not 0 < self.lease_max <= 30 * 86_400:
            raise ValueError(f"lease_max must lie between 0 and 30 days: got {self.lease_max:g} s")
