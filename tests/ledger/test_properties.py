"""Whatever is committed, in whatever batches, with restarts anywhere: what is recalled is the fold of it."""

import asyncio
import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crewd.ledger import rows
from crewd.ledger.batch import Batch, Memory
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.model.event import Event
from crewd.model.look import DeadLetter
from crewd.model.managed import CircuitState, ManagedRun, ManagedTask, Pause, Waiting
from crewd.model.verdict import Level, Outcome
from tests.fakes.clock import FakeClock
from tests.ledger.values import (
    a_circuit,
    a_letter,
    a_managed_letter,
    a_managed_run,
    a_managed_task,
    a_pause,
    a_run,
    a_standing,
    a_verdict,
    an_incident,
)

NAMES = st.sampled_from(["a", "b", "c"])
TEXT = st.text(max_size=8)  # no surrogates: those have a test of their own
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.builds(
    Event,
    type=TEXT,
    at=st.floats(-1e12, 1e12),
    data=st.dictionaries(TEXT, VALUES, max_size=3),
    run_id=NAMES,
    task_id=TEXT,
    attempt=st.integers(-(2**63) + 1, 2**63 - 1),
    runtime=TEXT,
    crew=TEXT,
    actor=TEXT,
)
BATCHES = st.builds(
    Batch,
    events=st.lists(EVENTS, max_size=4).map(tuple),
    runs=st.lists(st.builds(a_run, NAMES, goal=TEXT), max_size=3).map(tuple),
    vanished=st.lists(NAMES, max_size=2).map(tuple),
    standings=st.lists(st.builds(a_standing, NAMES, st.sampled_from(Level), NAMES), max_size=3).map(tuple),
    gone=st.lists(st.tuples(NAMES, NAMES), max_size=2).map(tuple),
    verdicts=st.lists(st.builds(a_verdict, NAMES, st.sampled_from(Outcome)), max_size=2).map(tuple),
    incidents=st.lists(
        st.builds(an_incident, NAMES, st.none() | st.floats(0, 9), st.sampled_from([0.1, 0.2])), max_size=2
    ).map(tuple),
    letters=st.lists(st.builds(a_letter, NAMES, st.none() | st.floats(0, 9), NAMES), max_size=2).map(tuple),
    cursors=st.dictionaries(TEXT, TEXT, max_size=2),
    managed=st.lists(st.builds(a_managed_run, NAMES, ended_at=st.none() | st.floats(0, 9)), max_size=2).map(tuple),
    tasks=st.lists(
        st.builds(
            a_managed_task, st.sampled_from(["lint", "test"]), st.builds(Waiting, st.floats(0, 9), TEXT), NAMES
        ),
        max_size=3,
    ).map(tuple),
    circuits=st.lists(st.builds(a_circuit, NAMES, TEXT), max_size=2).map(tuple),
    pauses=st.lists(st.builds(a_pause, NAMES, TEXT), max_size=2).map(tuple),
    resumed=st.lists(NAMES, max_size=1).map(tuple),
    letters_settled=st.lists(
        st.builds(a_managed_letter, NAMES, st.sampled_from(["open", "redriven", "discarded"]), NAMES), max_size=2
    ).map(tuple),
)
RESTART = None
MINUS_ZERO = Batch(events=(Event("x", -0.0),), letters=(a_letter(at=-0.0),), incidents=(an_incident(opened_at=-0.0),))


class Fold:
    """The same, in dictionaries."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.memory = Memory()
        self.verdicts: dict[str, object] = {}
        self.incidents: dict[tuple[str, float], object] = {}
        self.letters: dict[str, DeadLetter] = {}
        self.managed: dict[str, ManagedRun] = {}
        self.tasks: dict[tuple[str, str], ManagedTask] = {}
        self.circuits: dict[str, CircuitState] = {}
        self.pauses: dict[str, Pause] = {}

    def take(self, batch: Batch) -> None:
        for event in batch.events:
            self.events.append(msgspec.structs.replace(event, seq=len(self.events) + 1))
        runs = {**self.memory.runs, **{run.run_id: run for run in batch.runs}}
        standings = {key: row for key, row in self.memory.standings.items() if key[0] not in batch.vanished}
        standings |= {(row.run_id, row.task_id): row for row in batch.standings}
        self.verdicts |= {verdict.task_id: verdict for verdict in batch.verdicts}
        self.incidents |= {(incident.cause, incident.opened_at): incident for incident in batch.incidents}
        self.letters = {letter.key: letter for letter in reversed(batch.letters)} | self.letters
        self.letters |= {letter.key: letter for letter in batch.letters_settled}
        self.managed |= {run.plan.run_id: run for run in batch.managed}
        self.tasks |= {(task.run_id, task.task_id): task for task in batch.tasks}
        self.circuits |= {circuit.name: circuit for circuit in batch.circuits}
        self.pauses |= {pause.scope: pause for pause in batch.pauses}
        self.pauses = {scope: pause for scope, pause in self.pauses.items() if scope not in batch.resumed}
        at_work = {run_id: run for run_id, run in self.managed.items() if run.ended_at is None}
        self.memory = Memory(
            last_seq=len(self.events),
            runs={run_id: run for run_id, run in runs.items() if run_id not in batch.vanished},
            standings={key: row for key, row in standings.items() if key not in batch.gone},
            letter_keys=frozenset(self.letters),
            cursors={**self.memory.cursors, **batch.cursors},
            managed=at_work,
            tasks={key: task for key, task in self.tasks.items() if key[0] in at_work},
            circuits=tuple(self.circuits[name] for name in sorted(self.circuits)),
            pauses=tuple(self.pauses[scope] for scope in sorted(self.pauses)),
        )


@given(st.lists(BATCHES | st.just(RESTART), max_size=8), st.booleans())
@example([MINUS_ZERO], False)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_recalled_is_the_fold_of_what_was_committed(steps: list[Batch | None], together: bool) -> None:
    fold = Fold()

    async def run(folder: Path) -> tuple[Memory, list[Event]]:
        ledger = Ledger.open(folder, FakeClock())
        waiting = []
        for step in (*steps, RESTART):
            if step is not RESTART:
                fold.take(step)
                waiting.append(ledger.commit(step))
                if together:
                    continue
            await asyncio.gather(*waiting)
            waiting = []
            if step is RESTART:
                await ledger.close()
                ledger = Ledger.open(folder, FakeClock())
        memory = ledger.recall()
        await ledger.close()
        with Reader.open(folder) as reader:
            assert {verdict.task_id: verdict for verdict in reader.verdicts()} == fold.verdicts
            assert {(each.cause, each.opened_at): each for each in reader.incidents()} == fold.incidents
            assert {letter.key: letter for letter in reader.letters()} == fold.letters
            return memory, reader.events()

    with tempfile.TemporaryDirectory() as name:
        memory, events = asyncio.run(run(Path(name)))
    assert events == fold.events
    assert {verdict.task_id for verdict in memory.verdicts_open} == {
        task_id for task_id, verdict in fold.verdicts.items() if verdict.outcome is Outcome.OPEN
    }
    assert {(each.cause, each.opened_at) for each in memory.incidents_open} == {
        key for key, incident in fold.incidents.items() if incident.resolved_at is None
    }
    assert {(each.cause, each.opened_at) for each in memory.incidents_closed} == {
        key for key, incident in fold.incidents.items() if incident.resolved_at is not None
    }
    letters = [letter for letter in fold.letters.values() if letter.state == "open"]
    assert sum(count for count, _ in memory.letters_open.values()) == len(letters)
    stood = [each for each in fold.letters.values() if (each.state, each.settled_by) != ("discarded", "daemon")]
    assert [at for at, _ in memory.letters_at] == sorted(each.at for each in stood if each.at is not None)
    of_managed = {letter.key: letter for letter in letters if letter.run_id in fold.managed}
    assert {letter.key: letter for letter in memory.managed_letters} == of_managed
    unordered = {
        "verdicts_open": (),
        "incidents_open": (),
        "incidents_closed": (),
        "letters_open": {},
        "letters_at": (),
        "managed_letters": (),
    }
    assert msgspec.structs.replace(memory, **unordered) == fold.memory


@given(st.text(st.characters(), max_size=5), st.text(st.characters(), max_size=5))
def test_any_text_can_be_written_and_read(run_id: str, word: str) -> None:
    event = Event("x", 1.0, {word: [word]}, run_id)
    prepared = rows.prepare(Batch(events=(event,)), 0, 1.0)
    read = rows.read_event(prepared.statements[0][1][0])
    legible = word.encode("utf-8", "backslashreplace").decode()
    assert read.data == {legible: [legible]}
    assert read.run_id == run_id.encode("utf-8", "backslashreplace").decode()
