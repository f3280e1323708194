"""`crewd export`: one run with all that is recorded of it, as a file."""

import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click

from crewd.cli.client import ConnectionLost, Place, find, open_ledger, segment
from crewd.cli.options import config_option, state_option
from crewd.cli.picture import API
from crewd.cli.text import clean
from crewd.errors import CrewdError, DaemonUnreachable, NothingMatched, Refused
from crewd.sources.names import ID

FORMATS = ("json", "jsonl", "csv", "md")


@click.command()
@click.argument("run")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Instead of what FILE ends with; json otherwise.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE; a folder: to RUN.FORMAT in it. - is stdout.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@config_option
@state_option
def export(
    run: str, form: str | None, output: str | None, force: bool, config_file: Path | None, state_dir: Path | None
) -> None:
    """Write RUN with its tasks, attempts and events, without secrets; csv and md are without the events.

    FILE appears whole or not at all. While the daemon is down it is made from the ledger.
    """
    place = find(state_dir, config_file)
    form = form or _form_of(output)
    path = _path(output, run, form)
    if path is not None and not force and os.path.lexists(path):
        raise Refused(f"{path} is there already: name another file, or say --force to replace it")
    pieces = _pieces(place, run, form)
    # The first piece before the file is begun: what cannot be exported leaves nothing behind.
    first = next(pieces, b"")
    whole: Iterator[bytes] = chain((first,), pieces)
    if path is None:
        for piece in whole:
            sys.stdout.buffer.write(piece)
        return
    _write(path, whole, force)
    click.echo(f"crewd: {clean(str(path))} is written", err=True)


def _form_of(output: str | None) -> str:
    ending = Path(output or "").suffix.removeprefix(".")
    return ending if ending in FORMATS else "json"


def _path(output: str | None, run: str, form: str) -> Path | None:
    if output in (None, "-"):
        return None
    path = Path(str(output))
    if not path.is_dir():
        return path
    # The name of the file comes from the run: one that is no name would lead to another folder.
    if not ID.fullmatch(run):
        raise NothingMatched(f"no run {run!r} is in the history; `crewd history runs` lists those there are")
    return path / f"{run}.{form}"


def _write(path: Path, pieces: Iterator[bytes], force: bool) -> None:
    from crewd.host.files import write_pieces

    try:
        write_pieces(path, pieces, mode=0o600, replace=force)
    except FileExistsError:
        raise Refused(f"{path} is there already: name another file, or say --force to replace it") from None
    except OSError as error:
        raise CrewdError(f"{path} cannot be written: {error.strerror or error}") from None


def _pieces(place: Place, run: str, form: str) -> Iterator[bytes]:
    try:
        with place.daemon() as daemon:
            yield from daemon.stream(f"{API}/runs/{segment(run)}/export", {"format": form})
    except ConnectionLost:
        raise  # half of it may have been written already
    except DaemonUnreachable as error:
        yield from _recorded(place, run, form, error)


def _recorded(place: Place, run: str, form: str, unreachable: DaemonUnreachable) -> Iterator[bytes]:
    from crewd.model.history import HistoryQuery
    from crewd.web.export import pieces

    reader, as_of = open_ledger(place, unreachable)
    with reader:
        rows = reader.past_runs(HistoryQuery(run_id=run, limit=1)).rows
        if not rows:
            raise NothingMatched(f"no run {run!r} is in the history; `crewd history runs` lists those there are")
        click.echo(f"crewd: {clean(str(unreachable))}; writing what the ledger held as of {as_of}", err=True)
        yield from pieces(reader, rows[0], form, place.redactor.value)
