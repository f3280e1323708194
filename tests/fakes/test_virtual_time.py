"""The loop in which waiting costs nothing, and a deadlock is a failure instead of a hang."""

import asyncio
import threading
import time

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.virtual_time import Deadlock, VirtualTimeLoop, run


def test_a_week_of_ticks_passes_in_no_time() -> None:
    clock = FakeClock()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        for _ in range(7 * 24 * 60):
            await asyncio.sleep(60.0)
            ticks += 1

    began = time.monotonic()
    run(tick(), clock)
    assert ticks == 10_080
    assert clock.mono == pytest.approx(1_000.0 + 604_800.0)
    assert time.monotonic() - began < 10.0


def test_timers_fire_in_their_order_and_at_their_time() -> None:
    clock = FakeClock(mono=0.0)
    fired: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        fired.append((name, round(clock.mono, 6)))

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name, seconds in (("c", 3.0), ("a", 1.0), ("b", 2.5)):
                group.create_task(wait(name, seconds))

    run(main(), clock)
    assert fired == [("a", 1.0), ("b", 2.5), ("c", 3.0)]


def test_a_suspend_delays_no_timer_beyond_its_monotonic_time() -> None:
    clock = FakeClock(wall=0.0, mono=0.0, boot=0.0)

    async def main() -> None:
        clock.suspend(3600.0)
        await asyncio.sleep(5.0)

    run(main(), clock)
    assert (round(clock.mono, 6), round(clock.boot, 6)) == (5.0, 3605.0)


def test_a_deadlock_is_told() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(main(), FakeClock(), patience=0.01)


def test_work_in_a_thread_is_waited_for_while_the_clock_stands_still() -> None:
    clock = FakeClock()
    go = threading.Event()

    async def main() -> float:
        async with asyncio.timeout(1.0):
            work = asyncio.create_task(asyncio.to_thread(go.wait))
            await asyncio.sleep(0)
            threading.Timer(0.02, go.set).start()
            await work
        return clock.mono

    assert run(main(), clock) == 1_000.0


def test_a_thread_that_is_meant_to_be_stuck_lets_time_go_on() -> None:
    clock = FakeClock()
    release = threading.Event()

    async def main() -> None:
        work = asyncio.create_task(asyncio.to_thread(release.wait))
        await asyncio.sleep(30.0)
        assert not work.done()
        release.set()
        await work

    run(main(), clock, thread_patience=0.01)
    assert clock.mono >= 1_030.0


def test_a_thread_that_the_loop_does_not_know_of_can_be_named() -> None:
    clock = FakeClock()

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        answer: asyncio.Future[float] = loop.create_future()
        threading.Timer(0.02, lambda: loop.call_soon_threadsafe(answer.set_result, 1.0)).start()
        with loop.outside():
            async with asyncio.timeout(5.0):
                return await answer

    assert run(main(), clock) == 1.0
    assert clock.mono == 1_000.0
