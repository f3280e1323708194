"""The plug is pulled after any write: unsynced sectors survive by chance, acknowledged events for sure."""

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from crewd.ledger.ledger import Ledger
from crewd.ledger.options import LedgerOptions
from crewd.ledger.work import LedgerWork
from crewd.model.event import Event
from crewd.model.work import Item
from tests.fakes.clock import FakeClock
from tests.ledger.disks import Disk, Step, after_power_loss
from tests.ledger.values import assert_sound, key_of, pulling, raising, returning


def recorded(folder: Path) -> tuple[dict[str, bytes], list[Step], list[tuple[int, list[Event]]]]:
    """Work on a ledger; returns its files before, every step of its disk, and what was acknowledged by which step."""

    async def run() -> tuple[dict[str, bytes], list[Step], list[tuple[int, list[Event]]]]:
        disk = Disk("recording")
        try:
            await Ledger.open(folder, FakeClock()).close()
            before = {"ledger.sqlite3": (folder / "ledger.sqlite3").read_bytes()}
            disk.steps = steps = []
            ledger = Ledger.open(folder, FakeClock(), LedgerOptions(vfs=disk.name, checkpoint_pages=25))
            acknowledged: list[tuple[int, list[Event]]] = [(len(steps), [])]
            work, lease, last = LedgerWork(ledger), None, 0
            await work.submit([Item(key_of("counter-1"))])
            for total in range(1, 25):
                counter = f"counter-{total % 3}"
                by = total if total <= 3 else 3
                events = await ledger.commit(raising(counter, by, total))
                acknowledged.append((len(steps), [*acknowledged[-1][1], *events]))
                if total % 3 == 0:
                    continue
                if lease is None:
                    (lease,), events = await work.pull([key_of("counter-1")], None, pulling("counter-1"))
                else:
                    events, lease = await work.retry(lease, 0.0, returning(lease)), None
                acknowledged.append((len(steps), [*acknowledged[-1][1], *events]))
                last = await work.append("counter-1", str(last + 1), {}, after=last)
            disk.steps = None
            await ledger.close()
            return before, steps, acknowledged
        finally:
            disk.unregister()

    return asyncio.run(run())


def pull_the_plug(folder: Path, states: int, seed: int) -> None:
    before, steps, acknowledged = recorded(folder / "recorded")
    chance = random.Random(seed)
    assert any(step.what == "sync" and step.name == "ledger.sqlite3" for step in steps), "no checkpoint was recorded"
    for number in range(states):
        cut = chance.randrange(len(steps) + 1)
        image = folder / "image"
        image.mkdir()
        for name, data in after_power_loss(before, steps[:cut], chance).items():
            (image / name).write_bytes(data)
        safe = next((events for at, events in reversed(acknowledged) if at <= cut), [])
        try:
            assert_sound(image, safe)
        except BaseException as error:
            error.add_note(f"seed {seed}, state {number}: cut after step {cut} of {len(steps)}")
            raise
        shutil.rmtree(image)


def test_a_loss_of_power_loses_nothing_acknowledged(tmp_path: Path) -> None:
    pull_the_plug(tmp_path, states=25, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_losses_of_power_lose_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    pull_the_plug(tmp_path, states=220, seed=seed)
