"""What the daemon would answer, made from its ledger while it is down."""

from collections.abc import Iterable
from typing import Any

from crewd.cli.past_managed import managed_as_run
from crewd.errors import NothingMatched
from crewd.ledger.batch import Memory, StandingRow
from crewd.ledger.reader import Reader
from crewd.model.process import HIDDEN
from crewd.model.run import Run
from crewd.model.snapshot import Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Verdict
from crewd.telemetry.redact import Redactor
from crewd.web import shapes


def past_snapshot(memory: Memory) -> Snapshot:
    """Put the last written runs and standings together as a snapshot. What only a living daemon knows is empty."""
    rows: dict[str, list[StandingRow]] = {}
    for row in memory.standings.values():
        rows.setdefault(row.run_id, []).append(row)
    runs = {run_id: _view(run, rows.get(run_id, ())) for run_id, run in memory.runs.items()}
    for run_id, managed in memory.managed.items():
        tasks = [task for (owner, _), task in memory.tasks.items() if owner == run_id]
        runs[run_id] = _view(managed_as_run(managed, tasks), rows.get(run_id, ()))
    return Snapshot(taken_at=0.0, health=Health(), runs=runs, dead_letters=dict(memory.letters_open))


def past_run(reader: Reader, run_id: str, redactor: Redactor) -> dict[str, Any]:
    """Tell one run as it was last written, also if it has vanished. Raises NothingMatched."""
    run = reader.run(run_id)
    if run is None:
        raise NothingMatched(f"no run {run_id!r} was ever seen; `crewd status --all` lists those there are")
    view = _view(run, reader.standings(run_id))
    snapshot = Snapshot(taken_at=0.0, health=Health(), runs={run_id: view})
    return past_whole(view, snapshot, redactor)


def past_task(reader: Reader, run_id: str, task_id: str, redactor: Redactor) -> dict[str, Any]:
    """Tell one task with the explanation that was last written. Raises NothingMatched."""
    whole = past_run(reader, run_id, redactor)
    found = next((task for task in whole["tasks"] if task["task_id"] == task_id), None)
    if found is None:
        raise NothingMatched(f"run {run_id!r} has no task {task_id!r}; `crewd show {run_id}` lists its tasks")
    row = next((row for row in reader.standings(run_id) if row.task_id == task_id), None)
    explanation = redactor.value(row.explanation) if row is not None else None
    return {**found, "run_id": run_id, "explain": explanation}


def past_whole(view: RunView, snapshot: Snapshot, redactor: Redactor) -> dict[str, Any]:
    """Tell a run without what is not known of the present: how long a worker has been silent, and its process."""
    whole: dict[str, Any] = redactor.value(shapes.run_whole(view, snapshot))
    for task in whole["tasks"]:
        if task["worker"] is not None:
            task["worker"] |= {"silence_seconds": None, "process": None}
    return whole


def _view(run: Run, rows: Iterable[StandingRow]) -> RunView:
    return RunView(run, root="", workers=tuple(_worker(row) for row in rows))


def _worker(row: StandingRow) -> WorkerView:
    standing = row.standing
    verdict = Verdict(standing.level, standing.reason, standing.because, row=0)
    return WorkerView(row.task_id, row.attempt, standing, verdict, heard_at=0.0, progress_at=None, process=HIDDEN)
