"""The hold: a time in which nobody may get worse, because crewd has just been away itself."""

import msgspec

from crewd.detection.silence import Gap

HOLD_ROUNDS = 3


class Hold(msgspec.Struct, frozen=True):
    """Why nobody may get worse, and for how much observed time still. No hold: `seconds_left` is 0."""

    seconds_left: float = 0.0
    why: str = ""

    @property
    def on(self) -> bool:
        return self.seconds_left > 0


NO_HOLD = Hold()


def first_hold(warn_after: float) -> Hold:
    """A fresh crewd knows nothing of what it did not watch: it holds for one warn interval."""
    return Hold(warn_after, "crewd has just started")


def hold_after(hold: Hold, gap: Gap, interval: float) -> Hold:
    """Begin, shorten or end the hold after one round.

    Its length is observed time, not a number of rounds: rounds that were woken early do not wear it off.
    """
    # Half a round more than the rounds it lasts: timers are not exact, and the last of them is held too.
    seconds = (HOLD_ROUNDS + 0.5) * interval
    if gap.slept:
        return Hold(max(hold.seconds_left, seconds), f"the machine slept {gap.asleep:.0f} s")
    if gap.late:
        return Hold(max(hold.seconds_left, seconds), f"crewd itself stood still {gap.stall:.0f} s")
    left = hold.seconds_left - gap.counted
    return Hold(left, hold.why) if left > 1e-9 else NO_HOLD
