"""The server: uvicorn inside the daemon's own loop, with none of its own ideas about signals and logs."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn

from crewd.host.listening import ListeningSocket, address, listen
from crewd.web.connections import bounded
from crewd.web.guard import App

TICK_SECONDS = 1.0


@dataclass(frozen=True)
class HttpOptions:
    """Where to listen, and how much to take on."""

    host: str = "127.0.0.1"
    port: int = 9464
    connections_max: int = 64  # one more is answered 503
    keep_alive: float = 5.0
    request_seconds: float = 5.0  # for a request to arrive whole
    stop_seconds: float = 3.0  # for answers under way at the end
    header_bytes_max: int = 16 * 1024

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"http.port is {self.port}: give 0 to 65535")
        for name in ("connections_max", "keep_alive", "request_seconds", "stop_seconds", "header_bytes_max"):
            if getattr(self, name) <= 0:
                raise ValueError(f"http.{name} is {getattr(self, name)}: give more than 0")


class Server:
    """One application on one socket. `start` once; `stop` may be called at any time, also twice."""

    def __init__(self, app: App, options: HttpOptions | None = None) -> None:
        self._options = options = options or HttpOptions()
        config = uvicorn.Config(
            app,
            # Up to twice as many are taken, so that whoever is one too many is told so instead of being cut off.
            http=bounded(2 * options.connections_max, options.request_seconds),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=options.connections_max,
            timeout_keep_alive=int(options.keep_alive),
            timeout_graceful_shutdown=int(options.stop_seconds),
            h11_max_incomplete_event_size=options.header_bytes_max,
        )
        self._uvicorn = _Quiet(config)
        self._serving: asyncio.Task[None] | None = None
        self._socket: ListeningSocket | None = None
        self.address: tuple[str, int] | None = None

    async def start(self, socket: ListeningSocket | None = None) -> tuple[str, int]:
        """Listen, on an inherited socket if there is one, and return host and port once requests are answered.

        Raises OSError where the address cannot be had.
        """
        if self._serving is not None:
            raise RuntimeError("the server has been started already: make another one")
        self._socket = socket or listen(self._options.host, self._options.port)
        self.address = address(self._socket)
        self._serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._socket]), name="http server")
        self._serving.add_done_callback(lambda _: self._uvicorn.settled.set())
        await self._uvicorn.settled.wait()
        if self._serving.done():
            await self._serving  # raises what went wrong
        return self.address

    async def stop(self) -> None:
        """Take no more requests, let those under way finish within bounds, and close."""
        serving, self._serving = self._serving, None
        if serving is None:
            return
        self._uvicorn.end()
        try:
            await serving
        finally:
            if self._socket is not None:
                self._socket.close()


class _Quiet(uvicorn.Server):
    """uvicorn without signal handlers: signals belong to the daemon. `settled` once it serves, or has failed to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = asyncio.Event()
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Let it leave its main loop at once."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        # uvicorn looks ten times a second whether it should exit. Once a second is enough for the Date of answers,
        # which is renewed at every tenth count, and an end is heard at once.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._ending.wait()

    async def startup(self, sockets: list[ListeningSocket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.settled.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
