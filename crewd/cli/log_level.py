"""`crewd log-level`: what the running daemon logs, shown or changed without a restart."""

from pathlib import Path
from typing import Any

import click

from crewd.cli.client import find
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.text import clean

LEVELS = ("debug", "info", "warning", "error")
ROUTE = "/-/log-level"


@click.command("log-level")
@click.argument("level", type=click.Choice(LEVELS), required=False)
@config_option
@state_option
@json_option
def log_level(level: str | None, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show the least that the running daemon logs, or have it log from LEVEL on.

    This holds until the settings are read again, or the daemon ends: then the configured level counts.
    """
    with find(state_dir, config_file).daemon() as daemon:
        body = daemon.json(ROUTE) if level is None else daemon.post(ROUTE, {"level": level})
    if as_json:
        print_json(body)
    else:
        click.echo(clean(_words(body) if level is None else body["what"]))


def _words(body: dict[str, Any]) -> str:
    if body["level"] == body["configured"]:
        return str(body["level"])
    return f"{body['level']} (the settings say {body['configured']}: until they are read again)"
