"""A ledger whose history says what a test wants it to say."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw

from crewd.ledger import history_rows
from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.ledger.opening import NAME
from crewd.model.event import Event
from crewd.model.history import AttemptRow, RunRow, TaskRow
from tests.fakes.clock import FakeClock

NOW = 1_767_225_600.0


def attempt(seq: int, outcome: str = "completed", seconds: float | None = 10.0, **others: Any) -> AttemptRow:
    """An attempt of a run and a task of its own, that ended a minute before NOW."""
    known: dict[str, Any] = {
        "run_id": f"r-{seq}",
        "task_id": "t1",
        "attempt": 1,
        "last_seq": seq,
        "outcome": outcome,
        "started_at": NOW - 60 - (seconds or 0),
        "ended_at": NOW - 60 if outcome else None,
        "duration_seconds": seconds,
    }
    return AttemptRow(first_seq=seq, **{**known, **others})


def task(seq: int, outcome: str = "completed", seconds: float | None = 10.0, **others: Any) -> TaskRow:
    """A task that ended a minute before NOW."""
    known: dict[str, Any] = {
        "run_id": f"r-{seq}",
        "task_id": "t1",
        "attempts": 1,
        "last_seq": seq,
        "outcome": outcome,
        "started_at": NOW - 60 - (seconds or 0),
        "ended_at": NOW - 60 if outcome else None,
        "duration_seconds": seconds,
    }
    return TaskRow(first_seq=seq, **{**known, **others})


def run(seq: int, status: str = "completed", **others: Any) -> RunRow:
    """A run that ended a minute before NOW."""
    known: dict[str, Any] = {
        "run_id": f"r-{seq}",
        "last_seq": seq,
        "status": status,
        "created_at": NOW - 120,
        "ended_at": NOW - 60,
        "duration_seconds": 60.0,
    }
    return RunRow(first_seq=seq, **{**known, **others})


def write_past(
    folder: Path,
    attempts: Sequence[AttemptRow] = (),
    tasks: Sequence[TaskRow] = (),
    runs: Sequence[RunRow] = (),
    events: Sequence[Event] = (),
) -> None:
    """Leave such a ledger behind, or add to the one that is there."""

    async def begin() -> None:
        ledger = Ledger.open(folder, FakeClock(NOW))
        await ledger.commit(Batch(events=tuple(events)))
        await ledger.close()

    asyncio.run(begin())
    connection = apsw.Connection(str(folder / NAME))
    with connection:
        connection.executemany(history_rows.INSERT_ATTEMPT, map(history_rows.attempt_row, attempts))
        connection.executemany(history_rows.INSERT_TASK, map(history_rows.task_row, tasks))
        connection.executemany(history_rows.INSERT_RUN, map(history_rows.run_row, runs))
    connection.close()
