"""`crewd why`: one cause, and what to do about it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from crewd.cli.agent_lines import doing, in_short
from crewd.cli.attempt_lines import due, state_style
from crewd.cli.client import find, say_notice
from crewd.cli.managed_run import OVER, take_run
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.progress import standing
from crewd.cli.rescue import beside, incident_lines, plan_line
from crewd.cli.screen import Line, columns, print_lines
from crewd.cli.stuck import run_waits, stuck, stuck_lines
from crewd.cli.text import clean, count
from crewd.cli.times import wall_now
from crewd.policy.causes import Cause, causes, guidance, next_action, waits

NAMES_MAX = 5
ERROR_MAX = 400


@click.command()
@click.argument("run")
@config_option
@state_option
@json_option
def why(run: str, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Say why RUN stands where it stands: the one cause first, whom it holds up, what to do, and why others wait."""
    place = find(state_dir, config_file)
    answer = take_run(place, run)
    say_notice(answer)
    body = answer.body | beside(place, run)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, **laid_out(body)})
    else:
        print_lines(why_lines(body, wall_now()))


def laid_out(body: dict[str, Any]) -> dict[str, Any]:
    """Lay the answer out as JSON."""
    found = [
        {**asdict(cause), "guidance": guidance(cause.error_class), "next_action": next_action(cause, body)}
        for cause in causes(body)
    ]
    return {
        "run_id": body["run_id"],
        "status": body["status"],
        "cause": found[0] if found else None,
        "other_causes": found[1:],
        "workers": [asdict(each) for each in stuck(body)],
        "run_waits": dict(run_waits(body)),
        "recovery": body.get("recovery"),
        "incidents": body.get("incidents", []),
        "waits": [{"why": reason, "tasks": names} for reason, names in waits(body)],
        "agents": [{"task": task["task_id"], "does": doing(task)} for task in _agents(body)],
    }


def why_lines(body: dict[str, Any], now: float) -> Iterator[Line]:
    """Lay out why a run stands where it stands. `now` is wall time."""
    yield [(clean(body["run_id"]), "head"), (f" {body['status']}", ""), (f": {standing(body)}", "")]
    found, troubled = causes(body), stuck(body)
    yield from columns([[(f"  {name}", "faint"), (clean(text, ERROR_MAX), "")] for name, text in run_waits(body)])
    yield from plan_line(body)
    if wrong := body.get("incidents", []):
        yield []
        yield from incident_lines(wrong)
    if found:
        yield []
        yield from _cause_lines(found[0], body)
    if troubled:
        yield []
        yield from stuck_lines(troubled)
    if len(found) > 1:
        yield []
        yield [(f"{count(len(found) - 1, 'other cause')}:", "faint")]
        yield from columns([[(f"  {_names(cause.tasks)}", ""), (_words(cause), "faint")] for cause in found[1:]])
    told = {each.task for each in troubled}
    waiting = [(reason, names) for reason, names in waits(body) if not told.issuperset(names)]
    if waiting:
        yield []
        yield from columns(
            [
                [
                    (count(len(names), "task") + (" waits" if len(names) == 1 else " wait"), "head"),
                    (f"{_names(names)}: {clean(_when(reason, names, body, now), ERROR_MAX)}", ""),
                ]
                for reason, names in waiting
            ]
        )
    if not found and not waiting and not troubled and not wrong and not body.get("recovery"):
        yield [("nothing stands in its way" if body["status"] not in OVER else "nothing went wrong", "")]
    if working := _agents(body):
        yield []
        yield from columns(
            [[(clean(task["task_id"]), "head"), (clean(in_short(task), ERROR_MAX), "")] for task in working]
        )


def _agents(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The tasks at which an agent works now."""
    return [task for task in body["tasks"] if task.get("agent")]


def _cause_lines(cause: Cause, body: dict[str, Any]) -> Iterator[Line]:
    tried = f" after {count(cause.attempts, 'attempt')}" if cause.attempts else ""
    yield [
        ("cause ", "faint"),
        (_names(cause.tasks), "head"),
        (" ", ""),
        (cause.state, state_style(cause.state)),
        (tried, ""),
    ]
    held = cause.dependents
    facts = [
        ("error", _words(cause)),
        ("why", cause.why if cause.why not in (cause.error, _words(cause)) else ""),
        ("means", guidance(cause.error_class)),
        ("next", next_action(cause, body)),
        ("holds up", f"{count(len(held), 'dependent')}: {_names(held)}" if held else ""),
    ]
    yield from columns([[(f"  {name}", "faint"), (clean(text, ERROR_MAX), "")] for name, text in facts if text])


def _when(reason: str, names: Sequence[str], body: dict[str, Any], now: float) -> str:
    times = [due(task, now) for task in body["tasks"] if task["task_id"] in names]
    soonest = next((each for each in times if each), "")
    return "; ".join(each for each in (soonest, reason) if each)


def _words(cause: Cause) -> str:
    return f"{cause.error_class}: {cause.error}" if cause.error_class else clean(cause.why, ERROR_MAX)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return clean(", ".join(names[:NAMES_MAX])) + more
