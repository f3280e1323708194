"""Progress: how much of a run is done, and what comes next. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

LEFT_OUT = frozenset({"skipped"})  # nobody expects them any more
OVER = frozenset({"completed", "failed", "timed_out", "needs_attention", "dead_lettered", "cancelled", "skipped"})


class Progress(NamedTuple):
    """`done` of `expected` tasks are over, well or badly; `next` is the first, in the run's order, that is not."""

    done: int
    expected: int
    next: str

    @property
    def ratio(self) -> float:
        """Never above 1. Of a run of which nothing is expected there is nothing left to do."""
        return min(1.0, self.done / self.expected) if self.expected else 1.0


def progress(tasks: Iterable[tuple[str, str]]) -> Progress:
    """Sum up tasks, (name, state) in the run's own order. A skipped one is neither done nor expected."""
    done, expected, following = 0, 0, ""
    for name, state in tasks:
        expected += state not in LEFT_OUT
        done += state in OVER - LEFT_OUT
        if not following and state not in OVER:
            following = name
    return Progress(done, expected, following)
