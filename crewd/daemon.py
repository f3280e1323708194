"""The daemon: every part wired to the others in one straight function, started in order, stopped in reverse."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from crewd import assembly
from crewd.config.folders import state_folder
from crewd.config.load import Loaded, changes
from crewd.detection.explain import explain
from crewd.engine.lookout import Lookout
from crewd.engine.patrol import Patrol
from crewd.engine.witness import Witness
from crewd.errors import SettingsError
from crewd.host.clock import Clock, SystemClock
from crewd.host.files import free_bytes, write_atomically
from crewd.host.machine import host_name, own_pid
from crewd.host.pressure import pressure
from crewd.host.processes import ProcProcesses
from crewd.host.systemd import Notifier
from crewd.ledger.errors import LedgerError
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.model.event import Event
from crewd.model.moment import rfc3339
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot
from crewd.sources.discover import discover
from crewd.sources.watch import Watch
from crewd.telemetry import logs
from crewd.telemetry.exposition import Exposition
from crewd.telemetry.listener import Listener
from crewd.telemetry.metrics import Metrics
from crewd.telemetry.redact import Redactor
from crewd.telemetry.sinks import Sinks

PRUNE_EVERY = 3600.0
LAG_EVERY = 1.0
HINT_PAUSE = 1.0  # file events wake at most one round in so many seconds
STOP_SECONDS = 10.0

log = structlog.get_logger("crewd")


class _Stop(Exception):
    """Raised into the group of the daemon's tasks: the others are cancelled, and the parts closed in reverse."""


@dataclass(eq=False)
class Daemon:
    """One crewd, wired. Also what the web pages are answered from."""

    loaded: Loaded
    patrol: Patrol
    ledger: Ledger
    history: Reader
    metrics: Metrics
    exposition: Exposition
    sinks: Sinks | None
    redactor: Redactor
    notifier: Notifier
    clock: Clock
    reload: Callable[[], Loaded] | None = None
    allowed_hosts: Sequence[str] = ()
    url: str = ""

    def snapshot(self) -> Snapshot:
        return self.patrol.picture.snapshot

    def explain(self, run_id: str, task_id: str) -> Mapping[str, Any] | None:
        """Lay out the evidence on a worker; None: it is no worker now."""
        snapshot = self.snapshot()
        view = snapshot.runs.get(run_id)
        worker = next((each for each in view.workers if each.task_id == task_id), None) if view is not None else None
        if view is None or worker is None:
            return None
        laid_out: dict[str, Any] = msgspec.to_builtins(explain(view, worker, snapshot))
        return laid_out

    def http_observed(self, route: str, method: str, code: int, seconds: float) -> None:
        self.metrics.http_observed(route, method, code, seconds)

    # A listener of its own rounds: the service manager hears of each complete one, and only of those.

    def on_events(self, events: Sequence[Event]) -> None:
        if self.sinks is not None and events:
            self.sinks.wake()

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        self.notifier.status(sentence(snapshot))
        self.notifier.watchdog()


def sentence(snapshot: Snapshot) -> str:
    """Say in one sentence how everyone is."""
    levels: dict[str, int] = {}
    for view in snapshot.runs.values():
        for worker in view.workers:
            level = worker.standing.level.value
            levels[level] = levels.get(level, 0) + 1
    workers = ", ".join(f"{count} {level}" for level, count in sorted(levels.items())) or "none at work"
    letters = sum(count for count, _ in snapshot.dead_letters.values())
    held = f"; hold: {snapshot.health.hold}" if snapshot.health.hold else ""
    return f"{len(snapshot.runs)} runs, workers: {workers}; {letters} dead letters{held}"


async def serve(
    loaded: Loaded,
    environ: Mapping[str, str],
    *,
    reload: Callable[[], Loaded] | None = None,
    clock: Clock | None = None,
    listeners: Sequence[Listener] = (),
    ready: Callable[[Daemon], None] | None = None,
    stop: asyncio.Event | None = None,
) -> int:
    """Run crewd until a signal, or `stop`; returns the exit code.

    Raises CrewdError where it cannot start; nothing of another crewd's was touched then.
    """
    clock = clock or SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        daemon = await _wire(loaded, environ, clock, listeners, stack)
        daemon.reload = reload
        with contextlib.suppress(_Stop):
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_until_stopped(daemon, stop), name="signals")
                    await daemon.patrol.round()
                    await _listen(daemon, tasks, stack)
                    tasks.create_task(daemon.patrol.run(), name="patrol")
                    tasks.create_task(_hints(daemon.patrol), name="hints")
                    tasks.create_task(_measure_lag(daemon.metrics), name="lag")
                    tasks.create_task(_prune(daemon), name="retention")
                    if daemon.sinks is not None:
                        tasks.create_task(daemon.sinks.run(), name="sinks")
                    daemon.notifier.ready()
                    log.info("daemon.ready", url=daemon.url, state=str(daemon.history.folder))
                    if ready is not None:
                        ready(daemon)
            except* _Stop:
                raise _Stop from None
        daemon.notifier.stopping()
        at = clock.read().wall
        await daemon.ledger.commit(Batch(events=(Event("daemon.stopping", at),)))
    return 0
