"""Cancels in every phase, and what may happen between a start and its first command: nothing runs or is left."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crewd.engine.managed.attempt import Over
from crewd.engine.managed.hands import Grip, Held, SystemHands
from crewd.errors import Refused
from crewd.host.clock import SystemClock
from crewd.host.processes import ProcProcesses
from crewd.host.remains import Left
from crewd.host.subreaper import children
from crewd.model.plan import Limits, Mode, RetryPolicy, StopPlan, StopStep, TaskPlan
from crewd.model.process import Identity
from tests.engine.managed.behaviours import ONE, STUBBORN, protocol, python, sh
from tests.engine.managed.trial import TASK
from tests.engine.managed.workshop import Workshop, marked, opened, shell
from tests.fakes.workers import subreaper

pytestmark = pytest.mark.real_time

LATER = RetryPolicy(base=60.0, cap=60.0)


class Meddling(SystemHands):
    """The kernel's processes, and somebody who meddles with them."""

    def __init__(self) -> None:
        super().__init__(ProcProcesses(SystemClock()))
        self.at_gate: Callable[[Identity], None] = lambda shim: None  # its identity is durable, its gate shut
        self.on_grip: Callable[[Identity], None] = lambda shim: None  # nothing of it is durable yet
        self.on_look: Callable[[], None] = lambda: None  # crewd looks for what is left

    def grip(self, held: Held, exited: Callable[[], None]) -> Grip:
        grip = super().grip(held, exited)
        self.on_grip(held.identity)
        return grip

    def limit(self, mark: str, identity: Identity, limits: Limits) -> list[str]:
        self.at_gate(identity)
        return super().limit(mark, identity, limits)

    async def left(self, mark: str, grip: Grip | None) -> Sequence[Left]:
        self.on_look()
        return await super().left(mark, grip)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with subreaper() as known:
        yield
        assert set(children()) <= known


@contextlib.asynccontextmanager
async def meddled(folder: Path, **options: Any) -> AsyncIterator[tuple[Workshop, Meddling]]:
    """A workshop in which somebody meddles with every start."""
    async with opened(folder / "s", **options) as workshop:
        hands = Meddling()
        workshop.conductor.hands = hands
        workshop.conductor.__post_init__()
        yield workshop, hands


def play(scene: Callable[[], Any]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scene()

    asyncio.run(bounded())


def began(folder: Path) -> Path:
    return folder / "began"


def leaves_a_trace(folder: Path, **more: Any) -> TaskPlan:
    return sh(f"touch {began(folder)}; exit 0", **more)


def test_a_waiting_task_is_cancelled_without_ever_being_started(tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened(tmp_path / "s", max_parallel=1) as workshop:
            await workshop.submit("run", shell("a", "sleep 60; :"), shell("b", "exit 0"))
            await workshop.until(lambda: workshop.states("run") == {"a": "running", "b": "waiting"})
            await workshop.actions.cancel("run", "b", reason="no more", actor="operator:tester")
            assert workshop.state_of("run", "b") == "cancelled"
            assert workshop.task("run", "b").attempts == ()
            await workshop.actions.cancel("run", "", reason="no more", actor="operator:tester")
            assert workshop.states("run") == {"a": "cancelled", "b": "cancelled"}
            assert (await workshop.ended("run")).status == "cancelled"
            assert [event.type for event in workshop.events].count("task.failed") == 0

    play(scene)


def test_a_task_that_waits_for_its_retry_is_cancelled(tmp_path: Path) -> None:
    async def scene() -> None:
        async with opened(tmp_path / "s") as workshop:
            await workshop.submit("run", sh("kill -9 $$", retry=LATER))
            await workshop.until(lambda: workshop.state_of("run", TASK) == "retry_wait")
            await workshop.actions.cancel("run", TASK, reason="no more", actor="operator:tester")
            await workshop.ended("run")
            assert workshop.state_of("run", TASK) == "cancelled"
            assert workshop.classes("run", TASK) == ["worker_killed"]
            with pytest.raises(Refused):
                await workshop.actions.cancel("run", TASK, reason="again", actor="operator:tester")

    play(scene)


@pytest.mark.parametrize(
    ("plan", "bound"),
    [
        (sh("touch ready; sleep 60; :"), 2.0),
        (sh(STUBBORN), 0.5 + 2.0),
        (python("daemon(wait); open('ready', 'w'); wait()"), 0.5 + 2.0),
        (sh("touch ready; kill -STOP 0"), 0.5 + 2.0),
        (protocol("ready(); signal.signal(15, signal.SIG_IGN); open('ready', 'w'); wait()"), 1.0 + 2.0),
    ],
    ids=["runs", "ignores signals", "has a daemon", "stands still", "heeds no message"],
)
def test_when_a_cancel_returns_nothing_is_left(plan: TaskPlan, bound: float, tmp_path: Path) -> None:
    """Bound: the grace and the steps of its plan, and two seconds."""

    async def scene() -> None:
        async with opened(tmp_path / "s") as workshop:
            work = tmp_path / "work"
            work.mkdir()
            await workshop.submit("run", _in(plan, work))
            await workshop.until(lambda: (work / "ready").exists())
            before = time.monotonic()
            await workshop.actions.cancel("run", TASK, reason="no more", actor="operator:tester")
            took = time.monotonic() - before
            assert marked(f"run/{TASK}/1") == []
            assert workshop.state_of("run", TASK) == "cancelled"
            assert took < bound

    play(scene)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("when", ["on_grip", "at_gate"])
def test_a_cancel_before_the_gate_is_opened_lets_nothing_run(when: str, mode: Mode, tmp_path: Path) -> None:
    async def scene() -> None:
        plan = leaves_a_trace(tmp_path, mode=mode)
        async with meddled(tmp_path) as (workshop, hands):

            def cancel(shim: Identity) -> None:
                attempt = workshop.conductor.attempts["run", TASK]
                attempt.end(Over("no more", cancelled=True, actor="operator:tester"))

            setattr(hands, when, cancel)
            await workshop.submit("run", plan)
            await workshop.ended("run")
            assert workshop.state_of("run", TASK) == "cancelled"
            assert not began(tmp_path).exists()
            assert workshop.violated == []

    play(scene)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("when", ["on_grip", "at_gate"])
def test_a_shim_that_is_killed_at_its_gate_is_a_killed_worker(when: str, mode: Mode, tmp_path: Path) -> None:
    async def scene() -> None:
        plan = leaves_a_trace(tmp_path, mode=mode)
        async with meddled(tmp_path) as (workshop, hands):
            struck: list[int] = []

            def strike(shim: Identity) -> None:
                if struck:
                    return
                struck.append(shim.pid)
                os.kill(shim.pid, signal.SIGKILL)
                os.waitid(os.P_PID, shim.pid, os.WEXITED | os.WNOWAIT)

            setattr(hands, when, strike)
            await workshop.submit("run", plan)
            await workshop.ended("run")
            first = workshop.task("run", TASK).attempts[0]
            assert (first.error_class, first.exit.signal) == ("worker_killed", 9)
            assert len(workshop.told("attempt.finished")) >= 2, "the next one may run"
            assert began(tmp_path).exists()
            assert workshop.violated == []

    play(scene)


def test_everybody_else_has_a_turn_between_two_starts(tmp_path: Path) -> None:
    async def scene() -> None:
        async with meddled(tmp_path, max_parallel=16) as (workshop, hands):
            turns, started = 0, []

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            hands.on_grip = lambda shim: started.append(turns)
            counting = asyncio.create_task(count())
            await workshop.submit("run", *(shell(f"t{n}", "exit 0") for n in range(16)))
            await workshop.ended("run")
            counting.cancel()
            assert len(set(started)) == 16

    play(scene)


def test_a_defect_of_crewd_costs_one_attempt_and_leaves_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        plan = sh("sleep 60; :", timeout=0.3, retry=ONE)
        async with meddled(tmp_path) as (workshop, hands):
            failed: list[int] = []

            def fail() -> None:
                if not failed:
                    failed.append(1)
                    raise RuntimeError("a defect, planted")

            hands.on_look = fail
            await workshop.submit("run", plan)
            await workshop.ended("run")
            (only,) = workshop.task("run", TASK).attempts
            assert (only.error_class, only.details["code"]) == ("unknown", "defect")
            assert marked(f"run/{TASK}/1") == []

    play(scene)


def test_the_daemon_of_a_neighbour_is_left_alone(tmp_path: Path) -> None:
    """An orphan of one attempt is a child of crewd, and none of another attempt's."""

    async def scene() -> None:
        async with opened(tmp_path / "s") as workshop:
            keeper = """
daemon(wait); open("ready", "w").close()
while not os.path.exists("go"): time.sleep(0.01)
os.kill(int(open("pids").read()), 0); print("alive")"""
            await workshop.submit("keeper", _in(python(keeper, retry=ONE), tmp_path))
            await workshop.until(lambda: (tmp_path / "ready").exists())
            ends = StopPlan(steps=(StopStep("TERM", 0.2),), drain=0.2)
            leaver = python("hide = lambda: None\ndaemon(wait)", stop=ends)
            await workshop.submit("leaver", leaver)
            await workshop.ended("leaver")
            (tmp_path / "go").touch()
            await workshop.ended("keeper")
            assert (workshop.classes("leaver", TASK), workshop.classes("keeper", TASK)) == ([""], [""])

    play(scene)


def _in(plan: TaskPlan, work: Path) -> TaskPlan:
    return msgspec.structs.replace(plan, cwd=str(work))
