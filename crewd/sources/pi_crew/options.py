"""What the pi-crew source may be told."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class PiCrewOptions:
    """Caps and reach of one pi-crew root. Sizes are bytes."""

    crew: str = ""  # name of the crew; "" = the project folder's name
    follow_index: bool = True  # look at run folders elsewhere that the user root's index of active runs names
    may_be_missing: bool = False  # a root that was never there is empty, and no fault: for defaults nobody asked for
    # Says whether a folder that an index names belongs to this user. None: no such folder is followed.
    is_own_folder: Callable[[str], bool] | None = None
    file_max: int = 4 << 20  # of one JSON file; the largest genuine one has 42 kB
    relist_every: int = 60  # looks between two full checks that trust no signature of a folder or an ended run
    side_files_every: int = 12  # looks between two checks of files that seldom change alone

    def __post_init__(self) -> None:
        if self.file_max < 1024:
            raise ValueError(f"file_max must be at least 1024 bytes: got {self.file_max}; the default is {4 << 20}")
        for name in ("relist_every", "side_files_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 look: got {getattr(self, name)}")
