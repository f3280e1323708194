"""Options that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crewd.cli.text import clean_json

TOKEN = "CREWD_TOKEN"  # noqa: S105 - the name of the variable

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """`--json`: one JSON value instead of text for people."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def config_option(command: F) -> F:
    """`--config FILE`."""
    return click.option("--config", "config_file", type=click.Path(path_type=Path), help="Configuration file.")(
        command
    )


def state_option(command: F) -> F:
    """`--state-dir FOLDER`."""
    return click.option(
        "--state-dir",
        type=click.Path(path_type=Path),
        envvar="CREWD_STATE_DIR",
        help="Folder of the ledger, instead of the configured one.",
    )(command)


def environment() -> dict[str, str]:
    """The variables that this process was started with, without the one that is for `token` alone."""
    return {name: value for name, value in os.environ.items() if name != TOKEN}


def token() -> str:
    """What lets this person change things where only TCP is to be had; "": nothing does."""
    return os.environ.get(TOKEN, "")


def print_json(value: Any, line: bool = False) -> None:
    """Print a JSON value: indented, or on one line."""
    import json

    if line:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    else:
        text = json.dumps(value, ensure_ascii=False, indent=2)
    # Line breaks are part of the layout; the ones inside texts are escaped already.
    click.echo("\n".join(clean_json(each) for each in text.split("\n")))
