"""What a task is not to blame for: crewd itself has no descriptor, process or memory left to start it."""

import asyncio
import errno
from pathlib import Path

import pytest

from crewd.engine.managed.hands import Grip, Held, SystemHands
from crewd.host.processes import ProcProcesses
from crewd.host.spawning import Spawn
from crewd.model.failure import Exit
from crewd.model.process import Identity
from tests.engine.managed.workshop import Workshop, opened, shell

pytestmark = pytest.mark.real_time


class ShortHands(SystemHands):
    """Hands that cannot start anything while `short` is set."""

    short = errno.EMFILE

    def spawn(self, spawn: Spawn) -> Held:
        if self.short:
            raise OSError(self.short, "no more of it")
        return super().spawn(spawn)


def short_of(workshop: Workshop, number: int) -> ShortHands:
    hands = ShortHands(ProcProcesses(workshop.scheduler.clock))
    hands.short = number
    workshop.conductor.hands = hands
    workshop.conductor.stopping = type(workshop.conductor.stopping)(hands, asyncio.get_running_loop().time, print)
    return hands


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM])
def test_a_shortage_of_crewds_own_costs_no_attempt(tmp_path: Path, number: int) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            hands = short_of(w, number)
            await w.submit("run-1", shell("a", "exit 0"))
            await w.until(lambda: w.conductor.short)
            told = w.actions.managed("run-1")
            assert told is not None and "no more of it" in told["tasks"][0]["why"]
            hands.short = 0
            await w.ended("run-1")
            assert w.classes("run-1", "a") == [""], "one attempt, and it completed"
            assert w.conductor.short == {}

    asyncio.run(asyncio.wait_for(story(), 60))


def test_who_waits_for_a_shortage_to_end_can_be_cancelled(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            short_of(w, errno.EMFILE)
            await w.submit("run-1", shell("a", "exit 0"))
            await w.until(lambda: w.conductor.short)
            await w.actions.cancel("run-1", "", reason="", actor="operator:test")
            assert w.state_of("run-1", "a") == "cancelled"

    asyncio.run(asyncio.wait_for(story(), 60))


def test_an_exit_that_cannot_be_read_is_told_by_the_kernel(tmp_path: Path) -> None:
    hands = SystemHands(ProcProcesses(None))
    unreadable = "x" * 300  # a name that no file system takes
    for reaped, meant in ((Exit(code=3), Exit(code=3)), (Exit(code=143), Exit(signal=15)), (Exit(signal=9),) * 2):
        grip = Grip(Identity(1, 1, "", 0), -1, mine=True, reaped=reaped)
        record = hands.read_exit(str(tmp_path / unreadable), grip)
        assert record is not None and record.exit == meant
    assert hands.read_exit(str(tmp_path / unreadable), None) is None
