"""Why a run stands where it stands: the tasks that are the cause, whom they hold up, and why others wait.

A run is told as the API tells a managed one; of an observed one as much of that as its runtime tells. Everybody who
says why (the command, the page) says it with these words.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MANAGED = "managed"  # the runtime of runs that crewd itself runs
ENDED = ("completed", "dead_lettered", "cancelled", "skipped", "failed", "needs_attention")  # states of tasks
BAD = ("dead_lettered", "blocked", "failed", "needs_attention", "cancelled", "skipped")
AT_WORK = ("running", "starting", "ending")
# What a cause is worth telling first: whoever gave up before whoever was told to stop.
ORDER = {"dead_lettered": 0, "failed": 0, "needs_attention": 0, "blocked": 1, "cancelled": 2, "skipped": 3}


@dataclass(frozen=True)
class Cause:
    """Tasks that went wrong by themselves, in one way, and those that cannot go on because of them."""

    tasks: tuple[str, ...]
    state: str
    error_class: str
    error: str
    why: str
    attempts: int
    dependents: tuple[str, ...]
    ended_at: str

    @property
    def task(self) -> str:
        return self.tasks[0]


def causes(body: Mapping[str, Any]) -> list[Cause]:
    """Find what a run suffers from: the first to go wrong first. Tasks that fail alike are one cause."""
    tasks = {task["task_id"]: task for task in body["tasks"]}
    bad = {name for name, task in tasks.items() if task["state"] in BAD}
    roots = [name for name in tasks if name in bad and not bad & set(tasks[name]["depends_on"])]
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in roots:
        alike.setdefault(_likeness(tasks[name]), []).append(name)
    after = _dependents(tasks)
    found = [_cause(tasks, names, after) for names in alike.values()]
    return sorted(found, key=lambda cause: (ORDER[cause.state], cause.ended_at or "~", cause.task))


def waits(body: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    """Say why tasks that have not ended and are not at work wait: each reason with its tasks, most tasks first."""
    held = body.get("held") or {}
    states = {each["task_id"]: each["state"] for each in body["tasks"]}
    reasons: dict[str, list[str]] = {}
    for task in body["tasks"]:
        if task["state"] in (*ENDED, *AT_WORK, "blocked"):
            continue
        why = str(held.get(task["task_id"]) or _failed(task) or task["why"] or _missing(task, states))
        reasons.setdefault(why, []).append(task["task_id"])
    found = [(why, tuple(names)) for why, names in reasons.items()]
    return sorted(found, key=lambda each: -len(each[1]))


def last_error(task: Mapping[str, Any]) -> tuple[str, str]:
    """Name the class and the words of the latest attempt that failed; empty where none did."""
    for attempt in reversed(task["attempts"]):
        if attempt["error_class"]:
            return attempt["error_class"], attempt["error"]
    return "", ""


def guidance(error_class: str) -> str:
    """Say what follows from an error class; "" where that is not known."""
    # Asked for one run at a time; `crewd status`, which has to be quick, knows this module too.
    from crewd.model.failure import ErrorClass
    from crewd.policy.handling import HANDLING

    try:
        return HANDLING[ErrorClass(error_class)].guidance
    except (ValueError, KeyError):
        return ""


def next_action(cause: Cause, body: Mapping[str, Any]) -> str:
    """Name the command that comes next."""
    run, task = body["run_id"], cause.task
    if body["runtime"] != MANAGED:
        return f"crewd explain {run} {task}"
    match cause.state:
        case "dead_lettered":
            return f"crewd logs {run} {task} --stderr; once it is mended: crewd deadletter redrive {run}/{task}"
        case "blocked":
            return f"crewd explain {run} {task}"
        case "cancelled":
            return "submit the run again where it should still be done"
    return f"crewd show {run}"


def _likeness(task: Mapping[str, Any]) -> tuple[str, ...]:
    error_class, error = last_error(task)
    return (task["state"], error_class, error, task["why"] or "")


def _cause(tasks: Mapping[str, Any], names: Sequence[str], after: Mapping[str, Sequence[str]]) -> Cause:
    held = [each for each in _reach(names, after) if tasks[each]["state"] != "completed"]
    first = tasks[names[0]]
    error_class, error = last_error(first)
    return Cause(
        tasks=tuple(names),
        state=first["state"],
        error_class=error_class,
        error=error,
        why=first["why"] or "",
        attempts=sum(1 for each in first["attempts"] if not each["interrupted"]),
        dependents=tuple(held),
        ended_at=min((each["ended_at"] or "" for name in names for each in tasks[name]["attempts"][-1:]), default=""),
    )


def _dependents(tasks: Mapping[str, Any]) -> dict[str, list[str]]:
    after: dict[str, list[str]] = {}
    for name, task in tasks.items():
        for needed in task["depends_on"]:
            after.setdefault(needed, []).append(name)
    return after


def _reach(names: Sequence[str], after: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Everyone else who depends on one of these tasks, directly or through others, each once.

    Iterative, and one way for all of them: a chain may be long, and thousands may fail alike.
    """
    seen = set(names)
    left = deque(each for name in names for each in after.get(name, ()))
    while left:
        each = left.popleft()
        if each in seen:
            continue
        seen.add(each)
        yield each
        left.extend(after.get(each, ()))


def _failed(task: Mapping[str, Any]) -> str:
    if task["state"] != "retry_wait":
        return ""
    error_class, error = last_error(task)
    return f"attempt {task['attempt']} failed: {error_class}: {error}" if error_class else ""


def _missing(task: Mapping[str, Any], states: Mapping[str, str]) -> str:
    open_ones = [name for name in task["depends_on"] if states.get(name) != "completed"]
    return f"needs {', '.join(open_ones)}" if open_ones else "its turn has not come"
