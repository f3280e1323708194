"""Damage is told, with the file and a remedy: never repaired, skipped over, or answered by a fresh start."""

import asyncio
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerDamaged, LedgerError, LedgerTooNew
from crewd.ledger.ledger import Ledger
from crewd.ledger.options import LedgerOptions
from crewd.ledger.reader import Reader
from crewd.model.history import LIMIT_MAX, HistoryQuery
from tests.fakes.clock import FakeClock
from tests.ledger.values import (
    a_letter,
    a_run,
    a_standing,
    a_verdict,
    an_event,
    an_incident,
    everything_managed,
    everything_of_work,
    raising,
)

MAIN = "ledger.sqlite3"
LOG = "ledger.sqlite3-wal"
ALL = HistoryQuery(limit=LIMIT_MAX)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound ledger, cleanly closed."""
    folder = tmp_path_factory.mktemp("whole")

    async def run() -> None:
        ledger = Ledger.open(folder, FakeClock())
        await ledger.commit(
            Batch(
                events=(
                    *(an_event(n, run_id=f"run-{n % 5}") for n in range(60)),
                    *(an_event(n, "task.completed", f"run-{n}") for n in range(5)),
                ),
                runs=tuple(a_run(f"run-{n}") for n in range(5)),
                standings=(a_standing(), a_standing("test")),
                verdicts=(a_verdict(),),
                incidents=(an_incident(),),
                letters=(a_letter(),),
                cursors={"sink": "5"},
            )
        )
        await ledger.commit(Batch(vanished=("run-4",)))
        await ledger.commit(everything_managed())
        await everything_of_work(ledger)
        await ledger.close()

    asyncio.run(run())
    return folder


def contents(folder: Path) -> tuple[Any, ...]:
    """Everything that a ledger tells, read as a daemon and as a command read it."""

    async def run() -> tuple[Any, ...]:
        ledger = Ledger.open(folder, FakeClock())
        try:
            memory = ledger.recall()
        finally:
            await ledger.close()
        with Reader.open(folder) as reader:
            everything = (reader.events(), reader.runs(vanished=True), reader.verdicts(), reader.incidents())
            past = (reader.attempts(ALL), reader.tasks(ALL), reader.past_runs(ALL))
            whole = (*everything, reader.letters(), reader.standings(), reader.pruned_to(), reader.leases())
            return memory, *whole, *past

    return asyncio.run(run())


def refusal(folder: Path) -> LedgerDamaged:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in (MAIN, LOG)}
    with pytest.raises(LedgerDamaged) as told:
        Ledger.open(folder, FakeClock())
    assert str(folder / MAIN) in str(told.value)
    assert "backup" in str(told.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in (MAIN, LOG)} == before
    return told.value


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda data: b"", id="emptied"),
        pytest.param(lambda data: data[:1000], id="cut inside the first page"),
        pytest.param(lambda data: data[:-4096], id="cut by a page"),
        pytest.param(lambda data: b"\0" * len(data), id="zeroed"),
        pytest.param(lambda data: b"not a database " * 500, id="something else"),
        pytest.param(lambda data: data[:4096] + b"\xff" * 4096 + data[8192:], id="a page overwritten"),
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(
    whole: Path, tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    shutil.copytree(whole, tmp_path / "state")
    path = tmp_path / "state" / MAIN
    path.write_bytes(harm(path.read_bytes()))
    refusal(tmp_path / "state")


def test_a_log_without_its_ledger_is_no_first_start(tmp_path: Path) -> None:
    (tmp_path / LOG).write_bytes(b"x" * 5000)
    assert "missing" in refusal(tmp_path).what


def test_a_table_that_was_changed_by_another_hand_is_named(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "state")
    connection = apsw.Connection(str(tmp_path / "state" / MAIN))
    connection.execute("DROP INDEX events_by_type")
    connection.close()
    assert "events_by_type" in refusal(tmp_path / "state").what


def test_a_row_whose_content_changed_is_named_when_it_is_read(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "state")
    connection = apsw.Connection(str(tmp_path / "state" / MAIN))
    connection.execute("UPDATE events SET type = 'run.stbrted' WHERE seq = 30")
    connection.close()
    with Reader.open(tmp_path / "state") as reader:
        assert len(reader.events(limit=29)) == 29
        with pytest.raises(LedgerDamaged, match="event 30"):
            reader.events()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("DELETE FROM meta", id="the last number is gone"),
        pytest.param("UPDATE meta SET value = 7", id="the last number is another"),
        pytest.param("UPDATE runs SET body = CAST(x'80' AS TEXT) WHERE run_id = 'run-1'", id="a text is none"),
        pytest.param("UPDATE runs SET vanished = 1 WHERE run_id = 'run-1'", id="a run is hidden"),
        pytest.param("UPDATE verdicts SET outcome = 'true'", id="a verdict is settled"),
        pytest.param("UPDATE incidents SET resolved_at = 5.0", id="an incident is resolved"),
        pytest.param("UPDATE letters SET crew = 'another'", id="a letter is another crew's"),
        pytest.param("UPDATE letters SET state = 'redriven'", id="a letter is settled"),
        pytest.param("UPDATE managed_runs SET ended_at = 5.0", id="a managed run has ended"),
        pytest.param("UPDATE managed_runs SET key = '' WHERE ended_at IS NULL", id="a managed run has no key"),
        pytest.param("UPDATE managed_tasks SET state = 'waiting'", id="a task waits again"),
        pytest.param(
            "UPDATE managed_tasks SET run_id = 'nobody' WHERE task_id = 'test'", id="a task is another run's"
        ),
        pytest.param("UPDATE circuits SET state = 'closed'", id="a circuit is closed"),
        pytest.param("UPDATE pauses SET scope = 'crew:x' WHERE scope = 'daemon'", id="a pause is another's"),
        pytest.param("UPDATE work SET fence = 9 WHERE state = 'leased'", id="a lease has another fence"),
        pytest.param("UPDATE work SET state = 'done' WHERE state = 'leased'", id="a lease is hidden"),
    ],
)
def test_a_start_does_not_believe_what_crewd_did_not_write(whole: Path, tmp_path: Path, change: str) -> None:
    shutil.copytree(whole, tmp_path / "state")
    connection = apsw.Connection(str(tmp_path / "state" / MAIN))
    connection.execute(change)
    connection.close()
    with pytest.raises(LedgerDamaged):
        contents(tmp_path / "state")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("UPDATE work SET priority = 9 WHERE state = 'ready'", id="an item comes first"),
        pytest.param("UPDATE work SET result = '{}' WHERE state = 'done'", id="a result is another"),
        pytest.param("UPDATE logs SET data = '{}' WHERE position = 2", id="a log says something else"),
    ],
)
def test_a_reader_does_not_believe_what_crewd_did_not_write(whole: Path, tmp_path: Path, change: str) -> None:
    shutil.copytree(whole, tmp_path / "state")
    connection = apsw.Connection(str(tmp_path / "state" / MAIN))
    connection.execute(change)
    connection.close()
    with Reader.open(tmp_path / "state") as reader, pytest.raises(LedgerDamaged):
        _ = reader.ready(5.0), reader.result("nightly-1/done"), reader.log("nightly-1")


def test_a_task_that_its_index_lost_is_told(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "state")
    path = tmp_path / "state" / MAIN
    connection = apsw.Connection(str(path))
    page = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_managed_tasks_1'"
    ).get
    connection.close()
    data = path.read_bytes()
    at = data.index(b"nightly-1lint", (page - 1) * 4096, page * 4096)
    path.write_bytes(flipped(data, at + 8, 1))
    with pytest.raises(LedgerDamaged, match="lint"):
        contents(tmp_path / "state")


def test_a_large_file_is_looked_through_only_after_an_unclean_stop(whole: Path, tmp_path: Path) -> None:
    small = LedgerOptions(check_bytes_max=1)
    for name, unclean in (("clean", False), ("unclean", True)):
        folder = tmp_path / name
        shutil.copytree(whole, folder)
        data = bytearray((folder / MAIN).read_bytes())
        page = data.index(b"ship it") // 4096 * 4096  # of the runs: opening does not read them
        data[page + 3 : page + 5] = b"\xff\xff"  # the number of cells of that page
        (folder / MAIN).write_bytes(data)
        if unclean:
            (folder / LOG).write_bytes(b"\0" * 5000)
            with pytest.raises(LedgerDamaged):
                Ledger.open(folder, FakeClock(), small)
        else:
            asyncio.run(Ledger.open(folder, FakeClock(), small).close())


def flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]


def flip_bits(whole: Path, folder: Path, count: int, seed: int) -> int:
    """Flip bits one at a time; each is either told, or changes nothing of what the ledger tells."""
    chance = random.Random(seed)
    sound = contents(whole)
    data = (whole / MAIN).read_bytes()
    told = 0
    for number in range(count):
        position, bit = chance.randrange(len(data)), chance.randrange(8)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / MAIN).write_bytes(flipped(data, position, bit))
        try:
            found = contents(folder)
        except (LedgerDamaged, LedgerTooNew):
            told += 1
            continue
        except LedgerError as error:
            error.add_note(f"flip {number}: byte {position}, bit {bit}")
            raise
        assert found == sound, f"flip {number}: byte {position}, bit {bit} went unnoticed"
    return told


def test_a_flipped_bit_is_told_or_harmless(whole: Path, tmp_path: Path) -> None:
    assert flip_bits(whole, tmp_path / "state", count=40, seed=1) > 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_flipped_bits_are_told_or_harmless(whole: Path, tmp_path: Path, seed: int) -> None:
    assert flip_bits(whole, tmp_path / "state", count=500, seed=seed) > 40


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as a killed daemon leaves them, with 12 acknowledged transactions in the log."""
    folder = tmp_path_factory.mktemp("killed")

    async def run() -> None:
        ledger = Ledger.open(folder / "live", FakeClock())
        for total in range(1, 13):
            await ledger.commit(raising("counter", 1, total))
        shutil.copytree(folder / "live", folder / "left", ignore=shutil.ignore_patterns("*-shm", "lock"))
        await ledger.close()

    asyncio.run(run())
    return folder / "left"


def test_a_torn_last_transaction_is_cut(killed: Path, tmp_path: Path) -> None:
    size = (killed / LOG).stat().st_size
    for number, cut in enumerate((1, 4096, 5000)):
        folder = tmp_path / str(number)
        shutil.copytree(killed, folder)
        with (folder / LOG).open("r+b") as file:
            file.truncate(size - cut)
        assert contents(folder)[0].last_seq == 22


@pytest.mark.parametrize("part", ["salt", "commit mark", "checksum", "page"])
def test_damage_in_the_middle_of_the_log_is_told(killed: Path, tmp_path: Path, part: str) -> None:
    data = (killed / LOG).read_bytes()
    frame = 4096 + 24
    frames = (len(data) - 32) // frame
    offset = {"salt": 9, "commit mark": 6, "checksum": 17, "page": 1000}[part]
    for number in range(frames // 2):
        folder = tmp_path / str(number)
        shutil.copytree(killed, folder)
        (folder / LOG).write_bytes(flipped(data, 32 + number * frame + offset, 3))
        assert "acknowledged ones lie behind" in refusal(folder).what


@pytest.mark.parametrize("position", range(0, 32, 5))
def test_a_damaged_head_of_the_log_is_told(killed: Path, tmp_path: Path, position: int) -> None:
    shutil.copytree(killed, tmp_path / "state")
    path = tmp_path / "state" / LOG
    path.write_bytes(flipped(path.read_bytes(), position, 2))
    assert "head" in refusal(tmp_path / "state").what


def test_a_log_torn_while_it_was_begun_anew_is_fine(killed: Path, tmp_path: Path) -> None:
    shutil.copytree(killed, tmp_path / "state")
    log = (tmp_path / "state" / LOG).read_bytes()
    sound = contents(tmp_path / "state")  # closes the ledger cleanly: all of the log is in the main file now
    (tmp_path / "state" / LOG).write_bytes(log[:12] + b"half of a new head!!" + log[32:])
    assert contents(tmp_path / "state") == sound


def test_a_log_that_was_just_begun_is_fine(whole: Path, tmp_path: Path) -> None:
    for number, size in enumerate((1, 31, 32)):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        (folder / LOG).write_bytes(b"\0" * size)
        assert contents(folder)[0].last_seq == 65
