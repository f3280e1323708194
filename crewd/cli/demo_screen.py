"""What `crewd demo` shows: a live picture on a terminal, one line an event everywhere else."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from crewd.cli.screen import Line, columns, plain
from crewd.cli.text import clean, span
from crewd.model.event import Event
from crewd.model.moment import rfc3339
from crewd.model.report import RoundReport
from crewd.model.snapshot import EMPTY, RunView, Snapshot, WorkerView

if TYPE_CHECKING:
    from rich.console import Console

EVENTS_SHOWN = 10
QUIET = frozenset({"task.queued", "task.progressed", "usage.recorded", "incident.opened", "incident.resolved"})
SAID = ("wedge", "because", "why", "remedy", "summary", "to_status", "status")  # of an event's data, what is shown
BAD = ("dead", "stale", "warn", "unreadable", "waiting")
COLOURS = {
    "dead": "bold red", "stale": "red", "warn": "yellow", "waiting": "cyan", "unreadable": "magenta",
    "healthy": "green", "head": "bold", "faint": "dim", "": "",
}  # fmt: skip


class PlainScreen:
    """One line for each event, as it happens. `gone` is called when whoever read them has gone."""

    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone = gone
        self._flooded = False

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.type not in QUIET:
                self._print(plain(event_line(event)))

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        flooded = report.happenings_dropped > 0
        if flooded and not self._flooded:
            self._print(plain(flood_line(snapshot.taken_at, report.happenings_dropped)))
        self._flooded = flooded

    def direct(self, words: str, wall: float) -> None:
        """Show a stage direction: what the play does, as opposed to what crewd finds out."""
        self._print(plain(direction_line(words, wall)))

    def say(self, lines: Sequence[str]) -> None:
        """Show what a person should know from the beginning."""
        for line in lines:
            self._print(line)

    def close(self) -> None:
        """There is nothing to put back."""

    def _print(self, line: str) -> None:
        try:
            click.echo(line)
        except BrokenPipeError:
            self._gone()


class LiveScreen:
    """Runs with their workers, and below them what happened last. Drawn anew with each round and event."""

    def __init__(self, console: "Console") -> None:
        from rich.live import Live

        self._said: Sequence[str] = ()
        self._snapshot = EMPTY
        self._dropped = 0
        self._latest: deque[Line] = deque(maxlen=EVENTS_SHOWN)
        self._live: Live = Live(console=console, screen=False, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def on_events(self, events: Sequence[Event]) -> None:
        self._latest.extend(event_line(event) for event in events if event.type not in QUIET)

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._dropped += report.happenings_dropped
        self._draw()

    def direct(self, words: str, wall: float) -> None:
        self._latest.append(direction_line(words, wall))
        self._draw()

    def say(self, lines: Sequence[str]) -> None:
        self._said = lines
        self._draw()

    def close(self) -> None:
        self._live.stop()

    def _draw(self) -> None:
        from rich.console import Group
        from rich.text import Text

        lines: list[Line] = [[(line, "faint")] for line in self._said]
        lines += [[], *picture(self._snapshot)]
        if self._dropped:
            lines.append(flood_line(self._snapshot.taken_at, self._dropped))
        lines += [[], [("what happened", "head")], *self._latest]
        texts = []
        for line in lines:
            text = Text(no_wrap=True, overflow="ellipsis")
            for words, style in line:
                text.append(clean(words), COLOURS[style])
            texts.append(text)
        self._live.update(Group(*texts), refresh=True)


def picture(snapshot: Snapshot) -> list[Line]:
    """Lay out every run with its workers: level, silence, reason, diagnosis, and the sentence why."""
    lines: list[Line] = []
    for view in snapshot.runs.values():
        lines += _run_lines(view, snapshot)
    health = snapshot.health
    if health.hold:
        lines.append([(f"hold: {health.hold}; nobody gets worse for {health.hold_seconds_left:.0f} s", "waiting")])
    if health.brake:
        lines.append([(f"mass brake: {health.brake}", "warn")])
    return lines


def event_line(event: Event) -> Line:
    """Tell one event in one line."""
    data = event.data
    subject = "/".join(part for part in (short(event.run_id), event.task_id) if part) or "crewd"
    line: Line = [(f"{_time(event.at)} ", "faint"), (f"{event.type:<21} ", "head"), (f"{subject:<17} ", "")]
    if event.type == "worker.level_changed":
        level = str(data.get("to_level", ""))
        line += [(f"{data.get('from_level')} -> ", "faint"), (level, level if level in COLOURS else "")]
        line.append((f" ({data.get('reason')}): {data.get('because')}", "faint"))
        return line
    said = [str(data[name]) for name in SAID if data.get(name)]
    if isinstance(seconds := data.get("seconds"), int | float):
        said.append(f"{seconds:.0f} s")
    line.append((": ".join(said), ""))
    return line


def flood_line(wall: float, lines: int) -> Line:
    """Tell that a runtime writes more than a round takes in."""
    words = f"{lines:,} lines of event logs left out, over the cap of a round: nobody else waits for them"
    return [(f"{_time(wall)} ", "faint"), (f"{'a flood':<21} ", "warn"), (words, "")]


def short(run_id: str) -> str:
    """Name a run by the end of its id: enough among three."""
    return run_id[-6:]


def direction_line(words: str, wall: float) -> Line:
    """Tell what the play does."""
    return [(f"{_time(wall)} ", "faint"), (f"{'the play':<21} ", "waiting"), (words, "")]


def _run_lines(view: RunView, snapshot: Snapshot) -> list[Line]:
    run = view.run
    done: dict[str, int] = {}
    for task in run.tasks:
        done[task.status_text] = done.get(task.status_text, 0) + 1
    counts = ", ".join(f"{number} {status}" for status, number in done.items())
    head: Line = [(f"{run.goal} ", "head"), (f"{run.run_id}  {run.status_text}: {counts}", "faint")]
    rows = [_worker_row(view, worker, snapshot) for worker in view.workers]
    return [head, *columns(rows)]


def _worker_row(view: RunView, worker: WorkerView, snapshot: Snapshot) -> Line:
    standing = worker.standing
    level = standing.level.value
    because = standing.because if level in BAD else ""
    held = f"  [{standing.held_by}]" if standing.held_by and standing.held_by != "hysteresis" else ""
    wedge = standing.wedge.value if standing.wedge is not None else ""
    return [
        (f"  {worker.task_id}", ""),
        (level, level),
        (span(snapshot.silence(view, worker)), ""),
        (standing.reason.value, ""),
        (wedge, "warn"),
        (because + held, "faint"),
    ]


def _time(wall: float) -> str:
    return rfc3339(wall)[11:19]
