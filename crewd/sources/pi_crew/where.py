"""Where one run's folder lies."""

import msgspec

from crewd.host.files import Root
from crewd.sources.pi_crew.options import PiCrewOptions


class Where(msgspec.Struct, frozen=True):
    """Where a run's folder lies, and how its files are read."""

    root: Root
    relative: str  # of the run's folder, beneath `root`
    folder: str
    crew: str
    local: bool
    options: PiCrewOptions
