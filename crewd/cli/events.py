"""`crewd events`: what happened, and what happens."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.client import Daemon, Place, ask, find
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import API
from crewd.cli.screen import Line, follow, print_lines
from crewd.cli.text import clean
from crewd.errors import CrewdError, DaemonUnreachable

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader

NEWEST = 20
PAGE = 1000
VALUE_MAX = 120
POLL_SECONDS = 1.0


@click.command()
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what happens, until ^C.")
@click.option("--after", type=click.IntRange(min=0), metavar="N", help="Every event after number N.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only events of this type; repeatable.")
@click.option("--run", default="", metavar="RUN", help="Only events of this run.")
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
    limit: int | None,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Show what happened, oldest first: the newest events, or all after number N. --json prints one record a line."""
    tail = _Tail(find(state_dir, config_file), types, run, as_json)
    tail.begin(after, limit or NEWEST)
    left = limit if after is not None else None
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
    as_json: bool
    after: int = 0
    more: bool = True
    _said: str = field(default="", init=False)

    def begin(self, after: int | None, newest: int) -> None:
        """Find where to begin. The ledger itself is asked: the daemon counts from the front only."""
        from crewd.ledger.reader import Reader

        try:
            with Reader.open(self.place.state) as reader:
                if after is None:
                    last = reader.events(limit=newest, types=self.types, run_id=self.run, newest_first=True)
                    self.after = last[-1].seq - 1 if last else reader.last_seq()
                else:
                    self.after = after
                pruned = reader.pruned_to()
        except CrewdError:
            self.after = after or 0
            return
        if after is not None and after < pruned:
            self._say(f"events {after + 1} to {pruned} are not kept any more")

    def step(self, limit: int) -> int:
        """Show the next events, at most so many; returns how many. `more` says whether there are others already."""
        query = {"after": self.after, "limit": limit, "type": self.types or None, "run": self.run or None}

        def online(daemon: Daemon) -> Any:
            return daemon.json(f"{API}/events", query)

        answer = ask(self.place, online, lambda reader: self._recorded(reader, limit))
        self._say(answer.notice.partition("; showing")[0], "; going on with the ledger" if answer.notice else "")
        records: list[dict[str, Any]] = answer.body["events"]
        if self.as_json:
            for record in records:
                print_json(record, line=True)
        else:
            print_lines(map(_line, records))
        self.after = answer.body["next_after"]
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

    def _recorded(self, reader: "Reader", limit: int) -> dict[str, Any]:
        from crewd.model.event import as_record

        found = reader.events(self.after, limit, self.types, self.run)
        redactor = self.place.redactor
        return {
            "events": [redactor.value(as_record(event)) for event in found],
            "next_after": found[-1].seq if found else self.after,
        }

    def _say(self, what: str, then: str = "") -> None:
        # Once for each change, not at every look.
        if what and what != self._said:
            click.echo(f"crewd: {clean(what)}{then}", err=True)
        self._said = what


def _line(record: dict[str, Any]) -> Line:
    where = "/".join(str(record[name]) for name in ("run_id", "task_id") if name in record)
    facts = " ".join(f"{name}={_value(value)}" for name, value in record["data"].items())
    return [
        (record["ts"], "faint"),
        (f"  {record['seq']:>6}  ", "faint"),
        (clean(record["type"]), _style(record)),
        (f"  {clean(where)}" if where else "", "head"),
        (f"  {clean(facts)}" if facts else "", ""),
    ]


def _style(record: dict[str, Any]) -> str:
    if record["type"] == "worker.level_changed":
        level = str(record["data"].get("to_level", record["data"].get("to", "")))
        return level if level in ("dead", "stale", "warn", "waiting", "unreadable", "healthy") else ""
    return "alert" if record["type"].endswith((".failed", ".dead_lettered", "brake_engaged", ".degraded")) else ""


def _value(value: Any) -> str:
    if isinstance(value, str):
        text = clean(value, VALUE_MAX)
        return f'"{text}"' if " " in text or not text else text
    return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")), VALUE_MAX)
