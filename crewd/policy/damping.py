"""Damping: what opens again and again is told a few times, then only recorded, until it has been quiet for a while.

A penalty, as of routes that flap (RFC 2439): each opening adds one, and time halves it. Above one threshold a thing
is damped, below a lower one it no longer is; between the two it stays as it was, or it would flap itself. Pure.
"""

import msgspec

REUSE_SHARE = 0.5  # of `damp_above`: what is damped is told again once its penalty is no more than this
CEILING = 4.0  # times `damp_above`: however often it opened, three half-lives of quiet are enough


class Damping(msgspec.Struct, frozen=True, gc=False):
    """How patient to be."""

    damp_above: float = 3.0  # a penalty above it: damped. Three openings in a row are told, a fourth is not
    half_life: float = 600.0  # seconds in which a penalty halves


class Penalty(msgspec.Struct, frozen=True, gc=False):
    """What one thing has earned by opening often."""

    value: float = 0.0
    at: float = 0.0  # the time as of which it is `value`
    damped: bool = False


def opened(penalty: Penalty, now: float, damping: Damping) -> Penalty:
    """Follow an opening."""
    value = min(CEILING * damping.damp_above, _decayed(penalty, now, damping) + 1.0)
    return Penalty(value, now, not _is_quiet(penalty, now, damping) or value > damping.damp_above)


def eased(penalty: Penalty, now: float, damping: Damping) -> Penalty:
    """Follow the time that has passed; the same value, as long as it changes nothing that is told."""
    if not penalty.damped or not _is_quiet(penalty, now, damping):
        return penalty
    return Penalty(_decayed(penalty, now, damping), now, False)


def _is_quiet(penalty: Penalty, now: float, damping: Damping) -> bool:
    """Whether nothing is damped any more."""
    return not penalty.damped or _decayed(penalty, now, damping) <= REUSE_SHARE * damping.damp_above


def _decayed(penalty: Penalty, now: float, damping: Damping) -> float:
    age = max(0.0, now - penalty.at)  # a clock that was set back proves no quiet, and no noise
    return float(penalty.value * 0.5 ** min(age / damping.half_life, 1000.0))
