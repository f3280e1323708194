"""How tasks of managed runs and their attempts are told in lines."""

from collections.abc import Iterator, Mapping
from typing import Any

from crewd.cli.agent_lines import amount, in_short, used_by
from crewd.cli.screen import Line, Part, columns
from crewd.cli.status import level_word
from crewd.cli.text import clean, span
from crewd.cli.times import moment
from crewd.policy.causes import BAD, last_error

ERROR_MAX = 160


def due(task: Mapping[str, Any], now: float) -> str:
    """Say when a task is tried again: "retry in 12s"; "" where it is not."""
    at = moment(task["due_at"])
    if task["state"] != "retry_wait" or at is None:
        return ""
    return f"retry in {span(at - now)}" if at > now else "retry due"


def state_style(state: str) -> str:
    """Choose the colour of a task's state."""
    match state:
        case "completed":
            return "ok"
        case "dead_lettered" | "failed" | "needs_attention":
            return "alert"
        case "retry_wait" | "blocked":
            return "warn"
        case "waiting" | "skipped" | "cancelled":
            return "faint"
    return ""


def task_words(task: Mapping[str, Any], held: Mapping[str, str], now: float) -> str:
    """Say in one line why a task stands where it stands."""
    error_class, error = last_error(task)
    why = held.get(task["task_id"]) or task["why"] or ""
    if task["state"] == "retry_wait":
        words = "; ".join(
            each for each in (due(task, now), f"{error_class}: {error}" if error_class else why) if each
        )
    elif task["state"] in BAD and error_class:
        words = f"{error_class}: {why if error in why else f'{error}; {why}'}"
    elif task["state"] == "completed":
        words = used_by(task)  # its state says all the rest
    else:
        words = in_short(task) if task.get("agent") else why
    return clean(words, ERROR_MAX)


def task_rows(body: Mapping[str, Any], now: float, levels: Mapping[str, str]) -> Iterator[Line]:
    """Lay out the tasks of a run, and below them the attempts that did not go well. `levels` are of workers."""
    held = body.get("held") or {}
    rows: list[list[Part]] = [
        [
            (task["state"], state_style(task["state"])),
            (level_word(levels.get(task["task_id"], "")), levels.get(task["task_id"], "")),
            (clean(task["task_id"]), "head"),
            (f"attempt {task['attempt']}" if task["attempt"] > 1 else "", ""),
            (task_words(task, held, now), "faint"),
        ]
        for task in body["tasks"]
    ]
    yield from columns(rows) if rows else [[("no tasks", "faint")]]
    yield from attempts(body["tasks"])


def attempts(tasks: list[dict[str, Any]], all_of_them: bool = False) -> Iterator[Line]:
    """Lay out attempts that are over: those of tasks that needed more than one, or that did not succeed."""
    rows = [
        _attempt_row(task["task_id"], attempt)
        for task in tasks
        if all_of_them or len(task["attempts"]) > 1 or any(each["error_class"] for each in task["attempts"])
        for attempt in task["attempts"]
    ]
    if rows:
        yield []
        yield [("attempts that are over", "head")]
        # Only agents are resumed and use tokens; nobody else needs room for that.
        told = [number for number in range(len(rows[0])) if any(row[number][0] for row in rows)]
        yield from columns([[row[number] for number in told] for row in rows])


def _attempt_row(task_id: str, attempt: Mapping[str, Any]) -> list[Part]:
    details = attempt.get("details") or {}
    if attempt["interrupted"]:
        outcome = ("interrupted", "faint")
    elif attempt["error_class"]:
        outcome = (clean(attempt["error_class"]), "alert")
    else:
        outcome = ("ok", "ok")
    return [
        (f"  {clean(task_id)}", ""),
        (str(attempt["attempt"]), ""),
        outcome,
        (_exit(attempt["exit"]), ""),
        (_length(attempt), ""),
        ("resumed" if details.get("rung") == "resume" else "", ""),
        (amount(details.get("tokens", 0), details.get("cost_usd")), ""),
        (clean(attempt["error"] or "", ERROR_MAX), "faint"),
    ]


def _exit(ended: Mapping[str, Any]) -> str:
    if ended["signal"] is not None:
        return f"signal {ended['signal']}"
    return f"exit {ended['code']}" if ended["code"] is not None else ""


def _length(attempt: Mapping[str, Any]) -> str:
    began, ended = moment(attempt["started_at"]), moment(attempt["ended_at"])
    if began is None or ended is None:
        return ""
    # Most attempts that fail do so within seconds, and then tenths matter.
    return f"{ended - began:.1f}s" if ended - began < 60 else span(ended - began)
