"""Values of every kind that a ledger holds, and counters whose state is the sum of their events."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from crewd.ledger.batch import Batch, StandingRow
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.ledger.work import LedgerWork
from crewd.model import managed
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Exit
from crewd.model.look import DeadLetter
from crewd.model.managed import AttemptRecord, CircuitState, ManagedRun, ManagedTask, Pause
from crewd.model.plan import Limits, RetryPolicy, RetryRule, RunPlan, TaskPlan
from crewd.model.process import Identity, ProcessClaim
from crewd.model.run import Run, RunStatus, Task, TaskStatus, Usage, Waiting
from crewd.model.verdict import DeadVerdict, Incident, Level, Outcome, Reason, Standing, Wedge
from crewd.model.work import Item, Lease
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


def a_plan(run_id: str = "nightly-1") -> RunPlan:
    retry = RetryPolicy(max_attempts=5, classes={ErrorClass.RATE_LIMITED: RetryRule(base=60.0)})
    lint = TaskPlan(task_id="lint", command=("ruff", "check", "é"), cwd="/srv/project", payload={"n": [1, None]})
    test = TaskPlan(
        task_id="test", command=("pytest",), cwd="/srv", depends_on=("lint",), retry=retry, limits=Limits(nice=5)
    )
    return RunPlan(run_id=run_id, crew="grün", name="nightly", labels={"team": "ü"}, tasks=(lint, test))


def a_managed_run(run_id: str = "nightly-1", key: str = "", ended_at: float | None = None) -> ManagedRun:
    status = RunStatus.RUNNING if ended_at is None else RunStatus.COMPLETED
    return ManagedRun(a_plan(run_id), status, 1_767_225_600.0, key, ended_at, "operator:ann")


def a_managed_task(
    task_id: str = "lint", state: managed.AnyState | None = None, run_id: str = "nightly-1"
) -> ManagedTask:
    process = Identity(4711, 12_345, "boot", 4_026_531_836)
    first = AttemptRecord(1, 1, 5.0, 6.5, ErrorClass.WORKER_CRASH, "exit 1", Exit(code=1), tail="Traceback é")
    return ManagedTask(
        run_id,
        task_id,
        managed.Running(7.0, 2, 2, process, 1_000.5, "/state/runs/1") if state is None else state,
        fence=2,
        attempts=(first,),
        first_started_at=5.0,
        usage=Usage(input=10, cost_usd=0.125),
    )


def a_circuit(name: str = "anthropic", state: str = "open") -> CircuitState:
    return CircuitState(name, state, ((5.0, "rate_limited"), (6.0, "rate_limited")), 6.0, 66.0, "rate_limited", 1)


def a_pause(scope: str = "daemon", reason: str = "upgrade") -> Pause:
    return Pause(scope, "drain", reason, 100.0, "operator:ann")


def a_managed_letter(key: str = "nightly-1/test/5", state: str = "open", run_id: str = "nightly-1") -> DeadLetter:
    return DeadLetter(
        run_id,
        "test",
        "max-retries",
        "",
        5,
        "exit 1",
        90.0,
        "managed",
        key,
        error_class="worker_crash",
        fingerprint="f00",
        history=(AttemptRecord(5, 5, 80.0, 90.0, ErrorClass.WORKER_CRASH),),
        evidence={"tail": "é"},
        state=state,
    )


def everything_managed() -> Batch:
    """One row, or two, in each of the tables of managed runs."""
    return Batch(
        managed=(a_managed_run(key="monday"), a_managed_run("nightly-0", "sunday", ended_at=50.0)),
        tasks=(
            a_managed_task(),
            a_managed_task("test", managed.Waiting(1.0, "dependencies")),
            a_managed_task("lint", managed.Completed(40.0, 2), "nightly-0"),
        ),
        circuits=(a_circuit(),),
        pauses=(a_pause(), a_pause("crew:docs")),
        letters=(a_managed_letter(), a_managed_letter("nightly-0/test/5", run_id="nightly-0")),
        letters_settled=(a_managed_letter("nightly-0/test/5", "discarded", "nightly-0"),),
    )


async def everything_of_work(ledger: Ledger) -> None:
    """Items in every state, and a log."""
    work = LedgerWork(ledger)
    names = ("held", "done", "buried", "withdrawn", "ready")
    await work.submit([Item(f"nightly-1/{name}", "fast", 5, body={"word": "é"}) for name in names])
    leases, _ = await work.pull([f"nightly-1/{name}" for name in names[:3]], None)
    await work.complete(leases[1], {"output": "é"})
    await work.bury(leases[2], "max-retries")
    await work.withdraw("nightly-1/withdrawn")
    for number in range(1, 4):
        await work.append("nightly-1", f"id-{number}", {"n": number})


def an_event(number: int = 0, kind: str = "run.started", run_id: str = "run-1", at: float = 1_767_225_600.5) -> Event:
    return Event(kind, at, {"n": number, "word": "é"}, run_id, "build", 1, "pi_crew", "grün")


def raising(counter: str, by: int, total: int) -> Batch:
    """A batch that raises a counter to `total`, and tells it in two events."""
    told = (Event("counter.raised", 1.0, {"by": by}, run_id=counter), Event("counter.told", 1.0, run_id=counter))
    row = StandingRow(counter, "task", 1, "beat", "", Standing(because=str(total)))
    return Batch(
        events=told,
        runs=(a_run(counter, goal=str(total)),),
        standings=(row,),
        cursors={counter: str(total)},
        managed=(ManagedRun(RunPlan(run_id=counter, crew="", tasks=()), RunStatus.RUNNING, 1.0, key=counter),),
        tasks=(ManagedTask(counter, "task", managed.Waiting(1.0, str(total))),),
    )


def key_of(counter: str) -> str:
    return f"{counter}/task"


def pulling(counter: str) -> Callable[[Sequence[Lease]], Batch]:
    return lambda leases: Batch(events=(Event("counter.pulled", 1.0, {"fence": leases[0].fence}, run_id=counter),))


def returning(lease: Lease) -> Batch:
    return Batch(events=(Event("counter.returned", 1.0, {"fence": lease.fence}, run_id=lease.key.split("/")[0]),))


def assert_sound(folder: Path, acknowledged: Iterable[Event] = ()) -> int:
    """Open a ledger of counters afresh: all that was acknowledged is there, and its state is what its events say."""
    ledger = Ledger.open(folder, FakeClock())
    try:
        memory = ledger.recall()
        with Reader.open(folder) as reader:
            events = reader.events(limit=1_000_000)
            leases = {lease.key: lease.fence for lease in reader.leases()}
            logs = {run_id: reader.log(run_id) for run_id in memory.runs}
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
    assert memory.managed.keys() == totals.keys()
    waiting = {run_id: task.state for (run_id, _), task in memory.tasks.items()}
    assert {
        run_id: int(state.reason) for run_id, state in waiting.items() if isinstance(state, managed.Waiting)
    } == totals
    assert leases == _held_by(events)
    for records in logs.values():
        assert [record.position for record in records] == list(range(1, len(records) + 1))
        assert [record.id for record in records] == [str(record.position) for record in records]
    return memory.last_seq


def _held_by(events: Iterable[Event]) -> dict[str, int]:
    """The leases that the events tell of: each pull has the next fence, and each is returned once."""
    pulls: dict[str, int] = {}
    held: dict[str, int] = {}
    for event in events:
        key = key_of(event.run_id)
        if event.type == "counter.pulled":
            assert key not in held
            pulls[key] = pulls.get(key, 0) + 1
            held[key] = event.data["fence"]
            assert held[key] == pulls[key]
        elif event.type == "counter.returned":
            assert held.pop(key) == event.data["fence"]
    return held
