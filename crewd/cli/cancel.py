"""`crewd cancel`: a run or a task is over, by a person's word."""

from pathlib import Path

import click

from crewd.cli.change import change
from crewd.cli.client import find, segment
from crewd.cli.options import config_option, json_option, state_option
from crewd.cli.picture import API


@click.command()
@click.argument("run")
@click.argument("task", required=False)
@click.option("--reason", metavar="TEXT", help="Why; it is recorded.")
@config_option
@state_option
@json_option
def cancel(
    run: str, task: str | None, reason: str | None, config_file: Path | None, state_dir: Path | None, as_json: bool
) -> None:
    """Cancel RUN, or only its task TASK: nothing more of it is started, and what runs is stopped."""
    path = f"{API}/runs/{segment(run)}" + (f"/tasks/{segment(task)}" if task is not None else "")
    change(find(state_dir, config_file), f"{path}/cancel", {"reason": reason}, as_json)
