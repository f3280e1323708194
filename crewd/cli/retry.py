"""`crewd retry`: another attempt, now."""

from pathlib import Path

import click

from crewd.cli.change import change
from crewd.cli.client import find, segment
from crewd.cli.options import config_option, json_option, state_option
from crewd.cli.picture import API


@click.command()
@click.argument("run")
@click.argument("task")
@config_option
@state_option
@json_option
def retry(run: str, task: str, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Try TASK of RUN again now, instead of when it is due or after it was given up."""
    path = f"{API}/runs/{segment(run)}/tasks/{segment(task)}/retry"
    change(find(state_dir, config_file), path, {}, as_json)
