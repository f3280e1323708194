"""What pi-crew writes, from 0.1.35 to 0.10: one module per kind of file, and the source that looks at them all."""

from crewd.sources.pi_crew.options import PiCrewOptions
from crewd.sources.pi_crew.source import PiCrewSource

__all__ = ["PiCrewOptions", "PiCrewSource"]
