"""The invariants of docs/guarantees.md that one change of one task can break: checked at every change, in production.

They ask nothing of `lifecycle`: a fault there is theirs to find.
"""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

import msgspec

from crewd.model.managed import (
    AT_WORK,
    TERMINAL,
    Blocked,
    Cancelled,
    Completed,
    DeadLettered,
    Ending,
    ManagedTask,
    RetryWait,
    Running,
    Skipped,
    Starting,
    Waiting,
    name_of,
)
from crewd.model.plan import RunPlan, TaskPlan

# In the details of the attempt that failed: the window that the retry's delay was drawn from (model.action.RetryAt).
DELAY_FLOOR, DELAY_CEILING = "delay_floor", "delay_ceiling"
TOLERANCE = 1e-6  # seconds: delay and window are sums of the same floats
CLOCK_SLACK = 5.0  # seconds that may lie between the decision and its record


class Violation(msgspec.Struct, frozen=True, gc=False):
    """A promise that a change breaks."""

    id: str  # I2 to I10
    why: str


def violations_of(
    before: ManagedTask | None, after: ManagedTask, plan: RunPlan, task: TaskPlan | None = None
) -> list[str]:
    """Name the invariants that a change of one task breaks, each once, by number; empty: none."""
    found = violations(before, after, plan, task)
    return sorted({each.id for each in found}, key=lambda id: int(id[1:])) if found else []


def violations(
    before: ManagedTask | None, after: ManagedTask, plan: RunPlan, task: TaskPlan | None = None
) -> list[Violation]:
    """The same, with reasons. `before` None: the task is new, and only what it is now is looked at.

    `task`: its part of the plan; None: it is looked for there, which costs as much as the run has tasks.
    """
    found = [*_state_alone(after, plan, task)]
    if before is not None:
        found += [Violation(id, why) for id, check in _CHANGES if (why := check(before, after))]
    return found


def violations_of_run(plan: RunPlan, tasks: Iterable[ManagedTask]) -> list[Violation]:
    """I10: every task that was accepted is in exactly one state, and there is no other."""
    accepted = {task.task_id for task in plan.tasks}
    seen: set[str] = set()
    found: list[Violation] = []
    for task in tasks:
        if task.run_id != plan.run_id or task.task_id not in accepted:
            found.append(Violation("I10", f"{task.run_id}/{task.task_id} is no task of the run {plan.run_id}"))
        elif task.task_id in seen:
            found.append(Violation("I10", f"{task.run_id}/{task.task_id} is there twice"))
        else:
            seen.add(task.task_id)
    found += [Violation("I10", f"{plan.run_id}/{each} is in no state") for each in sorted(accepted - seen)]
    return found


def _state_alone(after: ManagedTask, plan: RunPlan, task: TaskPlan | None) -> list[Violation]:
    try:
        task = task or plan.task(after.task_id)
    except KeyError:
        return [Violation("I10", f"{after.task_id} is no task of the run {plan.run_id}")]
    asked = (
        ("I10", "" if after.run_id == plan.run_id else f"it is a task of the run {after.run_id}"),
        ("I4", _fences(after)),
        ("I5", _over_and_at_work(after)),
        ("I6", _too_many(after, task)),
        ("I7", _window(after)),
    )
    return [Violation(id, why) for id, why in asked if why]


def _terminal_changed(before: ManagedTask, after: ManagedTask) -> str:
    if not isinstance(before.state, TERMINAL) or after.state == before.state:
        return ""
    if isinstance(before.state, DeadLettered | Skipped) and isinstance(after.state, Waiting):
        return ""  # redriven, or its ancestor was
    return f"{name_of(before.state)} became {name_of(after.state)}, or was changed"


def _two_at_work(before: ManagedTask, after: ManagedTask) -> str:
    old, new = before.state, after.state
    if not isinstance(old, Starting | Running | Ending) or not isinstance(new, Starting | Running | Ending):
        return ""
    if (old.attempt, old.fence) == (new.attempt, new.fence):
        return ""
    return f"attempt {new.attempt} is at work, and so was attempt {old.attempt}"


def _fence_fell(before: ManagedTask, after: ManagedTask) -> str:
    if after.fence < before.fence:
        return f"the fence fell from {before.fence} to {after.fence}"
    started = isinstance(after.state, Starting) and after.state != before.state
    if started and after.fence == before.fence:
        return f"attempt {after.attempt} starts behind the fence {after.fence} of the one before"
    return ""


def _not_gone(before: ManagedTask, after: ManagedTask) -> str:
    """Nothing starts but from a state without a process, and nothing is over without having ended.

    Where the end and the proof that nothing is left came in one look, the record of the attempt stands for both.
    """
    old, new = before.state, after.state
    if isinstance(old, Starting | Running) and after.attempts and after.attempts[-1].attempt == old.attempt:
        return "" if not isinstance(new, AT_WORK) else f"{name_of(new)} follows an attempt that is over"
    match old, new:
        case Waiting() | RetryWait(), Starting():
            return ""
        case _, Starting(attempt=attempt) if old != new:
            return f"attempt {attempt} starts from {name_of(old)}"
        case Starting(), Running() | Ending() | Waiting():
            return ""
        case Running(process=known) | Ending(process=known), Ending(process=named):
            return "" if known is None or known == named else "the end names another process than was recorded"
        case Ending(), Running():
            return "an attempt that was over runs again"
        case Running() | Starting(), _ if old != new:
            return f"{name_of(old)} was left without a proof that it is gone"
        case _, Running() | Ending() if not isinstance(old, AT_WORK):
            return f"{name_of(new)} comes from {name_of(old)}, in which nothing was at work"
        case _:
            return ""


def _forgotten(before: ManagedTask, after: ManagedTask) -> str:
    """What counts against max_attempts is never lost, and begins anew only with a redrive."""
    if after.attempts[: len(before.attempts)] != before.attempts:
        return "a finished attempt was changed or lost"
    if after.budget_from != before.budget_from and not isinstance(before.state, DeadLettered):
        return f"the budget was moved from {before.budget_from} to {after.budget_from} without a redrive"
    match before.state, after.state:
        case Ending(attempt=over), Completed() | RetryWait() | DeadLettered() | Cancelled() | Blocked():
            recorded = any(each.attempt == over for each in after.attempts[len(before.attempts) :])
            return "" if recorded else f"attempt {over} is over, and was not recorded"
        case _:
            return ""


_CHANGES: tuple[tuple[str, Callable[[ManagedTask, ManagedTask], str]], ...] = (
    ("I2", _terminal_changed),
    ("I3", _two_at_work),
    ("I4", _fence_fell),
    ("I5", _not_gone),
    ("I6", _forgotten),
)


def _fences(task: ManagedTask) -> str:
    if isinstance(task.state, AT_WORK) and task.state.fence != task.fence:
        return f"it is at work behind the fence {task.state.fence}, and the newest is {task.fence}"
    fences = [each.fence for each in task.attempts[-2:]]
    if fences and max(fences) > task.fence:
        return f"a finished attempt had the fence {max(fences)}, and the newest is {task.fence}"
    if len(fences) == 2 and fences[0] >= fences[1]:
        return f"the fences of its attempts do not grow: {fences[0]}, {fences[1]}"
    return ""


def _over_and_at_work(task: ManagedTask) -> str:
    newest = task.attempts[-1].attempt if task.attempts else 0
    if isinstance(task.state, AT_WORK) and task.state.attempt <= newest:
        return f"attempt {task.state.attempt} is at work, and attempt {newest} was over already"
    return ""


def _too_many(task: ManagedTask, plan: TaskPlan) -> str:
    """No rule for a class of errors raises the bound of the task (policy/retry.py)."""
    begun = task.counted + isinstance(task.state, AT_WORK)
    if begun > plan.retry.max_attempts:
        return f"{begun} attempts count, and {plan.retry.max_attempts} are allowed"
    return ""


def _window(task: ManagedTask) -> str:
    wait = task.state
    if not isinstance(wait, RetryWait):
        return ""
    if not isfinite(wait.delay) or wait.delay < 0:
        return f"a delay of {wait.delay} s is none"
    ahead = wait.due_at - wait.since
    if not -CLOCK_SLACK <= ahead <= wait.delay + CLOCK_SLACK:
        return f"a delay of {wait.delay:g} s is due {ahead:g} s after it began"
    details: Mapping[str, object] = task.attempts[-1].details if task.attempts else {}
    floor, ceiling = details.get(DELAY_FLOOR), details.get(DELAY_CEILING)
    if isinstance(floor, int | float) and wait.delay < floor - TOLERANCE:
        return f"the delay of {wait.delay:g} s is below its window, which begins at {floor:g} s"
    if isinstance(ceiling, int | float) and wait.delay > ceiling + TOLERANCE:
        return f"the delay of {wait.delay:g} s is above its window, which ends at {ceiling:g} s"
    return ""
