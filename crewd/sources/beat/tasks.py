"""From beats to tasks, and from the tasks of a folder to a run."""

from crewd.model.look import Happening
from crewd.model.process import ProcessClaim
from crewd.model.run import TASK_ENDED, Lease, Run, RunStatus, Task, TaskStatus, Usage, Waiting
from crewd.sources.beat.form import Beat, Decoded, task_status
from crewd.sources.fields import cut

RUNTIME = "beat"
AHEAD_MAX = 60.0  # seconds by which a beat's clock may be ahead of crewd's
WRITER, SEQ = 0, 1  # parts of a token
REJECTED = "crewd.heartbeat_rejected"


def make_task(decoded: Decoded, local: bool, lease_max: float) -> Task:
    """Turn a beat into a task."""
    beat = decoded.beat
    if beat is None:
        raise ValueError(f"no beat: {decoded.why}")
    status = task_status(beat.status)
    ended = status in TASK_ENDED
    return Task(
        task_id=beat.task,
        status=status,
        status_text=beat.status,
        attempt=beat.attempt,
        task_type=beat.task_type[:128],
        title=beat.task,
        error=cut(beat.error, 2048),
        # The time of its last beat is all that a beat says of an end.
        finished_at=decoded.at if ended else None,
        claim=None if ended else _claim(beat, decoded.at, local),
        token=() if ended else _token(beat),
        beat_at=None if ended else decoded.at,
        waiting=_waiting(beat, status),
        lease=_lease(beat, lease_max) if status is TaskStatus.RUNNING else None,
        tool="" if ended else beat.tool[:128],
        hint="" if ended else cut(beat.error, 2048),
        usage=_usage(beat),
        extra=decoded.extra,
    )


def make_run(run_id: str, folder: str, crew: str, tasks: dict[str, Task]) -> Run:
    """Make a run of the tasks that its folder holds."""
    status = run_status(tasks)
    beats = [task.beat_at or task.finished_at for task in tasks.values()]
    waiting = next((task.waiting for task in tasks.values() if task.waiting is not None), None)
    at_work = any(task.status is TaskStatus.RUNNING for task in tasks.values())
    return Run(
        run_id=run_id,
        runtime=RUNTIME,
        crew=crew,
        status=status,
        status_text=status.value,
        folder=folder,
        tasks=tuple(tasks[name] for name in sorted(tasks)),
        updated_at=max((at for at in beats if at is not None), default=None),
        waiting=None if at_work else waiting,
    )


def run_status(tasks: dict[str, Task]) -> RunStatus:
    """A run goes on while a task of it does; then the worst end counts."""
    statuses = {task.status for task in tasks.values()}
    if statuses & {TaskStatus.RUNNING, TaskStatus.WAITING}:
        return RunStatus.RUNNING
    if TaskStatus.QUEUED in statuses:
        return RunStatus.QUEUED if statuses == {TaskStatus.QUEUED} else RunStatus.RUNNING
    if TaskStatus.FAILED in statuses:
        return RunStatus.FAILED
    if statuses and statuses <= {TaskStatus.CANCELLED, TaskStatus.SKIPPED}:
        return RunStatus.CANCELLED
    return RunStatus.COMPLETED


def rejections(run_id: str, task: Task, before: Task | None, wall: float) -> list[Happening]:
    """Tell of a beat that cannot be right: ahead of its time, or older than the one before it."""
    reason = ""
    if task.beat_at is not None and task.beat_at > wall + AHEAD_MAX:
        reason = "future"
    elif before is not None and _same_writer(task, before) and task.token[SEQ] < before.token[SEQ]:
        reason = "regressed"
    return [rejection(run_id, task.task_id, reason, wall)] if reason else []


def rejection(run_id: str, task_id: str, reason: str, wall: float) -> Happening:
    return Happening(run_id, task_id, REJECTED, None, wall, {"reason": reason})


def _same_writer(task: Task, before: Task) -> bool:
    # A new process counts from the beginning again, and rightly so.
    if not task.token or not before.token:
        return False
    return (task.attempt, task.token[WRITER]) == (before.attempt, before.token[WRITER])


def _token(beat: Beat) -> tuple[object, ...]:
    # What changes with each beat. Its time does not belong here: a stepped clock is no sign of life.
    return ((beat.boot_id, beat.pid, beat.start_ticks), beat.seq, repr(beat.progress)[:1024])


def _claim(beat: Beat, at: float, local: bool) -> ProcessClaim | None:
    if beat.pid is None:
        return None
    return ProcessClaim(
        beat.pid,
        recorded_at=at,
        start_ticks=beat.start_ticks,
        boot_id=beat.boot_id,
        pid_namespace=beat.pid_namespace,
        host=beat.host,
        local=local,
    )


def _waiting(beat: Beat, status: TaskStatus) -> Waiting | None:
    if status in TASK_ENDED:
        return None
    if beat.waiting is not None:
        return Waiting(beat.waiting)
    return Waiting("human") if status is TaskStatus.WAITING else None


def _lease(beat: Beat, most: float) -> Lease | None:
    # A length, not an instant: the writer's clock never meets crewd's.
    return Lease(min(beat.busy_seconds, most), beat.tool[:128]) if beat.busy_seconds else None


def _usage(beat: Beat) -> Usage | None:
    used = beat.usage
    if used is None:
        return None
    return Usage(used.input, used.output, used.cache_read, used.cache_write, used.cost_usd, used.model[:128])
