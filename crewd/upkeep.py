"""What goes on beside the rounds: signals, hints of changed files, retention, reloads."""

import asyncio
import contextlib
import signal

import structlog

from crewd.engine.patrol import Patrol
from crewd.host.systemd import Notifier
from crewd.ledger.errors import LedgerError
from crewd.sources.watch import Watch, WatchOptions
from crewd.wired import Daemon, reload_settings

PRUNE_EVERY = 3600.0
HINT_PAUSE = 1.0  # file events wake at most one round in so many seconds

log = structlog.get_logger("crewd.daemon")


class Stop(Exception):
    """Raised into the group of the daemon's tasks: the others are cancelled, and the parts closed in reverse."""


async def until_stopped(daemon: Daemon) -> None:
    """Wait for the wish to end. Then workers are given time to end by themselves, unless they are handed over."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop.set)
    try:
        await daemon.stop.wait()
        if daemon.tasks is not None and not daemon.handed_over:
            settings = daemon.loaded.settings.tasks
            daemon.patrol.stopping = "crewd ends once the attempts that run are over; nothing new is begun"
            daemon.patrol.wake.set()
            daemon.say("")
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
    raise Stop


async def ask_for_time(notifier: Notifier, seconds: float = 60.0, at_most: float = 7200.0) -> None:
    """Ask for more time to start, until cancelled: a thousand attempts, or a slow disk, take longer than a start may.

    From within the loop, unlike `Notifier.starting`: one that hangs asks for nothing, and neither its start nor its
    stop is waited for.
    """
    for _ in range(max(1, int(2 * at_most / seconds))):
        notifier.extend_timeout(seconds)
        await asyncio.sleep(seconds / 2)


async def hints(patrol: Patrol, enabled: bool) -> None:
    """Wake the patrol when files change. It would look anyway, a little later."""
    async with Watch(options=WatchOptions(enabled=enabled)) as watch:
        while True:
            paths = [path for source in patrol.lookout.answering for path in source.watch_paths()]
            with contextlib.suppress(TimeoutError):  # a disk hangs: what is on it does not answer, and is left out
                async with asyncio.timeout(patrol.lookout.timeout):
                    await watch.aim(paths)
            hint = await watch.changed(patrol.options.interval)
            patrol.overflows += hint.overflows
            for problem in hint.problems:
                log.warning("watch.problem", problem=problem)
            if hint.changed:
                patrol.wake.set()
                await asyncio.sleep(HINT_PAUSE)


async def prune(daemon: Daemon) -> None:
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


async def reloads(daemon: Daemon) -> None:
    """SIGHUP: load the settings again, and take them over only if all of them are sound."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    try:
        while True:
            await asked.wait()
            asked.clear()
            await reload_settings(daemon)
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
