"""Notification is a hint: it wakes early where it can, and harms nothing where it cannot."""

import asyncio
from pathlib import Path

import pytest

from crewd.sources import watch as watching
from crewd.sources.watch import Hint, Watch, WatchOptions

QUICK = WatchOptions(debounce=0.05, retry_after=0.01)

pytestmark = pytest.mark.real_time


async def written(watch: Watch, path: Path) -> Hint:
    """Write until the watch has noticed: it takes a moment to be set up."""
    for number in range(100):
        path.write_text(str(number))
        hint = await watch.changed(0.1)
        if hint.changed:
            return hint
    raise AssertionError("no change was noticed in ten seconds")


def test_a_change_ends_the_wait(tmp_path: Path) -> None:
    async def story() -> Hint:
        async with Watch([str(tmp_path)], QUICK) as watch:
            return await written(watch, tmp_path / "file")

    assert asyncio.run(story()) == Hint(True)


def test_without_a_change_the_time_is_up() -> None:
    async def story() -> Hint:
        async with Watch((), QUICK) as watch:
            return await watch.changed(0.01)

    assert asyncio.run(story()) == Hint(False)


def test_a_watch_can_be_aimed_anew(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    async def story() -> Hint:
        async with Watch([str(tmp_path / "a")], QUICK) as watch:
            await written(watch, tmp_path / "a" / "file")
            await watch.aim([str(tmp_path / "b")])
            return await written(watch, tmp_path / "b" / "file")

    assert asyncio.run(story()).changed


def test_folders_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    async def story() -> Hint:
        async with Watch([str(tmp_path / "gone"), str(tmp_path)], QUICK) as watch:
            return await written(watch, tmp_path / "file")

    assert asyncio.run(story()).problems == ()


def test_the_caller_can_wake_itself() -> None:
    async def story() -> Hint:
        async with Watch((), QUICK) as watch:
            watch.wake()
            return await watch.changed(10)

    assert asyncio.run(story()) == Hint(True)


class Failing(Watch):
    """A watch on a machine that has no watches left."""

    tries = 0

    async def _listen(self, paths: tuple[str, ...]) -> None:
        self.tries += 1
        if self.tries == 1:
            raise OSError("OS file watch limit reached")
        await asyncio.Event().wait()


def test_a_failure_is_counted_told_and_tried_again_with_less(tmp_path: Path) -> None:
    async def story() -> tuple[Hint, int]:
        async with Failing([str(tmp_path)], QUICK) as watch:
            hint = await watch.changed(5)
            while watch.tries < 2:
                await asyncio.sleep(0.005)
            return hint, watch.tries

    hint, tries = asyncio.run(story())
    assert (hint.changed, hint.overflows, tries) == (True, 1, 2)
    assert "watch limit" in hint.problems[0]


def test_a_watch_that_is_switched_off_only_waits(tmp_path: Path) -> None:
    async def story() -> Hint:
        async with Watch([str(tmp_path)], WatchOptions(enabled=False)) as watch:
            (tmp_path / "file").write_text("x")
            return await watch.changed(0.05)

    assert asyncio.run(story()) == Hint(False)


def test_network_filesystems_are_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "is_network", lambda path: True)

    async def story() -> Hint:
        async with Watch([str(tmp_path)], QUICK) as watch:
            for number in range(4):
                (tmp_path / "file").write_text(str(number))
                if (hint := await watch.changed(0.1)).changed:
                    break
            return hint

    assert asyncio.run(story()) == Hint(False)


@pytest.mark.parametrize("options", [{"debounce": 0}, {"paths_max": 0}, {"retry_after": 0}])
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        WatchOptions(**options)  # type: ignore[arg-type]  # one of several fields, by name


@pytest.mark.parametrize("turns", range(4))
def test_who_is_cancelled_in_the_moment_of_a_change_is_cancelled(turns: int) -> None:
    """Else a daemon that is stopped in that moment never ends: `asyncio.wait_for` of Python 3.11 loses it."""

    async def scene() -> None:
        watch = Watch()
        waiting = asyncio.create_task(watch.changed(20.0))
        await asyncio.sleep(0.01)
        watch.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        if not waiting.done():
            waiting.cancel()
            await asyncio.wait([waiting])
            assert waiting.cancelled()

    asyncio.run(scene())
