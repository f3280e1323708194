"""`crewd history`: what became of runs, tasks and attempts, and how the memory of it is kept."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from crewd.cli.client import find, say_notice
from crewd.cli.dates import date
from crewd.cli.history_upkeep import prune, verify
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.past_pages import LIMIT_MAX, OUTCOMES, STATUSES, take_page, take_stats
from crewd.cli.screen import Line, columns, print_lines
from crewd.cli.text import clean, count, span
from crewd.errors import UsageProblem

F = TypeVar("F", bound=Callable[..., Any])
LOOK = {"completed": "ok", "failed": "alert", "timed_out": "alert", "blocked": "warn", "interrupted": "faint"}


@click.group()
def history() -> None:
    """Look back at runs, tasks and attempts; see how much is kept, whether it is sound, and let go of what is old."""


def which(states: Sequence[str]) -> Callable[[F], F]:
    """The options that say which rows."""
    options = [
        click.option("--state", type=click.Choice(states), multiple=True, help="What became of it; repeatable."),
        click.option("--crew", metavar="NAME", help="Only of this crew."),
        click.option("--runtime", metavar="NAME", help="Only of this runtime."),
        click.option("--executor", metavar="NAME", help="Only of this executor."),
        click.option("--model", metavar="NAME", help="Only of this model."),
        click.option("--type", "task_type", metavar="NAME", help="Only of tasks of this type."),
        click.option("--run", metavar="RUN", help="Only of this run."),
        click.option("--task", metavar="TASK", help="Only of this task."),
        click.option(
            "--since",
            type=date,
            metavar="TIME",
            help="Ended then or later, or at work and begun then: a time, a day, or 2h (ago).",
        ),
        click.option("--until", type=date, metavar="TIME", help="Ended before that, or at work and begun before."),
        click.option("--variant", metavar="NAME=VALUE", callback=_pair, help="A variant of the task."),
        click.option("--label", metavar="NAME=VALUE", callback=_pair, help="A label of the run."),
        click.option(
            "--limit", type=click.IntRange(1, LIMIT_MAX), default=50, show_default=True, help="At most so many."
        ),
        click.option(
            "--cursor", type=click.IntRange(min=1), metavar="N", help="Go on behind the page before, which names it."
        ),
        config_option,
        state_option,
        json_option,
    ]

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _pair(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not all(value.partition("=")[::2]):
        raise click.BadParameter(f"{value!r} is not NAME=VALUE", ctx, param)
    return value


@history.command()
@which(STATUSES)
def runs(**asked: Any) -> None:
    """List runs, also those that are no longer there, newest first."""
    _show("runs", asked, _run_cells)


@history.command()
@which(OUTCOMES)
def tasks(**asked: Any) -> None:
    """List tasks and what became of them, newest first."""
    _show("tasks", asked, _task_cells)


@history.command()
@which(OUTCOMES)
def attempts(**asked: Any) -> None:
    """List attempts and what became of them, newest first."""
    _show("attempts", asked, _attempt_cells)


@history.command()
@config_option
@state_option
@json_option
def stats(config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show how much history there is, and how many of its rows are not what was written."""
    answer = take_stats(find(state_dir, config_file))
    say_notice(answer)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, **answer.body})
        return
    body = answer.body
    print_lines(
        columns(
            [
                [("kept", "faint"), (", ".join(count(body[name], name[:-1]) for name in ("runs", "tasks")), "")],
                [("", ""), (f"{count(body['attempts'], 'attempt')}, {count(body['events'], 'event')}", "")],
                [("events", "faint"), (f"{body['first_seq']} to {body['last_seq']}", "")],
                [("from", "faint"), (f"{body['first_at'] or '-'} to {body['last_at'] or '-'}", "")],
                [("deleted", "faint"), (f"up to event {body['pruned_to']}" if body["pruned_to"] else "nothing", "")],
                [("size", "faint"), (f"{body['bytes'] / 2**20:.1f} MiB", "")],
                [("corrupt", "faint"), (count(body["corrupt"], "row"), "alert" if body["corrupt"] else "")],
            ]
        )
    )


history.add_command(verify)
history.add_command(prune)


def _show(name: str, asked: dict[str, Any], cells: Callable[[dict[str, Any]], list[tuple[str, str]]]) -> None:
    config_file, state_dir, as_json = asked.pop("config_file"), asked.pop("state_dir"), asked.pop("as_json")
    if asked["since"] is not None and asked["until"] is not None and asked["since"] >= asked["until"]:
        raise UsageProblem("--since is not before --until")
    answer = take_page(find(state_dir, config_file), name, asked)
    say_notice(answer)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, **answer.body})
        return
    print_lines(_lines(name, answer.body[name], cells))
    if answer.body["next_cursor"]:
        click.echo(f"crewd: there are more: --cursor {answer.body['next_cursor']}", err=True)


def _lines(
    name: str, rows: Sequence[dict[str, Any]], cells: Callable[[dict[str, Any]], list[tuple[str, str]]]
) -> Iterator[Line]:
    if not rows:
        yield [(f"no {name}", "faint")]
        return
    yield from columns([cells(row) for row in rows])


def _run_cells(row: dict[str, Any]) -> list[tuple[str, str]]:
    ended = ", ".join(f"{many} {state.replace('_', ' ')}" for state, many in row["tasks"].items())
    return [
        (_day_time(row["created_at"]), "faint"),
        (clean(row["run_id"]), "head"),
        (clean(row["status"]), LOOK.get(row["status"], "")),
        (_seconds(row["duration_seconds"]), ""),
        (clean(row["crew"]), ""),
        (clean(ended), ""),
        (clean(row["goal"]), "faint"),
    ]


def _task_cells(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (_day_time(row["started_at"]), "faint"),
        (clean(f"{row['run_id']}/{row['task_id']}"), "head"),
        *_became(row),
        (count(row["attempts"], "attempt"), ""),
        *_by(row),
        (clean(row["error_class"] or ""), "warn"),
    ]


def _attempt_cells(row: dict[str, Any]) -> list[tuple[str, str]]:
    failed = ": ".join(clean(each) for each in (row["error_class"], row["error"]) if each)
    return [
        (_day_time(row["started_at"]), "faint"),
        (clean(f"{row['run_id']}/{row['task_id']}"), "head"),
        (f"#{row['attempt']}", ""),
        *_became(row),
        *_by(row),
        (failed, "warn"),
    ]


def _became(row: dict[str, Any]) -> list[tuple[str, str]]:
    outcome = row["outcome"]
    return [(outcome or "at work", LOOK.get(outcome or "", "")), (_seconds(row["duration_seconds"]), "")]


def _by(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(clean(row["executor"] or row["runtime"]), ""), (clean(row["model"] or row["task_type"] or "-"), "")]


def _day_time(told: str | None) -> str:
    return told[:19].replace("T", " ") if told else "-" * 10


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f}s" if seconds < 60 else span(seconds)
