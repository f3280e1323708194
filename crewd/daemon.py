"""The daemon: every part wired to the others in one straight function, started in order, stopped in reverse."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from crewd import assembly, tasks
from crewd.config.folders import state_folder
from crewd.config.load import Loaded, changes
from crewd.detection.explain import explain
from crewd.engine.applying import Applier
from crewd.engine.lookout import Lookout
from crewd.engine.patrol import Patrol
from crewd.engine.witness import PIDFDS_MAX, Witness
from crewd.errors import CrewdError, SettingsError
from crewd.host.chance import roll
from crewd.host.clock import Clock, SystemClock
from crewd.host.files import free_bytes, write_atomically
from crewd.host.machine import host_name, own_pid, raise_descriptor_limit
from crewd.host.pressure import oom_kills, pressure
from crewd.host.processes import ProcProcesses
from crewd.host.systemd import Notifier
from crewd.ledger.batch import Batch, Memory
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
from crewd.sources.watch import Watch, WatchOptions
from crewd.tasks import Tasks
from crewd.telemetry import logs, loop_lag
from crewd.telemetry.exposition import Exposition
from crewd.telemetry.last_hour import LastHour
from crewd.telemetry.listener import Listener
from crewd.telemetry.log_listener import LogListener
from crewd.telemetry.metrics import Metrics
from crewd.telemetry.notify.service import Notifications
from crewd.telemetry.redact import Redactor
from crewd.telemetry.sinks.service import Sinks
from crewd.web.broadcast import Broadcast, BroadcastOptions

PRUNE_EVERY = 3600.0
HINT_PAUSE = 1.0  # file events wake at most one round in so many seconds
DAEMON_FILE = "daemon.json"  # where commands find the running daemon
THREADS = 16
SOCKET_FILE = "crewd.sock"
WAKE_PAUSE = 1.0  # what happens to managed runs wakes at most one round in so many seconds

log = structlog.get_logger("crewd.daemon")


class CannotListen(CrewdError):
    """The address of the web pages is taken or not this machine's."""


class _Stop(Exception):
    """Raised into the group of the daemon's tasks: the others are cancelled, and the parts closed in reverse."""


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
        await _tell(self, Event("history.pruned", self.clock.read().wall, data, actor=actor))
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
            await _tell(self, Event("daemon.log_level_changed", self.clock.read().wall, data, actor=actor))
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


async def serve(
    loaded: Loaded,
    environ: Mapping[str, str],
    *,
    reload: Callable[[], Loaded] | None = None,
    clock: Clock | None = None,
    listeners: Sequence[Listener] = (),
    on_ready: Callable[[Daemon], None] | None = None,
    stop: asyncio.Event | None = None,
) -> int:
    """Run crewd until SIGTERM, SIGINT or `stop`; returns the exit code. `on_ready` is called once it serves.

    Raises CrewdError where it cannot start; then nothing of anybody else's was touched.
    """
    # Several attempts may be ended at one time, each by a thread that waits for the kernel.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="crewd"))
    async with contextlib.AsyncExitStack() as stack:
        daemon = await _wire(loaded, environ, clock or SystemClock(), listeners, stack)
        daemon.reread = reload
        daemon.stop = stop or daemon.stop
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_until_stopped(daemon), name="signals")
                if daemon.tasks is not None:
                    # Whoever a predecessor left is accounted for before anything else is begun.
                    await daemon.tasks.open()
                # The watch comes before the web: importing a web framework takes longer than a round.
                await daemon.patrol.round()
                await _listen(daemon, stack)
                tasks.create_task(daemon.patrol.run(), name="patrol")
                tasks.create_task(_hints(daemon.patrol, loaded.settings.sources.watch), name="hints")
                tasks.create_task(loop_lag.measure(daemon.clock, daemon.metrics.loop_lag_observed), name="loop lag")
                tasks.create_task(_prune(daemon), name="retention")
                tasks.create_task(_reloads(daemon), name="reloads")
                if daemon.sinks is not None:
                    tasks.create_task(daemon.sinks.run(), name="sinks")
                tasks.create_task(daemon.notifications.run(), name="notifications")
                tasks.create_task(daemon.broadcast.run(), name="broadcast")
                tasks.create_task(daemon.applier.run(), name="recovery")
                if daemon.tasks is not None:
                    _run_tasks(daemon, daemon.tasks, tasks)
                daemon.notifier.ready()
                _compare_watchdog(daemon)
                log.info("daemon.ready", url=daemon.url, state=str(daemon.state))
                if on_ready is not None:
                    on_ready(daemon)
        except* _Stop:
            log.info("daemon.stopping")
        except* CrewdError as group:
            raise group.exceptions[0] from None
        daemon.notifier.stopping()
        with contextlib.suppress(LedgerError):  # degraded already, and told so
            await daemon.ledger.commit(Batch(events=(Event("daemon.stopping", daemon.clock.read().wall),)))
    return 0


async def _wire(
    loaded: Loaded,
    environ: Mapping[str, str],
    clock: Clock,
    listeners: Sequence[Listener],
    stack: contextlib.AsyncExitStack,
) -> Daemon:
    """Make every part and give it its neighbours. What was opened is closed in reverse, by `stack`."""
    settings = loaded.settings
    redactor = Redactor(assembly.secrets(settings))
    logs.configure(assembly.log_options(settings), environ=environ, redactor=redactor)
    notifier = Notifier(environ)
    notifier.extend_timeout(60)  # a large ledger is checked before anything else
    state = state_folder(environ, settings.ledger.folder)
    ledger = Ledger.open(state, clock)
    stack.push_async_callback(ledger.close)
    history = Reader.open(state)
    stack.callback(history.close)
    wake = asyncio.Event()
    # A quarter of the descriptors, at most, watches exits; the rounds notice them too.
    handles_max = min(PIDFDS_MAX, raise_descriptor_limit() // 4)
    witness = Witness(ProcProcesses(clock), host_name(), wake.set, handles_max)
    stack.callback(witness.close)
    lookout = Lookout(assembly.discoverer(settings, state), settings.patrol.look_timeout, free_bytes)
    stack.callback(lookout.close)
    patrol = Patrol(
        clock=clock,
        lookout=lookout,
        witness=witness,
        ledger=ledger,
        listeners=(),
        options=assembly.patrol_options(settings),
        thresholds=assembly.thresholds(settings),
        overrides=assembly.overrides(settings),
        pressure=pressure,
        oom_kills=oom_kills,
        redact=redactor.text,
        complain=lambda complaint: log.warning("source.complaint", complaint=complaint),
        wake=wake,
    )
    memory = ledger.recall()
    patrol.recovering.options = assembly.recovery_options(settings)
    patrol.recovering.logs = assembly.EVENT_LOGS
    patrol.recovering.was_planned = lambda plan_id: history.recovery(plan_id) is not None
    patrol.recall(memory)
    metrics = Metrics(
        CollectorRegistry(), lambda: patrol.picture.snapshot, assembly.metrics_options(settings), redactor.text
    )
    metrics.watch_ledger(ledger.stats)
    metrics.reload_result(True, clock.read().wall)
    sinks = None
    if settings.sinks.enabled:
        sinks = Sinks(assembly.sink_options(settings, environ, state), history, clock, metrics.registry, redactor)
        metrics.watch_sinks(sinks.stats)
        stack.push_async_callback(sinks.close)

    async def remember(name: str, position: str) -> None:
        await ledger.commit(Batch(cursors={name: position}))

    options = assembly.notify_options(settings, environ)
    notifications = Notifications(options, history, clock, redactor, memory.cursors, remember)
    metrics.watch_notifications(notifications.figures)
    stack.callback(notifications.close)
    # With a door to the ledger of its own: what happens must not wait for long questions about what happened.
    told = Reader.open(state)
    stack.callback(told.close)
    broadcast = Broadcast(told, redactor, BroadcastOptions(settings.http.streams_max))
    metrics.watch_streams(broadcast.figures)
    exposition = Exposition(metrics.registry)
    daemon = Daemon(
        loaded, state, clock, ledger, patrol, metrics, exposition, history, redactor, notifier, sinks, notifications,
        _wire_applier(patrol, ledger, settings.tasks.env_pass, environ, redactor), broadcast,
    )  # fmt: skip
    daemon.environ = environ
    heard: list[Listener] = [metrics, LogListener(), daemon, daemon.hour, notifications, broadcast, *listeners]
    if sinks is not None:
        heard.append(sinks)
    if settings.tasks.enabled:
        daemon.tasks = _wire_tasks(daemon, environ, memory)
        heard.append(daemon.tasks)
    patrol.listeners = heard
    await ledger.commit(Batch(events=(Event("daemon.started", clock.read().wall, {"pid": own_pid()}),)))
    return daemon


def _wire_applier(
    patrol: Patrol, ledger: Ledger, passed: Sequence[str], environ: Mapping[str, str], redactor: Redactor
) -> Applier:
    """Recovery: what a person approved is run outside of the rounds, with no more of our environment than workers."""
    return Applier(
        recovering=patrol.recovering,
        ledger=ledger,
        clock=patrol.clock,
        tell=_Teller(patrol).tell,
        pending=lambda: patrol.recorder.tidings,
        environ={name: environ[name] for name in passed if name in environ},
        roll=roll,
        redact=redactor.text,
        wake=patrol.wake.set,
    )


def _wire_tasks(daemon: Daemon, environ: Mapping[str, str], memory: Memory) -> Tasks:
    """Managed runs: shown to the patrol as every other runtime's, told to everybody who listens."""
    patrol, settings = daemon.patrol, daemon.loaded.settings
    ring = tasks.wire(
        settings,
        environ,
        daemon.state,
        daemon.clock,
        daemon.ledger,
        daemon.history,
        daemon.redactor,
        memory,
        heard=_Teller(patrol).tell,
        violated=daemon.metrics.invariant_violated,
        letter_added=lambda letter: patrol.letters.note(letter, patrol.pace.running),
        letter_closed=patrol.letters.forget,
        on_handover=daemon.hand_over,
        disk_free=lambda: not patrol.lookout.disk_full,
    )
    patrol.beforehand = ring.publish
    patrol.managed = ring.figures
    # One purse for everybody: what is observed is warned about, and counts against what is managed.
    patrol.burning.spending = ring.purse.spending
    patrol.burning.budgets = ring.budgets
    ring.purse.observed = patrol.burning.used_by_crew
    patrol.letters.managed = ring.actions.letters_open.counts
    patrol.lookout.discover = assembly.discoverer(settings, daemon.state, (ring.source,))
    return ring


def _run_tasks(daemon: Daemon, ring: Tasks, group: asyncio.TaskGroup) -> None:
    kept = daemon.loaded.settings.tasks
    group.create_task(ring.scheduler.run(), name="scheduler")
    group.create_task(ring.trim(), name="output")
    group.create_task(ring.parole.run(), name="parole")
    group.create_task(ring.retain(kept.keep_days, kept.keep_bytes), name="attempt folders")
    if ring.inbox is not None:
        group.create_task(ring.inbox.run(), name="inbox")


@dataclass(slots=True, eq=False)
class _Teller:
    """Lets everybody hear what happened to managed runs, and the patrol look soon."""

    patrol: Patrol
    _waking: bool = False

    def tell(self, events: Sequence[Event]) -> None:
        self.patrol.audience.hear(events)
        if not self._waking and events:
            self._waking = True
            asyncio.get_running_loop().call_later(WAKE_PAUSE, self._wake)

    def _wake(self) -> None:
        self._waking = False
        self.patrol.wake.set()


async def _listen(daemon: Daemon, stack: contextlib.AsyncExitStack) -> None:
    """Serve HTTP, and write down where, so that commands find it."""
    http = daemon.loaded.settings.http
    path = daemon.state / DAEMON_FILE
    socket = str(daemon.state / SOCKET_FILE) if http.socket else ""
    if http.enabled or socket:
        from crewd.web.app import build_app
        from crewd.web.server import HttpOptions, Server

        options = HttpOptions(
            host=http.host,
            port=http.port,
            tcp=http.enabled,
            socket=socket,
            connections_max=_affordable(http.connections_max, raise_descriptor_limit()),
        )
        server = Server(build_app(daemon), options)
        try:
            host, port = await server.start()
        except OSError as error:
            raise CannotListen(
                f"http.host, http.port: {http.host}:{http.port} cannot be listened on: {error.strerror}; "
                "choose another port, 0 for any free one, or http.enabled = false"
            ) from error
        stack.push_async_callback(server.stop)
        stack.callback(daemon.broadcast.close)  # first of all: streams have no end of their own
        if http.enabled:
            daemon.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        if server.complaint:
            log.warning("web.no_socket", complaint=server.complaint)
        socket = server.socket
    record = {"pid": own_pid(), "url": daemon.url, "socket": socket, "started_at": rfc3339(daemon.clock.read().wall)}
    write_atomically(str(path), msgspec.json.encode(record), durable=False)
    stack.callback(path.unlink, missing_ok=True)


def _affordable(wanted: int, descriptors: int) -> int:
    from crewd.web.server import affordable

    connections = affordable(wanted, descriptors)
    if connections < wanted:
        log.warning(
            "web.few_descriptors",
            connections_max=connections,
            wanted=wanted,
            descriptors=descriptors,
            remedy="raise LimitNOFILE, or lower http.connections_max",
        )
    return connections


def _compare_watchdog(daemon: Daemon) -> None:
    """A round that comes less often than the service manager's patience would be a restart loop."""
    patience, interval = daemon.notifier.watchdog_interval, daemon.patrol.options.interval
    if patience is not None and patience < 2 * interval:
        log.warning(
            "daemon.watchdog_too_short",
            watchdog_seconds=patience,
            patrol_interval=interval,
            remedy="raise WatchdogSec to at least three times patrol.interval, or lower patrol.interval",
        )


async def _until_stopped(daemon: Daemon) -> None:
    """Wait for the wish to end. Then workers are given time to end by themselves, unless they are handed over."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop.set)
    try:
        await daemon.stop.wait()
        if daemon.tasks is not None and not daemon.handed_over:
            settings = daemon.loaded.settings.tasks
            daemon.notifier.status("stopping: waits for the attempts that run")
            # Whoever pressed ^C wonders why nothing happens.
            log.info("daemon.draining", seconds=settings.drain_timeout, remedy="a second SIGTERM or ^C does not wait")
            # A second wish to end is answered at once: what runs is stopped, and tried again by the next crewd.
            daemon.stop.clear()
            await daemon.tasks.scheduler.close(
                settings.drain_timeout, lambda: daemon.notifier.extend_timeout(30), daemon.stop
            )
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    raise _Stop


async def _hints(patrol: Patrol, enabled: bool) -> None:
    """Wake the patrol when files change. It would look anyway, a little later."""
    async with Watch(options=WatchOptions(enabled=enabled)) as watch:
        while True:
            watch.aim([path for source in patrol.lookout.sources for path in source.watch_paths()])
            hint = await watch.changed(patrol.options.interval)
            patrol.overflows += hint.overflows
            for problem in hint.problems:
                log.warning("watch.problem", problem=problem)
            if hint.changed:
                patrol.wake.set()
                await asyncio.sleep(HINT_PAUSE)


async def _prune(daemon: Daemon) -> None:
    """Forget events that are older than the retention, a few at a time."""
    while True:
        kept = daemon.loaded.settings.ledger
        if kept.retention:
            now = daemon.clock.read().wall
            past_before = now - kept.history_retention if kept.history_retention else None
            try:
                await daemon.ledger.prune(now - kept.retention, past_before=past_before)
            except LedgerError as error:
                log.error("retention.failed", error=str(error))  # noqa: TRY400 - the message says it all
        await asyncio.sleep(PRUNE_EVERY)


async def _reloads(daemon: Daemon) -> None:
    """SIGHUP: load the settings again, and take them over only if all of them are sound."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    try:
        while True:
            await asked.wait()
            asked.clear()
            daemon.notifier.reloading(round(daemon.clock.read().mono * 1e6))
            await reload_settings(daemon)
            daemon.notifier.ready()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


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
        await _tell(daemon, Event("daemon.reload_failed", at, {"error": str(error)}))
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
    await _tell(daemon, Event("daemon.reloaded", at, data))
    patrol.wake.set()
    return True


async def _tell(daemon: Daemon, event: Event) -> None:
    with contextlib.suppress(LedgerError):  # degraded already, and told so
        events = await daemon.ledger.commit(Batch(events=(event,)))
        daemon.patrol.audience.hear(events)
