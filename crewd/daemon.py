"""The daemon: every part wired to the others in one straight function, started in order, stopped in reverse."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from crewd import assembly, tasks
from crewd.config.folders import state_folder
from crewd.config.load import Loaded
from crewd.engine.applying import Applier
from crewd.engine.lookout import Lookout
from crewd.engine.patrol import Patrol
from crewd.engine.witness import PIDFDS_MAX, Witness
from crewd.errors import CrewdError
from crewd.host.aside import Pool
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
from crewd.model.event import Event
from crewd.model.moment import rfc3339
from crewd.sources.discover import Expander
from crewd.tasks import Tasks
from crewd.telemetry import free_space, logs, loop_lag
from crewd.telemetry.exposition import Exposition
from crewd.telemetry.listener import Listener
from crewd.telemetry.log_listener import LogListener
from crewd.telemetry.metrics import Metrics
from crewd.telemetry.notify.service import Notifications
from crewd.telemetry.redact import Redactor
from crewd.telemetry.sinks.service import Sinks
from crewd.upkeep import Stop, ask_for_time, hints, prune, reloads, until_stopped
from crewd.web.broadcast import Broadcast, BroadcastOptions
from crewd.wired import Daemon, widen_watchdog

DAEMON_FILE = "daemon.json"  # where commands find the running daemon
THREADS = 16
SOCKET_FILE = "crewd.sock"
WAKE_PAUSE = 1.0  # what happens to managed runs wakes at most one round in so many seconds

log = structlog.get_logger("crewd.daemon")


class CannotListen(CrewdError):
    """The address of the web pages is taken or not this machine's."""


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
    asyncio.get_running_loop().set_default_executor(Pool(THREADS, thread_name_prefix="crewd"))
    async with contextlib.AsyncExitStack() as stack:
        daemon = await _wire(loaded, environ, clock or SystemClock(), listeners, stack)
        daemon.reread = reload
        daemon.stop = stop or daemon.stop
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(until_stopped(daemon), name="signals")
                asking = tasks.create_task(ask_for_time(daemon.notifier), name="asks for time")
                if daemon.tasks is not None:
                    # Whoever a predecessor left is accounted for before anything else is begun.
                    daemon.notifier.status("starting: accounts for the attempts of the crewd before")
                    await daemon.tasks.open()
                # The watch comes before the web: importing a web framework takes longer than a round.
                daemon.notifier.status("starting: looks at every run for the first time")
                await daemon.patrol.round()
                await _listen(daemon, stack)
                asking.cancel()
                tasks.create_task(daemon.patrol.run(), name="patrol")
                tasks.create_task(hints(daemon.patrol, loaded.settings.sources.watch), name="hints")
                tasks.create_task(loop_lag.measure(daemon.clock, daemon.metrics.loop_lag_observed), name="loop lag")
                tasks.create_task(
                    free_space.measure(_folders(daemon), daemon.metrics.free_space_observed), name="free space"
                )
                tasks.create_task(prune(daemon), name="retention")
                tasks.create_task(reloads(daemon), name="reloads")
                if daemon.sinks is not None:
                    tasks.create_task(daemon.sinks.run(), name="sinks")
                tasks.create_task(daemon.notifications.run(), name="notifications")
                tasks.create_task(daemon.broadcast.run(), name="broadcast")
                tasks.create_task(daemon.applier.run(), name="recovery")
                if daemon.tasks is not None:
                    _run_tasks(daemon, daemon.tasks, tasks)
                await asyncio.sleep(0)  # each has begun: whoever hears that crewd is ready may send SIGHUP at once
                daemon.notifier.ready()
                widen_watchdog(daemon)
                log.info("daemon.ready", url=daemon.url, state=str(daemon.state))
                if on_ready is not None:
                    on_ready(daemon)
        except* Stop:
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
    state = state_folder(environ, settings.ledger.folder)
    notifier.status("starting: opens the ledger")
    with notifier.starting():  # a large ledger is checked, and brought to the present schema, before anything else
        ledger = Ledger.open(state, clock)
    stack.push_async_callback(ledger.close)
    history = Reader.open(state)
    stack.callback(history.close)
    wake = asyncio.Event()
    # A quarter of the descriptors, at most, watches exits; the rounds notice them too.
    handles_max = min(PIDFDS_MAX, raise_descriptor_limit() // 4)
    sees = settings.sources.processes == "here"
    witness = Witness(ProcProcesses(clock), host_name(), wake.set, handles_max, sees)
    stack.callback(witness.close)
    expander = Expander()
    lookout = Lookout(assembly.discoverer(settings, state, (), expander), settings.patrol.look_timeout, free_bytes)
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
    patrol.recorder.others_failed = lambda: ledger.stats().failed
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
        _wire_applier(patrol, ledger, settings.tasks.env_pass, environ, redactor), broadcast, expander,
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


def _folders(daemon: Daemon) -> dict[str, str]:
    """Where crewd itself writes, by the label of `crewd_filesystem_free_bytes`."""
    folders = {"state": str(daemon.state)}
    if daemon.sinks is not None:
        folders["logs"] = assembly.sink_options(daemon.loaded.settings, daemon.environ, daemon.state).folder
    return folders


def _wire_applier(
    patrol: Patrol, ledger: Ledger, passed: Sequence[str], environ: Mapping[str, str], redactor: Redactor
) -> Applier:
    """Recovery: what a person approved is run outside of the rounds, with no more of our environment than workers."""
    return Applier(
        recovering=patrol.recovering,
        ledger=ledger,
        clock=patrol.clock,
        tell=Teller(patrol).tell,
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
        heard=Teller(patrol).tell,
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
    patrol.lookout.discover = assembly.discoverer(settings, daemon.state, (ring.source,), daemon.expander)
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
class Teller:
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
