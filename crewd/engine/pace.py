"""The pace: what lay between two rounds, and whether crewd may trust itself just now."""

from dataclasses import dataclass

from crewd.detection.health import local_health
from crewd.detection.hold import Hold, first_hold, hold_after
from crewd.detection.silence import Gap, gap_between
from crewd.model.event import Event
from crewd.model.moment import Reading

NO_GAP = Gap(seconds=0.0, counted=0.0, late=False, slept=False, stepped=False, stall=0.0, asleep=0.0, step=0.0)


@dataclass(slots=True, eq=False)
class Pace:
    """Follows the three clocks from round to round."""

    interval: float
    warn_after: float
    hold: Hold
    health: float = 1.0
    gap: Gap = NO_GAP
    before: Reading | None = None
    running: float = 0.0  # observed seconds since crewd started: no silence can be longer
    regular: bool = True  # False: this round was woken early, and counts towards nothing worse
    _since_regular: float = 0.0

    @classmethod
    def start(cls, interval: float, warn_after: float) -> "Pace":
        return cls(interval, warn_after, first_hold(warn_after))

    def step(self, now: Reading, pressure: float) -> list[Event]:
        """Take in the clocks at the beginning of a round; tells what was odd about the time since the last one."""
        if self.before is None:
            self.before = now
            return [Event("daemon.hold_began", now.wall, {"why": self.hold.why, "seconds": self.hold.seconds_left})]
        self.gap = gap_between(self.before, now, self.interval)
        self.before = now
        self.running += self.gap.counted
        self._since_regular += self.gap.seconds
        # A round that comes a little early still is a regular one: timers are not exact.
        self.regular = self._since_regular >= 0.9 * self.interval
        if self.regular:
            self._since_regular = 0.0
        lag = max(0.0, self.gap.seconds - self.interval)
        self.health = local_health(lag, self.interval, pressure)
        held, self.hold = self.hold, hold_after(self.hold, self.gap, self.interval)
        return _odd(self.gap, now.wall) + _hold_changes(held, self.hold, now.wall)


def _odd(gap: Gap, at: float) -> list[Event]:
    events = []
    if gap.slept:
        events.append(Event("daemon.suspended", at, {"seconds": round(gap.asleep, 3)}))
    if gap.late:
        events.append(Event("daemon.stalled", at, {"seconds": round(gap.stall, 3)}))
    if gap.stepped:
        events.append(Event("daemon.clock_stepped", at, {"seconds": round(gap.step, 3)}))
    return events


def _hold_changes(before: Hold, after: Hold, at: float) -> list[Event]:
    if after.on and not before.on:
        return [Event("daemon.hold_began", at, {"why": after.why, "seconds": after.seconds_left})]
    if before.on and not after.on:
        return [Event("daemon.hold_ended", at, {"why": before.why})]
    return []
