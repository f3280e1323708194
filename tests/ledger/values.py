"""Values of every kind that a ledger holds, and counters whose state is the sum of their events."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from crewd.ledger.batch import Batch, StandingRow
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.model.event import Event
from crewd.model.look import DeadLetter
from crewd.model.process import ProcessClaim
from crewd.model.run import Run, RunStatus, Task, TaskStatus, Usage, Waiting
from crewd.model.verdict import DeadVerdict, Incident, Level, Outcome, Reason, Standing, Wedge
from tests.fakes.clock import FakeClock


def a_run(run_id: str = "run-1", status: RunStatus = RunStatus.RUNNING, goal: str = "ship it") -> Run:
    task = Task(
        task_id="build",
        status=TaskStatus.RUNNING,
        status_text="running",
        attempt=2,
        depends_on=("plan",),
        started_at=1_767_225_600.25,
        claim=ProcessClaim(pid=4711, marks=("--run-id",)),
        waiting=Waiting("human", since=1_767_225_601.0),
        usage=Usage(input=10, output=20, cost_usd=0.125),
        extra={"colour": '"blue"'},
    )
    return Run(
        run_id=run_id,
        runtime="pi_crew",
        crew="grün",
        status=status,
        status_text=status.value,
        folder=f"/srv/project/.crew/state/runs/{run_id}",
        tasks=(task,),
        goal=goal,
        created_at=1_767_225_600.0,
    )


def a_standing(task_id: str = "build", level: Level = Level.STALE, run_id: str = "run-1") -> StandingRow:
    standing = Standing(level, Reason.SILENT, "silent for 61 s", since=5.0, changes=(1.0, 2.5), wedge=Wedge.UNKNOWN)
    return StandingRow(run_id, task_id, 2, "pi_crew", "grün", standing, {"row": 5, "signals": [{"name": "beat"}]})


def a_verdict(
    task_id: str = "build", outcome: Outcome = Outcome.OPEN, settled_at: float | None = None
) -> DeadVerdict:
    return DeadVerdict(
        "run-1",
        task_id,
        2,
        "pi_crew",
        "grün",
        Reason.EXITED,
        100.0,
        95.5,
        4.5,
        outcome,
        settled_at,
        "the pid is gone",
    )


def an_incident(cause: str = "dead", resolved_at: float | None = None, opened_at: float = 100.1) -> Incident:
    return Incident(
        "run-1/build", cause, "critical", "build is dead", opened_at, "grün", "run-1", "build", resolved_at
    )


def a_letter(key: str = "run-1/build/2", at: float | None = 90.0, run_id: str = "run-1") -> DeadLetter:
    return DeadLetter(run_id, "build", "max-retries", "gave up", 3, "exit 1", at, "pi_crew", key)


def an_event(number: int = 0, kind: str = "run.started", run_id: str = "run-1", at: float = 1_767_225_600.5) -> Event:
    return Event(kind, at, {"n": number, "word": "é"}, run_id, "build", 1, "pi_crew", "grün")


def raising(counter: str, by: int, total: int) -> Batch:
    """A batch that raises a counter to `total`, and tells it in two events."""
    told = (Event("counter.raised", 1.0, {"by": by}, run_id=counter), Event("counter.told", 1.0, run_id=counter))
    row = StandingRow(counter, "task", 1, "beat", "", Standing(because=str(total)))
    return Batch(
        events=told, runs=(a_run(counter, goal=str(total)),), standings=(row,), cursors={counter: str(total)}
    )


def assert_sound(folder: Path, acknowledged: Iterable[Event] = ()) -> int:
    """Open a ledger of counters afresh: all that was acknowledged is there, and its state is what its events say."""
    ledger = Ledger.open(folder, FakeClock())
    try:
        memory = ledger.recall()
        with Reader.open(folder) as reader:
            events = reader.events(limit=1_000_000)
    finally:
        asyncio.run(ledger.close())
    assert [event.seq for event in events] == list(range(1, memory.last_seq + 1))
    for event in acknowledged:
        assert events[event.seq - 1] == event
    totals: dict[str, int] = {}
    for event in events:
        totals[event.run_id] = totals.get(event.run_id, 0) + event.data.get("by", 0)
    assert {run.run_id: int(run.goal) for run in memory.runs.values()} == totals
    assert {run_id: int(row.standing.because) for (run_id, _), row in memory.standings.items()} == totals
    assert {name: int(value) for name, value in memory.cursors.items()} == totals
    return memory.last_seq
