"""`tasks.json`: from pi-crew's words to tasks. Heartbeats of workers stand in here (`task.heartbeat`)."""

from typing import Any, NamedTuple

import msgspec

from crewd.model.process import ProcessClaim
from crewd.model.run import TASK_ENDED, Task, TaskStatus, Usage, Waiting
from crewd.sources.document import as_text
from crewd.sources.fields import NO_EXTRA, Fields, count, fields, moment, text, unknown, word, words
from crewd.sources.fields import amount as amount_of
from crewd.sources.names import ID_RULE, shown, valid_id
from crewd.sources.pi_crew.layout import TASK_FIELDS, TASK_STATUS
from crewd.sources.pi_crew.runner import Side, worker_claim

TASKS_MAX = 10_000  # of one run
AHEAD_MAX = 60.0  # seconds by which a heartbeat's clock may be ahead of crewd's
HINT_MAX = 2048
AT_WORK = (TaskStatus.RUNNING, TaskStatus.WAITING)
# The parts of a token, in this order: what tasks.json says, activity files, lines of the event log.
RECORD, FILES, MOVES = range(3)


class Context(NamedTuple):
    """What the tasks of one run are read with."""

    run_id: str
    side: Side
    runner: ProcessClaim | None
    parked: str  # the task that waits for an answer, says the manifest; "" = none
    local: bool
    wall: float


class Rejected(NamedTuple):
    """A heartbeat that cannot be right."""

    task_id: str
    reason: str  # future, regressed, malformed


class Tasks(msgspec.Struct):
    """What one `tasks.json` says."""

    tasks: list[Task] = []
    rejected: list[Rejected] = []
    complaints: list[str] = []
    unknown_fields: int = 0
    unknown_statuses: int = 0


def entries_of(value: object) -> list[Any] | None:
    """Take the list of tasks out of either shape; None where it is neither."""
    if isinstance(value, dict):
        value = value.get("tasks")
    return value if isinstance(value, list) else None


def read_tasks(entries: list[Any], context: Context, before: dict[str, Task]) -> Tasks:
    """Read every task that has a usable id; the others cost only themselves."""
    result = Tasks([], [], [])
    met: set[str] = set()
    for entry in entries[:TASKS_MAX]:
        of = fields(entry)
        task_id = of.get("id")
        if not valid_id(task_id):
            result.complaints.append(f"a task named {shown(task_id)} is left out: an id is {ID_RULE}")
        elif task_id in met:
            result.complaints.append(f"task {task_id} stands twice: the second is left out")
        else:
            met.add(task_id)
            _add(result, of, context, before.get(task_id))
    if len(entries) > TASKS_MAX:
        result.complaints.append(f"{len(entries)} tasks: only the first {TASKS_MAX} are looked at")
    return result


def ended_task(task: Task) -> Task:
    """Keep what an ended run is asked for later, and let go of the rest."""
    return Task(
        task_id=task.task_id,
        status=task.status,
        status_text=task.status_text,
        attempt=task.attempt,
        task_type=task.task_type,
        agent=task.agent,
        model=task.model,
        title=task.title if task.title != task.task_type else task.task_type,
        depends_on=task.depends_on,
        started_at=task.started_at,
        finished_at=task.finished_at,
        error=task.error[:512],
        usage=task.usage,
        extra=NO_EXTRA,
    )


def _add(result: Tasks, of: Fields, context: Context, before: Task | None) -> None:
    status_text = word(of, "status")
    status = TASK_STATUS.get(status_text, TaskStatus.UNKNOWN)
    extra = unknown(of, TASK_FIELDS)
    if before is None or before.extra.keys() != extra.keys():
        result.unknown_fields += len(extra)
    if status is TaskStatus.UNKNOWN and (before is None or before.status_text != status_text):
        result.unknown_statuses += 1
    at_work = status in AT_WORK
    routing = fields(of.get("modelRouting"))
    task_id = word(of, "id")
    task = Task(
        task_id=task_id,
        status=status,
        status_text=status_text,
        attempt=_attempt(of),
        task_type=word(of, "role") or word(of, "stepId"),
        agent=word(of, "agent"),
        model=word(routing, "resolved") or word(of, "model"),
        title=text(of, "displayName", 256) or text(of, "title", 256),
        depends_on=words(of, "dependsOn"),
        started_at=moment(of, "startedAt"),
        finished_at=moment(of, "finishedAt"),
        error=text(of, "error", HINT_MAX),
        claim=_claim(of, context, task_id) if at_work else None,
        token=(_record_token(of, status_text), None, None) if at_work else (),
        beat_at=_beat_at(of, task_id, before, context.wall, result.rejected) if at_work else None,
        waiting=_waiting(of, status, context.parked == task_id) if status not in TASK_ENDED else None,
        tool=text(fields(of.get("agentProgress")), "currentTool", 128) if at_work else "",
        hint=_hint(of) if at_work else "",
        usage=_usage(of),
        extra=extra,
    )
    result.tasks.append(task)


def _attempt(of: Fields) -> int:
    # Attempts are numbered from 1 again when a run is resumed: the entries count, not their names.
    attempts = of.get("attempts")
    return max(1, len(attempts)) if isinstance(attempts, list) else 1


def _claim(of: Fields, context: Context, task_id: str) -> ProcessClaim | None:
    return worker_claim(of, context.side, task_id, context.run_id, context.runner, context.local)


def _record_token(of: Fields, status: str) -> tuple[object, ...]:
    """Everything in the record that changes when work moves. Texts are compared as they stand, never as times."""
    beat = fields(of.get("heartbeat"))
    progress = fields(of.get("agentProgress"))
    checkpoint = fields(of.get("checkpoint"))
    return (
        status,
        _attempt(of),
        text(beat, "lastSeenAt", 64),
        text(beat, "lastEventAt", 64),
        text(beat, "lastStdoutAt", 64),
        text(progress, "lastActivityAt", 64),
        count(progress, "toolCount"),
        count(progress, "tokens"),
        count(progress, "turns"),
        text(checkpoint, "phase", 64),
        text(checkpoint, "updatedAt", 64),
        count(of, "jsonEvents"),
        as_text(of.get("lifetimeUsage"), 512),
    )


def _beat_at(of: Fields, task_id: str, before: Task | None, wall: float, rejected: list[Rejected]) -> float | None:
    """Find the newest sign of life by the writer's clock; note a heartbeat that cannot be right, once."""
    beat = fields(of.get("heartbeat"))
    seen = moment(beat, "lastSeenAt")
    former = before.beat_at if before is not None and before.attempt == _attempt(of) else None
    is_new = before is None or not before.token or before.token[RECORD][2] != text(beat, "lastSeenAt", 64)
    if is_new and "lastSeenAt" in beat:
        if seen is None:
            rejected.append(Rejected(task_id, "malformed"))
        elif seen > wall + AHEAD_MAX:
            rejected.append(Rejected(task_id, "future"))
        elif former is not None and seen < former - AHEAD_MAX:
            rejected.append(Rejected(task_id, "regressed"))
    written = (
        seen,
        moment(fields(of.get("agentProgress")), "lastActivityAt"),
        moment(fields(of.get("checkpoint")), "updatedAt"),
    )
    believable = [at for at in written if at is not None and at <= wall + AHEAD_MAX]
    return max(believable, default=None)


def _waiting(of: Fields, status: TaskStatus, parked: bool) -> Waiting | None:
    # A worker that asks is parked until a person answers. Words about limits in its output are no declared wait.
    asked = fields(of.get("waiting"))
    if status is TaskStatus.WAITING or (parked and status is TaskStatus.RUNNING):
        return Waiting("human", moment(asked, "askedAt"), text(asked, "questionId", 128))
    return None


def _hint(of: Fields) -> str:
    lines = fields(of.get("agentProgress")).get("recentOutput")
    kept = [line for line in lines[-64:] if isinstance(line, str)] if isinstance(lines, list) else []
    error = text(of, "error", HINT_MAX // 2)
    said = "\n".join(line[-512:] for line in kept)
    room = HINT_MAX - len(error) - 1
    return f"{error}\n{said[-room:]}" if error and said else error or said[-HINT_MAX:]


def _usage(of: Fields) -> Usage | None:
    """Prefer the sum over all calls; `usage` alone is that of the last call."""
    total = fields(of.get("lifetimeUsage"))
    last = fields(of.get("usage"))
    if not total and not last:
        return None
    best = total or last
    # The sum leaves out what came from a cache and what it cost. The last call's figures are the whole truth
    # only where there was one call.
    only_call = not total or count(fields(of.get("agentProgress")), "turns") == 1
    cost = amount_of(total, "cost")
    return Usage(
        input=count(best, "input") or 0,
        output=count(best, "output") or 0,
        cache_read=count(total, "cacheRead") or (count(last, "cacheRead") if only_call else 0) or 0,
        cache_write=count(best, "cacheWrite") or 0,
        cost_usd=amount_of(last, "cost") if cost is None and only_call else cost,
        model=word(fields(of.get("modelRouting")), "resolved"),
    )
