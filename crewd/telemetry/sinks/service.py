"""The service: runs the sinks beside the patrol, in threads of their own, so that no disk holds up the loop."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry

from crewd.host.archive import lower_priority
from crewd.host.clock import Clock
from crewd.model.event import Event
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot
from crewd.telemetry.figures import SinkFigures
from crewd.telemetry.json_text import encode
from crewd.telemetry.redact import Redactor
from crewd.telemetry.sinks.day_file import DayFile
from crewd.telemetry.sinks.event_sink import EventLog, EventSink, SourceFailed
from crewd.telemetry.sinks.keeping import keep
from crewd.telemetry.sinks.metric_line import metric_line
from crewd.telemetry.sinks.options import SinkOptions
from crewd.telemetry.sinks.tally import SinkTally, reason_of

Result = TypeVar("Result")
FIRST_RETRY = 1.0


class Sinks:
    """A listener that writes events-DATE.jsonl and metrics-DATE.jsonl.

    `run` until cancelled, then `close`. What could not be written is in the ledger, and is written later; only
    metric snapshots of the time in which the disk was full are missing, and the gap shows.
    """

    def __init__(
        self,
        options: SinkOptions,
        log: EventLog,
        clock: Clock,
        registry: CollectorRegistry,
        redactor: Redactor | None = None,
    ) -> None:
        self._options = options
        self._clock = clock
        self._registry = registry
        self._events_tally = SinkTally("events", has_backlog=True)
        self._metrics_tally = SinkTally("metrics", has_backlog=False)
        self._hurry = threading.Event()
        self._events = EventSink(options, log, clock, redactor or Redactor(), self._events_tally, self._hurry)
        self._metrics = DayFile(options.folder, "metrics", options.linger, self._hurry)
        self._wake = asyncio.Event()
        self._writer = ThreadPoolExecutor(1, "crewd-sinks")
        self._packer = ThreadPoolExecutor(1, "crewd-gzip", lower_priority)

    def on_events(self, events: Sequence[Event]) -> None:
        """Wake up: there is something to write."""
        if events:
            self.wake()

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        """Rounds are told by metrics."""

    def wake(self) -> None:
        """Write now instead of at the next regular time."""
        self._wake.set()

    def stats(self) -> tuple[SinkFigures, ...]:
        """Return the figures of both sinks; from any thread."""
        return (self._events_tally.figures, self._metrics_tally.figures)

    async def run(self) -> None:
        """Write until cancelled."""
        await self._attempt(self._metrics.open, self._metrics_tally)
        await self._attempt(self._events.pump, self._events_tally)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_events(), name="sink events")
            group.create_task(
                self._repeat(self._options.metrics_every, self._write_metrics, "metrics"), name="sink metrics"
            )
            group.create_task(self._repeat(self._options.keep_every, self._keep, "retention"), name="sink retention")

    async def close(self) -> None:
        """Write what is left, for a bounded time, and close. After `run` has ended."""
        try:
            async with asyncio.timeout(self._options.close_seconds):
                while await self._attempt(self._events.pump, self._events_tally):
                    pass
                await self._attempt(self._write_metrics, self._metrics_tally)
                await self._in(self._writer, self._close_files)
        except TimeoutError:
            structlog.get_logger("crewd.sinks").warning("sink.close_timed_out", seconds=self._options.close_seconds)
        finally:
            # A backlog of many days lingers at each, and Python itself waits for its threads when it ends.
            self._hurry.set()
            # Not waited for: a disk that hangs must not keep the daemon from ending.
            self._writer.shutdown(wait=False, cancel_futures=True)
            self._packer.shutdown(wait=False, cancel_futures=True)

    async def _follow_events(self) -> None:
        first = retry = min(FIRST_RETRY, self._options.retry_max)
        while True:
            self._wake.clear()
            more = await self._attempt(self._events.pump, self._events_tally)
            if more is None:
                await asyncio.sleep(retry)
                retry = min(retry * 2, self._options.retry_max)
                continue
            retry = first
            if not more:
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._options.poll_seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _repeat(self, seconds: float, work: Callable[[], object], loop: str) -> None:
        # The first time after one interval, except clean-up: a daemon that restarts often must clean up too.
        if loop != "retention":
            await asyncio.sleep(seconds)
        pool = self._packer if loop == "retention" else self._writer
        while True:
            await self._attempt(work, self._metrics_tally if loop == "metrics" else self._events_tally, pool)
            await asyncio.sleep(seconds)

    async def _attempt(
        self, work: Callable[[], Result], tally: SinkTally, pool: ThreadPoolExecutor | None = None
    ) -> Result | None:
        """Do some work in a thread; None where it failed, which is counted and logged here, once."""
        try:
            return await self._in(pool or self._writer, work)
        except SourceFailed as error:
            self._failed(tally, "source", error)
        except Exception as error:  # noqa: BLE001 - a sink is an observer: its failure is counted and never stops a run
            self._failed(tally, reason_of(error), error)
        return None

    def _failed(self, tally: SinkTally, reason: str, error: Exception) -> None:
        tally.failed(reason)
        sink = tally.figures.sink
        structlog.get_logger("crewd.sinks").error("sink.failed", sink=sink, reason=reason, error=str(error))

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def _write_metrics(self) -> None:
        now = self._clock.read().wall
        line = encode(metric_line(self._registry.collect(), now)) + b"\n"
        try:
            if not self._metrics.is_open and self._metrics.open():
                self._metrics_tally.failed("torn_tail")
            self._metrics.write(line, now, now)
        except BaseException:
            self._metrics.close()
            raise
        self._metrics_tally.wrote(1, len(line), now)

    def _keep(self) -> None:
        now = self._clock.read().wall
        files = (self._events.file, self._metrics)
        if not all(file.is_known for file in files):
            return  # until a sink has looked for its newest file, nobody knows which one that is
        keep(self._options, lambda: {file.path_name for file in files}, now)
        self._events_tally.kept(now)

    def _close_files(self) -> None:
        self._events.file.close()
        self._metrics.close()
