"""How a run that is followed shows: a bar on a terminal, one line for each change everywhere else."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import click

from crewd.cli.attempt_lines import task_words
from crewd.cli.managed_run import OVER
from crewd.cli.screen import Line, plain
from crewd.cli.text import clean, count
from crewd.policy.causes import AT_WORK, causes
from crewd.policy.progress import progress

if TYPE_CHECKING:
    from rich.console import Console

NAMES_MAX = 4
NAME_MAX = 24
FAILED = ("dead_lettered", "failed", "needs_attention")


def standing(body: dict[str, Any]) -> str:
    """Sum a run up: "3 of 8 done, 2 running (build, lint), 1 retrying"."""
    tasks = body["tasks"]
    so_far = progress((task["task_id"], task["state"]) for task in tasks)
    parts = [f"{so_far.done} of {so_far.expected} done"]
    running = [task["task_id"] for task in tasks if task["state"] in AT_WORK]
    if running:
        named = ", ".join(clean(name, NAME_MAX) for name in running[:NAMES_MAX])
        parts.append(f"{len(running)} running ({named}{', …' if len(running) > NAMES_MAX else ''})")
    elif so_far.next:
        parts.append(f"next: {clean(so_far.next, NAME_MAX)}")
    for word, states in (("retrying", ("retry_wait",)), ("blocked", ("blocked",)), ("failed", FAILED)):
        number = sum(1 for task in tasks if task["state"] in states)
        if number:
            parts.append(f"{number} {word}")
    return ", ".join(parts)


def verdict(body: dict[str, Any]) -> Iterator[Line]:
    """Tell how a run ended, with its first cause where it did not end well."""
    status = body["status"]
    style = "ok" if status == "completed" else "alert"
    yield [(clean(body["run_id"]), "head"), (" ", ""), (status, style), (f": {standing(body)}", "")]
    if status == "completed" or status not in OVER:
        return
    found = causes(body)
    for cause in found[:1]:
        words = f"{cause.error_class}: {cause.error}" if cause.error_class else cause.why
        yield [("  ", ""), (clean(cause.task), "head"), (f" {cause.state}: {clean(words, 160)}", "")]
    more = f" ({count(len(found) - 1, 'other cause')})" if len(found) > 1 else ""
    yield [(f"  `crewd why {clean(body['run_id'])}` tells the cause and what to do{more}", "faint")]


class PlainProgress:
    """A line for each task that changes; of the first picture only its sum."""

    def __init__(self, write: Callable[[str], object] = click.echo) -> None:
        self._write = write
        self._states: dict[str, tuple[str, int]] | None = None

    def show(self, body: dict[str, Any], now: float) -> None:
        states = {task["task_id"]: (task["state"], task["attempt"]) for task in body["tasks"]}
        if self._states is None:
            self._write(f"{clean(body['run_id'])}: {standing(body)}")
        else:
            for task in body["tasks"]:
                if self._states.get(task["task_id"]) != states[task["task_id"]]:
                    self._write(_task_line(task, body, now))
        self._states = states

    def say(self, words: str) -> None:
        click.echo(f"crewd: {words}", err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left on the screen."""


class BarProgress:
    """One bar in place, with what is at work beside it."""

    def __init__(self, console: "Console | None" = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress: Progress = Progress(
            TextColumn("{task.fields[run]}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=console or Console(highlight=False),
            auto_refresh=False,
            transient=True,
        )
        self._bar = self._progress.add_task("", run="", words="", total=None)

    def show(self, body: dict[str, Any], now: float) -> None:
        so_far = progress((task["task_id"], task["state"]) for task in body["tasks"])
        self._progress.update(
            self._bar,
            total=so_far.expected,
            completed=so_far.done,
            run=clean(body["run_id"]),
            words=standing(body),
        )
        self._progress.refresh()

    def say(self, words: str) -> None:
        self._progress.console.print(f"crewd: {words}", markup=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class Silence:
    """Shows nothing: whoever asked reads the exit code, or JSON at the end."""

    def show(self, body: dict[str, Any], now: float) -> None:
        """Nothing of it is shown."""

    def say(self, words: str) -> None:
        click.echo(f"crewd: {words}", err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left on the screen."""


def _task_line(task: dict[str, Any], body: dict[str, Any], now: float) -> str:
    attempt = f" (attempt {task['attempt']})" if task["attempt"] > 1 else ""
    words = task_words(task, body.get("held") or {}, now)
    line: Line = [(f"{clean(task['task_id'])}: {task['state']}{attempt}", ""), (f": {words}" if words else "", "")]
    return plain(line)
