"""Snapshots to look at: a few runs, workers and events, made by hand."""

from typing import Any

import msgspec

from crewd.model.event import Event
from crewd.model.process import ProcessSeen, ProcessState
from crewd.model.report import RoundReport
from crewd.model.run import Run, RunStatus, Task, TaskStatus
from crewd.model.snapshot import Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict

NOW = 1_767_225_600.0
ALIVE = ProcessSeen(ProcessState.ALIVE, "pid 7 is there")


def worker(task_id: str = "t1", level: Level = Level.HEALTHY, **changes: Any) -> WorkerView:
    """One worker at a level."""
    reason = changes.pop("reason", Reason.BEATING)
    wedge = changes.pop("wedge", None)
    return msgspec.structs.replace(
        WorkerView(
            task_id=task_id,
            attempt=1,
            standing=Standing(level=level, reason=reason, because="as it is", since=NOW - 5, wedge=wedge),
            verdict=Verdict(level, reason, "as it is", 1),
            heard_at=90.0,
            progress_at=NOW - 10,
            process=ALIVE,
            first_seen_at=NOW - 100,
        ),
        **changes,
    )


def view(run_id: str = "r1", crew: str = "blue", *workers: WorkerView, **changes: Any) -> RunView:
    """One run with a task for each worker, and one that has ended."""
    tasks = [
        Task(each.task_id, TaskStatus.RUNNING, "running", task_type="explore", started_at=NOW - 60)
        for each in workers
    ]
    done = Task("t0", TaskStatus.COMPLETED, "completed", task_type="plan", started_at=NOW - 90, finished_at=NOW - 60)
    run = Run(
        run_id, "pi_crew", crew, RunStatus.RUNNING, "running", f"/crews/{run_id}", (done, *tasks), goal="find it"
    )
    return RunView(msgspec.structs.replace(run, **changes), "pi_crew:/crews", workers)


def snapshot(*views: RunView, **changes: Any) -> Snapshot:
    """A picture taken after three rounds, everything well."""
    health = changes.pop(
        "health",
        Health(started_at=NOW - 60, round_number=3, round_at=NOW - 1, parts={"patrol": True, "ledger": True}),
    )
    return Snapshot(
        taken_at=NOW,
        health=health,
        runs={each.run.run_id: each for each in views},
        observed={"pi_crew:/crews": 100.0},
        **changes,
    )


def report(**changes: Any) -> RoundReport:
    """The figures of a round in which nothing happened."""
    return msgspec.structs.replace(RoundReport(number=3, started_at=NOW - 1, duration=0.02), **changes)


def event(type: str, seq: int, **changes: Any) -> Event:
    """An event of the run r1 of the crew blue."""
    data = changes.pop("data", {})
    known = {"run_id": "r1", "task_id": "t1", "attempt": 1, "runtime": "pi_crew", "crew": "blue"} | changes
    return Event(type, NOW + seq, data, seq=seq, **known)
