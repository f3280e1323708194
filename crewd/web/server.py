"""The server: uvicorn inside the daemon's own loop, with none of its own ideas about signals and logs."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn

from crewd.host.listening import ListeningSocket, address, listen
from crewd.web.asgi import App
from crewd.web.caller import trusted_uids
from crewd.web.connections import bounded
from crewd.web.unix_socket import CannotOpen, UnixSocket

TICK_SECONDS = 1.0
SOCKETS_PER_CONNECTION = 4  # two doors, each of which takes up to twice as many as it answers


@dataclass(frozen=True)
class HttpOptions:
    """Where to listen, and how much to take on. The bounds hold for TCP and for the unix socket, each."""

    host: str = "127.0.0.1"
    port: int = 9464
    tcp: bool = True  # listen on host and port at all
    socket: str = ""  # path of the unix socket; "": none
    connections_max: int = 256  # one more is answered 503
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


def affordable(connections_max: int, descriptors: int) -> int:
    """Take no more connections than a quarter of the descriptors allows: the rest is for seeing and keeping crews."""
    return min(connections_max, max(1, descriptors // (4 * SOCKETS_PER_CONNECTION)))


class Server:
    """One application behind two doors: TCP and a unix socket. `start` once; `stop` at any time, also twice.

    Each door has bounds of its own: whoever fills up the one that is open to everybody on this machine does not keep
    anybody from the other.
    """

    def __init__(self, app: App, options: HttpOptions | None = None, uids: frozenset[int] | None = None) -> None:
        """`uids` may use the unix socket; None: whom this process runs as, and root."""
        self._options = options = options or HttpOptions()
        self._app = app
        self._uids = trusted_uids() if uids is None else uids
        self._doors: list[_Door] = []
        self._started = False
        self.address: tuple[str, int] | None = None
        self.socket = ""  # path of the unix socket, once it listens
        self.complaint = ""  # why there is no unix socket, although one was wanted

    async def start(self, socket: ListeningSocket | None = None) -> tuple[str, int]:
        """Listen, on an inherited socket if there is one, and return host and port once requests are answered.

        Without TCP these are "" and 0. A unix socket that cannot be had is a `complaint`, and TCP is served without
        it. Raises OSError where the TCP address cannot be had.
        """
        if self._started:
            raise RuntimeError("the server has been started already: make another one")
        self._started = True
        if self._options.tcp:
            listening = socket or listen(self._options.host, self._options.port)
            self.address = address(listening)
            await self._open(listening)
        if self._options.socket:
            try:
                unix = UnixSocket.open(self._options.socket)
            except CannotOpen as error:
                self.complaint = str(error)
            else:
                self.socket = unix.path
                await self._open(unix.listening, unix)
        return self.address or ("", 0)

    async def stop(self) -> None:
        """Take no more requests, let those under way finish within bounds, and close."""
        doors, self._doors = self._doors, []
        for outcome in await asyncio.gather(*(door.stop() for door in doors), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _open(self, listening: ListeningSocket, unix: UnixSocket | None = None) -> None:
        door = _Door(_config(self._app, self._options, self._uids, dated=unix is None), listening, unix)
        self._doors.append(door)
        try:
            await door.start()
        except BaseException:
            await self.stop()
            raise


class _Door:
    """One listening socket with a uvicorn of its own."""

    def __init__(self, config: uvicorn.Config, listening: ListeningSocket, unix: UnixSocket | None) -> None:
        self._uvicorn = _Quiet(config)
        self._listening = listening
        self._unix = unix
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        name = "http server" if self._unix is None else "http server on the unix socket"
        self._serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._listening]), name=name)
        self._serving.add_done_callback(lambda _: self._uvicorn.settled.set())
        await self._uvicorn.settled.wait()
        if self._serving.done():
            await self._serving  # raises what went wrong

    async def stop(self) -> None:
        self._uvicorn.end()
        try:
            if self._serving is not None:
                await self._serving
        finally:
            self._listening.close()
            if self._unix is not None:
                self._unix.close()


def _config(app: App, options: HttpOptions, uids: frozenset[int], dated: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        # Up to twice as many are taken, so that whoever is one too many is told so instead of being cut off.
        http=bounded(2 * options.connections_max, options.request_seconds, uids),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=dated,
        proxy_headers=False,
        limit_concurrency=options.connections_max,
        timeout_keep_alive=int(options.keep_alive),
        timeout_graceful_shutdown=int(options.stop_seconds),
        h11_max_incomplete_event_size=options.header_bytes_max,
    )


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
        patience = TICK_SECONDS if self.config.date_header else None
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._ending.wait()

    async def startup(self, sockets: list[ListeningSocket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.settled.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
