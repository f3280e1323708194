"""The crash-loop breaker: what ends as soon as it starts is started more and more slowly, until it stops doing so.

One serves the attempts of an executor, another the starts of crewd itself. Each crash adds one to a score that halves
with time, so that nothing has to be reset.
"""

from dataclasses import dataclass

import msgspec

DOUBLINGS_MAX = 64
CLOCK_SLACK = 60.0  # seconds; a clock that was set back further than this is told from one that is corrected


@dataclass(frozen=True)
class CrashLoopOptions:
    """When starts are slowed, and how much. All times are seconds."""

    quick: float = 10.0  # what ends within this time of its start has crashed
    half_life: float = 900.0  # of the score; several times `delay_max`, or waiting would undo the score
    threshold: float = 3.0  # crashes close together before anything waits
    delay: float = 5.0  # the wait at the threshold; each further crash doubles it
    delay_max: float = 300.0

    def __post_init__(self) -> None:
        if wrong := [name for name, value in vars(self).items() if not 0 < value < float("inf")]:
            values = ", ".join(f"{name} = {getattr(self, name):g}" for name in wrong)
            raise ValueError(f"the crash-loop breaker needs numbers above 0: got {values}")
        if self.delay > self.delay_max:
            raise ValueError(f"delay must not exceed delay_max: got {self.delay:g} and {self.delay_max:g}")


class CrashLoop(msgspec.Struct, frozen=True, gc=False):
    """How often something crashed lately. A fresh one has never crashed."""

    score: float = 0.0  # at the time of the latest crash
    at: float = 0.0  # wall time of the latest crash


def is_crash(started_at: float, ended_at: float, options: CrashLoopOptions) -> bool:
    """Whether something ended so soon that it may be in a loop. Wall times; across a step of the clock: no."""
    return 0 <= ended_at - started_at < options.quick


def crashed(loop: CrashLoop, now: float, options: CrashLoopOptions) -> CrashLoop:
    """Count one crash at the wall time `now`."""
    # More than this slows nothing further, and would only make the way back longer.
    score_max = options.threshold + _doublings_max(options)
    return CrashLoop(min(score_max, _score(loop, now, options) + 1), now)


def delay_of(loop: CrashLoop, now: float, options: CrashLoopOptions) -> float:
    """Seconds from the wall time `now` until the next start may be; 0: at once. Never more than `delay_max`."""
    if loop.score < options.threshold or loop.at - now > CLOCK_SLACK:
        return 0.0
    doublings = min(loop.score - options.threshold, _doublings_max(options))
    wait: float = min(options.delay_max, options.delay * 2**doublings)
    return max(0.0, wait - max(0.0, now - loop.at))


def _score(loop: CrashLoop, now: float, options: CrashLoopOptions) -> float:
    passed = max(0.0, now - loop.at)
    score: float = loop.score * 0.5 ** (passed / options.half_life)
    return score


def _doublings_max(options: CrashLoopOptions) -> int:
    """Doublings from `delay` to `delay_max`, as far as a wait can differ by them."""
    doublings, delay = 0, options.delay
    while delay < options.delay_max and doublings < DOUBLINGS_MAX:
        doublings, delay = doublings + 1, delay * 2
    return doublings
