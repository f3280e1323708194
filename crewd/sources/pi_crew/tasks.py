"""`tasks.json`: from pi-crew's words to tasks. Heartbeats of workers stand in here (`task.heartbeat`)."""

from collections.abc import Callable, Mapping
from sys import intern
from typing import Any, NamedTuple

import msgspec

from crewd.model.moment import parse_rfc3339
from crewd.model.process import ProcessClaim
from crewd.model.run import TASK_ENDED, Task, TaskStatus, Waiting
from crewd.sources.document import as_text
from crewd.sources.fields import NO_EXTRA, Fields, cut, fields, tail, unknown
from crewd.sources.names import ID_RULE, shown, valid_id
from crewd.sources.pi_crew.calls import calls_of
from crewd.sources.pi_crew.layout import TASK_FIELDS, TASK_STATUS
from crewd.sources.pi_crew.runner import NamedProcesses, Side, worker_claim
from crewd.sources.pi_crew.task_record import (
    NO_CHECKPOINT,
    NO_HEARTBEAT,
    NO_PROGRESS,
    TaskRecord,
    read_record,
)
from crewd.sources.pi_crew.usage import usage_of

TASKS_MAX = 10_000  # of one run
AHEAD_MAX = 60.0  # seconds by which a heartbeat's clock may be ahead of crewd's
ERROR_MAX = 2048
ERROR_OF_ENDED_RUN_MAX = 512
HINT_MAX = 1024
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
    ended: bool  # the run has ended: only what is asked for later is kept of its tasks
    activity: Callable[[str], int]  # what a task's activity files say
    moves: Mapping[str, int]  # task id -> lines of the event log that tell of its moving
    rejected: Mapping[str, str]  # task id -> the time of the heartbeat that was rejected last


class Rejected(NamedTuple):
    """A heartbeat that cannot be right."""

    task_id: str
    reason: str  # future, regressed, malformed


class Tasks(msgspec.Struct):
    """What one `tasks.json` says."""

    tasks: list[Task] = []
    rejected: list[Rejected] = []  # for the first time
    rejected_still: dict[str, str] = {}  # task id -> time, as written
    complaints: list[str] = []
    unknown_fields: int = 0
    unknown_statuses: int = 0


def entries_of(value: object) -> list[Any] | None:
    """Take the list of tasks out of either shape; None where it is neither."""
    if isinstance(value, dict):
        value = value.get("tasks")
    return value if isinstance(value, list) else None


def read_tasks(entries: list[Any], context: Context, before: Mapping[str, Task]) -> Tasks:
    """Read every task that has a usable id; the others cost only themselves."""
    result = Tasks()
    met: set[str] = set()
    for entry in entries[:TASKS_MAX]:
        of = fields(entry)
        task_id = of.get("id")
        if not valid_id(task_id):
            result.complaints.append(f"a task named {shown(task_id)} is left out: an id is {ID_RULE}")
        elif task_id in met:
            result.complaints.append(f"task {task_id} stands twice: the second is left out")
        else:
            task_id = intern(task_id)
            met.add(task_id)
            result.tasks.append(_read(result, of, task_id, context, before.get(task_id)))
    if len(entries) > TASKS_MAX:
        result.complaints.append(f"{len(entries)} tasks: only the first {TASKS_MAX} are looked at")
    return result


def ended_task(task: Task) -> Task:
    """Let go of what nobody asks for once the run has ended."""
    if not (task.token or task.claim or task.hint or task.extra or task.waiting):
        return task
    return msgspec.structs.replace(
        task,
        error=cut(task.error, ERROR_OF_ENDED_RUN_MAX),
        claim=None,
        token=(),
        beat_at=None,
        waiting=None,
        tool="",
        hint="",
        extra=NO_EXTRA,
        calls=None,
    )


def _read(result: Tasks, of: Fields, task_id: str, context: Context, before: Task | None) -> Task:
    record = read_record(of)
    status_text = _word(record.status)
    status = TASK_STATUS.get(status_text, TaskStatus.UNKNOWN)
    if status is TaskStatus.UNKNOWN and (before is None or before.status_text != status_text):
        result.unknown_statuses += 1
    extra = unknown(of, TASK_FIELDS)
    if extra and (before is None or (not context.ended and before.extra.keys() != extra.keys())):
        result.unknown_fields += len(extra)
    attempt = max(1, len(record.attempts)) if record.attempts else 1
    started_at = _moment(record.started_at)
    common = _Common(
        task_id,
        status,
        status_text,
        # Attempts are numbered from 1 again when a run is resumed: the entries count, not their names.
        attempt,
        _word(record.role) or _word(record.step_id),
        _word(record.agent),
        _word(record.model_routing.resolved if record.model_routing else None) or _word(record.model),
        _title(record.display_name) or _title(record.title),
        _words(record.depends_on),
        started_at,
        _moment(record.finished_at),
    )
    error = record.error or ""
    usage = usage_of(record, of, before.usage if before is not None else None)
    if context.ended:
        return Task(*common, error=cut(error, ERROR_OF_ENDED_RUN_MAX), usage=usage, extra=NO_EXTRA)
    waiting = _waiting(record, status, context.parked == task_id) if status not in TASK_ENDED else None
    if status not in AT_WORK:
        return Task(*common, error=cut(error, ERROR_MAX), waiting=waiting, usage=usage, extra=extra)
    named, beat_at = _signs_of_life(record, started_at, context.wall)
    _check_beat(result, record, of, named.beat_at, task_id, attempt, context, before)
    return Task(
        *common,
        error=cut(error, ERROR_MAX),
        claim=worker_claim(named, context.side, task_id, context.run_id, context.runner, context.local),
        token=(
            _record_token(record, of, status_text, attempt),
            context.activity(task_id),
            context.moves.get(task_id, 0),
        ),
        beat_at=beat_at,
        waiting=waiting,
        tool=intern((record.agent_progress.current_tool or "")[:128]) if record.agent_progress else "",
        hint=_hint(record),
        usage=usage,
        extra=extra,
        calls=calls_of(record.agent_progress) if usage is not None else None,
    )


class _Common(NamedTuple):
    """The first fields of every task, in the order of `Task`."""

    task_id: str
    status: TaskStatus
    status_text: str
    attempt: int
    task_type: str
    agent: str
    model: str
    title: str
    depends_on: tuple[str, ...]
    started_at: float | None
    finished_at: float | None


def _word(text: str | None) -> str:
    """Take a text that comes from a small set, so that many tasks share one copy."""
    return intern(text[:128]) if text else ""


def _title(text: str | None) -> str:
    # Most are the name of a step, which many tasks bear.
    return (intern(text) if len(text) <= 32 else cut(text, 256)) if text else ""


def _words(values: list[Any] | None) -> tuple[str, ...]:
    return tuple([intern(value[:128]) for value in values[:256] if isinstance(value, str)]) if values else ()


def _moment(text: str | None) -> float | None:
    return parse_rfc3339(text) if text and len(text) <= 64 else None


def _record_token(record: TaskRecord, of: Fields, status: str, attempt: int) -> int:
    """Everything in the record that changes when work moves. Texts are taken as they stand, never as times.

    One number stands for all of them: it is only ever compared, within this process.
    """
    beat = record.heartbeat or NO_HEARTBEAT
    progress = record.agent_progress or NO_PROGRESS
    checkpoint = record.checkpoint or NO_CHECKPOINT
    return hash(
        (
            status,
            attempt,
            beat.last_seen_at,
            beat.last_event_at,
            beat.last_stdout_at,
            progress.last_activity_at,
            progress.tool_count,
            progress.tokens,
            progress.turns,
            checkpoint.phase,
            checkpoint.updated_at,
            record.json_events,
            as_text(of.get("lifetimeUsage"), 512),
        )
    )


def _signs_of_life(record: TaskRecord, started_at: float | None, wall: float) -> tuple[NamedProcesses, float | None]:
    """Name the processes of a task, and find the newest sign of life by the writer's clock."""
    beat = record.heartbeat or NO_HEARTBEAT
    checkpoint = record.checkpoint or NO_CHECKPOINT
    seen = _moment(beat.last_seen_at)
    saved = _moment(checkpoint.updated_at)
    active = _moment(record.agent_progress.last_activity_at) if record.agent_progress else None
    believable = [at for at in (seen, active, saved) if at is not None and at <= wall + AHEAD_MAX]
    named = NamedProcesses(checkpoint.phase, checkpoint.child_pid, saved, beat.pid, seen, started_at)
    return named, max(believable, default=None)


def _check_beat(
    result: Tasks,
    record: TaskRecord,
    of: Fields,
    seen: float | None,
    task_id: str,
    attempt: int,
    context: Context,
    before: Task | None,
) -> None:
    """Note a heartbeat that cannot be right: once, and not again as long as it stands there."""
    if record.heartbeat is None:
        return
    written = record.heartbeat.last_seen_at or ""
    former = before.beat_at if before is not None and before.attempt == attempt else None
    reason = ""
    if seen is None:
        reason = "malformed" if "lastSeenAt" in fields(of.get("heartbeat")) else ""
    elif seen > context.wall + AHEAD_MAX:
        reason = "future"
    elif former is not None and seen < former - AHEAD_MAX:
        reason = "regressed"
    known = context.rejected.get(task_id)
    if reason and known != written:
        result.rejected.append(Rejected(task_id, reason))
    if reason or known == written:
        result.rejected_still[task_id] = written


def _waiting(record: TaskRecord, status: TaskStatus, parked: bool) -> Waiting | None:
    # A worker that asks is parked until a person answers. Words about limits in its output are no declared wait.
    if status is TaskStatus.WAITING or (parked and status is TaskStatus.RUNNING):
        asked = record.waiting
        if asked is None:
            return Waiting("human")
        return Waiting("human", _moment(asked.asked_at), (asked.question_id or "")[:128])
    return None


def _hint(record: TaskRecord) -> str:
    lines = record.agent_progress.recent_output if record.agent_progress else None
    said = "\n".join([tail(line, 512) for line in lines[-64:] if isinstance(line, str)]) if lines else ""
    error = cut(record.error or "", HINT_MAX // 2)
    room = HINT_MAX - len(error) - 1
    return f"{error}\n{tail(said, room)}" if error and said else error or tail(said, HINT_MAX)
