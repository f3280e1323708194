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
from crewd.config.settings import Settings
from crewd.detection.explain import explain
from crewd.engine.applying import Applier
from crewd.engine.patrol import Patrol
from crewd.errors import Complaint, SettingsError
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
from crewd.model.reloading import Reloaded
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot
from crewd.model.verdict import Level
from crewd.sources.discover import Expander
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

WORST_FIRST = (Level.DEAD, Level.STALE, Level.WARN, Level.WAITING, Level.UNREADABLE, Level.HEALTHY)
STATUS_MAX = 400  # characters; the log has the whole
ROUNDS_PATIENCE = 3  # rounds that the watchdog lets pass, at least

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
    expander: Expander
    hour: LastHour = field(default_factory=LastHour)
    environ: Mapping[str, str] = field(default_factory=dict)
    tasks: Tasks | None = None  # None: crewd only watches
    reread: Callable[[], Loaded] | None = None
    url: str = ""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    handed_over: bool = False
    refused: str = ""  # why the newest settings are not in force; "": they are
    reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    started_with: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.started_with = self.loaded.settings

    @property
    def allowed_hosts(self) -> Sequence[str]:
        http = self.loaded.settings.http
        return (*http.allowed_hosts, http.host)

    def snapshot(self) -> Snapshot:
        """Everything crewd believes: of others as of the latest round, of what it runs itself as of now."""
        picture = self.patrol.picture.snapshot
        return self.tasks.present.of(picture) if self.tasks is not None else picture

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

    async def reload(self) -> Reloaded:
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
        self.say(sentence(snapshot))
        self.notifier.watchdog()

    def say(self, words: str) -> None:
        """Tell the service manager how things are; what an operator must know first stands first, and stays."""
        first = (self.patrol.stopping, self.refused and f"reload refused, the old settings stay: {self.refused}")
        text = "; ".join(part for part in (*first, words) if part)
        self.notifier.status(text if len(text) <= STATUS_MAX else f"{text[: STATUS_MAX - 1]}…")


def sentence(snapshot: Snapshot) -> str:
    """Say in one sentence how everyone is: `3 runs, 12 workers: 1 stale, 11 alive; 2 dead letters`."""
    counts: dict[Level, int] = {}
    for view in snapshot.runs.values():
        for worker in view.workers:
            level = worker.standing.level
            counts[level] = counts.get(level, 0) + 1
    workers = ", ".join(f"{counts[level]} {level.value}" for level in WORST_FIRST if level in counts)
    letters = sum(count for count, _ in snapshot.dead_letters.values())
    health = snapshot.health
    parts = [
        f"{_many(len(snapshot.runs), 'run')}, {_many(sum(counts.values()), 'worker')}"
        + (f": {workers}" if workers else ""),
        _many(letters, "dead letter") if letters else "",
        f"{_many(len(health.roots_stuck), 'root')} without an answer" if health.roots_stuck else "",
        f"degraded: {', '.join(sorted(health.degraded))}" if health.degraded else "",
        f"brake engaged: {health.brake}" if health.brake else "",
        f"on hold: {health.hold}" if health.hold and not health.brake else "",
    ]
    return "; ".join(part for part in parts if part)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def widen_watchdog(daemon: Daemon) -> None:
    """Have the service manager wait for some rounds, whatever the interval: else a long one would restart crewd."""
    options = daemon.patrol.options
    # A round waits for a root that does not answer, and for all of them together no longer than that.
    patience = ROUNDS_PATIENCE * options.interval + options.look_timeout
    if daemon.notifier.widen_watchdog(patience):
        log.info(
            "daemon.watchdog_widened",
            watchdog_seconds=daemon.notifier.watchdog_interval,
            widened_seconds=patience,
            patrol_interval=options.interval,
            look_timeout=options.look_timeout,
        )


async def reload_settings(daemon: Daemon) -> Reloaded:
    """Load the settings again. Whatever can fail does so before anything is touched; else all stays as it was.

    The service manager hears of both ends: after a reload that was refused it waits for no more, and STATUS says why.
    """
    async with daemon.reloading:
        daemon.notifier.reloading(round(daemon.clock.read().mono * 1e6))
        try:
            return await _reload(daemon)
        finally:
            daemon.notifier.ready()


async def _reload(daemon: Daemon) -> Reloaded:
    at = daemon.clock.read().wall
    if daemon.reread is None:
        return Reloaded(complaints=(Complaint("the settings", "", "this crewd has no source of settings"),))
    try:
        loaded = daemon.reread()
        take_over = await _prepare(daemon, loaded.settings)
    except (SettingsError, ValueError) as error:
        return await _refuse(daemon, error, at)
    except Exception as error:  # a defect, or a disk that fails: no reason to give up what runs
        daemon.patrol.defects["reload"] += 1
        log.exception("daemon.reload_defect")
        words = f"cannot be taken over: {type(error).__name__}: {error}; the log tells where"
        return await _refuse(daemon, SettingsError([Complaint("the settings", "", words)]), at)
    difference = changes(daemon.loaded.settings, loaded.settings)
    take_over()
    daemon.loaded = replace(loaded)
    daemon.refused = ""
    widen_watchdog(daemon)
    daemon.metrics.reload_result(True, at)
    # What an earlier reload left waiting still waits.
    done = Reloaded(difference.changed, changes(daemon.started_with, loaded.settings).need_restart)
    data = {"changed": list(done.changed), "need_restart": list(done.need_restart)}
    log.info("daemon.reloaded", **data)
    await tell(daemon, Event("daemon.reloaded", at, data))
    daemon.say(sentence(daemon.snapshot()))
    daemon.patrol.wake.set()
    return done


async def _prepare(daemon: Daemon, settings: Settings) -> Callable[[], None]:
    """Make of the settings what the parts need. What is returned takes all of it over at once, and cannot fail.

    The roots are searched last, and are in force when this returns: nothing after it fails.
    """
    patrol = daemon.patrol
    options, thresholds = assembly.patrol_options(settings), assembly.thresholds(settings)
    overrides, recovery = assembly.overrides(settings), assembly.recovery_options(settings)
    channels = assembly.notify_options(settings, daemon.environ)
    secrets = assembly.secrets(settings)
    reload_tasks = daemon.tasks.prepare(settings, daemon.environ, daemon.state) if daemon.tasks is not None else None
    more: tuple[Source, ...] = (daemon.tasks.source,) if daemon.tasks is not None else ()
    daemon.redactor.learn(*secrets)  # before anybody can speak of them
    await patrol.lookout.find(assembly.discoverer(settings, daemon.state, more, daemon.expander))

    def take_over() -> None:
        patrol.options, patrol.thresholds, patrol.overrides = options, thresholds, overrides
        patrol.pace.interval, patrol.pace.warn_after = options.interval, thresholds.warn_after
        patrol.picture.thresholds = thresholds
        patrol.book.judge_all()
        patrol.lookout.timeout = options.look_timeout
        patrol.recovering.reload(recovery)
        if reload_tasks is not None:
            reload_tasks()
        logs.set_level(settings.log.level)
        daemon.notifications.reload(channels)

    return take_over


async def _refuse(daemon: Daemon, error: SettingsError | ValueError, at: float) -> Reloaded:
    """The old settings stay. Who asked is told, the log, the metric, and whoever looks at STATUS from now on."""
    complaints = error.complaints if isinstance(error, SettingsError) else (Complaint("settings", "", str(error)),)
    more = f" (and {_many(len(complaints) - 1, 'more complaint')})" if len(complaints) > 1 else ""
    daemon.refused = daemon.redactor.text(f"{complaints[0]}{more}")
    daemon.metrics.reload_result(False, at)
    log.error("daemon.reload_failed", error=str(error))
    await tell(daemon, Event("daemon.reload_failed", at, {"error": str(error)}))
    daemon.say(sentence(daemon.snapshot()))
    return Reloaded(complaints=complaints)


async def tell(daemon: Daemon, event: Event) -> None:
    with contextlib.suppress(LedgerError):  # degraded already, and told so
        events = await daemon.ledger.commit(Batch(events=(event,)))
        daemon.patrol.audience.hear(events)
