"""One crewd, wired: what is asked of it and told by it, and how it takes over other settings."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import structlog

from crewd import assembly
from crewd.config.load import Loaded, changes
from crewd.detection.explain import explain
from crewd.engine.applying import Applier
from crewd.engine.patrol import Patrol
from crewd.errors import SettingsError
from crewd.host.clock import Clock
from crewd.host.systemd import Notifier
from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerError
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.model.asking import Actions, IncidentActions, OutputPiece
from crewd.model.event import Event
from crewd.model.moment import rfc3339
from crewd.model.recovery import Recoveries
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot
from crewd.sources.source import Source
from crewd.tasks import Tasks
from crewd.telemetry import logs
from crewd.telemetry.exposition import Exposition
from crewd.telemetry.last_hour import LastHour
from crewd.telemetry.metrics import Metrics
from crewd.telemetry.notify.service import Notifications
from crewd.telemetry.redact import Redactor
from crewd.telemetry.sinks.service import Sinks
from crewd.web.broadcast import Broadcast

log = structlog.get_logger("crewd.daemon")


@dataclass(eq=False)
class Daemon:
    """One crewd, wired: what the web pages are answered from, and the listener that the service manager has."""

    loaded: Loaded
    state: Path
    clock: Clock
    ledger: Ledger
    patrol: Patrol
    metrics: Metrics
    exposition: Exposition
    history: Reader
    redactor: Redactor
    notifier: Notifier
    sinks: Sinks | None
    notifications: Notifications
    applier: Applier
    broadcast: Broadcast
    hour: LastHour = field(default_factory=LastHour)
    environ: Mapping[str, str] = field(default_factory=dict)
    tasks: Tasks | None = None  # None: crewd only watches
    reread: Callable[[], Loaded] | None = None
    url: str = ""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    handed_over: bool = False

    @property
    def allowed_hosts(self) -> Sequence[str]:
        http = self.loaded.settings.http
        return (*http.allowed_hosts, http.host)

    def snapshot(self) -> Snapshot:
        return self.patrol.picture.snapshot

    def explain(self, run_id: str, task_id: str) -> Mapping[str, Any] | None:
        """Lay out the evidence on a worker; None: it is no worker now."""
        snapshot = self.snapshot()
        view = snapshot.runs.get(run_id)
        for worker in view.workers if view is not None else ():
            if worker.task_id == task_id and view is not None:
                laid_out: dict[str, Any] = msgspec.to_builtins(explain(view, worker, snapshot))
                return laid_out
        return None

    @property
    def actions(self) -> Actions | None:
        return self.tasks.actions if self.tasks is not None else None

    @property
    def incidents(self) -> IncidentActions:
        return self.patrol.desk

    @property
    def recoveries(self) -> Recoveries:
        return self.applier

    @property
    def token(self) -> str:
        token = self.loaded.settings.http.token
        return token.get_secret_value() if token is not None else ""

    async def reload(self) -> bool:
        return await reload_settings(self)

    def now(self) -> float:
        return self.clock.read().wall

    def look_back(self) -> Reader:
        return Reader.open(self.state)

    async def prune(self, before: float, *, actor: str) -> int:
        """Forget what is older and settled; that it was forgotten, and who wanted it, is told."""
        rows = 0
        while deleted := await self.ledger.prune(before, past_before=before):
            rows += deleted
        data = {"before": rfc3339(before), "rows": rows}
        await tell(self, Event("history.pruned", self.clock.read().wall, data, actor=actor))
        return rows

    def log_level(self) -> tuple[str, str]:
        return logs.level(), self.loaded.settings.log.level

    async def set_log_level(self, level: str, *, actor: str) -> None:
        """Log from this level on. Who asked is told in the log itself, at the more talkative of the two levels."""
        former = logs.level()
        if logs.LEVELS[level] < logs.LEVELS[former]:
            logs.set_level(level)
        if level != former:
            data = {"level": level, "former": former}
            await tell(self, Event("daemon.log_level_changed", self.clock.read().wall, data, actor=actor))
        logs.set_level(level)

    def output(
        self, run_id: str, task_id: str, attempt: int, stream: str, offset: int, limit: int
    ) -> OutputPiece | None:
        """Read what an attempt of a managed task wrote."""
        if self.tasks is None:
            return None
        return self.tasks.output(run_id, task_id, attempt, stream, offset, limit)

    def hand_over(self) -> None:
        """End, and leave every worker to the next crewd."""
        self.handed_over = True
        self.stop.set()

    def http_observed(self, route: str, method: str, code: int, seconds: float) -> None:
        self.metrics.http_observed(route, method, code, seconds)

    def on_events(self, events: Sequence[Event]) -> None:
        """The service manager hears of rounds alone."""

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        """Only a complete round proves life: a hung loop with a live timer would look well."""
        self.notifier.status(sentence(snapshot))
        self.notifier.watchdog()


def sentence(snapshot: Snapshot) -> str:
    """Say in one sentence how everyone is."""
    levels: dict[str, int] = {}
    for view in snapshot.runs.values():
        for worker in view.workers:
            level = worker.standing.level.value
            levels[level] = levels.get(level, 0) + 1
    workers = ", ".join(f"{count} {level}" for level, count in sorted(levels.items()))
    letters = sum(count for count, _ in snapshot.dead_letters.values())
    doubt = snapshot.health.brake or snapshot.health.hold
    return (
        f"{len(snapshot.runs)} runs, {sum(levels.values())} workers{': ' if workers else ''}{workers}; "
        f"{letters} dead letters{'; ' if doubt else ''}{doubt}"
    )


async def reload_settings(daemon: Daemon) -> bool:
    """Load the settings again. Whatever can fail does so before anything is touched; False: all stays as it was."""
    at = daemon.clock.read().wall
    if daemon.reread is None:
        return False
    try:
        loaded = daemon.reread()
        settings = loaded.settings
        options, thresholds = assembly.patrol_options(settings), assembly.thresholds(settings)
        overrides, recovery = assembly.overrides(settings), assembly.recovery_options(settings)
        channels = assembly.notify_options(settings, daemon.environ)
    except (SettingsError, ValueError) as error:
        daemon.metrics.reload_result(False, at)
        daemon.notifier.status(f"reload failed, the old settings stay: {error}")
        log.error("daemon.reload_failed", error=str(error))  # noqa: TRY400 - the message says it all
        await tell(daemon, Event("daemon.reload_failed", at, {"error": str(error)}))
        return False
    difference = changes(daemon.loaded.settings, settings)
    patrol = daemon.patrol
    patrol.options, patrol.thresholds, patrol.overrides = options, thresholds, overrides
    patrol.pace.interval, patrol.pace.warn_after = options.interval, thresholds.warn_after
    patrol.picture.thresholds = thresholds
    patrol.book.judge_all()
    more: tuple[Source, ...] = ()
    if daemon.tasks is not None:
        daemon.tasks.reload(settings, daemon.environ, daemon.state)
        more = (daemon.tasks.source,)
    patrol.lookout.discover = assembly.discoverer(settings, daemon.state, more)
    patrol.lookout.timeout = options.look_timeout
    patrol.recovering.reload(recovery)
    await patrol.lookout.find()
    logs.set_level(settings.log.level)
    daemon.redactor.learn(*assembly.secrets(settings))
    daemon.notifications.reload(channels)
    daemon.loaded = replace(loaded)
    daemon.metrics.reload_result(True, at)
    data = {"changed": list(difference.changed), "need_restart": list(difference.need_restart)}
    log.info("daemon.reloaded", **data)
    await tell(daemon, Event("daemon.reloaded", at, data))
    patrol.wake.set()
    return True


async def tell(daemon: Daemon, event: Event) -> None:
    with contextlib.suppress(LedgerError):  # degraded already, and told so
        events = await daemon.ledger.commit(Batch(events=(event,)))
        daemon.patrol.audience.hear(events)
