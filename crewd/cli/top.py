"""`crewd top`: crews at a glance, full screen. Printing it once needs no more than `crewd status` does."""

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from crewd.cli.client import find, say_notice
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import take
from crewd.cli.screen import is_terminal, print_lines
from crewd.cli.status import picture_json, picture_lines
from crewd.errors import CrewdError, UsageProblem


class ScreenMissing(CrewdError):
    """The library that draws the full screen is not installed."""


@click.command()
@click.option("--once", is_flag=True, help="Print it once as `crewd status` does, and leave.")
@config_option
@state_option
@json_option
def top(once: bool, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Watch runs and workers full screen, those in trouble first; ? lists the keys.

    The screen needs the extra tui (pip install 'crewd[tui]'); --once and --json do not.
    """
    if not (once or as_json):
        _check_screen()
    place = find(state_dir, config_file)
    # Where neither the daemon nor its ledger can be asked there is nothing to show.
    answer = take(place, ended=False)
    if as_json:
        say_notice(answer)
        print_json(picture_json(answer))
    elif once:
        say_notice(answer)
        print_lines(picture_lines(answer))
    else:
        from crewd.cli.top_desk import Desk
        from crewd.cli.top_screen import Top

        Top(Desk(place), answer).run()


def _check_screen() -> None:
    """Raises ScreenMissing, and UsageProblem where nobody could press a key."""
    if find_spec("textual") is None:
        raise ScreenMissing(
            "crewd top draws its screen with textual, which is not installed: pip install 'crewd[tui]', or print it"
            " with crewd top --once"
        )
    # It is drawn through stderr, so that output may be piped; a person who pipes it wants it once.
    if not (is_terminal() and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageProblem("crewd top fills a terminal, and this is none: crewd top --once prints it")
