"""Lines on a screen: laid out once, coloured on a terminal, plain everywhere else."""

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from crewd.cli.text import clean

if TYPE_CHECKING:
    from rich.text import Text

# A line is parts, each a text and what it says: the words alone carry the meaning, colour only underlines it.
Part = tuple[str, str]
Line = list[Part]

_COLOURS = {
    "dead": "bold red",
    "stale": "red",
    "unreadable": "magenta",
    "warn": "yellow",
    "waiting": "cyan",
    "healthy": "green",
    "ok": "green",
    "fail": "bold red",
    "head": "bold",
    "faint": "dim",
    "alert": "bold red",
    "": "",
}


def is_terminal() -> bool:
    """Say whether a person looks at stdout."""
    return sys.stdout.isatty()


def plain(line: Line) -> str:
    """Write a line without colour."""
    return clean("".join(text for text, _ in line)).rstrip()


def print_lines(lines: Iterable[Line]) -> None:
    """Print lines; on a terminal they are coloured and cut at its width."""
    if not is_terminal():
        for line in lines:
            click.echo(plain(line))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for line in lines:
        console.print(as_text(line), no_wrap=True, overflow="ellipsis", crop=True)


def columns(rows: list[list[Part]], gap: str = "  ") -> list[Line]:
    """Lay rows out as columns. The last column is as long as it wants to be."""
    if not rows:
        return []
    many = max(len(row) for row in rows)
    widths = [max((len(row[i][0]) for row in rows if i < len(row)), default=0) for i in range(many)]
    lines = []
    for row in rows:
        line: Line = []
        for i, (text, style) in enumerate(row):
            last = i == len(row) - 1
            line.append((text if last else text.ljust(widths[i]) + gap, style))
        lines.append(line)
    return lines


def keep_showing(make: Callable[[], Iterable[Line]], seconds: float) -> None:
    """Show lines anew every so many seconds, until ^C: in place on a terminal, one below the other elsewhere."""
    if not is_terminal():
        follow(lambda: print_lines([*make(), []]), seconds)
        return
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        follow(lambda: live.update(Group(*(as_text(line) for line in make())), refresh=True), seconds)


def follow(step: Callable[[], object], seconds: float) -> None:
    """Do a step every so many seconds, until ^C."""
    try:
        while True:
            step()
            sys.stdout.flush()
            pause(seconds)
    except KeyboardInterrupt:
        return


def pause(seconds: float) -> None:
    """Wait. ^C ends it with KeyboardInterrupt."""
    threading.Event().wait(seconds)


def as_text(line: Line) -> "Text":
    """Write a line with its colours, and nothing in it that a terminal or rich would act on."""
    from rich.text import Text

    text = Text(no_wrap=True, overflow="ellipsis")
    for part, style in line:
        text.append(clean(part), _COLOURS[style])
    return text
