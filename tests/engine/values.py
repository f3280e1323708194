"""Runs and tasks with sensible defaults, for tests of the parts that only think."""

from typing import Any

from crewd.engine.book import Entry, Worker
from crewd.model.process import Activity, Identity, ProcessSeen, ProcessState
from crewd.model.run import Run, RunStatus, Task, TaskStatus
from crewd.model.verdict import Level, Reason, Standing

ROOT = "beat:/crew"
IDENTITY = Identity(pid=700, start_ticks=12_345, boot_id="boot-1", pid_namespace=1)
ALIVE = ProcessSeen(ProcessState.ALIVE, "pid 700 is alive", IDENTITY, "S")
GONE = ProcessSeen(ProcessState.EXITED, "pid 700 is gone")
BUSY = ProcessSeen(ProcessState.ALIVE, "pid 700 is alive", IDENTITY, "S", Activity(tools=("pytest",)))


def task(task_id: str = "task-1", status: TaskStatus = TaskStatus.RUNNING, **more: Any) -> Task:
    return Task(task_id, status, more.pop("status_text", status.value), **more)


def run(*tasks: Task, status: RunStatus = RunStatus.RUNNING, run_id: str = "run-1", **more: Any) -> Run:
    text = more.pop("status_text", status.value)
    return Run(run_id, "beat", "night", status, text, f"/crew/{run_id}", tasks, **more)


def silent(
    task_id: str, level: Level = Level.STALE, process: ProcessSeen = ALIVE, reason: Reason = Reason.SILENT
) -> tuple[Entry, Worker]:
    """A worker that was judged so."""
    worker = Worker(task(task_id), 0.0, 0.0, standing=Standing(level, reason), process=process)
    return Entry(run(worker.task), ROOT), worker
