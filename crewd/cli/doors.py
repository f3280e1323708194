"""`crewd pause`, `crewd drain`, `crewd resume`: whether tasks are started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from crewd.cli.change import change
from crewd.cli.client import find
from crewd.cli.options import config_option, json_option, state_option
from crewd.cli.picture import API
from crewd.errors import UsageProblem

F = TypeVar("F", bound=Callable[..., Any])


def scope_options(command: F) -> F:
    """`--crew NAME` or `--executor NAME`; neither means the whole daemon."""
    crew = click.option("--crew", metavar="NAME", help="Only tasks of this crew.")
    executor = click.option("--executor", metavar="NAME", help="Only tasks of this executor.")
    return crew(executor(command))


@click.command()
@scope_options
@click.option("--reason", metavar="TEXT", help="Why; it is shown to whoever wonders.")
@config_option
@state_option
@json_option
def pause(
    crew: str | None,
    executor: str | None,
    reason: str | None,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Start nothing, retries included, until `crewd resume`; what runs goes on to its end."""
    body = {"scope": scope_of(crew, executor), "drain": False, "reason": reason}
    change(find(state_dir, config_file), f"{API}/pause", body, as_json)


@click.command()
@scope_options
@click.option("--reason", metavar="TEXT", help="Why; it is shown to whoever wonders.")
@config_option
@state_option
@json_option
def drain(
    crew: str | None,
    executor: str | None,
    reason: str | None,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Start nothing fresh until `crewd resume`; what has begun goes on to its end, retries included."""
    body = {"scope": scope_of(crew, executor), "drain": True, "reason": reason}
    change(find(state_dir, config_file), f"{API}/pause", body, as_json)


@click.command()
@scope_options
@config_option
@state_option
@json_option
def resume(
    crew: str | None, executor: str | None, config_file: Path | None, state_dir: Path | None, as_json: bool
) -> None:
    """Start tasks again: end a pause or a drain of the same scope."""
    change(find(state_dir, config_file), f"{API}/resume", {"scope": scope_of(crew, executor)}, as_json)


def scope_of(crew: str | None, executor: str | None) -> str:
    """Write the scope that the options mean. Raises UsageProblem for two at once."""
    if crew is not None and executor is not None:
        raise UsageProblem("--crew and --executor are two doors: close one at a time")
    if crew is not None:
        return f"crew:{crew}"
    return f"executor:{executor}" if executor is not None else "daemon"
