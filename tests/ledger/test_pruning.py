"""Retention: what is old and settled goes, a little at a time; what is open stays for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerFailed
from crewd.ledger.ledger import Ledger
from crewd.ledger.opening import connect
from crewd.ledger.options import LedgerOptions
from crewd.ledger.reader import Reader
from crewd.ledger.work import LedgerWork
from crewd.model.managed import Completed
from crewd.model.verdict import Outcome
from crewd.model.work import Item
from tests.fakes.clock import FakeClock
from tests.ledger.values import (
    a_letter,
    a_managed_letter,
    a_managed_run,
    a_managed_task,
    a_run,
    a_verdict,
    an_event,
    an_incident,
)

OLD, NEW = 1_000.0, 9_000.0


def using(folder: Path, play: Callable[[Ledger, FakeClock, Reader], Awaitable[None]]) -> None:
    async def run() -> None:
        clock = FakeClock(wall=OLD)
        ledger = Ledger.open(folder, clock)
        with Reader.open(folder) as reader:
            await play(ledger, clock, reader)
        await ledger.close()

    asyncio.run(run())


def test_old_events_go_and_the_gap_is_told(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        events = [an_event(n, at=OLD if n <= 2500 else NEW) for n in range(1, 3001)]
        await ledger.commit(Batch(events=tuple(events)))
        assert await ledger.prune(before=5_000.0) == 2500
        assert [event.seq for event in reader.events()] == list(range(2501, 3001))
        assert reader.pruned_to() == 2500
        assert await ledger.prune(before=5_000.0) == 0

    using(tmp_path, play)


def test_numbers_go_on_although_the_newest_event_was_deleted(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        await ledger.commit(Batch(events=(an_event(at=OLD), an_event(at=OLD))))
        await ledger.prune(before=5_000.0)
        assert reader.last_seq() == 2

    async def later(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        assert [event.seq for event in await ledger.commit(Batch(events=(an_event(),)))] == [3]

    using(tmp_path, play)
    using(tmp_path, later)


def test_one_call_deletes_no_more_than_it_may(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        await ledger.commit(Batch(events=tuple(an_event(n, at=OLD) for n in range(50))))
        assert await ledger.prune(before=5_000.0, max_rows=20) == 20
        assert [event.seq for event in reader.events(limit=1)] == [21]

    using(tmp_path, play)


def test_events_from_a_time_when_the_clock_was_wrong_keep_nothing_behind_them(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        ahead = [an_event(n, at=2e9) for n in range(1500)]
        await ledger.commit(Batch(events=(*ahead, *(an_event(n, at=OLD) for n in range(10)))))
        assert await ledger.prune(before=5_000.0) == 10
        assert reader.pruned_to() == 1510

    using(tmp_path, play)


def test_what_is_settled_goes_and_what_is_open_stays(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        open_verdict, fresh = a_verdict("open"), a_verdict("fresh", Outcome.TRUE, settled_at=NEW)
        open_incident, recent = an_incident("dead"), an_incident("silent", resolved_at=NEW)
        await ledger.commit(
            Batch(
                verdicts=(open_verdict, fresh, a_verdict("settled", Outcome.FALSE, settled_at=OLD)),
                incidents=(open_incident, recent, an_incident("stale", resolved_at=OLD)),
                letters=(a_letter(at=OLD),),
            )
        )
        assert await ledger.prune(before=5_000.0) == 2
        assert reader.verdicts() == [open_verdict, fresh]
        assert reader.incidents() == [open_incident, recent]
        assert reader.letters() == [a_letter(at=OLD)]

    using(tmp_path, play)


def test_only_runs_that_are_no_longer_on_disk_go(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        await ledger.commit(Batch(runs=(a_run("here"), a_run("gone"), a_run("just gone"))))
        await ledger.commit(Batch(vanished=("gone",)))
        clock.advance(NEW - OLD)
        await ledger.commit(Batch(vanished=("just gone",)))
        assert await ledger.prune(before=5_000.0) == 1
        assert {run.run_id for run in reader.runs(vanished=True)} == {"here", "just gone"}

    using(tmp_path, play)


def ended(run_id: str, at: float | None = OLD, key: str = "") -> Batch:
    tasks = (
        a_managed_task("lint", Completed(at or OLD, 2), run_id),
        a_managed_task("test", Completed(OLD, 1), run_id),
    )
    return Batch(managed=(a_managed_run(run_id, key, at),), tasks=tasks)


async def with_work(ledger: Ledger, run_id: str, records: int = 3) -> LedgerWork:
    work = LedgerWork(ledger)
    await work.submit([Item(f"{run_id}/lint"), Item(f"{run_id}/test")])
    (lint,), _ = await work.pull([f"{run_id}/lint"], None)
    await work.complete(lint, {})
    await work.withdraw(f"{run_id}/test")
    await asyncio.gather(*(work.append(run_id, f"id-{n}", {}) for n in range(records)))
    await work.append(f"{run_id}/lint", "id", {})
    return work


def test_a_managed_run_that_ended_goes_with_all_that_is_its_own_and_nothing_else(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        for batch in (ended("old", key="monday"), ended("old-2", None), ended("fresh", NEW), ended("ol", None)):
            await ledger.commit(batch)
            await with_work(ledger, batch.managed[0].plan.run_id)
        assert await ledger.prune(before=5_000.0) == 4 + 2 + 2 + 1  # records, tasks, items, the run
        assert [run.plan.run_id for run in reader.managed_runs()] == ["ol", "fresh", "old-2"]
        assert reader.managed_tasks("old") == reader.log("old") == reader.log("old/lint") == []
        assert reader.result("old/lint") is None
        assert reader.run_of_key("monday") is None
        for kept in ("old-2", "fresh", "ol"):
            assert len(reader.managed_tasks(kept)) == 2
            assert (len(reader.log(kept)), len(reader.log(f"{kept}/lint"))) == (3, 1)
            assert reader.result(f"{kept}/lint") == {}
        assert reader.depth(OLD)["withdrawn"] == 3
        assert await ledger.prune(before=5_000.0) == 0

    using(tmp_path, play)


def test_a_run_with_an_open_letter_stays_until_the_letter_is_settled(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        letter = a_managed_letter(run_id="old")
        await ledger.commit(ended("old", key="monday"))
        await ledger.commit(Batch(letters=(letter, a_managed_letter("other", "discarded", "old"))))
        assert await ledger.prune(before=5_000.0) == 0
        assert reader.run_of_key("monday") == "old"
        settled = msgspec.structs.replace(letter, state="discarded")
        await ledger.commit(Batch(letters_settled=(settled,)))
        assert await ledger.prune(before=5_000.0) == 3
        assert [each.state for each in reader.letters()] == ["discarded", "discarded"]

    using(tmp_path, play)


def test_a_run_whose_work_somebody_holds_stays(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        await ledger.commit(ended("old"))
        work = LedgerWork(ledger)
        await work.submit([Item("old/lint")])
        (lease,), _ = await work.pull(["old/lint"], None)
        assert await ledger.prune(before=5_000.0) == 0
        await work.complete(lease, {})
        assert await ledger.prune(before=5_000.0) == 4

    using(tmp_path, play)


def test_a_long_log_goes_a_little_at_a_time_and_the_run_with_the_last_of_it(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        await ledger.commit(ended("old"))
        await with_work(ledger, "old", records=30)
        assert await ledger.prune(before=5_000.0, max_rows=20) == 20
        assert [record.position for record in reader.log("old")] == list(range(21, 31))
        assert len(reader.managed_tasks("old")) == 2
        assert await ledger.prune(before=5_000.0) == 11 + 5
        assert reader.managed("old") is None

    using(tmp_path, play)


def test_an_end_that_crewd_did_not_write_forgets_nothing(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        await ledger.commit(ended("old", None))
        connection = connect(tmp_path / "ledger.sqlite3", LedgerOptions())
        connection.execute("UPDATE managed_runs SET ended_at = 1000.0")
        connection.close()
        with pytest.raises(LedgerFailed, match="'old' is not what was written"):
            await ledger.prune(before=5_000.0)
        assert len(reader.managed_tasks("old")) == 2

    using(tmp_path, play)


def test_room_is_given_back_to_the_file_system(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        await ledger.commit(Batch(events=tuple(an_event(n, at=OLD) for n in range(5000))))
        await ledger.prune(before=5_000.0)

    using(tmp_path, play)
    assert (tmp_path / "ledger.sqlite3").stat().st_size < 240_000


def test_commits_go_on_while_old_events_are_deleted(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        await ledger.commit(Batch(events=tuple(an_event(n, at=OLD) for n in range(5000))))
        pruning = asyncio.ensure_future(ledger.prune(before=5_000.0))
        between = 0
        while not pruning.done():
            await ledger.commit(Batch(events=(an_event(at=NEW),)))
            between += 1
        assert await pruning == 5000
        assert between >= 3
        assert len(reader.events()) == between

    using(tmp_path, play)
