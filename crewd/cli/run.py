"""`crewd run`: submit, follow, and leave as the run does."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from crewd.cli.client import Place, find, segment
from crewd.cli.options import config_option, json_option, state_option
from crewd.cli.picture import API
from crewd.errors import CrewdError

if TYPE_CHECKING:
    from crewd.cli.embedded import Embedded
    from crewd.config.run_file.read import Format

CANCEL_SECONDS = 60.0  # for the end of a run that was cancelled
INTERRUPTED = 130


@click.command()
@click.argument("file")
@click.option(
    "--format", "form", type=click.Choice(["toml", "json", "yaml"]), help="Instead of what the name of FILE says."
)
@click.option("--key", metavar="KEY", help="The same key never makes a second run: it is followed instead.")
@config_option
@state_option
@json_option
def run(
    file: str,
    form: "Format | None",
    key: str | None,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Submit the run file FILE and follow the run to its end. Where no daemon runs, one is started for so long.

    ^C cancels the run. Leaves as `crewd wait` does.
    """
    from crewd.cli.embedded import Embedded
    from crewd.cli.submission import read_run_file, submit_run
    from crewd.cli.wait import wait_for

    content = read_run_file(file, form)
    place = find(state_dir, config_file)
    with _terminated_as_interrupted(), Embedded(place, config_file) as embedded:
        if embedded.ensure():
            click.echo("crewd: no daemon runs: one is started for this run", err=True)
        accepted = submit_run(place, content, key)
        if accepted.duplicate:
            click.echo(f"crewd: {accepted.run_id} was accepted before under this key; it is followed", err=True)
        try:
            code = wait_for(place, accepted.run_id, as_json=as_json, away=lambda: _again(embedded))
        except KeyboardInterrupt:
            _cancel(place, accepted.run_id)
            code = INTERRUPTED
    raise SystemExit(code)


def _again(embedded: "Embedded") -> None:
    """Serve ourselves where the daemon that we used left. Where another crewd holds the ledger, wait for that."""
    with contextlib.suppress(CrewdError):
        embedded.ensure()


def _cancel(place: Place, run_id: str) -> None:
    """Cancel the run and see it end. A second ^C leaves at once: the daemon stops what is left."""
    from crewd.cli.following import Following
    from crewd.cli.progress import Silence
    from crewd.cli.screen import pause

    click.echo(f"crewd: cancelling {run_id}; ^C again leaves at once", err=True)
    try:
        with place.daemon() as daemon:
            daemon.post(f"{API}/runs/{segment(run_id)}/cancel", {"reason": "interrupted"})
        body = Following(place, run_id, Silence(), pause).until_over(CANCEL_SECONDS)
    except KeyboardInterrupt:
        return
    except CrewdError as error:
        click.echo(f"crewd: {run_id} could not be cancelled: {error}", err=True)
        return
    click.echo(f"crewd: {run_id} is {body['status'] if body is not None else 'still being stopped'}", err=True)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM mean the same as ^C: whoever ends this command ends its run."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
