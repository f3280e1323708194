"""Times of answers: most are RFC 3339, some still the seconds of the ledger."""


def moment(told: str | float | None) -> float | None:
    """Read a time of an answer; None: there is none."""
    from crewd.model.moment import parse_rfc3339

    return parse_rfc3339(told) if isinstance(told, str) else told


def when(told: str | float | None) -> str | None:
    """Write a time of an answer as RFC 3339; None: there is none."""
    from crewd.model.moment import rfc3339

    at = moment(told)
    return rfc3339(at) if at is not None else None


def wall_now() -> float:
    """Say what time it is."""
    from crewd.host.clock import SystemClock

    return SystemClock().read().wall
