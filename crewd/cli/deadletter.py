"""`crewd deadletter`: tasks that were given up."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from crewd.cli.change import change, post, tell
from crewd.cli.client import Place, find, say_notice, segment
from crewd.cli.letters import LIMIT, STATES, find_letter, group_rows, grouped, rows, take_letters, whole
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import API
from crewd.cli.screen import print_lines
from crewd.cli.text import clean, count
from crewd.errors import UsageProblem

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def deadletter() -> None:
    """Look at tasks that were given up, and try them again or settle them."""


@deadletter.command("list")
@click.option(
    "--state", type=click.Choice([*STATES, "all"]), default="open", show_default=True, help="In which state."
)
@click.option("--crew", metavar="NAME", help="Only tasks of this crew.")
@click.option("--group", is_flag=True, help="One line for each cause, by fingerprint.")
@click.option(
    "--limit", type=click.IntRange(1, LIMIT), default=100, show_default=True, help="At most so many, the newest."
)
@config_option
@state_option
@json_option
def list_letters(
    state: str,
    crew: str | None,
    group: bool,
    limit: int,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """List dead letters, the newest first."""
    place = find(state_dir, config_file)
    # A group is counted whole, whatever is shown of it.
    answer = take_letters(place, STATES if state == "all" else (state,), crew, LIMIT if group else limit)
    say_notice(answer)
    groups = grouped(answer.body)[:limit] if group else []
    if as_json:
        body = {"groups": groups} if group else {"dead_letters": answer.body}
        print_json({"source": answer.source, "as_of": answer.as_of or None, **body})
    else:
        print_lines(group_rows(groups) if group else rows(answer.body))


@deadletter.command()
@click.argument("key")
@config_option
@state_option
@json_option
def show(key: str, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show one dead letter with every attempt. KEY is its key, or RUN/TASK for the newest of a task."""
    answer = take_letters(find(state_dir, config_file), STATES)
    letter = find_letter(answer.body, key)
    say_notice(answer)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, **letter})
    else:
        print_lines(whole(letter))


def chosen(command: F) -> F:
    """Which letters are meant, and how carefully."""
    options = [
        click.argument("keys", nargs=-1, metavar="[KEY]..."),
        click.option("--fingerprint", metavar="F", help="Every open letter of this cause."),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option("--yes", is_flag=True, help="Do not ask where it is more than one."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@deadletter.command()
@chosen
@click.option("--limit", type=click.IntRange(1, LIMIT), default=100, show_default=True, help="At most N, the oldest.")
@config_option
@state_option
@json_option
def redrive(config_file: Path | None, state_dir: Path | None, as_json: bool, **said: Any) -> None:
    """Try given-up tasks again, each with a new budget of attempts. KEY is a key, or RUN/TASK."""
    _settle(find(state_dir, config_file), "redrive", said, as_json)


@deadletter.command()
@chosen
@click.option("--reason", metavar="TEXT", required=True, help="Why; it is recorded.")
@config_option
@state_option
@json_option
def discard(config_file: Path | None, state_dir: Path | None, as_json: bool, **said: Any) -> None:
    """Settle dead letters without trying again. They stay in the ledger. KEY is a key, or RUN/TASK."""
    _settle(find(state_dir, config_file), "discard", said, as_json)


@deadletter.command()
@click.argument("run")
@click.argument("task")
@click.option("--reason", metavar="TEXT", required=True, help="Why; it is recorded.")
@config_option
@state_option
@json_option
def add(run: str, task: str, reason: str, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Give TASK of RUN up by hand: it is stopped, tried no more, and becomes a dead letter."""
    path = f"{API}/runs/{segment(run)}/tasks/{segment(task)}/bury"
    change(find(state_dir, config_file), path, {"reason": reason}, as_json)


def _settle(place: Place, verb: str, said: dict[str, Any], as_json: bool) -> None:
    keys, fingerprint = said["keys"], said["fingerprint"]
    if bool(keys) == bool(fingerprint):
        raise UsageProblem("name letters by KEY, or all of one cause with --fingerprint F: one of the two")
    path = f"{API}/deadletters/{verb}"
    body = {
        "keys": _keys(place, keys) or None,
        "fingerprint": fingerprint,
        "limit": said.get("limit"),
        "reason": said.get("reason"),
    }
    if said["dry_run"]:
        tell(post(place, path, {**body, "dry_run": True}), as_json)
        return
    if not said["yes"] and (fingerprint or len(keys) > 1):
        _agree(verb, post(place, path, {**body, "dry_run": True}))
    tell(post(place, path, {**body, "dry_run": False}), as_json)


def _keys(place: Place, names: Sequence[str]) -> list[str]:
    """Turn what a person calls letters into their keys: RUN/TASK is looked up, a key is taken as it is."""
    if not any("/" in name for name in names):
        return list(names)
    letters = take_letters(place, ("open",)).body
    known = {letter["key"] for letter in letters}
    return [name if name in known or "/" not in name else find_letter(letters, name)["key"] for name in names]


def _agree(verb: str, planned: dict[str, Any]) -> None:
    """Let a person agree to what concerns more than one. Elsewhere than on a terminal --yes must say so."""
    ids = planned.get("ids") or []
    if len(ids) <= 1:
        return
    if not sys.stdin.isatty():
        raise UsageProblem(f"this would {verb} {count(len(ids), 'letter')}: add --yes, or --dry-run to see which")
    for each in ids[:20]:
        click.echo(f"  {clean(str(each))}", err=True)
    click.confirm(f"{verb} {count(len(ids), 'letter')}?", abort=True, err=True)
