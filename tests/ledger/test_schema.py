"""Old files open, newer ones are refused, and every step is all or nothing."""

import asyncio
import shutil
from pathlib import Path

import apsw
import pytest

from crewd.ledger import opening, schema
from crewd.ledger.batch import Batch, Memory
from crewd.ledger.errors import LedgerDamaged, LedgerFailed, LedgerTooNew
from crewd.ledger.ledger import Ledger
from crewd.ledger.options import LedgerOptions
from crewd.ledger.reader import Reader
from crewd.model.managed import Waiting
from crewd.model.verdict import Outcome
from crewd.model.work import Lease
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
    an_event,
    an_incident,
    everything_managed,
)

FROZEN = Path(__file__).parent / "frozen"
PATH = "ledger.sqlite3"


def open_and_close(folder: Path) -> Memory:
    ledger = Ledger.open(folder, FakeClock())
    memory = ledger.recall()
    asyncio.run(ledger.close())
    return memory


def test_a_ledger_of_version_1_left_by_a_killed_daemon_still_opens(tmp_path: Path) -> None:
    # frozen/v1 is never made anew: a change of the values in values.py belongs into a frozen/v2 beside it.
    shutil.copytree(FROZEN / "v1", tmp_path / "state")
    memory = open_and_close(tmp_path / "state")
    assert memory == Memory(
        last_seq=3,
        runs={"run-1": a_run()},
        standings={("run-1", "build"): a_standing()},
        verdicts_open=(a_verdict(),),
        incidents_open=(an_incident(),),
        incidents_closed=(an_incident("silent", resolved_at=5.0),),
        letter_keys=frozenset({"run-1/build/2"}),
        letters_open={"grün": (1, 90.0)},
        letters_at=((90.0, "grün"),),
        cursors={"sink:events": "17"},
    )
    with Reader.open(tmp_path / "state") as reader:
        assert [event.data for event in reader.events()] == [{"n": n, "word": "é"} for n in range(3)]
        assert [verdict.outcome for verdict in reader.verdicts()] == [Outcome.OPEN, Outcome.TRUE]
        assert len(reader.runs(vanished=True)) == 2


def test_a_ledger_of_version_1_is_brought_forward_and_then_holds_managed_runs_too(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "v1", tmp_path / "state")

    async def run() -> None:
        ledger = Ledger.open(tmp_path / "state", FakeClock())
        await ledger.commit(everything_managed())
        await ledger.close()

    asyncio.run(run())
    memory = open_and_close(tmp_path / "state")
    assert memory.letters_open == {"grün": (2, 90.0)}
    assert memory.letter_keys == {"run-1/build/2", "nightly-1/test/5", "nightly-0/test/5"}
    connection = apsw.Connection(str(tmp_path / "state" / PATH))
    assert schema.differences(connection, schema.MIGRATIONS) == ""
    connection.close()


def test_a_damaged_letter_of_version_1_is_not_made_sound_by_bringing_it_forward(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "v1", tmp_path / "state")
    opening.prepare_file(tmp_path / "state" / PATH, LedgerOptions(), schema.MIGRATIONS[:1])
    connection = apsw.Connection(str(tmp_path / "state" / PATH))
    connection.execute("UPDATE letters SET crew = 'another'")
    connection.close()
    with pytest.raises(LedgerDamaged, match="run-1/build/2"):
        Ledger.open(tmp_path / "state", FakeClock())
    connection = apsw.Connection(str(tmp_path / "state" / PATH))
    assert schema.differences(connection, schema.MIGRATIONS[:1]) == ""
    connection.close()


def test_a_ledger_of_version_2_left_by_a_killed_daemon_still_opens(tmp_path: Path) -> None:
    # frozen/v2 is never made anew either.
    shutil.copytree(FROZEN / "v2", tmp_path / "state")
    memory = open_and_close(tmp_path / "state")
    assert memory == Memory(
        last_seq=1,
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
    with Reader.open(tmp_path / "state") as reader:
        assert reader.managed_runs() == [
            a_managed_run("nightly-0", "sunday", ended_at=50.0),
            a_managed_run(key="monday"),
        ]
        assert reader.letters("discarded") == [a_managed_letter("nightly-0/test/5", "discarded", "nightly-0")]
        assert reader.leases() == [Lease("nightly-1/held", "fast", 1, None, {"word": "é"})]
        assert [item.key for item in reader.ready(5.0)] == ["nightly-1/ready"]
        assert reader.result("nightly-1/done") == {"output": "é"}
        assert [record.data for record in reader.log("nightly-1")] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_ledger_of_a_later_version_is_refused_loudly_and_left_as_it_is(tmp_path: Path) -> None:
    open_and_close(tmp_path)
    connection = apsw.Connection(str(tmp_path / PATH))
    connection.pragma("user_version", 99)
    connection.close()
    before = (tmp_path / PATH).read_bytes()
    for attempt in (lambda: Ledger.open(tmp_path, FakeClock()), lambda: Reader.open(tmp_path)):
        with pytest.raises(LedgerTooNew, match="99") as refusal:
            attempt()
        assert refusal.value.exit_code == 77
    assert (tmp_path / PATH).read_bytes() == before


def add_a_column(connection: apsw.Connection) -> None:
    connection.execute("ALTER TABLE letters ADD COLUMN redriven_at REAL")


def fail_halfway(connection: apsw.Connection) -> None:
    add_a_column(connection)
    raise OSError(5, "the disk failed")


def test_an_older_file_is_brought_forward_with_all_it_holds(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "v1", tmp_path / "state")
    path = tmp_path / "state" / PATH
    for _ in range(2):  # the second time there is nothing left to do
        opening.prepare_file(path, LedgerOptions(), (*schema.MIGRATIONS[:1], add_a_column))
    connection = apsw.Connection(str(path))
    assert schema.version_of(connection) == 2
    assert connection.execute("SELECT key, redriven_at FROM letters").fetchall() == [("run-1/build/2", None)]
    assert connection.execute("SELECT count(*) FROM events").get == 3
    connection.close()


def test_a_step_that_fails_halfway_leaves_the_former_version(tmp_path: Path) -> None:
    shutil.copytree(FROZEN / "v1", tmp_path / "state")
    with pytest.raises(LedgerFailed, match="the disk failed"):
        opening.prepare_file(tmp_path / "state" / PATH, LedgerOptions(), (*schema.MIGRATIONS[:1], fail_halfway))
    assert open_and_close(tmp_path / "state").last_seq == 3


def test_a_reader_does_not_bring_a_file_forward(tmp_path: Path) -> None:
    open_and_close(tmp_path)
    connection = apsw.Connection(str(tmp_path / PATH))
    connection.pragma("user_version", 0)
    connection.close()
    with pytest.raises(LedgerFailed, match="crewd serve"):
        Reader.open(tmp_path)


def test_a_migrated_file_is_made_of_the_same_tables_as_a_new_one(tmp_path: Path) -> None:
    asyncio.run(_commit_something(tmp_path))
    connection = apsw.Connection(str(tmp_path / PATH))
    assert schema.differences(connection, schema.MIGRATIONS) == ""
    connection.execute("DROP INDEX events_by_run")
    assert schema.differences(connection, schema.MIGRATIONS) == "index events_by_run"
    connection.close()


async def _commit_something(folder: Path) -> None:
    ledger = Ledger.open(folder, FakeClock())
    await ledger.commit(Batch(events=(an_event(),), letters=(a_letter(),)))
    await ledger.close()
