"""Measuring things side by side: one after the other in turn, so that a noisy machine disturbs all alike."""

import gc
import time
from collections.abc import Callable
from statistics import median

from crewd.model.moment import Reading


def interleaved(
    repeats: int, clock: Callable[[], float] = time.perf_counter, **works: Callable[[], object]
) -> dict[str, float]:
    """Run each work `repeats` times, in turn; return the median seconds of each by its name.

    Each turn begins with another work: whoever follows one that fills the processor's caches pays for it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    gc.collect()
    order = list(works.items())
    for turn in range(repeats):
        first = turn % len(order)
        for name, work in order[first:] + order[:first]:
            began = clock()
            work()
            seconds[name].append(clock() - began)
    return {name: median(each) for name, each in seconds.items()}


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


class RoundClock:
    """A clock that a comparison moves by one round at a time; it starts at the genuine wall time."""

    def __init__(self) -> None:
        self._begin = time.time()
        self._passed = 0.0

    def read(self) -> Reading:
        return Reading(self._begin + self._passed, 1000.0 + self._passed, 1000.0 + self._passed)

    def advance(self, seconds: float) -> None:
        self._passed += seconds
