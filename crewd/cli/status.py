"""`crewd status`: runs and workers, those in trouble first."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from crewd.cli.client import Answer, Place, find, say_notice
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import TROUBLE, take
from crewd.cli.rescue import plan_line, waiting_words
from crewd.cli.screen import Line, Part, columns, follow, keep_showing, print_lines
from crewd.cli.text import clean, count, span
from crewd.cli.times import when
from crewd.errors import CrewdError

GOAL_MAX = 60
BECAUSE_MAX = 160
TOOL_MAX = 60


@click.command()
@click.option("--watch", is_flag=True, help="Keep showing it; with --json one value a line.")
@click.option(
    "--every", type=click.FloatRange(0.5, 3600), default=2.0, show_default=True, help="Seconds, with --watch."
)
@click.option("--all", "ended", is_flag=True, help="Also runs that have ended.")
@config_option
@state_option
@json_option
def status(
    watch: bool, every: float, ended: bool, config_file: Path | None, state_dir: Path | None, as_json: bool
) -> None:
    """Show runs and their workers: level, observed silence, reason. Those in trouble come first."""
    place = find(state_dir, config_file)
    if not watch:
        answer = take(place, ended)
        say_notice(answer)
        if as_json:
            print_json(picture_json(answer))
        else:
            print_lines(picture_lines(answer))
    elif as_json:
        follow(lambda: print_json(picture_json(take(place, ended)), line=True), every)
    else:
        keep_showing(lambda: _watched(place, ended), every)


def headline(body: dict[str, Any]) -> Line:
    """Sum everything up in one line."""
    levels: Counter[str] = Counter()
    for crew in body["crews"]:
        levels.update(crew["workers"])
    letters = sum(crew["dead_letters"] for crew in body["crews"])
    line: Line = [("crewd", "head"), (" ", "")]
    health = body["health"]
    if health is None:
        line.append(("not running", "alert"))
    else:
        line.append(("ready", "ok") if health["ready"] else ("NOT READY", "alert"))
        line.append((f" · round {health['rounds']}", "faint"))
    # The ledger knows those whose level was written down; there may be others at work.
    known = " with a level on record" if health is None else ""
    line.append((f" · {count(body['runs_seen'], 'run')} · {count(levels.total(), 'worker')}{known}", ""))
    for level in sorted(levels, key=lambda level: -TROUBLE.get(level, -1)):
        line += [(" · ", "faint"), (f"{levels[level]} {level}", level if level in TROUBLE else "")]
    if letters:
        line += [(" · ", "faint"), (count(letters, "dead letter"), "stale")]
    for words in waiting_words(body):
        line += [(" · ", "faint"), words]
    return line


def worker_row(task: dict[str, Any]) -> list[Part]:
    """Lay out where one worker stands: level, task, silence, reason and why."""
    worker = task["worker"]
    level, silence = worker["level"], worker["silence_seconds"]
    # "beating", says the reason; where there is nothing to add, what it is at is worth more.
    why = clean(worker["because"], BECAUSE_MAX) if worker["because"] != worker["reason"] else ""
    if worker.get("tool") and worker["tool"] not in why:
        why = "; ".join(each for each in (why, f"in {clean(worker['tool'], TOOL_MAX)}") if each)
    if worker["wedge"]:
        why += f" [{worker['wedge']}]"
    if worker["held_by"]:
        why += f" (held by {clean(worker['held_by'])})"
    return [
        (level_word(level), level if level in TROUBLE else ""),
        (clean(task["task_id"]), ""),
        ("" if silence is None else f"silent {span(silence)}", ""),
        (worker["reason"], ""),
        (why, "faint"),
    ]


def level_word(level: str) -> str:
    """Write a level so that trouble stands out without colour too."""
    return level.upper() if level in ("dead", "stale", "unreadable") else level


def picture_json(answer: Answer) -> dict[str, Any]:
    """Lay the whole picture out as JSON."""
    return {"source": answer.source, "as_of": answer.as_of or answer.body["taken_at"], **answer.body}


def _watched(place: Place, ended: bool) -> Iterator[Line]:
    try:
        answer = take(place, ended)
    except CrewdError as error:
        yield [(str(error), "alert")]
        return
    if answer.notice:
        yield [(answer.notice, "alert")]
    yield from picture_lines(answer)


def picture_lines(answer: Answer) -> Iterator[Line]:
    """Lay the whole picture out."""
    body = answer.body
    yield headline(body)
    yield from doubts(body["health"])
    yield from doors(body)
    for run_id, why in body.get("never_read", {}).items():
        yield [("UNREAD ", "warn"), (f"{clean(run_id)}: nothing of it could ever be read ({why}); see the log", "")]
    hidden = body["runs_seen"] - len(body["runs"])
    for run in body["runs"]:
        yield []
        yield run_line(run)
        yield from ([(" ! ", "faint"), *line] for line in plan_line(run))
        rows = columns([worker_row(task) for task in run["workers"]])
        for number, row in enumerate(rows, 1):
            yield [(" └ " if number == len(rows) else " ├ ", "faint"), *row]
    if not body["runs"]:
        yield []
        yield [("no run is at work", "faint")]
    if hidden > 0:
        yield []
        yield [(f"{count(hidden, 'run')} more {'has' if hidden == 1 else 'have'} ended: --all shows them", "faint")]


def doubts(health: dict[str, Any] | None) -> Iterator[Line]:
    """Tell what makes crewd hold back: on hold, the mass brake, degraded, slow."""
    if health is None:
        return
    if health["hold"]:
        left = span(health["hold_seconds_left"])
        yield [("HOLD ", "warn"), (f"nobody may get worse for {left}: {health['hold']}", "")]
    if health["brake"]:
        yield [("MASS BRAKE ", "alert"), (str(health["brake"]), "")]
    for root in health["roots_stuck"]:
        yield [("NO ANSWER ", "alert"), (f"{clean(root)}: its disk hangs; nobody there is judged or noticed", "")]
    for part, why in health["degraded"].items():
        yield [("DEGRADED ", "alert"), (f"{part}: {why}", "")]
    if health["local_health"] > 1.0:
        yield [("SLOW ", "warn"), (f"crewd itself is slow: all thresholds x {health['local_health']:.1f}", "")]


def doors(body: dict[str, Any]) -> Iterator[Line]:
    """Tell what keeps tasks from being started: doors that a person closed, and circuits that failures opened."""
    for closed in body["pauses"]:
        word = "DRAINING " if closed["mode"] == "drain" else "PAUSED "
        why = f": {closed['reason']}" if closed["reason"] else ""
        yield [(word, "warn"), (clean(f"{closed['scope']} since {when(closed['since'])}{why}"), "")]
    for circuit in body["circuits"]:
        why = f" after {circuit['opened_for']}" if circuit["opened_for"] else ""
        # Once it is half open that time is past, and it is being tried.
        waits = circuit["probe_at"] and circuit["state"] == "open"
        probe = f"; next try {when(circuit['probe_at'])}" if waits else ""
        yield [("CIRCUIT ", "warn"), (clean(f"{circuit['name']} is {circuit['state']}{why}{probe}"), "")]


def run_line(run: dict[str, Any]) -> Line:
    """Tell a run in a line."""
    level = run["worst_level"] or ""
    tasks = ", ".join(f"{number} {status}" for status, number in sorted(run["task_counts"].items()))
    line: Line = [
        (clean(run["run_id"]), "head"),
        (f"  {clean(run['crew'])} · {run['runtime']} · ", "faint"),
        (run["status"], ""),
    ]
    if level and level != "healthy":
        line += [(" · ", "faint"), (level_word(level), level if level in TROUBLE else "")]
    if run["unread"]:
        line += [(" · ", "faint"), (f"UNREAD: {run['unread']}", "unreadable")]
    line.append((f" · {tasks or 'no tasks'}", "faint"))
    if run["goal"]:
        line.append((f" · {clean(run['goal'], GOAL_MAX)}", "faint"))
    return line
