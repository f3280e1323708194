"""What a commit promises, what a start recalls, and who may hold a ledger."""

import asyncio
import dataclasses
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import apsw
import msgspec
import pytest

from crewd.host.files import FolderLock
from crewd.ledger.batch import Batch, Memory
from crewd.ledger.errors import BatchRefused, LedgerFailed, LedgerLocked
from crewd.ledger.ledger import Ledger
from crewd.ledger.opening import connect
from crewd.ledger.options import LedgerOptions
from crewd.ledger.reader import Reader
from crewd.ledger.store import Store
from crewd.model.event import Event
from crewd.model.run import RunStatus
from crewd.model.verdict import Level, Outcome
from tests.fakes.clock import FakeClock
from tests.ledger.values import a_letter, a_run, a_standing, a_verdict, an_event, an_incident


def using(folder: Path, play: Callable[[Ledger], Awaitable[None]], options: LedgerOptions | None = None) -> Memory:
    """Open, play, close; then what a fresh start recalls."""

    async def run() -> Memory:
        ledger = Ledger.open(folder, FakeClock(), options)
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


def test_a_first_start_recalls_nothing(tmp_path: Path) -> None:
    assert using(tmp_path / "state", committing()) == Memory()


def test_everything_committed_is_recalled_after_a_restart(tmp_path: Path) -> None:
    batch = Batch(
        events=(an_event(),),
        runs=(a_run(),),
        standings=(a_standing(),),
        verdicts=(a_verdict(),),
        incidents=(an_incident(),),
        letters=(a_letter(),),
        cursors={"sink:events": "17"},
    )
    assert using(tmp_path, committing(batch)) == Memory(
        last_seq=1,
        runs={"run-1": a_run()},
        standings={("run-1", "build"): a_standing()},
        verdicts_open=(a_verdict(),),
        incidents_open=(an_incident(),),
        letter_keys=frozenset({"run-1/build/2"}),
        letters_open={"grün": (1, 90.0)},
        letters_at=((90.0, "grün"),),
        cursors={"sink:events": "17"},
    )


def test_a_commit_returns_its_events_with_numbers_that_go_on_after_a_restart(tmp_path: Path) -> None:
    numbers: list[int] = []

    async def play(ledger: Ledger) -> None:
        for _ in range(2):
            numbers.extend(event.seq for event in await ledger.commit(Batch(events=(an_event(1), an_event(2)))))

    using(tmp_path, play)
    using(tmp_path, play)
    assert numbers == [1, 2, 3, 4, 5, 6, 7, 8]


def test_callers_that_wait_together_share_transactions_and_each_gets_its_own_events(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        answers = await asyncio.gather(*(ledger.commit(Batch(events=(an_event(n),))) for n in range(500)))
        assert [answer[0].data["n"] for answer in answers] == list(range(500))
        assert sorted(answer[0].seq for answer in answers) == list(range(1, 501))
        stats = ledger.stats()
        assert (stats.batches, stats.events) == (500, 500)
        assert stats.commits < 50
        assert stats.duration_buckets[-1] == (float("inf"), stats.commits)

    using(tmp_path, play)


def test_a_group_is_bounded_by_its_rows(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        await asyncio.gather(*(ledger.commit(Batch(events=(an_event(n),))) for n in range(100)))
        assert ledger.stats().commits >= 10

    using(tmp_path, play, LedgerOptions(group_rows_max=20))


def test_an_event_reads_back_as_it_was_written(tmp_path: Path) -> None:
    event = Event("x.y", 0.1 + 0.2, {"a": [1, None, {"b": "ü\u2028"}]}, "r", "t", 3, "beat", "c", "operator:ann")

    async def play(ledger: Ledger) -> None:
        (told,) = await ledger.commit(Batch(events=(event,)))
        with Reader.open(tmp_path) as reader:
            assert reader.events() == [told]

    using(tmp_path, play)


def test_a_newer_state_replaces_the_former(tmp_path: Path) -> None:
    memory = using(
        tmp_path,
        committing(
            Batch(runs=(a_run(),), standings=(a_standing(),), verdicts=(a_verdict(),), incidents=(an_incident(),)),
            Batch(
                runs=(a_run(status=RunStatus.COMPLETED),),
                standings=(a_standing(level=Level.DEAD),),
                verdicts=(a_verdict(outcome=Outcome.TRUE, settled_at=110.0),),
                incidents=(an_incident(resolved_at=111.0),),
            ),
        ),
    )
    assert memory.runs["run-1"].status is RunStatus.COMPLETED
    assert memory.standings["run-1", "build"].standing.level is Level.DEAD
    assert memory.verdicts_open == ()
    assert memory.incidents_open == () and memory.incidents_closed == (an_incident(resolved_at=111.0),)


def test_a_dead_letter_is_kept_once_as_it_was_first_met(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.commit(
            Batch(runs=(a_run(),), letters=(a_letter(), a_letter("other", at=None), a_letter("old", at=80.0)))
        )
        await ledger.commit(Batch(letters=(a_letter(at=5.0),)))
        with Reader.open(tmp_path) as reader:
            assert reader.letters() == [a_letter(), a_letter("other", at=None), a_letter("old", at=80.0)]

    assert using(tmp_path, play).letters_open == {"grün": (3, 80.0)}


def test_a_worker_that_is_gone_has_no_standing(tmp_path: Path) -> None:
    memory = using(
        tmp_path,
        committing(
            Batch(standings=(a_standing("build"), a_standing("test"))),
            Batch(gone=(("run-1", "build"), ("run-1", "never seen"))),
        ),
    )
    assert set(memory.standings) == {("run-1", "test")}


def test_a_vanished_run_is_history_and_comes_back_when_it_is_seen_again(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.commit(Batch(runs=(a_run(), a_run("run-2")), standings=(a_standing(),)))
        await ledger.commit(Batch(vanished=("run-1",)))
        memory = ledger.recall()
        assert set(memory.runs) == {"run-2"}
        assert memory.standings == {}
        with Reader.open(tmp_path) as reader:
            assert reader.run("run-1") == a_run()
            assert [run.run_id for run in reader.runs()] == ["run-2"]
            assert {run.run_id for run in reader.runs(vanished=True)} == {"run-1", "run-2"}
        await ledger.commit(Batch(runs=(a_run(),)))

    assert set(using(tmp_path, play).runs) == {"run-1", "run-2"}


def test_a_batch_without_content_costs_no_transaction(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        assert await ledger.commit(Batch()) == ()
        assert ledger.stats().commits == 0

    using(tmp_path, play)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(an_event(at=float("nan")), id="no time"),
        pytest.param(Event("x", 1.0, {"a": object()}), id="no JSON"),
        pytest.param(Event("x", 1.0, attempt=2**64), id="too large"),
        pytest.param(Event(None, 1.0), id="no text"),  # type: ignore[arg-type]
    ],
)
def test_a_batch_that_cannot_be_written_is_refused_and_its_neighbours_are_not(tmp_path: Path, event: Event) -> None:
    async def play(ledger: Ledger) -> None:
        good, bad, other = await asyncio.gather(
            *(ledger.commit(Batch(events=(each,))) for each in (an_event(1), event, an_event(2))),
            return_exceptions=True,
        )
        assert isinstance(bad, BatchRefused)
        assert not isinstance(good, BaseException)
        assert not isinstance(other, BaseException)
        assert (good[0].seq, other[0].seq) == (1, 2)
        assert ledger.stats().failed == ""

    assert using(tmp_path, play).last_seq == 2


def test_a_folder_name_that_is_no_text_is_spelled_out(tmp_path: Path) -> None:
    run = msgspec.structs.replace(a_run(), folder="/srv/\udcff")
    assert using(tmp_path, committing(Batch(runs=(run,)))).runs["run-1"].folder == "/srv/\\udcff"


def test_files_and_folder_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"

    async def play(ledger: Ledger) -> None:
        await ledger.commit(Batch(events=(an_event(),)))
        assert {path.name for path in folder.iterdir()} >= {"ledger.sqlite3", "ledger.sqlite3-wal"}
        assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"}
        assert oct(folder.stat().st_mode & 0o777) == "0o700"

    using(folder, play)


def test_the_ledger_syncs_every_commit_in_write_ahead_mode(tmp_path: Path) -> None:
    using(tmp_path, committing())
    connection = connect(tmp_path / "ledger.sqlite3", LedgerOptions())
    try:
        assert connection.pragma("synchronous") == 2  # FULL
        assert connection.pragma("journal_mode") == "wal"
        assert connection.pragma("auto_vacuum") == 2  # INCREMENTAL
    finally:
        connection.close()


def test_a_second_holder_is_refused_by_the_pid_of_the_first_and_nothing_is_touched(tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        await ledger.commit(Batch(events=(an_event(),)))
        before = {
            path.name: (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_ino)
            for path in tmp_path.iterdir()
        }
        opening = (
            "import sys, pathlib; from crewd.ledger.ledger import Ledger; from crewd.host.clock import SystemClock\n"
        )
        opening += "Ledger.open(pathlib.Path(sys.argv[1]), SystemClock())"
        child = subprocess.run([sys.executable, "-c", opening, str(tmp_path)], capture_output=True, text=True)
        assert child.returncode == 1
        assert "LedgerLocked" in child.stderr
        assert {
            path.name: (path.stat().st_mtime_ns, path.stat().st_size, path.stat().st_ino)
            for path in tmp_path.iterdir()
        } == before
        await ledger.close()

    asyncio.run(run())
    lock = FolderLock.acquire(tmp_path)
    try:
        with pytest.raises(LedgerLocked) as refusal:
            Ledger.open(tmp_path, FakeClock())
        assert refusal.value.pid > 0
        assert refusal.value.exit_code == 77
        assert str(refusal.value.pid) in str(refusal.value)
    finally:
        lock.close()


def test_a_refused_opening_lets_the_folder_go(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").mkdir()
    with pytest.raises(LedgerFailed):
        Ledger.open(tmp_path, FakeClock())
    FolderLock.acquire(tmp_path).close()


def test_a_closed_ledger_may_be_closed_again_and_takes_no_more(tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        await ledger.close()
        await ledger.close()
        with pytest.raises(LedgerFailed, match="closed"):
            await ledger.commit(Batch(events=(an_event(),)))

    asyncio.run(run())


def test_closing_writes_what_still_waits_and_leaves_no_log(tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        waiting = [asyncio.ensure_future(ledger.commit(Batch(events=(an_event(n),)))) for n in range(50)]
        await asyncio.sleep(0)
        await ledger.close()
        assert len([await each for each in waiting]) == 50
        assert {path.name for path in tmp_path.iterdir()} == {"ledger.sqlite3", "lock"}

    asyncio.run(run())


def test_a_caller_that_stops_waiting_disturbs_nobody(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        leaving = asyncio.ensure_future(ledger.commit(Batch(events=(an_event(1),))))
        staying = asyncio.ensure_future(ledger.commit(Batch(events=(an_event(2),))))
        await asyncio.sleep(0)
        leaving.cancel()
        assert len(await staying) == 1

    assert using(tmp_path, play).last_seq == 2


def test_the_log_stays_bounded_while_the_daemon_runs(tmp_path: Path) -> None:
    async def play(ledger: Ledger) -> None:
        for n in range(400):
            await ledger.commit(Batch(events=(an_event(n),)))
        assert (tmp_path / "ledger.sqlite3-wal").stat().st_size < 60 * 4200

    using(tmp_path, play, LedgerOptions(checkpoint_pages=40))


def test_a_reader_that_does_not_end_is_waited_for_once_and_not_at_every_commit(tmp_path: Path) -> None:
    options = LedgerOptions(checkpoint_pages=1, wal_bytes_max=400 * 4096, busy_seconds=0.15)
    store = Store(tmp_path / "ledger.sqlite3", options)
    reader = apsw.Connection(str(tmp_path / "ledger.sqlite3"))
    modes = []
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchall()
        for n in range(36):
            store.write([Batch(events=tuple(an_event(each) for each in range(n * 50, n * 50 + 50)))], 0.0)
            began = time.monotonic()
            try:
                store.checkpoint()
                modes.append("done")
            except LedgerFailed as error:
                assert "another program holds it locked" in str(error)
                modes.append("waited" if time.monotonic() - began >= 0.1 else "did not wait")
        assert "waited" in modes and modes.count("waited") < modes.count("did not wait")
        assert modes[modes.index("waited") + 1] == "did not wait"
        assert "done" not in modes[modes.index("waited") :]
        reader.close()
        for n in range(3):
            store.write([Batch(events=(an_event(n),))], 0.0)
            store.checkpoint()
        assert (tmp_path / "ledger.sqlite3-wal").stat().st_size <= options.wal_bytes_max
    finally:
        reader.close()
        store.close()


def test_a_process_that_forgets_to_close_ends_all_the_same(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, pathlib\n"
        "from crewd.host.clock import SystemClock\n"
        "from crewd.ledger.batch import Batch\n"
        "from crewd.ledger.ledger import Ledger\n"
        "from crewd.model.event import Event\n"
        "ledger = Ledger.open(pathlib.Path(sys.argv[1]), SystemClock())\n"
        "print(asyncio.run(ledger.commit(Batch(events=(Event('x', 1.0),))))[0].seq)\n"
    )
    child = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=20)
    assert (child.returncode, child.stdout, child.stderr) == (0, "1\n", "")
    assert using(tmp_path, committing()).last_seq == 1


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(LedgerOptions) if field.name != "vfs"])
def test_an_option_out_of_range_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        LedgerOptions(**{name: 0})
