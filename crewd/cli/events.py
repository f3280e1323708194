"""`crewd events`: what happened, and what happens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.client import Daemon, Place, ask, find, open_ledger
from crewd.cli.event_lines import screen_line, whole_line
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import API
from crewd.cli.screen import Line, follow, is_terminal, print_lines
from crewd.cli.text import clean
from crewd.errors import DaemonUnreachable

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader
    from crewd.model.event import Event

NEWEST = 20
PAGE = 1000
POLL_SECONDS = 1.0


@click.command()
@click.option(
    "-f",
    "--follow",
    "following",
    is_flag=True,
    help="Go on with what happens, until ^C; a daemon that stops is waited for.",
)
@click.option("--after", type=click.IntRange(min=0), metavar="N", help="Every event after number N.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Only events of this type, such as worker.level_changed; repeatable.",
)
@click.option("--run", default="", metavar="RUN", help="Only events of this run.")
@click.option("--task", default="", metavar="TASK", help="Only events of tasks of this id.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help=f"At most N. Without --after: the newest {NEWEST}."
)
@config_option
@state_option
@json_option
def events(
    following: bool,
    after: int | None,
    types: tuple[str, ...],
    run: str,
    task: str,
    limit: int | None,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Show what happened, oldest first: the newest events, or all after number N. --json prints one record a line."""
    tail = _Tail(find(state_dir, config_file), types, run, task, as_json)
    if after is None:
        tail.begin(limit or NEWEST)
    else:
        tail.resume(after)
        left = limit
        while tail.more and left != 0:
            shown = tail.step(min(PAGE, left or PAGE))
            left = None if left is None else left - shown
    if following:
        follow(tail.keep_up, POLL_SECONDS)


@dataclass
class _Tail:
    """A position among the events, and how to go on from it."""

    place: Place
    types: Sequence[str]
    run: str
    task: str
    as_json: bool
    after: int = 0
    more: bool = True
    _said: str = field(default="", init=False)
    _day: str = field(default="", init=False)  # of the line above
    _resuming: bool = field(default=False, init=False)

    def resume(self, after: int) -> None:
        """Stand behind an event that was seen before."""
        self.after, self._resuming = after, True

    def begin(self, newest: int) -> None:
        """Show the newest events, and stand behind them."""
        if newest <= PAGE:
            self.step(newest, newest=True)
            return
        # More than one answer holds: the daemon counts from the front only, so that the ledger says where to begin.
        try:
            reader, _ = open_ledger(
                self.place, DaemonUnreachable("the daemon tells at most 1000 of the newest events")
            )
            with reader:
                found = self._of(reader, newest, newest_first=True)
                self.after = found[-1].seq - 1 if found else reader.last_seq()
        except DaemonUnreachable as error:
            self._say(str(error))
            self.step(PAGE, newest=True)
            return
        while self.more:
            self.step(PAGE)

    def step(self, limit: int, newest: bool = False) -> int:
        """Show the next events, or the newest, at most so many; returns how many.

        `more` says whether there may be others already.
        """
        query = {
            "after": self.after,
            "limit": limit,
            "newest": "true" if newest else None,
            "type": self.types or None,
            "run": self.run or None,
            "task": self.task or None,
        }

        def online(daemon: Daemon) -> Any:
            return daemon.json(f"{API}/events", query)

        answer = ask(self.place, online, lambda reader: self._recorded(reader, limit, newest))
        self._say(answer.notice.partition("; showing")[0], "; going on with the ledger" if answer.notice else "")
        records: list[dict[str, Any]] = answer.body["events"]
        pruned_to = answer.body["pruned_to"]
        if self._resuming and self.after < pruned_to:
            click.echo(f"crewd: events {self.after + 1} to {pruned_to} are not kept any more", err=True)
        self._resuming = False
        if self.as_json:
            for record in records:
                print_json(record, line=True)
        else:
            print_lines(self._lines(records))
        self.after = max(answer.body["next_after"], pruned_to)
        self.more = len(records) == limit
        return len(records)

    def keep_up(self) -> None:
        """Show whatever came since. A daemon that is away is waited for."""
        try:
            self.more = True
            while self.more:
                self.step(PAGE)
        except DaemonUnreachable as error:
            self._say(str(error), "; waiting for it")

    def _recorded(self, reader: "Reader", limit: int, newest: bool) -> dict[str, Any]:
        from crewd.model.event import as_record

        found = self._of(reader, limit, newest_first=newest)
        if newest:
            found.reverse()
        redactor = self.place.redactor
        return {
            "events": [redactor.value(as_record(event)) for event in found],
            "next_after": found[-1].seq if found else self.after,
            "pruned_to": reader.pruned_to(),
        }

    def _of(self, reader: "Reader", limit: int, newest_first: bool) -> "list[Event]":
        return reader.events(self.after, limit, self.types, self.run, newest_first, task_id=self.task)

    def _lines(self, records: Sequence[dict[str, Any]]) -> Iterator[Line]:
        if not is_terminal():
            yield from map(whole_line, records)
            return
        width = get_terminal_size().columns
        for record in records:
            day = record["ts"][:10]
            if day != self._day:
                self._day = day
                yield [(day, "faint")]
            yield screen_line(record, width)

    def _say(self, what: str, then: str = "") -> None:
        # Once for each change, not at every look.
        if what and what != self._said:
            click.echo(f"crewd: {clean(what)}{then}", err=True)
        self._said = what
