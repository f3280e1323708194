"""`crewd wait`: until a run has ended."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crewd.cli.client import Place, find
from crewd.cli.durations import duration
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.screen import is_terminal, pause, print_lines
from crewd.cli.text import span

if TYPE_CHECKING:
    from crewd.cli.progress import BarProgress, PlainProgress, Silence


@click.command()
@click.argument("run")
@click.option(
    "--timeout",
    type=duration,
    metavar="DURATION",
    help="Wait no longer than 10m, or that many seconds; the run goes on. Leaves with 124.",
)
@config_option
@state_option
@json_option
def wait(run: str, timeout: float | None, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Wait until RUN has ended, and show how it goes on. A daemon that is started anew is waited for.

    Leaves with 0 if the run completed, 1 if it failed, is blocked or was cancelled, 124 if the time is over first.
    """
    raise SystemExit(wait_for(find(state_dir, config_file), run, timeout, as_json))


def wait_for(
    place: Place,
    run: str,
    seconds: float | None = None,
    as_json: bool = False,
    quiet: bool = False,
    away: Callable[[], object] = lambda: None,
) -> int:
    """Follow a run to its end and tell how it ended; returns the exit code."""
    from crewd.cli.following import Following, exit_code
    from crewd.cli.progress import verdict

    with _screen(as_json or quiet) as screen:
        body = Following(place, run, screen, pause, away).until_over(seconds)
    if body is None:
        click.echo(f"crewd: {run} has not ended within {span(seconds or 0.0)}; it goes on", err=True)
    elif as_json:
        print_json(body)
    elif not quiet:
        print_lines(verdict(body))
    return exit_code(body)


def _screen(silent: bool) -> "PlainProgress | BarProgress | Silence":
    from crewd.cli.progress import BarProgress, PlainProgress, Silence

    if silent:
        return Silence()
    return BarProgress() if is_terminal() else PlainProgress()
