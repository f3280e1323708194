"""`crewd reload`: the daemon reads its settings again, and whoever asked hears what came of it."""

from pathlib import Path
from typing import Any

import click

from crewd.cli.change import post
from crewd.cli.client import find
from crewd.cli.options import config_option, environment, json_option, print_json, state_option
from crewd.cli.text import clean
from crewd.errors import DaemonUnreachable


@click.command()
@config_option
@state_option
@json_option
def reload(config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Have the daemon read its settings again. Leaves with 78 where they cannot be used: then the old ones stay."""
    try:
        answer = post(find(state_dir, config_file), "/-/reload", {})
    except DaemonUnreachable:
        # Settings that cannot be used may hide where the daemon is; they are what is wrong.
        _complain(config_file)
        raise
    if as_json:
        print_json(answer)
        return
    click.echo(clean(str(answer["what"])))
    details: dict[str, Any] = answer.get("details") or {}
    for words, keys in (("changed", details.get("changed")), ("waits for a restart", details.get("need_restart"))):
        if keys:
            click.echo(f"  {words}: {', '.join(clean(str(key)) for key in keys)}")


def _complain(config_file: Path | None) -> None:
    """Raise SettingsError for settings that cannot be used."""
    from crewd.config.load import load

    load(config_file, environment())
