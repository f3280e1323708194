"""A ledger as a daemon leaves it that ran tasks."""

import asyncio
from pathlib import Path

from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.model.failure import ErrorClass, Exit
from crewd.model.look import DeadLetter
from crewd.model.managed import (
    AttemptRecord,
    CircuitState,
    Completed,
    DeadLettered,
    ManagedRun,
    ManagedTask,
    Pause,
    RetryWait,
    Skipped,
    Waiting,
)
from crewd.model.plan import RunPlan, TaskPlan
from crewd.model.run import RunStatus
from tests.cli.world import NOW
from tests.fakes.clock import FakeClock


def write_managed(folder: Path, completed: str = "ok") -> None:
    """One run: a task that is completed, one given up, one that waits for it, one that is due again."""
    failed = AttemptRecord(
        1, 1, NOW, NOW + 2.5, ErrorClass.WORKER_CRASH, "exit 1: AssertionError", Exit(1), tail="Traceback\nassert 0"
    )
    second = AttemptRecord(2, 2, NOW + 9, NOW + 10)
    names = (completed, "build", "test", "late", "last")
    plans = tuple(
        TaskPlan(task_id=name, command=("true",), cwd="/", depends_on=("build",) if name == "test" else ())
        for name in names
    )
    states = (
        Completed(NOW + 10, 2),
        DeadLettered(NOW + 3, 1, "max-retries", ErrorClass.WORKER_CRASH, "managed:r-1/build/1"),
        Skipped(NOW + 3, "build was given up"),
        RetryWait(NOW + 3, 1, 1, NOW + 60, 57.0, ErrorClass.WORKER_CRASH, "exit 1"),
        Waiting(NOW),
    )
    attempts = ((failed, second), (failed,), (), (failed,), ())
    tasks = tuple(
        ManagedTask("r-1", name, state, len(tried), tried)
        for name, state, tried in zip(names, states, attempts, strict=True)
    )
    letter = DeadLetter(
        run_id="r-1",
        task_id="build",
        reason="max-retries",
        words="",
        attempts=1,
        error="exit 1: AssertionError",
        at=NOW + 3,
        runtime="managed",
        key="managed:r-1/build/1",
        crew="blue",
        error_class="worker_crash",
        fingerprint="f-1",
        history=(failed,),
    )
    batch = Batch(
        managed=(ManagedRun(RunPlan(run_id="r-1", crew="blue", tasks=plans), RunStatus.RUNNING, NOW),),
        tasks=tasks,
        letters=(letter,),
        circuits=(CircuitState("anthropic", "open", opened_for="rate_limited", probe_at=NOW + 30),),
        pauses=(Pause("crew:blue", "drain", "quota", NOW),),
    )

    async def write() -> None:
        ledger = Ledger.open(folder, FakeClock(NOW))
        await ledger.commit(batch)
        await ledger.close()

    asyncio.run(write())
