"""`crewd handover`: the daemon leaves, its workers stay."""

from pathlib import Path

import click

from crewd.cli.change import change
from crewd.cli.client import find
from crewd.cli.options import config_option, json_option, state_option


@click.command()
@config_option
@state_option
@json_option
def handover(config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Let the daemon end without stopping its workers: the next `crewd serve` takes them over, as for an upgrade."""
    change(find(state_dir, config_file), "/-/handover", {}, as_json)
