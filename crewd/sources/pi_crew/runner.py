"""Which process runs a run, and which works on a task: claims made of three files and two fields."""

import msgspec

from crewd.model.process import ProcessClaim
from crewd.sources.fields import Fields, fields, moment, moment_of_milliseconds, pid_of

CHECKPOINT_OF_FINISHED_WORK = "artifact-written"


class Record(msgspec.Struct, frozen=True):
    """One record that names a pid. `at` is when it was written, as far as it says."""

    pid: int
    at: float | None


class Side(msgspec.Struct, frozen=True):
    """What the small files beside a manifest say."""

    async_pid: Record | None = None
    heartbeat: Record | None = None
    owners: dict[str, Record] = {}  # task id -> last spawned worker


def async_pid_of(value: object) -> Record | None:
    """Read `async.pid`, which a background runner writes once when it starts."""
    of = fields(value)
    pid = pid_of(of, "pid")
    return Record(pid, moment(of, "startedAt")) if pid else None


def heartbeat_of(value: object) -> Record | None:
    """Read `heartbeat.json`: two writers, two shapes, and the same three fields in both."""
    of = fields(value)
    pid = pid_of(of, "pid")
    return Record(pid, moment_of_milliseconds(of, "at")) if pid else None


def owners_of(value: object) -> dict[str, Record]:
    """Read `ownership-map.json`."""
    owners: dict[str, Record] = {}
    for task_id, entry in fields(fields(value).get("entries")).items():
        of = fields(entry)
        if pid := pid_of(of, "pid"):
            owners[task_id] = Record(pid, moment(of, "updatedAt"))
    return owners


def runner_claim(manifest: Fields, side: Side, run_id: str, local: bool) -> ProcessClaim | None:
    """Name the process that runs the run: the newest record wins.

    A runner that was started anew writes `async.pid` and leaves the manifest's pid as it was. A runner in the
    background carries `--run-id`; one in the foreground is the pi session itself, whose arguments say nothing.
    """
    spawned = fields(manifest.get("async"))
    pid = pid_of(spawned, "pid")
    background = [side.async_pid] if side.async_pid else []
    if pid:
        background.append(Record(pid, moment(spawned, "spawnedAt")))
    best = max(background, key=_written) if background else None
    beat = side.heartbeat
    if beat and (best is None or (beat.pid != best.pid and _written(beat) > _written(best))):
        return ProcessClaim(beat.pid, beat.at, local=local, role="runner")
    if best is None:
        return None
    return ProcessClaim(best.pid, best.at, (run_id,), local=local, role="runner")


def worker_claim(
    task: Fields, side: Side, task_id: str, run_id: str, runner: ProcessClaim | None, local: bool
) -> ProcessClaim | None:
    """Name the process that works on a task: the worker where a pid of this attempt is written, else the runner."""
    checkpoint = fields(task.get("checkpoint"))
    if checkpoint.get("phase") == CHECKPOINT_OF_FINISHED_WORK and runner is not None:
        # The worker has done its part and may leave; what is left is the runner's.
        return runner
    started = moment(task, "startedAt")
    owner = side.owners.get(task_id)
    record = _of_this_attempt(pid_of(checkpoint, "childPid"), moment(checkpoint, "updatedAt"), started)
    if record is None and owner is not None:
        record = _of_this_attempt(owner.pid, owner.at, started)
    if record is None:
        beat = fields(task.get("heartbeat"))
        record = _of_this_attempt(pid_of(beat, "pid"), moment(beat, "lastSeenAt"), started)
        return ProcessClaim(record.pid, record.at, local=local) if record else runner
    # Workers carry the run's id in their environment since 0.9.47; the ownership map came later (0.10.1), so that
    # whoever writes it spawns marked workers. Of older ones only the time of their start is known.
    marks = (run_id,) if owner is not None else ()
    return ProcessClaim(record.pid, record.at, marks, local=local)


def _of_this_attempt(pid: int | None, at: float | None, started: float | None) -> Record | None:
    """Leave out what a former attempt wrote: its process is rightly gone."""
    if pid is None or (at is not None and started is not None and at < started):
        return None
    return Record(pid, at)


def _written(record: Record) -> float:
    return record.at if record.at is not None else 0.0
