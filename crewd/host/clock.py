"""The clocks: wall, monotonic and boot, always read together."""

import time
from pathlib import Path
from typing import Protocol

from crewd.model.moment import Reading

# Two readings further apart than this were cut by a pause; the clocks would then disagree by that pause.
SPREAD_MAX = 0.001
ATTEMPTS = 5


class Clock(Protocol):
    """Whatever says what time it is."""

    def read(self) -> Reading: ...


class SystemClock:
    """The kernel's clocks: CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME (clock_gettime(2))."""

    def read(self) -> Reading:
        """Read all three as one moment: where a pause fell between them, again, and the tightest of a few tries."""
        best: Reading | None = None
        narrowest = float("inf")
        for _ in range(ATTEMPTS):
            mono = time.clock_gettime(time.CLOCK_MONOTONIC)
            reading = Reading(time.clock_gettime(time.CLOCK_REALTIME), mono, time.clock_gettime(time.CLOCK_BOOTTIME))
            spread = time.clock_gettime(time.CLOCK_MONOTONIC) - mono
            if best is None or spread < narrowest:
                best, narrowest = reading, spread
            if spread <= SPREAD_MAX:
                break
        assert best is not None
        return best


def boot_id() -> str:
    """Name this boot of the machine: random, the same for every process until the next boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
