"""`crewd show`: one run with its tasks."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.client import Answer, Daemon, Place, ask, find, look_back, say_notice, segment
from crewd.cli.managed_run import AT_WORK, MANAGED, as_whole, at_one_moment, managed
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import API, TROUBLE
from crewd.cli.rescue import beside, plan_line
from crewd.cli.screen import Line, Part, columns, print_lines
from crewd.cli.status import BECAUSE_MAX, level_word
from crewd.cli.text import clean, span
from crewd.cli.times import wall_now
from crewd.errors import NothingMatched

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader


@click.command()
@click.argument("run")
@config_option
@state_option
@json_option
def show(run: str, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show the run RUN with all its tasks. A run that is no longer on disk is shown from the ledger."""
    place = find(state_dir, config_file)
    answer = take_whole(place, run)
    if answer.body["runtime"] != MANAGED:
        answer.body["recovery"] = beside(place, run)["recovery"]
    say_notice(answer)
    now = wall_now()
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, **answer.body})
    else:
        print_lines(whole_lines(answer.body, now))


def take_whole(place: Place, run: str) -> Answer:
    """Ask for a run with everything that is known of it. Raises NothingMatched, DaemonUnreachable."""
    from crewd.cli.past import past_run
    from crewd.cli.past_managed import past_managed

    def online(daemon: Daemon) -> Any:
        try:
            whole = daemon.json(f"{API}/runs/{segment(run)}")
        except NothingMatched:
            # One that was just accepted has not been looked at yet.
            found = managed(daemon, run)
            if found is None:
                raise
            return {**as_whole(found), "managed": found}
        found = managed(daemon, run) if whole["runtime"] == MANAGED else None
        return at_one_moment(whole, found) if found is not None else whole

    def offline(reader: "Reader") -> Any:
        found = past_managed(reader, run, place.redactor)
        if found is None:
            return past_run(reader, run, place.redactor)
        try:
            whole = past_run(reader, run, place.redactor)
        except NothingMatched:
            whole = as_whole(found)
        return at_one_moment(whole, found)

    try:
        return ask(place, online, offline)
    except NothingMatched as unknown:
        return look_back(place, offline, unknown)


def whole_lines(run: dict[str, Any], now: float) -> Iterator[Line]:
    """Lay a run out with all its tasks. `now` is wall time."""
    level = run["worst_level"] or ""
    yield [(clean(run["run_id"]), "head"), (f"  {clean(run['crew'])} · {run['runtime']} · {run['status']}", "")]
    facts = [
        ("goal", run["goal"]),
        ("runtime says", run["status_text"] if run["status_text"] != run["status"] else ""),
        ("worst worker", level_word(level)),
        ("waits", _wait(run["waiting"])),
        ("unread", f"{run['unread']} for {run['unread_rounds']} rounds" if run["unread"] else ""),
        ("brought by" if run["runtime"] == "managed" else "folder", run["folder"]),
        ("created", run["created_at"]),
        ("updated", run["updated_at"]),
        ("used", _usage(run["usage"] or _used_by_all(run))),
    ]
    yield from columns([[("  " + name, "faint"), (clean(str(text)), "")] for name, text in facts if text])
    yield from plan_line(run)
    yield []
    if run.get("managed"):
        yield from _managed_lines(run, now)
        return
    rows = [_task_row(task) for task in run["tasks"]]
    yield from columns(rows) if rows else [[("no tasks", "faint")]]


def _task_row(task: dict[str, Any]) -> list[Part]:
    worker = task["worker"]
    level = worker["level"] if worker else ""
    silence = worker["silence_seconds"] if worker else None
    said = worker["because"] if worker else task["error"]
    return [
        (task["status"], "alert" if task["status"] == "failed" else ""),
        (level_word(level), level if level in TROUBLE else ""),
        (clean(task["task_id"]), "head"),
        (f"attempt {task['attempt']}" if task["attempt"] > 1 else "", ""),
        (clean(task["task_type"]), "faint"),
        ("" if silence is None else f"silent {span(silence)}", ""),
        (clean(said or _wait(task["waiting"]) or task["title"], BECAUSE_MAX), "faint"),
    ]


def _managed_lines(run: dict[str, Any], now: float) -> Iterator[Line]:
    """The tasks as crewd runs them, with the level of whoever is at work."""
    from crewd.cli.attempt_lines import task_rows

    at_work = {task["task_id"] for task in run["managed"]["tasks"] if task["state"] in AT_WORK}
    levels = {
        task["task_id"]: task["worker"]["level"]
        for task in run["tasks"]
        if task["worker"] and task["task_id"] in at_work
    }
    yield from task_rows(run["managed"], now, levels)


def _wait(waiting: dict[str, Any] | None) -> str:
    if waiting is None:
        return ""
    since = f" since {waiting['since']}" if waiting["since"] else ""
    return f"for {waiting['reason']}{since} {waiting['detail']}".rstrip()


def _used_by_all(run: dict[str, Any]) -> dict[str, Any] | None:
    from crewd.cli.agent_lines import used_by_all

    return used_by_all(run["managed"]["tasks"]) if run.get("managed") else None


def _usage(usage: dict[str, Any] | None) -> str:
    if usage is None or not any(usage[name] for name in ("input", "output", "cost_usd")):
        return ""
    cost = "" if usage["cost_usd"] is None else f", {usage['cost_usd']:.4f} USD"
    return f"{usage['input']} tokens in, {usage['output']} out{cost}"
