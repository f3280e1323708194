"""Retention: what is old and settled goes, a little at a time; what is open stays for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.model.verdict import Outcome
from tests.fakes.clock import FakeClock
from tests.ledger.values import a_letter, a_run, a_verdict, an_event, an_incident

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


def test_room_is_given_back_to_the_file_system(tmp_path: Path) -> None:
    async def play(ledger: Ledger, clock: FakeClock, reader: Reader) -> None:
        await ledger.commit(Batch(events=tuple(an_event(n, at=OLD) for n in range(5000))))
        await ledger.prune(before=5_000.0)

    using(tmp_path, play)
    assert (tmp_path / "ledger.sqlite3").stat().st_size < 150_000


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
