"""Hints: what providers do to the workers of observed runs, for whoever asks the same providers."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from crewd.engine.book import Entry, Worker
from crewd.model.failure import ErrorClass
from crewd.model.run import Run
from crewd.model.snapshot import Snapshot
from crewd.model.verdict import Level, Reason, Standing, Wedge

Key = tuple[str, str]  # run id, task id
CLASS_OF = {Wedge.RATE_LIMITED: ErrorClass.RATE_LIMITED, Wedge.AUTH_EXPIRED: ErrorClass.AUTH_ERROR}


@dataclass(slots=True, eq=False)
class Refusals:
    """Live observed workers whose provider refuses them. Noted as they are judged: nobody has to be searched for."""

    refused: set[Key] = field(default_factory=set)

    def note(self, entry: Entry, worker: Worker) -> None:
        """Take in how a worker was judged."""
        key = (entry.run.run_id, worker.task.task_id)
        if _class_of(worker.standing) is not None:
            self.refused.add(key)
        else:
            self.refused.discard(key)

    def forget(self, keys: Iterable[Key]) -> None:
        self.refused.difference_update(keys)

    def told(self) -> tuple[Key, ...]:
        return tuple(sorted(self.refused)) if self.refused else ()


def hints(snapshot: Snapshot) -> tuple[tuple[str, ErrorClass], ...]:
    """Name each model, as its runtime writes it ("provider/model" or "model"), whose provider refuses a live observed
    worker, with the class of the refusal; each pair once. Workers whose model is not told give no hint.
    """
    found: dict[tuple[str, ErrorClass], None] = {}
    for run_id, task_id in snapshot.refused:
        view = snapshot.runs.get(run_id)
        for worker in view.workers if view is not None else ():
            error_class = _class_of(worker.standing) if worker.task_id == task_id else None
            if view is not None and error_class is not None and (model := _model(view.run, task_id)):
                found[model, error_class] = None
    return tuple(found)


def _class_of(standing: Standing) -> ErrorClass | None:
    if standing.level is Level.WAITING and standing.reason is Reason.THROTTLED:
        return ErrorClass.RATE_LIMITED
    if standing.level is Level.STALE and standing.wedge is not None:
        return CLASS_OF.get(standing.wedge)
    return None


def _model(run: Run, task_id: str) -> str:
    task = next((task for task in run.tasks if task.task_id == task_id), None)
    if task is None:
        return ""
    return (task.usage.model if task.usage is not None else "") or task.model
