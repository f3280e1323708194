"""How many retries a crew may spend in an hour: a limit on what a common cause can burn before anyone looks."""

HOUR = 3600.0  # seconds


def spend(used: tuple[float, ...], now: float, per_hour: int) -> tuple[tuple[float, ...], float | None]:
    """Spend one retry, if one is left.

    `used`: the wall times at which retries were spent, as returned before. Returns the uses to remember, and None:
    one was spent now; or the wall time at which the next becomes free: none was. `per_hour` 0: there is no limit, and
    nothing to remember.
    """
    if per_hour <= 0:
        return (), None
    # A use that lies ahead was written before the clock was set back; it counts from now, and no longer than an hour.
    recent = tuple(sorted(min(at, now) for at in used if at + HOUR > now))
    if len(recent) < per_hour:
        return (*recent, now), None
    return recent, recent[-per_hour] + HOUR
