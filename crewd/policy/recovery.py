"""When an observed run is interrupted, and the life of the plan that follows.

    found            approve              apply              moved, run_ended
    -> planned ----------------> approved ------> applied -----------------------> verified
         |  |                     |  |  ^           |
         |  +----- decline -------+  |  +-- retry --+
         v           |               v              | spawn_failed, exited_nonzero, timed_out, deadline
      withdrawn <----|-- moved ...   withdrawn      v
                     v                            failed -- approve --> approved
                  declined

`TABLE` has a cell for every pair of state and event: the next state, or STAYS (nothing is told), or REFUSED (whoever
asked is told so). Nothing leads from `planned` to `approved` but somebody's word.
"""

import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from crewd.model.failure import ErrorClass, Failure
from crewd.model.process import ProcessSeen, ProcessState
from crewd.model.recovery import CANCEL, RESUME, Cause, Interruption, LogSeen, PlanState
from crewd.model.run import RUN_ENDED, TASK_ENDED, Run, RunStatus
from crewd.model.verdict import Level

PLACEHOLDERS = ("run", "folder", "project", "task")
TASKS_NAMED = 8  # in one sentence


class Step(StrEnum):
    """What may happen to a plan. Each is taken in one transaction with the event that tells it."""

    FOUND = "found"  # its run is found interrupted again
    APPROVE = "approve"
    DECLINE = "decline"
    APPLY = "apply"  # its command is about to be run
    MOVED = "moved"  # somebody is at work on its run again
    RUN_ENDED = "run_ended"
    VANISHED = "vanished"  # its run is gone from disk
    SPAWN_FAILED = "spawn_failed"
    EXITED_NONZERO = "exited_nonzero"
    TIMED_OUT = "timed_out"  # the command ran too long and was ended
    RETRY = "retry"  # the command failed, and is run again later
    DEADLINE = "deadline"  # the run did not move in time


class Cell(StrEnum):
    STAYS = "stays"
    REFUSED = "refused"


STAYS, REFUSED = Cell.STAYS, Cell.REFUSED
_COMMAND = (Step.SPAWN_FAILED, Step.EXITED_NONZERO, Step.TIMED_OUT, Step.RETRY)
# Of the command: it is not running, so that nothing can be heard of it. A late word changes nothing.
_NO_COMMAND: dict[Step, PlanState | Cell] = dict.fromkeys((*_COMMAND, Step.DEADLINE), STAYS)
_BY_ITSELF: dict[Step, PlanState | Cell] = dict.fromkeys(
    (Step.MOVED, Step.RUN_ENDED, Step.VANISHED), PlanState.WITHDRAWN
)
_OVER: dict[Step, PlanState | Cell] = {
    **_NO_COMMAND,
    Step.FOUND: STAYS,
    Step.APPROVE: REFUSED,
    Step.DECLINE: REFUSED,
    Step.APPLY: REFUSED,
    Step.MOVED: STAYS,
    Step.RUN_ENDED: STAYS,
    Step.VANISHED: STAYS,
}

TABLE: Mapping[PlanState, Mapping[Step, PlanState | Cell]] = MappingProxyType(
    {
        PlanState.PLANNED: {
            **_NO_COMMAND,
            **_BY_ITSELF,
            Step.FOUND: STAYS,
            Step.APPROVE: PlanState.APPROVED,
            Step.DECLINE: PlanState.DECLINED,
            Step.APPLY: REFUSED,
        },
        PlanState.APPROVED: {
            **_NO_COMMAND,
            **_BY_ITSELF,
            Step.FOUND: STAYS,
            Step.APPROVE: REFUSED,
            Step.DECLINE: PlanState.DECLINED,  # until its command begins, a person may think otherwise
            Step.APPLY: PlanState.APPLIED,
        },
        PlanState.APPLIED: {
            Step.FOUND: STAYS,  # until the deadline
            Step.APPROVE: REFUSED,
            Step.DECLINE: REFUSED,
            Step.APPLY: REFUSED,  # never twice
            Step.MOVED: PlanState.VERIFIED,
            Step.RUN_ENDED: PlanState.VERIFIED,
            Step.VANISHED: PlanState.WITHDRAWN,  # whether the command did it, nothing shows any more
            Step.SPAWN_FAILED: PlanState.FAILED,
            Step.EXITED_NONZERO: PlanState.FAILED,
            Step.TIMED_OUT: PlanState.FAILED,
            Step.RETRY: PlanState.APPROVED,
            Step.DEADLINE: PlanState.FAILED,
        },
        PlanState.DECLINED: _OVER,
        PlanState.VERIFIED: _OVER,
        PlanState.WITHDRAWN: _OVER,
        # A person may try once more, after whatever made it fail was mended.
        PlanState.FAILED: {**_OVER, Step.APPROVE: PlanState.APPROVED},
    }
)


def after(state: PlanState, step: Step) -> PlanState | Cell:
    """What a step makes of a plan."""
    return TABLE[state][step]


class RunSeen(NamedTuple):
    """What one round knows of a run. `workers`: level and process of everyone at work."""

    run: Run
    runner: ProcessSeen
    runner_confirmed: bool  # that it exited: seen twice, as far apart as for any worker
    workers: Sequence[tuple[str, Level, ProcessState]]  # task id, where it stands, its process
    is_read: bool  # its root came back complete this round, and all its files could be read


class Moves(NamedTuple):
    """Somebody is, or may rightly be, at work on the run: it is not interrupted."""

    because: str
    ended: bool = False


class Unsure(NamedTuple):
    """This round says nothing about it."""

    because: str


def interrupted(seen: RunSeen, hold: str, brake: str) -> Interruption | Moves | Unsure:
    """Say whether a run that claims to be running was interrupted. Only if all of it holds; whatever cannot be read
    or seen is no proof."""
    run = seen.run
    if hold or brake:
        return Unsure(hold or brake)
    if not seen.is_read:
        return Unsure("its files could not be read this round")
    if run.status in RUN_ENDED:
        return Moves(f"the run is {run.status_text}", ended=True)
    if run.status is not RunStatus.RUNNING or run.waiting is not None:
        return Moves(f"the run is {run.status_text}: it waits, and need not be running")
    match seen.runner.state:
        case ProcessState.ALIVE | ProcessState.STOPPED:
            return Moves(f"its runner is there: {seen.runner.why}")
        case ProcessState.HIDDEN:
            return Unsure(f"its runner cannot be seen: {seen.runner.why}")
    if not seen.runner_confirmed:
        return Unsure("that its runner is gone was seen only once")
    for task_id, level, process in seen.workers:
        if process in (ProcessState.ALIVE, ProcessState.STOPPED):
            # An orphan goes on working, and spending; a second worker beside it would do the task twice.
            return Moves(f"the worker of {task_id} outlived its runner")
        if level is Level.UNREADABLE:
            return Unsure(f"the worker of {task_id} cannot be read")
        if level is Level.WAITING:
            return Moves(f"{task_id} waits")
        if level is not Level.DEAD:
            return Unsure(f"the worker of {task_id} is not dead yet ({level.value})")
    resumable = tuple(task.task_id for task in run.tasks if task.status not in TASK_ENDED)
    if not resumable:
        return Moves("every task has ended", ended=True)
    preserved = tuple(task.task_id for task in run.tasks if task.status in TASK_ENDED)
    return Interruption(_cause(seen), _because(seen), resumable, preserved)


def offers_of(log: LogSeen) -> tuple[str, ...]:
    """What may be done: to go on from where nobody can say is not offered."""
    return (CANCEL,) if log.seq is None else (RESUME, CANCEL)


def plan_id_of(run: Run, event_seq: int | None) -> str:
    """Derive the id of a plan from the interruption that it is for: 16 hex digits."""
    runner = run.runner
    who = "" if runner is None else f"{runner.pid}:{runner.start_ticks}:{runner.recorded_at}"
    return hashlib.sha256(f"crewd:recovery:{run.run_id}:{who}:{event_seq}".encode()).hexdigest()[:16]


def mark_of(run: Run, event_seq: int | None) -> str:
    """Derive a mark of how far a run has come from what its files say: the same as long as nothing moves."""
    runner = run.runner
    words: list[object] = [run.status_text, run.updated_at, event_seq]
    words += [] if runner is None else [runner.pid, runner.recorded_at]
    for task in run.tasks:
        claimed = None if task.claim is None else task.claim.pid
        words += [task.task_id, task.status_text, task.attempt, task.started_at, task.finished_at]
        words += [task.beat_at, claimed]
    return hashlib.sha256(repr(words).encode()).hexdigest()[:16]


def project_of(folder: str, root: str) -> str:
    """The folder of the project to which a run's folder belongs; `root` is the key of its source."""
    for below in ("/.crew/", "/.pi/teams/"):
        if below in folder:
            return folder[: folder.index(below)]
    return root.partition(":")[2]


def fill(command: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Put values where a command names them in braces. What a value holds is never looked at again."""
    return tuple(_filled(word, values) for word in command)


def _filled(word: str, values: Mapping[str, str]) -> str:
    filled, rest = "", word
    while rest:
        before, brace, rest = rest.partition("{")
        filled += before
        name, end, more = rest.partition("}")
        if brace and end and name in values:
            filled, rest = filled + values[name], more
        else:
            filled += brace
    return filled


def failure_of(step: Step, error: str, passing: bool) -> Failure:
    """What went wrong with a command, for the retry policy. `passing`: the machine was short of something."""
    match step:
        case Step.SPAWN_FAILED:
            return Failure(ErrorClass.SPAWN_FAILED, error, retryable=True if passing else None)
        case Step.TIMED_OUT:
            return Failure(ErrorClass.TIMEOUT, error)
    return Failure(ErrorClass.WORKER_CRASH, error)


def _cause(seen: RunSeen) -> Cause:
    if not seen.workers:
        return Cause.RUNNER_EXITED
    if all(process is ProcessState.EXITED for _, _, process in seen.workers):
        return Cause.ALL_EXITED
    return Cause.WORKERS_SILENT


def _because(seen: RunSeen) -> str:
    names = [task_id for task_id, _, _ in seen.workers]
    more = f" and {len(names) - TASKS_NAMED} more" if len(names) > TASKS_NAMED else ""
    dead = f"; dead: {', '.join(names[:TASKS_NAMED])}{more}" if names else "; nobody was at work"
    return f"its runner is gone ({seen.runner.why}){dead}"
