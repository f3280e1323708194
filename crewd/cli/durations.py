"""Durations on the command line: written as everywhere else, 90, 90s or 1m30s."""

import click


def duration(value: str) -> float:
    """Read seconds as a person writes them: the `type` of an option."""
    from crewd.config.quantities import seconds

    try:
        return seconds(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write 30s, 10m or 1h30m") from None
