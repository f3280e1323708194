"""Local health: when crewd itself is slow, everyone looks late. Then all thresholds stretch (Lifeguard)."""

# arXiv 1707.00788: a detector that knows its own sickness has far fewer false positives.
PRESSURE_BAD = 70.0  # percent of time in which something stalled; PSI "some avg10"
LAG_NORMAL = 0.1  # intervals; timers and rounds are never exact


def local_health(lag: float, interval: float, pressure: float = 0.0) -> float:
    """The multiplier on all thresholds, 1 (well) to 5, from how late the round was and the machine's pressure.

    `lag` is in seconds, `pressure` in percent (PSI). A little pressure is normal and stretches nothing.
    """
    by_lag = min(4.0, max(0.0, lag / interval - LAG_NORMAL))
    by_pressure = min(1.0, max(0.0, pressure - PRESSURE_BAD) / (100.0 - PRESSURE_BAD))
    return 1.0 + max(by_lag, by_pressure)
