"""Which process runs a run, and which works on a task: claims made of three files and two fields."""

from typing import NamedTuple

import msgspec

from crewd.model.process import ProcessClaim
from crewd.sources.fields import Fields, fields, moment, moment_of_milliseconds, pid_of

CHECKPOINT_OF_FINISHED_WORK = "artifact-written"


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record that names a pid. `at` is when it was written, as far as it says."""

    pid: int
    at: float | None


class Side(msgspec.Struct, frozen=True):
    """What the small files beside a manifest say."""

    async_pid: Record | None = None
    heartbeat: Record | None = None
    owners: dict[str, Record] = {}  # task id -> last spawned worker


NO_SIDE = Side()


class NamedProcesses(NamedTuple):
    """What a task's own record says about who works on it. Times are as written."""

    phase: str | None  # of the checkpoint
    child_pid: int | None  # in the checkpoint
    checkpoint_at: float | None
    beat_pid: int | None
    beat_at: float | None
    started_at: float | None


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


def spawned_of(manifest: Fields) -> Record | None:
    """Read what the manifest says of a runner in the background."""
    spawned = fields(manifest.get("async"))
    pid = pid_of(spawned, "pid")
    return Record(pid, moment(spawned, "spawnedAt")) if pid else None


def runner_claim(spawned: Record | None, side: Side, run_id: str, local: bool) -> ProcessClaim | None:
    """Name the process that runs the run: the newest record wins.

    A runner that was started anew writes `async.pid` and leaves the manifest's pid as it was. A runner in the
    background carries `--run-id`; one in the foreground is the pi session itself, whose arguments say nothing.
    """
    background = [record for record in (side.async_pid, spawned) if record is not None]
    best = max(background, key=_written) if background else None
    beat = side.heartbeat
    if beat and (best is None or (beat.pid != best.pid and _written(beat) > _written(best))):
        return ProcessClaim(beat.pid, beat.at, local=local, role="runner")
    if best is None:
        return None
    return ProcessClaim(best.pid, best.at, (run_id,), local=local, role="runner")


def worker_claim(
    named: NamedProcesses, side: Side, task_id: str, run_id: str, runner: ProcessClaim | None, local: bool
) -> ProcessClaim | None:
    """Name the process that works on a task: the worker where a pid of this attempt is written, else the runner."""
    if named.phase == CHECKPOINT_OF_FINISHED_WORK and runner is not None:
        # The worker has done its part and may leave; what is left is the runner's.
        return runner
    owner = side.owners.get(task_id)
    record = _of_this_attempt(named.child_pid, named.checkpoint_at, named.started_at)
    if record is None and owner is not None:
        record = _of_this_attempt(owner.pid, owner.at, named.started_at)
    if record is None:
        record = _of_this_attempt(named.beat_pid, named.beat_at, named.started_at)
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
