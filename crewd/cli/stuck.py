"""Workers that do not get on: which, since when, by what evidence, and what helps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crewd.cli.picture import TROUBLE
from crewd.cli.screen import Line, columns
from crewd.cli.status import level_word
from crewd.cli.text import clean, span

WELL = "healthy"
SAID_MAX = 400
SHOWN_MAX = 8  # workers that are told in full; many that fell silent at once have one reason


@dataclass(frozen=True)
class Stuck:
    """One worker that does not get on."""

    task: str
    level: str
    since: str | None  # RFC 3339
    silence_seconds: float | None  # None: only the daemon knows
    evidence: str  # a sentence
    remedy: str
    next_action: str  # a command


def stuck(body: Mapping[str, Any]) -> list[Stuck]:
    """Find the workers of a run that do not get on, those in most trouble first."""
    found = [_stuck(body, task) for task in body["tasks"] if task.get("worker") and task["worker"]["level"] != WELL]
    return sorted(found, key=lambda each: (-TROUBLE.get(each.level, -1), -(each.silence_seconds or 0.0)))


def stuck_lines(found: Sequence[Stuck]) -> Iterator[Line]:
    """Lay them out."""
    for each in found[:SHOWN_MAX]:
        since = f" since {each.since}" if each.since else ""
        silence = f", silent for {span(each.silence_seconds)}" if each.silence_seconds is not None else ""
        style = each.level if each.level in TROUBLE else ""
        yield [(clean(each.task), "head"), (" ", ""), (level_word(each.level), style), (f"{since}{silence}", "")]
        facts = (("evidence", each.evidence), ("helps", each.remedy), ("next", each.next_action))
        yield from columns([[(f"  {name}", "faint"), (clean(text, SAID_MAX), "")] for name, text in facts if text])
    if len(found) > SHOWN_MAX:
        names = ", ".join(f"{each.task} ({each.level})" for each in found[SHOWN_MAX : 2 * SHOWN_MAX])
        yield [(clean(f"and {len(found) - SHOWN_MAX} more: {names}", SAID_MAX), "faint")]


def run_waits(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Say what keeps the whole run: a wait of its own, or that nothing of it can be read."""
    waiting = body.get("waiting")
    if waiting:
        since = f" since {waiting['since']}" if waiting["since"] else ""
        yield "the run waits", f"for {waiting['reason']}{since} {waiting['detail']}".rstrip()
    if body.get("unread"):
        yield "unread", f"its files could not be read for {body['unread_rounds']} rounds: {body['unread']}"


def _stuck(body: Mapping[str, Any], task: Mapping[str, Any]) -> Stuck:
    worker = task["worker"]
    parts = [worker["because"] or worker["reason"]]
    if worker["wedge"]:
        parts.append(worker["wedge"].replace("_", " "))
    if worker.get("tool") and worker["tool"] not in parts[0]:
        parts.append(f"in {worker['tool']}")
    if worker["held_by"]:
        parts.append(f"its level is held by {worker['held_by']}")
    if worker.get("process") and worker["process"]["why"] and worker["process"]["why"] not in parts[0]:
        parts.append(worker["process"]["why"])
    next_action = f"crewd explain {body['run_id']} {task['task_id']}"
    return Stuck(
        task["task_id"], worker["level"], worker["since"], worker["silence_seconds"], "; ".join(parts),
        _remedy(worker), next_action,
    )  # fmt: skip


def _remedy(worker: Mapping[str, Any]) -> str:
    from crewd.detection.remedies import remedy

    return remedy(worker["level"], worker["reason"], worker["wedge"])
