"""Conditional changes: they share transactions, are refused one by one, and fail together."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import pytest

from crewd.ledger import work_rows
from crewd.ledger.batch import Batch
from crewd.ledger.change import Change, Decided
from crewd.ledger.errors import BatchRefused, LedgerDamaged, LedgerFailed
from crewd.ledger.ledger import Ledger
from crewd.ledger.opening import connect
from crewd.ledger.options import LedgerOptions
from crewd.ledger.reader import Reader
from crewd.ledger.work import LedgerWork
from crewd.model.work import Conflict, Item, Lease, LeaseLost, Unavailable, Work
from tests.fakes.clock import FakeClock
from tests.ledger.disks import Disk, Fault
from tests.ledger.values import an_event

_names = itertools.count()


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk(f"changing-{next(_names)}")
    yield disk
    disk.unregister()


def test_the_ledger_is_an_implementation_of_the_work_interface(tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        work: Work = LedgerWork(ledger)
        assert await work.ready() == ()
        await ledger.close()

    asyncio.run(run())


def test_a_failure_of_the_disk_is_unavailable_to_whoever_knows_only_the_interface() -> None:
    assert issubclass(LedgerFailed, Unavailable)


def test_changes_that_wait_together_share_transactions_and_syncs(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name))
        work = LedgerWork(ledger)
        keys = [f"r/{number}" for number in range(400)]
        await work.submit([Item(key) for key in keys])
        before = ledger.stats()
        disk.steps = []
        pulls = await asyncio.gather(*(work.pull([key], None) for key in keys))
        await asyncio.gather(*(work.complete(lease, {}, Batch(events=(an_event(),))) for (lease,), _ in pulls))
        after = ledger.stats()
        syncs = sum(step.what == "sync" for step in disk.steps)
        assert after.batches - before.batches == 800
        assert after.events - before.events == 400
        assert after.commits - before.commits < 40
        assert syncs <= after.commits - before.commits + 4  # and those of moving the log
        disk.steps = None
        await ledger.close()

    asyncio.run(run())


def test_a_change_that_comes_to_nothing_writes_nothing_and_proves_nothing(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name))
        work = LedgerWork(ledger)
        disk.arm(Fault("EIO", 1, False))
        with pytest.raises(LedgerFailed):
            await work.submit([Item("r/a")])
        commits = ledger.stats().commits
        disk.steps = []
        assert await work.pull(["r/a"], None) == ((), ())
        assert await work.sweep() == ()
        with pytest.raises(Conflict):
            await work.revive(Item("r/a"))
        assert [step for step in disk.steps if step.what != "truncate"] == []
        assert ledger.stats().commits == commits
        assert ledger.stats().failed, "nothing was written since the disk failed"
        disk.steps = None
        await ledger.retry()
        await ledger.close()

    asyncio.run(run())


def test_when_a_group_fails_nobody_is_refused_for_what_another_of_it_did(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name))
        work = LedgerWork(ledger)
        await work.submit([Item("r/a")])
        (lease,), _ = await work.pull(["r/a"], None)
        disk.arm(Fault("EIO", 1, True))
        completions = [work.complete(lease, {"n": n}) for n in range(3)]
        answers = await asyncio.gather(*completions, return_exceptions=True)
        assert [type(answer) for answer in answers] == [LedgerFailed] * 3
        disk.arm(None)
        assert await work.result("r/a") is None
        assert await work.holding() == (lease,)
        completions = [work.complete(lease, {"n": n}) for n in range(3)]
        answers = await asyncio.gather(*completions, return_exceptions=True)
        assert [type(answer) for answer in answers] == [tuple, LeaseLost, LeaseLost]
        assert await work.result("r/a") == {"n": 0}
        await ledger.close()

    asyncio.run(run())


def test_what_is_durable_can_be_read_while_nothing_can_be_written(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name))
        work = LedgerWork(ledger)
        await work.submit([Item("r/a")])
        disk.arm(Fault("ENOSPC", 1, True))
        with pytest.raises(LedgerFailed):
            await work.pull(["r/a"], None)
        assert [item.key for item in await work.ready()] == ["r/a"]
        disk.arm(None)
        await ledger.close()

    asyncio.run(run())


def test_a_damaged_item_is_told_to_whoever_wants_it_and_to_nobody_else(tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        work = LedgerWork(ledger)
        await work.submit([Item("r/a"), Item("r/b")])
        connection = connect(tmp_path / "ledger.sqlite3", LedgerOptions())
        connection.execute("UPDATE work SET fence = 7 WHERE key = 'r/a'")
        connection.close()
        answers = await asyncio.gather(*(work.pull([key], None) for key in ("r/a", "r/b")), return_exceptions=True)
        assert [type(answer) for answer in answers] == [LedgerDamaged, tuple]
        assert "r/a" in str(answers[0])
        assert ledger.stats().failed == ""
        await ledger.close()

    asyncio.run(run())


def test_a_defect_in_a_decision_is_told_to_its_own_caller(tmp_path: Path) -> None:
    def decide(connection: apsw.Connection, now: float) -> Decided:
        raise KeyError("a defect")

    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        bad, good = await asyncio.gather(
            ledger.carry_out(Change(decide)), ledger.commit(Batch(events=(an_event(),))), return_exceptions=True
        )
        assert isinstance(bad, BatchRefused)
        assert "a defect" in str(bad)
        assert isinstance(good, tuple)
        await ledger.close()

    asyncio.run(run())


def test_decisions_of_one_group_see_what_those_before_them_decided(tmp_path: Path) -> None:
    seen: list[int] = []

    def record(leases: Sequence[Lease]) -> Batch:
        seen.append(leases[0].fence)
        return Batch(events=(an_event(leases[0].fence),))

    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        work = LedgerWork(ledger)
        await asyncio.gather(
            work.submit([Item("r/a")]),
            work.pull(["r/a"], None, record),
            work.retry(Lease("r/a", "default", 1, None), 0.0),
            work.pull(["r/a"], None, record),
        )
        await ledger.close()
        with Reader.open(tmp_path) as reader:
            assert [event.data["n"] for event in reader.events()] == seen == [1, 2]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sql", "bindings"),
    [
        pytest.param(work_rows.SELECT_READY, (1.0, 10), id="ready"),
        pytest.param(work_rows.SELECT_OVERDUE, (1.0,), id="overdue"),
        pytest.param(work_rows.COUNT, (1.0,), id="depth"),
        pytest.param(work_rows.FIND_RECORD, ("log", "id"), id="a record by its id"),
        pytest.param(work_rows.LAST_POSITION, ("log",), id="the end of a log"),
        pytest.param(work_rows.SELECT_RECORDS, ("log", 5, 10), id="a log from somewhere"),
    ],
)
def test_what_is_done_is_never_read_through(tmp_path: Path, sql: str, bindings: tuple[object, ...]) -> None:
    asyncio.run(Ledger.open(tmp_path, FakeClock()).close())
    connection = connect(tmp_path / "ledger.sqlite3", LedgerOptions())
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]
    connection.close()
    assert not [step for step in plan if "SCAN" in step and "INDEX work_open" not in step], plan
    assert not [step for step in plan if "TEMP B-TREE" in step], plan
