"""Reading beside a running daemon, without one, and where nothing can be written."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerMissing
from crewd.ledger.ledger import Ledger
from crewd.ledger.options import LedgerOptions
from crewd.ledger.reader import Reader
from crewd.model.verdict import Outcome
from tests.fakes.clock import FakeClock
from tests.ledger.values import a_letter, a_run, a_standing, a_verdict, an_event, an_incident


def filled(folder: Path, *batches: Batch) -> None:
    async def run() -> None:
        ledger = Ledger.open(folder, FakeClock())
        for batch in batches:
            await ledger.commit(batch)
        await ledger.close()

    asyncio.run(run())


@pytest.fixture
def history(tmp_path: Path) -> Iterator[Reader]:
    events = [an_event(n, kind=f"kind.{n % 3}", run_id=f"run-{n % 4}") for n in range(1, 121)]
    filled(tmp_path, Batch(events=tuple(events)))
    with Reader.open(tmp_path) as reader:
        yield reader


def test_events_come_in_order_from_where_the_caller_left_off(history: Reader) -> None:
    assert [event.seq for event in history.events(after=100, limit=5)] == [101, 102, 103, 104, 105]
    assert [event.seq for event in history.events(after=118)] == [119, 120]
    assert history.events(after=120) == []


def test_the_newest_events_come_first_when_asked(history: Reader) -> None:
    assert [event.seq for event in history.events(limit=3, newest_first=True)] == [120, 119, 118]


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("run_id", ["", "run-1", "nobody"])
@pytest.mark.parametrize("types", [(), ("kind.0",), ("kind.2", "kind.1"), ("kind.1", "kind.1", "none")])
def test_choosing_by_run_and_type_is_choosing_from_all(
    history: Reader, types: tuple[str, ...], run_id: str, newest_first: bool
) -> None:
    wanted = [
        event
        for event in history.events(limit=200, newest_first=newest_first)
        if event.seq > 10 and (not run_id or event.run_id == run_id) and (not types or event.type in types)
    ]
    chosen = history.events(after=10, limit=7, types=types, run_id=run_id, newest_first=newest_first)
    assert chosen == wanted[:7]


@pytest.mark.parametrize("where", ["TRUE", "run_id = 'r'", "type = 't'", "run_id = 'r' AND +type IN ('t', 'u')"])
def test_no_choice_of_events_makes_the_database_sort_or_read_through_all(tmp_path: Path, where: str) -> None:
    filled(tmp_path)
    connection = apsw.Connection(str(tmp_path / "ledger.sqlite3"))
    plan = connection.execute(
        f"EXPLAIN QUERY PLAN SELECT * FROM events WHERE {where} AND seq > 5 ORDER BY seq DESC LIMIT 50"
    ).fetchall()
    connection.close()
    assert [row[3].split(" ")[0] for row in plan] == ["SEARCH"]


def test_a_reader_answers_what_the_ledger_holds(tmp_path: Path) -> None:
    settled = a_verdict("test", Outcome.FALSE, settled_at=120.0)
    resolved = an_incident("silent", resolved_at=130.0)
    filled(
        tmp_path,
        Batch(
            events=(an_event(),),
            runs=(a_run(),),
            standings=(a_standing(), a_standing("test"), a_standing(run_id="run-2")),
            verdicts=(a_verdict(), settled),
            incidents=(an_incident(), resolved),
            letters=(a_letter(),),
        ),
    )
    with Reader.open(tmp_path) as reader:
        assert reader.runs() == [a_run()]
        assert reader.run("run-1") == a_run()
        assert reader.run("nobody") is None
        assert reader.standings() == [a_standing(), a_standing("test"), a_standing(run_id="run-2")]
        assert reader.standings("run-2") == [a_standing(run_id="run-2")]
        assert reader.verdicts() == [a_verdict(), settled]
        assert reader.incidents() == [an_incident(), resolved]
        assert reader.incidents(open_only=True) == [an_incident()]
        assert reader.letters() == [a_letter()]
        assert (reader.last_seq(), reader.pruned_to()) == (1, 0)


def test_a_missing_ledger_is_told_as_such_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(LedgerMissing, match="crewd serve"):
        Reader.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_each_commit_of_a_running_daemon_as_soon_as_it_is_acknowledged(tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(checkpoint_pages=5))
        with Reader.open(tmp_path) as reader:
            for n in range(1, 60):
                await ledger.commit(Batch(events=(an_event(n),), runs=(a_run(goal=str(n)),)))
                assert reader.last_seq() == n
                assert reader.runs()[0].goal == str(n)
        await ledger.close()

    asyncio.run(run())


def test_a_reader_that_stays_does_not_keep_the_daemon_from_closing(tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        await ledger.commit(Batch(events=(an_event(),)))
        with Reader.open(tmp_path) as reader:
            await ledger.close()
            assert reader.last_seq() == 1
            assert (tmp_path / "ledger.sqlite3-wal").stat().st_size == 0

    asyncio.run(run())


def killed_daemon(folder: Path) -> None:
    """A folder as a killed daemon leaves it: what was acknowledged lies in the log."""
    program = (
        "import asyncio, os, signal, sys, pathlib\n"
        "from crewd.ledger.batch import Batch\n"
        "from crewd.ledger.ledger import Ledger\n"
        "from tests.fakes.clock import FakeClock\n"
        "from tests.ledger.values import a_run, an_event\n"
        "ledger = Ledger.open(pathlib.Path(sys.argv[1]), FakeClock())\n"
        "asyncio.run(ledger.commit(Batch(events=(an_event(),), runs=(a_run(),))))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program, str(folder)], cwd=root).returncode == -9
    assert (folder / "ledger.sqlite3-wal").stat().st_size > 0


@pytest.mark.parametrize("index", ["present", "missing"])
def test_a_reader_finds_what_a_killed_daemon_left_in_its_log(tmp_path: Path, index: str) -> None:
    killed_daemon(tmp_path)
    if index == "missing":
        (tmp_path / "ledger.sqlite3-shm").unlink()
    with Reader.open(tmp_path) as reader:
        assert reader.last_seq() == 1
        assert reader.recall().runs == {"run-1": a_run()}
    assert (tmp_path / "ledger.sqlite3-wal").stat().st_size > 0


READING = (
    "import sys, os, pathlib\n"
    "from crewd.ledger.reader import Reader\n"
    "if os.geteuid() == 0:\n"
    "    os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
    "try:\n"
    "    (pathlib.Path(sys.argv[1]) / 'probe').touch()\n"
    "except PermissionError:\n"
    "    pass\n"
    "else:\n"
    "    raise SystemExit('the folder can be written')\n"
    "reader = Reader.open(pathlib.Path(sys.argv[1]))\n"
    "print(reader.last_seq(), len(reader.recall().runs))\n"
    "reader.close()\n"
)


@pytest.mark.parametrize("stop", ["clean", "killed", "killed without index"])
def test_a_reader_works_where_nothing_can_be_written(stop: str) -> None:
    # pytest's own folders let nobody else through; this one is given to the other user that root turns into.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "state"
        if stop == "clean":
            filled(folder, Batch(events=(an_event(),), runs=(a_run(),)))
        else:
            killed_daemon(folder)
        if stop == "killed without index":
            (folder / "ledger.sqlite3-shm").unlink()
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)
        Path(name).chmod(0o755)
        before = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
        root = Path(__file__).parents[2]
        child = subprocess.run([sys.executable, "-c", READING, str(folder)], capture_output=True, text=True, cwd=root)
        assert (child.stdout, child.stderr) == ("1 1\n", "")
        assert {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")} == before
        folder.chmod(0o755)


def test_a_copy_without_its_log_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    filled(tmp_path / "state", Batch(events=(an_event(),)))
    (tmp_path / "copy").mkdir()
    shutil.copy(tmp_path / "state" / "ledger.sqlite3", tmp_path / "copy")
    with Reader.open(tmp_path / "copy") as reader:
        assert reader.last_seq() == 1
