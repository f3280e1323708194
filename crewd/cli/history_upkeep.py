"""`crewd history verify` and `crewd history prune`: whether the history is sound, and letting go of what is old."""

from pathlib import Path
from typing import Any

import click

from crewd.cli.change import post, tell
from crewd.cli.client import ConnectionLost, Place, find, open_ledger
from crewd.cli.dates import date
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import API
from crewd.cli.refusals import DaemonBusy
from crewd.cli.text import clean, count
from crewd.cli.times import when
from crewd.errors import CrewdError, DaemonUnreachable, Refused


class HistoryUnsound(CrewdError):
    """The history is not what the events tell. One line for each place, printed before."""


@click.command()
@config_option
@state_option
@json_option
def verify(config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Make the history anew from the recorded events, aside, and compare; leave with 1 where it differs.

    Reads the ledger itself, also while the daemon runs, and changes nothing.
    """
    place = find(state_dir, config_file)
    reader, as_of = open_ledger(place, DaemonUnreachable("nothing to verify"))
    with reader:
        problems = [place.redactor.text(each) for each in reader.history_problems()]
    if as_json:
        print_json({"source": "ledger", "as_of": as_of, "problems": problems})
    else:
        for each in problems:
            click.echo(clean(each))
    if problems:
        raise HistoryUnsound(
            f"the history differs from its events in {count(len(problems), 'place')}; keep a copy of the ledger, and "
            "restore it from a backup"
        )
    if not as_json:
        click.echo("the history is what the events tell")


@click.command()
@click.option("--before", type=date, required=True, metavar="TIME", help="A time, a day, 30d (ago), or yesterday.")
@click.option("--yes", is_flag=True, help="Do it; without, only tell what would go.")
@config_option
@state_option
@json_option
def prune(before: float, yes: bool, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Forget what is older and settled: events, runs that ended, what became of them. No dead letter, nothing open.

    Without --yes it is only told what would go, and the command leaves with 77. It is done by the daemon, which alone
    writes; where none runs, under the ledger's lock.
    """
    place = find(state_dir, config_file)
    try:
        answer = post(place, f"{API}/history/prune", {"before": when(before), "dry_run": not yes})
    except (ConnectionLost, DaemonBusy):
        raise
    except DaemonUnreachable as unreachable:
        answer = _forget(place, before) if yes else _would(place, before, unreachable)
    if yes or as_json:
        tell(answer, as_json)
    else:
        click.echo(clean(answer["what"]))
        for name, many in answer["details"].items():
            click.echo(f"  {count(many, name.replace('_', ' ')[:-1])}")
    if not yes:
        raise Refused("nothing was forgotten: say --yes to do it")


def _would(place: Place, before: float, unreachable: DaemonUnreachable) -> dict[str, Any]:
    reader, _ = open_ledger(place, unreachable)
    with reader:
        counts = reader.would_forget(before)
    what = f"{sum(counts.values())} rows from before {when(before)} would be forgotten"
    return {"what": what, "ids": [], "details": counts}


def _forget(place: Place, before: float) -> dict[str, Any]:
    """Be the one who writes, for as long as it takes. Raises LedgerLocked where a daemon is that already."""
    import asyncio

    # Opened for writing a ledger would be made where none is.
    open_ledger(place, DaemonUnreachable("nothing to prune"))[0].close()
    rows = asyncio.run(_pruned(place, before))
    return {
        "what": f"{rows} rows from before {when(before)} are forgotten",
        "ids": [],
        "details": {"rows": rows},
    }


async def _pruned(place: Place, before: float) -> int:
    import getpass

    from crewd.host.clock import SystemClock
    from crewd.ledger.batch import Batch
    from crewd.ledger.ledger import Ledger
    from crewd.model.event import Event

    clock = SystemClock()
    ledger = Ledger.open(place.state, clock)
    try:
        rows = 0
        while deleted := await ledger.prune(before, past_before=before):
            rows += deleted
        data = {"before": when(before), "rows": rows}
        who = f"operator:{getpass.getuser()}"
        await ledger.commit(Batch(events=(Event("history.pruned", clock.read().wall, data, actor=who),)))
    finally:
        await ledger.close()
    return rows
