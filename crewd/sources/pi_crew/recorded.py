"""The pids that the files of one ended run name. While it goes on they make claims; here they are to prove something.

Only pids of processes that pi-crew spawned for the run count: the worker in a checkpoint or in the ownership map, and
the runner in the background. Pids in heartbeats may be those of the person's own pi session, which rightly lives on.
"""

from collections.abc import Iterator

from crewd.host.files import Root
from crewd.model.look import ReadResult
from crewd.model.moment import parse_rfc3339
from crewd.model.orphan import Recorded
from crewd.sources.document import parse
from crewd.sources.fields import fields
from crewd.sources.names import valid_id
from crewd.sources.pi_crew.layout import ASYNC_PID, MANIFEST, OWNERSHIP, TASKS
from crewd.sources.pi_crew.manifest import read_manifest
from crewd.sources.pi_crew.runner import Record, async_pid_of, owners_of
from crewd.sources.pi_crew.task_record import TaskRecord, read_record
from crewd.sources.pi_crew.tasks import TASKS_MAX, entries_of


def recorded_pids(folder: str, run_id: str, local: bool, file_max: int) -> list[Recorded]:
    """Read the pids that the files of this run folder name. What cannot be read names none."""
    with Root(folder) as root:
        found = list(_runners(root, folder, run_id, local, file_max))
        owners = owners_of(_value(root, OWNERSHIP, file_max))
        for entry in (entries_of(_value(root, TASKS, file_max)) or [])[:TASKS_MAX]:
            of = fields(entry)
            if valid_id(task_id := of.get("id")):
                found.extend(_workers(read_record(of), owners.get(task_id), folder, task_id, local))
    return found


def _runners(root: Root, folder: str, run_id: str, local: bool, file_max: int) -> Iterator[Recorded]:
    manifest = read_manifest(root.read(MANIFEST, file_max).data, run_id)
    for record in (async_pid_of(_value(root, ASYNC_PID, file_max)), manifest.spawned):
        if record is not None:
            yield Recorded(folder, record.pid, recorded_at=record.at, local=local)


def _workers(task: TaskRecord, owner: Record | None, folder: str, task_id: str, local: bool) -> Iterator[Recorded]:
    started = _moment(task.started_at)
    checkpoint = task.checkpoint
    if checkpoint is not None and checkpoint.child_pid is not None:
        at = _moment(checkpoint.updated_at)
        yield Recorded(folder, checkpoint.child_pid, task_id, started, at, local=local)
    if owner is not None:
        yield Recorded(folder, owner.pid, task_id, started, owner.at, local=local)


def _value(root: Root, name: str, file_max: int) -> object:
    got = root.read(name, file_max)
    document = parse(got.data) if got.result is ReadResult.OK else None
    return document.value if document is not None and document.result is ReadResult.OK else None


def _moment(text: str | None) -> float | None:
    return parse_rfc3339(text) if text and len(text) <= 64 else None
