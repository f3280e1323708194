"""The search for roots, when two search at a time, and when one fails."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from crewd.engine.lookout import Lookout
from crewd.sources.beat import BeatSource
from crewd.sources.source import Source


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
