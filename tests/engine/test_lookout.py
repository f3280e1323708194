"""The search for roots, when two search at a time, and when one fails; and looks at disks that hang."""

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from crewd.engine.lookout import AT_ONCE, Lookout
from crewd.model.look import Look
from crewd.model.moment import Reading
from crewd.sources.beat import BeatSource
from crewd.sources.source import Source
from tests.fakes.slow_source import Slow


def test_a_search_that_ends_late_does_not_undo_a_newer_one(tmp_path: Path) -> None:
    old, new = (BeatSource(str(tmp_path / name)) for name in ("old", "new"))
    let = threading.Event()

    def slow(known: Sequence[Source]) -> list[Source]:
        assert let.wait(20)
        return [old]

    async def scene(lookout: Lookout) -> None:
        former = asyncio.create_task(lookout.find())
        await asyncio.sleep(0)
        newer = asyncio.create_task(lookout.find(lambda known: [new]))
        await asyncio.sleep(0.05)
        let.set()
        await asyncio.gather(former, newer)

    lookout = Lookout(slow, 5.0, lambda path: 1 << 30)
    asyncio.run(scene(lookout))
    assert lookout.sources == [new]
    asyncio.run(lookout.find())
    assert lookout.sources == [new], "it is searched in the new way from now on"
    lookout.close()


def test_a_search_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    source = BeatSource(str(tmp_path))

    def torn(known: Sequence[Source]) -> list[Source]:
        raise OSError("torn")

    async def scene(lookout: Lookout) -> None:
        await lookout.find()
        with pytest.raises(OSError, match="torn"):
            await lookout.find(torn)
        await lookout.find()

    lookout = Lookout(lambda known: [source], 5.0, lambda path: 1 << 30)
    asyncio.run(scene(lookout))
    assert lookout.sources == [source]
    lookout.close()


NOW = Reading(0.0, 0.0, 0.0)


def looked(lookout: Lookout) -> list[str]:
    return [source.folder for source, _ in asyncio.run(lookout.look(NOW))]


def lookout_of(*sources: Slow, timeout: float = 0.2) -> Lookout:
    lookout = Lookout(lambda known: list(sources), timeout, lambda path: 1 << 30)
    asyncio.run(lookout.find())
    return lookout


def test_whoever_hangs_is_left_out_waited_for_once_and_taken_in_when_it_comes_back() -> None:
    hung, well = Slow("hung", hangs=True), Slow("well")
    lookout = lookout_of(hung, well)
    assert looked(lookout) == ["/well"]
    assert lookout.stuck == ("/hung",) and lookout.answering == [well]
    lookout.timeout = 20.0  # so that a second wait for it would be noticed
    began = time.monotonic()
    assert [looked(lookout), looked(lookout)] == [["/well"], ["/well"]]
    assert time.monotonic() - began < 5 and hung.looks == 1
    hung.let.set()
    while "/hung" not in looked(lookout):
        assert time.monotonic() - began < 20
    assert lookout.stuck == ()


def test_however_many_hang_everybody_else_has_a_turn_within_two_rounds() -> None:
    hung = [Slow(f"hung{number}", hangs=True) for number in range(2 * AT_ONCE)]
    well = [Slow(f"well{number}") for number in range(3)]
    lookout = lookout_of(*hung, *well)
    rounds = [looked(lookout) for _ in range(3)]
    assert rounds[0] == [], "the first hold all places"
    assert rounds[2] == ["/well0", "/well1", "/well2"]
    assert set(lookout.stuck) == {each.folder for each in hung}
    for each in hung:
        each.let.set()


def test_no_more_than_a_few_look_at_a_time() -> None:
    at_work, most, gate = 0, 0, threading.Lock()

    class Counted(Slow):
        def look(self, now: Reading) -> Look:
            nonlocal at_work, most
            with gate:
                at_work += 1
                most = max(most, at_work)
            time.sleep(0.01)
            with gate:
                at_work -= 1
            return Look()

    sources = [Counted(str(number)) for number in range(5 * AT_ONCE)]
    assert len(looked(lookout_of(*sources, timeout=20.0))) == len(sources)
    assert most == AT_ONCE


def test_a_root_that_goes_while_it_hangs_is_closed_when_it_comes_back_and_counts_no_more() -> None:
    hung, well = Slow("hung", hangs=True), Slow("well")
    lookout = lookout_of(hung, well)
    looked(lookout)
    asyncio.run(lookout.find(lambda known: [well]))
    looked(lookout)
    assert lookout.stuck == () and not hung.closed
    hung.let.set()
    began = time.monotonic()
    while not hung.closed:
        assert looked(lookout) == ["/well"]
        assert time.monotonic() - began < 20


def test_a_root_that_went_leaves_no_full_disk_behind() -> None:
    full, well = Slow("full"), Slow("well")
    lookout = Lookout(lambda known: [full, well], 20.0, lambda path: 0 if path == "/full" else 1 << 30)
    asyncio.run(lookout.find())
    looked(lookout)
    assert lookout.disk_full
    asyncio.run(lookout.find(lambda known: [well]))
    looked(lookout)
    assert not lookout.disk_full
