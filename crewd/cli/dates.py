"""Times on the command line: RFC 3339, a day, how long ago, or a word. What names no zone is UTC."""

import click

DAY_SECONDS = 86_400
WORDS = {"yesterday": -1, "today": 0, "tomorrow": 1}  # each begins at midnight


def date(value: str) -> float:
    """Read a wall time as a person writes it: the `type` of an option."""
    from crewd.cli.times import wall_now

    found = wall_time(value, wall_now())
    if found is None:
        raise click.BadParameter(
            f"{value!r} is no time: write 2026-01-31, 2026-01-31T12:00:00Z, 2h (ago), today or yesterday"
        )
    return found


def wall_time(text: str, now: float) -> float | None:
    """Read a time; None where it is none. `now` is wall time."""
    from crewd.config.quantities import seconds
    from crewd.model.moment import parse_rfc3339

    if text in WORDS:
        return now - now % DAY_SECONDS + WORDS[text] * DAY_SECONDS
    if "-" in text:
        return parse_rfc3339(text)
    try:
        return now - seconds(text)
    except ValueError:
        return None
