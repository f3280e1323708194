"""The dead-man ping: a sign of life after a complete round. Whoever receives it raises the alarm when none comes."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from crewd import __version__
from crewd.host.aside import aside
from crewd.host.clock import Clock
from crewd.host.files import write_atomically
from crewd.host.outgoing import Outgoing
from crewd.model.moment import rfc3339
from crewd.telemetry.notify.delivery import NotDelivered, post
from crewd.telemetry.notify.options import DeadManOptions

log = structlog.get_logger("crewd.notifications")


class DeadMan:
    """One ping in so many seconds, and none while no round is completed: a hung crewd must not look well."""

    def __init__(
        self, options: DeadManOptions, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.options = options
        self.failures = 0
        self.succeeded_at: float | None = None  # wall time
        self._clock = clock
        self._sleep = sleep
        self._out = Outgoing()
        self._round = asyncio.Event()  # one was completed since the latest ping
        self._failing = False

    def note_round(self) -> None:
        """A round was completed."""
        self._round.set()

    async def run(self) -> None:
        """Ping until cancelled. The next is due `every` after the beginning of this one, whatever it took."""
        while True:
            await self._round.wait()
            self._round.clear()
            began = self._clock.read().mono
            await self._ping()
            await self._sleep(max(0.0, self.options.every - (self._clock.read().mono - began)))

    def close(self) -> None:
        self._out.abort()

    async def _ping(self) -> None:
        try:
            await aside(self._send, "crewd-dead-man")
        except Exception as error:  # noqa: BLE001 - an observer's failure never stops a round, and is counted
            self.failures += 1
            if not self._failing:
                words = str(error) if isinstance(error, NotDelivered) else type(error).__name__
                log.warning("dead_man.failed", error=words)
            self._failing = True
            return
        self._failing = False
        self.succeeded_at = self._clock.read().wall

    def _send(self) -> None:
        options = self.options
        if options.file:
            try:
                # Replaced, not only touched: a reader on a network filesystem sees the new one.
                words = f"{rfc3339(self._clock.read().wall)}\n".encode()
                write_atomically(options.file, words, mode=0o644, durable=False)
            except OSError as error:
                raise NotDelivered(f"dead_man.file {options.file}: {error.strerror}", True) from None
        if options.url:
            headers = {"User-Agent": f"crewd/{__version__}"}
            post(self._out, options.method, options.url, headers, b"", options.timeout)
