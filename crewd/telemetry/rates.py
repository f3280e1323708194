"""Rates: how often something happened within the last while. Pure: `now` is an argument."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class SlidingWindow:
    """Counts per key what happened within the last `window_seconds`.

    Memory is bounded: per key at most `limit` moments are kept (a count that reaches it says "at least"), and keys
    with nothing left in the window are forgotten when they are next asked for, or when others are added.
    """

    window_seconds: float = 3600.0
    limit: int = 10_000
    _moments: dict[str, deque[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.window_seconds <= 0:
            raise ValueError(f"window_seconds is {self.window_seconds}: give a number of seconds above 0")
        if self.limit < 1:
            raise ValueError(f"limit is {self.limit}: give at least 1")

    def add(self, key: str, at: float) -> None:
        """Note that it happened at `at`; any clock will do, as long as `count` is asked by the same one."""
        self._forget(at)
        self._moments.setdefault(key, deque(maxlen=self.limit)).append(at)

    def count(self, key: str, now: float) -> int:
        """Tell how many were noted in (now - window, now]. A clock set back forgets nothing and invents nothing."""
        return sum(now - self.window_seconds < at <= now for at in self._moments.get(key, ()))

    def _forget(self, now: float) -> None:
        horizon = now - self.window_seconds
        for key in [key for key, moments in self._moments.items() if moments[-1] <= horizon]:
            del self._moments[key]
