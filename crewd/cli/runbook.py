"""`crewd runbook`: what an alert means and what to do about it; needs no daemon."""

import re

import click

from crewd.cli.options import json_option, print_json
from crewd.cli.screen import columns, is_terminal, print_lines
from crewd.errors import CrewdError, NothingMatched
from crewd.host.runbooks import Section, find, runbooks, sections

WIDTH_MAX = 100
# To another section or page: in a terminal it leads nowhere.
LOCAL_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)\s]*\)")


@click.command()
@click.argument("alert", required=False)
@json_option
def runbook(alert: str | None, as_json: bool) -> None:
    """Show what ALERT means, what to look at and what to do; without ALERT list them all.

    The daemon shows the same at /runbooks.
    """
    found = _sections()
    if alert is None:
        _list(found, as_json)
        return
    section = find(found, alert) or _unknown(alert, found)
    if as_json:
        print_json({"alert": section.alert, "anchor": section.anchor, "markdown": section.text})
    else:
        show(section)


def _sections() -> list[Section]:
    try:
        return sections(runbooks())
    except OSError as error:
        raise CrewdError(str(error)) from None


def _list(found: list[Section], as_json: bool) -> None:
    if as_json:
        print_json([{"alert": each.alert, "anchor": each.anchor, "line": each.line} for each in found])
        return
    print_lines(columns([[(each.alert, "head"), (each.line, "")] for each in found]))


def _unknown(alert: str, found: list[Section]) -> Section:
    from crewd.config.run_file.problems import nearest

    near = nearest(alert, [each.alert for each in found])
    hint = f"did you mean {near}?" if near else "`crewd runbook` names them all"
    raise NothingMatched(f"no runbook for {alert!r}; {hint}")


def show(section: Section) -> None:
    if not is_terminal():
        click.echo(section.text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    words = LOCAL_LINK.sub(r"\1", section.text)
    console.print(Markdown(words, hyperlinks=False), width=min(console.width, WIDTH_MAX))
