"""Reading the whole present state at a start."""

from collections.abc import Iterable, Mapping

import apsw

from crewd.ledger import cells, rows
from crewd.ledger.batch import Memory, StandingRow
from crewd.ledger.opening import LAST_SEQ, read_meta
from crewd.model.look import OWN_LETTERS, DeadLetter
from crewd.model.managed import CircuitState, ManagedRun, ManagedTask, Pause
from crewd.model.recovery import PLAN_ENDED, RecoveryPlan
from crewd.model.run import Run
from crewd.model.verdict import DeadVerdict, Incident, Outcome

CLOSED_MAX = 1000  # incidents that are over: one that comes back did so within minutes
PLANS_MAX = 1000  # of recovery that are settled: whether there is an older one is asked before one is made
LETTERS_MAX = 10_000  # that are counted within an hour
OPEN = "open"  # the state of a letter that waits for somebody

_ENDED_AT = 5  # column of `managed_runs`


def recall(connection: apsw.Connection) -> Memory:
    """Read it in one transaction. Raises apsw.Error, cells.Unsound.

    Rows that are settled are read as well: a row is chosen by what it says only after it was verified.
    """
    run, standing = cells.body_reader(Run), cells.body_reader(StandingRow)
    verdict, incident = cells.body_reader(DeadVerdict), cells.body_reader(Incident)
    letter, circuit, pause = cells.body_reader(DeadLetter), cells.body_reader(CircuitState), cells.body_reader(Pause)
    plan = cells.body_reader(RecoveryPlan)
    execute = connection.execute
    with connection:
        runs = [(row[rows.VANISHED], run(row)) for row in execute("SELECT * FROM runs")]
        verdicts = map(verdict, execute("SELECT * FROM verdicts ORDER BY opened_at"))
        incidents = [incident(row) for row in execute("SELECT * FROM incidents ORDER BY opened_at")]
        letters = [(row[2], letter(row)) for row in execute("SELECT * FROM letters ORDER BY rowid")]
        open_letters = [(crew, each) for crew, each in letters if each.state == OPEN]
        managed, ended = _managed_runs(connection)
        memory = Memory(
            last_seq=read_meta(connection).get(LAST_SEQ, 0),
            runs={each.run_id: each for vanished, each in runs if not vanished},
            standings={(row[0], row[1]): standing(row) for row in execute("SELECT * FROM standings")},
            verdicts_open=tuple(each for each in verdicts if each.outcome is Outcome.OPEN),
            incidents_open=tuple(each for each in incidents if each.resolved_at is None),
            incidents_closed=_latest_closed(incidents),
            letter_keys=frozenset(each.key for _, each in letters),
            letters_open=_count(open_letters),
            letters_at=_latest(letters),
            cursors=rows.read_cursors(execute("SELECT * FROM cursors")),
            managed=managed,
            tasks=_managed_tasks(connection, managed),
            circuits=tuple(circuit(row) for row in execute("SELECT * FROM circuits ORDER BY name")),
            pauses=tuple(pause(row) for row in execute("SELECT * FROM pauses ORDER BY scope")),
            managed_letters=tuple(each for _, each in open_letters if each.run_id in managed or each.run_id in ended),
            own_letters=tuple(each for _, each in open_letters if each.key.startswith(OWN_LETTERS)),
            recoveries=_latest_plans(plan(row) for row in execute("SELECT * FROM recoveries ORDER BY rowid")),
        )
    return memory


def _latest_closed(incidents: Iterable[Incident]) -> tuple[Incident, ...]:
    closed = sorted(
        (each for each in incidents if each.resolved_at is not None), key=lambda each: each.resolved_at or 0
    )
    return tuple(closed[-CLOSED_MAX:])


def _latest_plans(plans: Iterable[RecoveryPlan]) -> tuple[RecoveryPlan, ...]:
    """Keep the plans that are open, and the latest of the settled, in their order."""
    found = list(plans)
    settled = sorted((each for each in found if each.state in PLAN_ENDED), key=lambda each: each.ended_at or 0)
    left_out = {each.plan_id for each in settled[:-PLANS_MAX]}
    return tuple(each for each in found if each.plan_id not in left_out)


def _managed_runs(connection: apsw.Connection) -> tuple[dict[str, ManagedRun], set[str]]:
    """Runs that have not ended, and the ids of those that have: their plans may be many, and nobody asks for them."""
    read = cells.body_reader(ManagedRun)
    at_work, ended = {}, set()
    for row in connection.execute("SELECT * FROM managed_runs ORDER BY submitted_at, rowid"):
        if row[_ENDED_AT] is None:
            at_work[row[0]] = read(row)
        elif cells.verify("managed run", row[0], row):
            ended.add(row[0])
    return at_work, ended


def _managed_tasks(connection: apsw.Connection, runs: Mapping[str, ManagedRun]) -> dict[tuple[str, str], ManagedTask]:
    """All tasks of these runs. Those of runs that ended are many; they are looked at only where one is missing."""
    read, tasks = cells.body_reader(ManagedTask), {}
    for run_id in runs:
        for row in connection.execute("SELECT * FROM managed_tasks WHERE run_id = ? ORDER BY rowid", (run_id,)):
            tasks[row[0], row[1]] = read(row)
    planned = ((run_id, task.task_id) for run_id, run in runs.items() for task in run.plan.tasks)
    if any(key not in tasks for key in planned):  # never written, or damaged so that its name no longer finds it
        for row in connection.execute("SELECT * FROM managed_tasks NOT INDEXED"):
            cells.verify("managed task", (row[0], row[1]), row)
            if row[0] in runs and (row[0], row[1]) not in tasks:
                raise cells.Unsound(f"the managed task {(row[0], row[1])!r} is missing from the index by run")
    return tasks


def _latest(letters: Iterable[tuple[str, DeadLetter]]) -> tuple[tuple[float, str], ...]:
    """When the newest letters were written, without those that crewd itself took back: they were none."""
    stood = ((each.at, crew) for crew, each in letters if (each.state, each.settled_by) != ("discarded", "daemon"))
    return tuple(sorted((at, crew) for at, crew in stood if at is not None)[-LETTERS_MAX:])


def _count(letters: Iterable[tuple[str, DeadLetter]]) -> dict[str, tuple[int, float | None]]:
    """Crew -> (letters, oldest wall time)."""
    counts: dict[str, tuple[int, float | None]] = {}
    for crew, letter in letters:
        count, oldest = counts.get(crew, (0, None))
        times = [at for at in (oldest, letter.at) if at is not None]
        counts[crew] = (count + 1, min(times, default=None))
    return counts
