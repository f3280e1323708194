"""The present: the patrol's latest picture, with the runs that crewd runs itself as they stand at this very moment.

The patrol looks once a round; what it runs itself crewd knows at once. Whoever asked in between was told a run is at
work, or has failed, over tasks that had completed meanwhile. Levels of workers stay those of the round.
"""

import operator
from dataclasses import dataclass, field

import msgspec

from crewd.engine.managed.board import Board, RunEntry
from crewd.engine.managed.views import run_view, task_view, updated_at
from crewd.model.managed import AT_WORK, name_of
from crewd.model.run import Task
from crewd.model.snapshot import EMPTY, RunView, Snapshot, WorkerView
from crewd.policy.rollup import status_of

Known = tuple[RunEntry, int, RunView | None, RunView]  # what a view was made of, and the view


@dataclass(slots=True, eq=False)
class Present:
    """Makes a snapshot anew only where the board changed since the last question."""

    board: Board
    root: str  # key of the observed clock of managed runs
    _of: Snapshot = EMPTY
    _at: int = -1
    _told: Snapshot = EMPTY
    _views: dict[str, Known] = field(default_factory=dict)

    def of(self, picture: Snapshot) -> Snapshot:
        """Bring a picture up to the present. The same object, as long as nothing changed."""
        if picture is not self._of or self.board.version != self._at:
            self._views = {run_id: self._known(run_id, entry, picture) for run_id, entry in self.board.runs.items()}
            news = {run_id: view for run_id, (_, _, pictured, view) in self._views.items() if view is not pictured}
            told = msgspec.structs.replace(picture, runs={**picture.runs, **news}) if news else picture
            self._of, self._at, self._told = picture, self.board.version, told
        return self._told

    def _known(self, run_id: str, entry: RunEntry, picture: Snapshot) -> Known:
        pictured, known = picture.runs.get(run_id), self._views.get(run_id)
        if known is not None and known[0] is entry and known[1] == entry.version and known[2] is pictured:
            return known
        return entry, entry.version, pictured, up_to_date(entry, pictured, self.root)


def up_to_date(entry: RunEntry, pictured: RunView | None, root: str) -> RunView:
    """Show a run as it stands now. `pictured`: as the patrol last saw it, which is kept where nothing changed."""
    if pictured is None:
        return RunView(run_view(entry), root)
    if pictured.root != root:
        return pictured  # somebody else's of the same name was there first
    status = status_of(entry.run, entry.tasks.values())
    tasks = tuple(_task(task, entry) for task in pictured.run.tasks)
    if status is pictured.run.status and all(map(operator.is_, tasks, pictured.run.tasks)):
        return pictured
    run = msgspec.structs.replace(
        pictured.run, tasks=tasks, status=status, status_text=status.value, updated_at=updated_at(entry, status)
    )
    workers = tuple(worker for worker in pictured.workers if _is_at_work(worker, entry))
    return msgspec.structs.replace(pictured, run=run, workers=workers)


def _task(pictured: Task, entry: RunEntry) -> Task:
    """A task as it stands now; the same object, with the signs of life of the round, where it stands as it did."""
    task = entry.tasks[pictured.task_id]
    if pictured.status_text == name_of(task.state) and pictured.attempt == max(1, task.attempt):
        return pictured
    return task_view(task, entry.plans[task.task_id])


def _is_at_work(worker: WorkerView, entry: RunEntry) -> bool:
    task = entry.tasks[worker.task_id]
    return isinstance(task.state, AT_WORK) and worker.attempt == max(1, task.attempt)
