"""Managed runs in the ledger: what is recalled of them, one run for one key, and letters that are settled."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from crewd.ledger.batch import Batch, Memory
from crewd.ledger.errors import BatchRefused, KeyTaken, LedgerDamaged
from crewd.ledger.ledger import Ledger
from crewd.ledger.opening import connect
from crewd.ledger.options import LedgerOptions
from crewd.ledger.reader import Reader
from crewd.model.managed import Cancelled, Completed, ManagedRun, Waiting
from crewd.model.plan import RunPlan, TaskPlan
from crewd.model.run import RunStatus
from tests.fakes.clock import FakeClock
from tests.ledger.values import (
    a_circuit,
    a_letter,
    a_managed_letter,
    a_managed_run,
    a_managed_task,
    a_pause,
    a_run,
    an_event,
    everything_managed,
)


def using(folder: Path, play: Callable[[Ledger], Awaitable[None]]) -> Memory:
    """Open, play, close; then what a fresh start recalls."""

    async def run() -> Memory:
        ledger = Ledger.open(folder, FakeClock())
        try:
            await play(ledger)
        finally:
            await ledger.close()
        ledger = Ledger.open(folder, FakeClock())
        try:
            return ledger.recall()
        finally:
            await ledger.close()

    return asyncio.run(run())


def committing(*batches: Batch) -> Callable[[Ledger], Awaitable[None]]:
    async def play(ledger: Ledger) -> None:
        for batch in batches:
            await ledger.commit(batch)

    return play


def test_what_is_at_work_is_recalled_and_what_has_ended_is_history(tmp_path: Path) -> None:
    assert using(tmp_path, committing(everything_managed())) == Memory(
        letter_keys=frozenset({"nightly-1/test/5", "nightly-0/test/5"}),
        letters_open={"grün": (1, 90.0)},
        letters_at=((90.0, "grün"),) * 2,
        managed={"nightly-1": a_managed_run(key="monday")},
        tasks={
            ("nightly-1", "lint"): a_managed_task(),
            ("nightly-1", "test"): a_managed_task("test", Waiting(1.0, "dependencies")),
        },
        circuits=(a_circuit(),),
        pauses=(a_pause("crew:docs"), a_pause()),
        managed_letters=(a_managed_letter(),),
    )
    with Reader.open(tmp_path) as reader:
        assert reader.managed("nightly-0") == a_managed_run("nightly-0", "sunday", ended_at=50.0)
        assert reader.managed_tasks("nightly-0") == [a_managed_task("lint", Completed(40.0, 2), "nightly-0")]


def test_the_newest_state_replaces_the_former(tmp_path: Path) -> None:
    done = a_managed_task(state=Cancelled(9.0, "operator"))
    memory = using(
        tmp_path,
        committing(
            everything_managed(),
            Batch(tasks=(done,), circuits=(a_circuit(state="half_open"),), pauses=(a_pause(reason="disk"),)),
            Batch(pauses=(a_pause("crew:docs", "again"),), resumed=("crew:docs", "crew:nobody")),
        ),
    )
    assert memory.tasks["nightly-1", "lint"] == done
    assert memory.circuits == (a_circuit(state="half_open"),)
    assert memory.pauses == (a_pause(reason="disk"),)


def test_a_run_that_ended_and_goes_on_is_recalled_again(tmp_path: Path) -> None:
    first, again = a_managed_run(ended_at=50.0), a_managed_run()
    task = a_managed_task("test", Waiting(60.0))
    memory = using(tmp_path, committing(Batch(managed=(first,), tasks=(task,)), Batch(managed=(again,))))
    assert memory.managed == {"nightly-1": again}
    assert memory.tasks == {("nightly-1", "test"): task}


def test_a_command_comes_back_as_it_was_accepted_or_is_refused(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        task = TaskPlan(task_id="a", command=("echo", "\udcff"), cwd="/")
        plan = RunPlan(run_id="r", crew="c", tasks=(task,))
        with pytest.raises(BatchRefused):
            await ledger.commit(Batch(managed=(ManagedRun(plan, RunStatus.QUEUED, 1.0),)))

    assert using(tmp_path, play) == Memory()


def test_a_task_that_goes_by_another_name_is_not_overlooked(tmp_path: Path) -> None:
    using(tmp_path, committing(everything_managed()))
    connection = connect(tmp_path / "ledger.sqlite3", LedgerOptions())
    connection.execute(
        "UPDATE managed_tasks SET run_id = 'nightly-9' WHERE run_id = 'nightly-1' AND task_id = 'lint'"
    )
    connection.close()
    with Reader.open(tmp_path) as reader, pytest.raises(LedgerDamaged, match="nightly-9"):
        reader.recall()


# Idempotency keys


def keyed(run_id: str, key: str = "monday", ended_at: float | None = None) -> Batch:
    return Batch(events=(an_event(run_id=run_id),), managed=(a_managed_run(run_id, key, ended_at),))


@pytest.mark.parametrize("ended_at", [None, 50.0])
def test_a_key_has_one_run_also_after_it_ended_and_after_a_restart(tmp_path: Path, ended_at: float | None) -> None:
    async def later(ledger: Ledger) -> None:
        with pytest.raises(KeyTaken) as taken:
            await ledger.commit(keyed("second"))
        assert taken.value.run_id == "first"
        assert "'monday'" in str(taken.value)
        await ledger.commit(keyed("first"))

    using(tmp_path, committing(keyed("first"), keyed("first", ended_at=ended_at)))
    using(tmp_path, later)
    with Reader.open(tmp_path) as reader:
        assert [reader.run_of_key(key) for key in ("monday", "tuesday", "")] == ["first", None, None]
        assert reader.managed("second") is None
        assert [event.run_id for event in reader.events()] == ["first"] * 3


def test_runs_without_a_key_are_as_many_as_there_are(tmp_path: Path) -> None:
    assert set(using(tmp_path, committing(keyed("first", ""), keyed("second", ""))).managed) == {"first", "second"}


def test_of_many_with_one_key_at_once_one_is_written_and_the_others_hear_whose_it_is(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        others = [Batch(events=(an_event(n),)) for n in range(5)]
        keyeds = [keyed(f"run-{n}") for n in range(5)]
        mixed = [batch for pair in zip(keyeds, others, strict=True) for batch in pair]
        answers = await asyncio.gather(*(ledger.commit(batch) for batch in mixed), return_exceptions=True)
        assert [type(answer) for answer in answers] == [tuple, tuple, *[KeyTaken, tuple] * 4]
        assert {answer.run_id for answer in answers if isinstance(answer, KeyTaken)} == {"run-0"}
        assert [event.seq for answer in answers if isinstance(answer, tuple) for event in answer] == [
            1,
            2,
            3,
            4,
            5,
            6,
        ]
        assert ledger.stats().failed == ""

    memory = using(tmp_path, play)
    assert set(memory.managed) == {"run-0"}
    assert memory.last_seq == 6


def test_two_runs_of_one_batch_cannot_have_one_key(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        with pytest.raises(KeyTaken, match="first"):
            await ledger.commit(Batch(managed=(a_managed_run("first", "monday"), a_managed_run("second", "monday"))))

    assert using(tmp_path, play) == Memory()


# Dead letters


def test_a_settled_letter_waits_for_nobody_and_stays_in_its_place(tmp_path: Path) -> None:
    settled = msgspec.structs.replace(a_letter("b"), state="discarded", settled_at=9.0, settled_by="operator:ann")
    memory = using(
        tmp_path,
        committing(
            Batch(runs=(a_run(),), letters=(a_letter("a"), a_letter("b"), a_letter("c"))),
            Batch(letters_settled=(settled,)),
            Batch(letters=(a_letter("b"),)),
        ),
    )
    assert memory.letters_open == {"grün": (2, 90.0)}
    assert memory.letter_keys == {"a", "b", "c"}
    with Reader.open(tmp_path) as reader:
        assert reader.letters() == [a_letter("a"), settled, a_letter("c")]
        assert reader.letters("open") == [a_letter("a"), a_letter("c")]
        assert reader.letters("open", limit=1) == [a_letter("a")]
        assert reader.letters("discarded") == [settled]
        assert reader.letter("b") == settled
        assert reader.letter("nobody") is None


def test_a_letter_may_be_met_and_settled_at_once_or_known_only_by_its_end(tmp_path: Path) -> None:
    met, known = a_managed_letter("met"), a_managed_letter("known", state="redriven")
    settled = msgspec.structs.replace(met, state="redriven")
    memory = using(tmp_path, committing(Batch(letters=(met,), letters_settled=(settled, known))))
    assert memory.letters_open == {}
    assert memory.letter_keys == {"met", "known"}


@pytest.mark.parametrize(
    ("named", "run", "managed", "counted"),
    [
        pytest.param("blue", "grün", "grün", "blue", id="the letter's word counts"),
        pytest.param("", "grün", "", "grün", id="else its run's"),
        pytest.param("", "", "grün", "grün", id="or its managed run's"),
        pytest.param("", "", "", "", id="or nobody's"),
    ],
)
def test_a_letter_is_counted_for_its_crew(tmp_path: Path, named: str, run: str, managed: str, counted: str) -> None:
    letter = msgspec.structs.replace(a_managed_letter(), crew=named)
    runs = (a_run("nightly-1"),) if run else ()
    of_managed = (a_managed_run(),) if managed else ()
    memory = using(tmp_path, committing(Batch(runs=runs, managed=of_managed, letters=(letter,))))
    assert memory.letters_open == {counted: (1, 90.0)}
    assert memory.managed_letters == ((letter,) if managed else ())


def test_a_letter_of_a_run_that_ended_still_waits_for_somebody(tmp_path: Path) -> None:
    letter, older = a_managed_letter("b"), a_managed_letter("a")
    batch = Batch(managed=(a_managed_run(ended_at=50.0),), letters=(letter, older))
    assert using(tmp_path, committing(batch)).managed_letters == (letter, older)


def test_a_letter_that_is_open_again_is_counted_for_the_crew_it_had(tmp_path: Path) -> None:
    settled = a_letter("a")
    memory = using(
        tmp_path,
        committing(
            Batch(runs=(a_run(),), letters=(a_letter("a"),)),
            Batch(runs=(msgspec.structs.replace(a_run(), crew="another"),)),
            Batch(letters_settled=(settled,)),
        ),
    )
    assert memory.letters_open == {"grün": (1, 90.0)}


# Reading


def test_managed_runs_are_chosen_by_end_and_crew_the_newest_first(tmp_path: Path) -> None:
    def run(run_id: str, submitted_at: float, ended_at: float | None = None, crew: str = "docs") -> ManagedRun:
        status = RunStatus.RUNNING if ended_at is None else RunStatus.FAILED
        return ManagedRun(RunPlan(run_id=run_id, crew=crew, tasks=()), status, submitted_at, ended_at=ended_at)

    runs = (run("a", 3.0), run("b", 1.0, 9.0), run("c", 2.0, crew="web"), run("d", 2.0))
    using(tmp_path, committing(Batch(managed=runs)))
    with Reader.open(tmp_path) as reader:

        def names(**chosen: object) -> list[str]:
            return [each.plan.run_id for each in reader.managed_runs(**chosen)]  # type: ignore[arg-type]

        assert names() == ["a", "d", "c", "b"]
        assert names(limit=2) == ["a", "d"]
        assert names(ended=True) == ["b"]
        assert names(ended=False) == ["a", "d", "c"]
        assert names(crew="web") == ["c"]
        assert reader.managed("nobody") is None
        assert reader.managed_tasks("nobody") == []
        assert reader.circuits() == reader.pauses() == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM managed_runs WHERE key = 'k' AND key <> ''",
        "SELECT * FROM managed_runs WHERE TRUE AND ? IN ('', crew) ORDER BY submitted_at DESC, rowid DESC LIMIT 9",
        "SELECT * FROM letters WHERE state = 'open' ORDER BY rowid LIMIT 9",
        "SELECT * FROM letters ORDER BY rowid LIMIT 9",
    ],
)
def test_no_choice_makes_the_database_sort(tmp_path: Path, sql: str) -> None:
    using(tmp_path, committing())
    connection = connect(tmp_path / "ledger.sqlite3", LedgerOptions())
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("",) if "?" in sql else ())]
    connection.close()
    assert not [step for step in plan if "TEMP B-TREE" in step]
    assert "key" not in sql or plan == ["SEARCH managed_runs USING INDEX managed_runs_by_key (key=?)"]
