"""A clock that can pretend that the machine slept."""

from crewd.host.clock import Clock
from crewd.model.moment import Reading


class SuspendableClock:
    """The clock it is given, ahead by every pretended suspend: wall and boot time ran on, monotonic time did not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asleep = 0.0

    def read(self) -> Reading:
        now = self._clock.read()
        return Reading(now.wall + self._asleep, now.mono, now.boot + self._asleep)

    def suspend(self, seconds: float) -> None:
        """Pretend that the machine has just slept for so long."""
        self._asleep += seconds
