"""A clock that moves only when told, and moves as the kernel's three clocks do."""

from crewd.model.moment import Reading


class FakeClock:
    """Three clocks in seconds; `wall` starts at 2026-01-01T00:00:00Z, the machine has been up for 1,000 s."""

    def __init__(self, wall: float = 1_767_225_600.0, mono: float = 1_000.0, boot: float = 1_000.0) -> None:
        self.wall = wall
        self.mono = mono
        self.boot = boot

    def read(self) -> Reading:
        return Reading(self.wall, self.mono, self.boot)

    def advance(self, seconds: float) -> None:
        """Let time pass, awake."""
        if seconds < 0:
            raise ValueError("time does not run backwards; step() moves the wall clock alone")
        self.wall += seconds
        self.mono += seconds
        self.boot += seconds

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep: CLOCK_MONOTONIC stands still, the other two go on."""
        if seconds < 0:
            raise ValueError("a suspend lasts 0 s or more")
        self.wall += seconds
        self.boot += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number; nothing else moves."""
        self.wall += seconds
