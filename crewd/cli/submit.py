"""`crewd submit`: hand a run file to the daemon."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from crewd.cli.client import find
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.text import clean, count
from crewd.errors import UsageProblem

if TYPE_CHECKING:
    from crewd.cli.submission import RunFile
    from crewd.config.run_file.read import Format


@click.command()
@click.argument("file")
@click.option(
    "--format", "form", type=click.Choice(["toml", "json", "yaml"]), help="Instead of what the name of FILE says."
)
@click.option("--key", metavar="KEY", help="The same key never makes a second run; that it was known is told.")
@click.option("--wait", "waiting", is_flag=True, help="Follow the run to its end, and leave as `crewd wait` does.")
@click.option("--dry-run", is_flag=True, help="Show what would be run, and how, and start nothing. Needs no daemon.")
@click.option("-q", "--quiet", is_flag=True, help="Print the id of the run and nothing else.")
@config_option
@state_option
@json_option
def submit(
    file: str,
    form: "Format | None",
    key: str | None,
    waiting: bool,
    dry_run: bool,
    quiet: bool,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Hand the run file FILE to the daemon: TOML, JSON or YAML; - reads stdin. Once it is accepted it is on disk.

    Leaves with 78 if the file cannot be run; everything that is wrong with it is told.
    """
    from crewd.cli.submission import read_run_file, submit_run

    run = read_run_file(file, form)
    if dry_run:
        if waiting:
            raise UsageProblem("--dry-run starts nothing that --wait could wait for: leave one of them out")
        _rehearse(run, state_dir, config_file, as_json)
        return
    place = find(state_dir, config_file)
    accepted = submit_run(place, run, key)
    if as_json and not waiting:
        print_json({"run_id": accepted.run_id, "duplicate": accepted.duplicate, "tasks": accepted.tasks})
    elif quiet:
        click.echo(clean(accepted.run_id))
        if accepted.duplicate:
            click.echo("crewd: accepted before under this key; nothing new is started", err=True)
    elif not as_json:
        tasks = "" if accepted.tasks is None else f", {count(accepted.tasks, 'task')}"
        words = "was accepted before under this key; nothing new is started" if accepted.duplicate else "accepted"
        click.echo(f"{clean(accepted.run_id)}: {words}{tasks}")
    if waiting:
        from crewd.cli.wait import wait_for

        raise SystemExit(wait_for(place, accepted.run_id, as_json=as_json, quiet=quiet))


def _rehearse(run: "RunFile", state_dir: Path | None, config_file: Path | None, as_json: bool) -> None:
    from crewd.cli import rehearsal
    from crewd.cli.screen import plain

    planned = rehearsal.rehearse(run, config_file)
    redactor = find(state_dir, config_file).redactor
    if as_json:
        print_json(rehearsal.as_json(planned, redactor))
    else:
        for line in rehearsal.as_lines(planned, redactor):  # whole, however wide: the end of a command counts
            click.echo(plain(line))
