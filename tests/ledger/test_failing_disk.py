"""After any failed write, sync or truncation: nothing acknowledged is lost, nothing is half there, numbers go on.

The n-th step of the disk is made to fail, for every n of a piece of work that commits, groups and checkpoints. Then
the ledger is closed on the failing disk, or the files are taken as a killed process would leave them.
"""

import asyncio
import itertools
import shutil
from collections.abc import Awaitable, Iterator
from pathlib import Path

import apsw
import pytest

from crewd.host.files import FolderLock
from crewd.ledger import rows
from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerFailed, LedgerLocked
from crewd.ledger.ledger import Ledger
from crewd.ledger.options import LedgerOptions
from crewd.ledger.work import LedgerWork
from crewd.model.event import Event
from crewd.model.work import Item, Lease
from tests.fakes.clock import FakeClock
from tests.ledger.disks import Disk, Fault
from tests.ledger.values import an_event, assert_sound, key_of, pulling, raising, returning

COUNTERS = ("alpha", "beta", "gamma")
KINDS = ("ENOSPC", "EIO", "short")
ENDINGS = ("closed", "killed", "healed")
# The sweep fails each of so many steps, which meet commits, groups, checkpoints and the restart of the log, in so
# many of the 18 ways: 2,000 cases.
STEPS, WAYS = 400, 5
_names = itertools.count()


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk(f"failing-{next(_names)}")
    yield disk
    disk.unregister()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with some history, made once."""
    folder = tmp_path_factory.mktemp("template")

    async def run() -> None:
        ledger = Ledger.open(folder, FakeClock())
        for counter in COUNTERS:
            await ledger.commit(raising(counter, 1, 1))
        await LedgerWork(ledger).submit([Item(key_of(counter)) for counter in COUNTERS])
        await ledger.close()

    asyncio.run(run())
    return folder


class Play:
    """Counters raised one after the other and together, and their work passed around between.

    A total, a lease and the end of a log move on only when the change was acknowledged.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.work = LedgerWork(ledger)
        self.totals = dict.fromkeys(COUNTERS, 1)
        self.leases: dict[str, Lease] = {}
        self.logs = dict.fromkeys(COUNTERS, 0)
        self.acknowledged: list[Event] = []
        self.failures = 0

    async def attempt(self, step: Awaitable[None]) -> None:
        try:
            await step
        except LedgerFailed:
            self.failures += 1
            assert self.ledger.stats().failed

    async def raise_by(self, counter: str, by: int) -> None:
        self.acknowledged += await self.ledger.commit(raising(counter, by, self.totals[counter] + by))
        self.totals[counter] += by

    async def pass_around(self, counter: str) -> None:
        if (lease := self.leases.get(counter)) is None:
            (self.leases[counter],), events = await self.work.pull([key_of(counter)], None, pulling(counter))
        else:
            events = await self.work.retry(lease, 0.0, returning(lease))
            del self.leases[counter]
        self.acknowledged += events

    async def append(self, counter: str) -> None:
        last = self.logs[counter]
        self.logs[counter] = await self.work.append(counter, str(last + 1), {"last": last}, after=last)

    async def all(self) -> None:
        for by in range(1, 3):
            for counter in COUNTERS:
                await self.attempt(self.raise_by(counter, by))
            await asyncio.gather(
                *(self.attempt(self.raise_by(counter, 10 * by)) for counter in COUNTERS),
                *(self.attempt(self.pass_around(counter)) for counter in COUNTERS),
                self.attempt(self.append("alpha")),
            )


def play_out(disk: Disk, template: Path, folder: Path, fault: Fault | None, ending: str) -> tuple[int, int]:
    """Returns the disk's steps and the failed commits."""
    shutil.copytree(template, folder)
    survivors = folder

    async def run() -> Play:
        nonlocal survivors
        ledger = Ledger.open(folder, FakeClock(), LedgerOptions(vfs=disk.name, checkpoint_pages=12))
        play = Play(ledger)
        disk.arm(fault)
        await play.all()
        if ending == "healed":
            disk.arm(None)
            await ledger.retry()
            assert ledger.stats().failed == ""
            failures = play.failures
            await play.all()
            assert play.failures == failures
        if ending == "killed":
            survivors = folder.with_name(f"{folder.name}-survivors")
            shutil.copytree(folder, survivors, ignore=shutil.ignore_patterns("*-shm", "lock"))
        await ledger.close()
        return play

    played = asyncio.run(run())
    steps = disk.count
    disk.arm(None)
    last = assert_sound(survivors, played.acknowledged)
    # Once more: what was recovered is as sound as what was written.
    assert assert_sound(survivors, played.acknowledged) == last
    # On a disk that fails to the end, as in a crash, a whole group may be there that nobody was told is durable.
    if ending == "healed" or (ending == "closed" and (fault is None or not fault.sticky)):
        assert last == 6 + len(played.acknowledged)
    shutil.rmtree(folder)
    shutil.rmtree(survivors, ignore_errors=True)
    return steps, played.failures


def cases(at: int) -> list[tuple[Fault, str]]:
    """The next of all ways to fail, so that neighbouring steps, which are much alike, meet all of them."""
    ways = list(itertools.product(KINDS, (False, True), ENDINGS))
    chosen = (ways[(at * WAYS + number) % len(ways)] for number in range(WAYS))
    return [(Fault(kind, at, sticky), ending) for kind, sticky, ending in chosen]


def test_without_a_fault_every_commit_is_acknowledged(disk: Disk, template: Path, tmp_path: Path) -> None:
    steps, failures = play_out(disk, template, tmp_path / "case", None, "closed")
    assert failures == 0
    assert steps >= STEPS


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_sample_of_faults_loses_nothing(disk: Disk, template: Path, tmp_path: Path, ending: str) -> None:
    failed = 0
    for at, kind, sticky in ((2, "ENOSPC", True), (123, "EIO", False), (250, "short", False), (377, "EIO", True)):
        failed += play_out(disk, template, tmp_path / f"{at}", Fault(kind, at, sticky), ending)[1]
    assert failed > 0


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, STEPS, 10))
def test_every_fault_loses_nothing(disk: Disk, template: Path, tmp_path: Path, first: int) -> None:
    for at in range(first, first + 10):
        for number, (fault, ending) in enumerate(cases(at)):
            try:
                play_out(disk, template, tmp_path / f"{at}-{number}", fault, ending)
            except BaseException as error:
                error.add_note(f"{fault}, {ending}")
                raise


def test_a_full_disk_is_named_until_there_is_room_again(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name))
        await ledger.commit(Batch(events=(an_event(),)))
        assert ledger.stats().failed == ""
        disk.arm(Fault("ENOSPC", 1, True))
        for _ in range(3):
            with pytest.raises(LedgerFailed, match="disk is full"):
                await ledger.commit(Batch(events=(an_event(),)))
            with pytest.raises(LedgerFailed, match="disk is full"):
                await ledger.retry()
        assert "disk is full" in ledger.stats().failed
        assert str(tmp_path) in ledger.stats().failed
        assert ledger.stats().failures == 6
        disk.arm(None)
        assert [event.seq for event in await ledger.commit(Batch(events=(an_event(),)))] == [2]
        assert ledger.stats().failed == ""
        await ledger.close()

    asyncio.run(run())


def test_a_commit_whose_sync_failed_does_not_come_back_when_the_disk_works_again(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name))
        await ledger.commit(raising("counter", 1, 1))
        disk.arm(Fault("EIO", 1, True, only="sync"))
        for _ in range(3):  # all of it is in the log, and none of it may count
            with pytest.raises(LedgerFailed):
                await ledger.commit(raising("counter", 2, 3))
        disk.arm(None)
        assert [event.seq for event in await ledger.commit(raising("counter", 2, 3))] == [3, 4]
        await ledger.close()

    asyncio.run(run())
    assert assert_sound(tmp_path) == 4


def test_everyone_in_a_group_hears_that_it_failed(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name))
        disk.arm(Fault("EIO", 1, True))
        commits = (ledger.commit(Batch(events=(an_event(),))) for _ in range(20))
        answers = await asyncio.gather(*commits, return_exceptions=True)
        assert all(isinstance(answer, LedgerFailed) for answer in answers)
        assert len({id(answer) for answer in answers}) == 20
        await ledger.close()

    asyncio.run(run())


def test_a_log_that_cannot_be_moved_is_told_and_fails_no_commit(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name, checkpoint_pages=1))
        disk.arm(Fault("EIO", 1, True, only="ledger.sqlite3"))
        for seq in (1, 2, 3):  # each is answered after the tidying of the one before it
            assert [event.seq for event in await ledger.commit(Batch(events=(an_event(),)))] == [seq]
        assert "cannot be brought up to its log" in ledger.stats().checkpoint_failed
        assert ledger.stats().failed == ""
        disk.arm(None)
        for _ in range(2):
            await ledger.retry()
        assert ledger.stats().checkpoint_failed == ""
        await ledger.close()

    asyncio.run(run())


def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_close(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name, close_seconds=0.05))
        disk.turning.clear()
        waiting = asyncio.ensure_future(ledger.commit(Batch(events=(an_event(),))))
        await asyncio.sleep(0)
        with pytest.raises(LedgerFailed, match="did not end within"):
            await ledger.close()
        assert not waiting.done()
        with pytest.raises(LedgerLocked):  # it may still write
            Ledger.open(tmp_path, FakeClock())
        disk.turning.set()
        assert len(await waiting) == 1
        while True:
            try:
                await ledger.close()
            except LedgerFailed:
                continue
            break

    asyncio.run(run())
    assert FolderLock.acquire(tmp_path).close() is None


def test_a_ledger_that_another_hand_changed_is_not_written_on(disk: Disk, tmp_path: Path) -> None:
    async def run() -> None:
        ledger = Ledger.open(tmp_path, FakeClock(), LedgerOptions(vfs=disk.name))
        await ledger.commit(Batch(events=(an_event(),)))
        disk.arm(Fault("EIO", 1, False))
        with pytest.raises(LedgerFailed):
            await ledger.retry()
        connection = apsw.Connection(str(tmp_path / "ledger.sqlite3"))
        connection.execute(rows.INSERT_META, rows.meta_row("last_seq", 99))
        connection.close()
        for _ in range(2):
            with pytest.raises(LedgerFailed, match="ends at event 99 instead of 1"):
                await ledger.commit(Batch(events=(an_event(),)))
        await ledger.close()

    asyncio.run(run())


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_ledger_that_was_taken_away_acknowledges_nothing(template: Path, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "state"
    shutil.copytree(template, folder)

    async def run() -> None:
        ledger = Ledger.open(folder, FakeClock())
        await ledger.commit(Batch(events=(an_event(),)))
        (folder / "ledger.sqlite3").rename(folder / "aside")
        if how == "replaced":
            shutil.copy(template / "ledger.sqlite3", folder)
        for _ in range(2):
            with pytest.raises(LedgerFailed, match="moved, replaced or deleted"):
                await ledger.commit(Batch(events=(an_event(),)))
        await ledger.close()

    asyncio.run(run())
