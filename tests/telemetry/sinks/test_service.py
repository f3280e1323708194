"""The service, in the real loop: its threads touch a real disk."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from crewd.telemetry.sinks.options import SinkOptions
from crewd.telemetry.sinks.service import Sinks
from tests.fakes.clock import FakeClock
from tests.telemetry.pictures import event
from tests.telemetry.sinks.world import DAY, NOON, Log, names, seqs

PATIENCE = 10.0


async def until(true: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.005)


class World:
    def __init__(self, folder: Path, **options: float) -> None:
        self.folder = folder
        self.log = Log()
        self.clock = FakeClock(wall=NOON)
        self.registry = CollectorRegistry()
        Gauge("depth", "Depth.", registry=self.registry).set(3)
        given = {"metrics_every": 3600.0, "poll_seconds": 3600.0, "linger": 1e-6} | options
        self.sinks = Sinks(SinkOptions(str(folder), **given), self.log, self.clock, self.registry)  # type: ignore[arg-type]

    def run(self, story: Callable[[], object]) -> None:
        """Run the sinks while `story`, a coroutine function, is told; then close them."""

        async def whole() -> None:
            running = asyncio.create_task(self.sinks.run())
            try:
                await story()  # type: ignore[misc]
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                await self.sinks.close()

        asyncio.run(whole())

    @property
    def events(self) -> Path:
        return self.folder / "events-2026-01-01.jsonl"


def test_events_are_written_when_they_are_announced(tmp_path: Path) -> None:
    world = World(tmp_path / "logs", batch=7)

    async def story() -> None:
        await until(lambda: world.sinks.stats()[0].lag == 0)
        world.log.add(20)
        world.sinks.on_events([event("task.started", 20)])
        await until(lambda: world.sinks.stats()[0].records == 20)

    world.run(story)
    assert seqs(world.events) == list(range(1, 21))


def test_what_nobody_announced_is_found(tmp_path: Path) -> None:
    world = World(tmp_path / "logs", poll_seconds=0.02)

    async def story() -> None:
        world.log.add(3)
        await until(lambda: world.sinks.stats()[0].records == 3)

    world.run(story)
    assert seqs(world.events) == [1, 2, 3]


def test_events_of_the_last_moment_are_written_on_close(tmp_path: Path) -> None:
    world = World(tmp_path / "logs")

    async def story() -> None:
        await until(lambda: world.sinks.stats()[0].lag == 0)
        world.log.add(1200)

    world.run(story)
    assert seqs(world.events) == list(range(1, 1201))


def test_a_metric_line_is_written_each_interval_and_one_on_close(tmp_path: Path) -> None:
    world = World(tmp_path / "logs", metrics_every=0.02)

    async def story() -> None:
        await until(lambda: world.sinks.stats()[1].records >= 2)

    world.run(story)
    lines = (world.folder / "metrics-2026-01-01.jsonl").read_text().splitlines()
    assert len(lines) >= 3
    assert json.loads(lines[-1])["metrics"][0] == {
        "name": "depth",
        "type": "gauge",
        "series": [{"labels": {}, "value": 3.0}],
    }
    assert (world.folder / "metrics-current.jsonl").readlink() == Path("metrics-2026-01-01.jsonl")


def test_a_disk_that_refuses_is_counted_and_written_to_once_it_takes_again(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.write_text("a file stands where the folder should be")
    world = World(folder, retry_max=0.01)
    world.log.add(5)

    async def story() -> None:
        await until(lambda: sum(world.sinks.stats()[0].errors.values()) >= 2)
        folder.unlink()
        await until(lambda: world.sinks.stats()[0].records == 5)

    world.run(story)
    assert seqs(world.events) == [1, 2, 3, 4, 5]
    assert set(world.sinks.stats()[0].errors) == {"io_error"}


def test_a_disk_that_hangs_holds_up_neither_the_loop_nor_the_end(tmp_path: Path) -> None:
    world = World(tmp_path / "logs", close_seconds=0.05)
    stuck = threading.Event()
    gave_up: list[bool] = []
    real = world.log.events

    def hang(after: int = 0, limit: int = 1000) -> list[object]:
        if not stuck.wait(PATIENCE):
            gave_up.append(True)
        return real(after, limit)  # type: ignore[return-value]

    world.log.events = hang  # type: ignore[assignment,method-assign]

    async def story() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
            world.sinks.on_events([event("task.started", 1)])

    world.run(story)
    assert not stuck.is_set() and not gave_up
    stuck.set()


def test_old_days_are_compressed_beside_the_writing(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "events-2025-12-30.jsonl").write_text('{"seq":1}\n')
    (folder / "events-2024-01-01.jsonl").write_text('{"seq":1}\n')
    world = World(folder)
    world.log.add(1)
    world.log.add(1)

    async def story() -> None:
        await until(lambda: world.sinks.stats()[0].retention_at is not None)

    world.run(story)
    assert names(folder) >= {"events-2025-12-30.jsonl.gz", "events-2026-01-01.jsonl"}
    assert not any("2024" in name for name in names(folder))
    assert seqs(world.events) == [2]


@pytest.mark.real_time
def test_the_end_waits_for_no_midnight_of_a_long_backlog(tmp_path: Path) -> None:
    world = World(tmp_path / "logs", linger=30.0, close_seconds=0.2)
    for day in range(4):
        world.log.add(1, NOON + day * DAY)
    world.clock.advance(4 * DAY)
    began = time.monotonic()
    asyncio.run(world.sinks.close())
    while len(list((tmp_path / "logs").glob("events-2026-*"))) < 4:  # the writer, which Python waits for at its end
        assert time.monotonic() < began + PATIENCE
        time.sleep(0.01)


def test_a_sink_may_be_closed_that_never_ran(tmp_path: Path) -> None:
    world = World(tmp_path / "logs")
    world.log.add(2)
    world.clock.advance(DAY)
    asyncio.run(world.sinks.close())
    assert seqs(world.events) == [1, 2]


@pytest.mark.parametrize("name", ["events", "metrics"])
def test_figures_name_both_sinks_from_the_start(tmp_path: Path, name: str) -> None:
    assert name in {figures.sink for figures in World(tmp_path).sinks.stats()}
