"""A receiver of webhooks on a free port of the loopback address, with a behaviour for each request in turn."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

HANG = "hang"  # takes the request, and never answers
DRIP = "drip"  # answers one byte in a while, for ever
CLOSE = "close"  # ends the connection in the middle of the answer's head
FLOOD = "flood"  # 200, and a body of 100 MB
REDIRECT = "redirect"  # 302 to itself

Behaviour = int | str | tuple[int, str]  # a status, one of the above, or a status with its Retry-After


class Receiver:
    """Answers each request as `behaviours` say, the last of them for ever. What it was sent is in `got`."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.got: list[Any] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.at: list[float] = []
        self.sent_bytes = 0
        self._behaviours: Sequence[Behaviour] = behaviours or (200,)
        self._over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._take(self)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def be(self, *behaviours: Behaviour) -> None:
        """Behave so from now on."""
        self._behaviours = [0] * len(self.got) + list(behaviours)  # type: ignore[assignment]  # or a status

    def wait_for(self, count: int, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while len(self.got) < count:
            assert time.monotonic() < deadline, f"{len(self.got)} of {count} requests within {seconds} s"
            time.sleep(0.01)

    def close(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        behaviour = self._behaviours[min(len(self.got), len(self._behaviours) - 1)]
        self.paths.append(handler.path)
        self.headers.append(dict(handler.headers))
        self.at.append(time.monotonic())
        self.got.append(json.loads(body) if body else None)
        with contextlib.suppress(OSError):  # the sender has hung up, as it should
            self._answer(handler, behaviour)

    def _answer(self, handler: BaseHTTPRequestHandler, behaviour: Behaviour) -> None:
        match behaviour:
            case "hang":
                self._over.wait(60)
            case "drip":
                while not self._over.wait(0.05):
                    handler.wfile.write(b"H")
                    handler.wfile.flush()
            case "close":
                handler.wfile.write(b"HTTP/1.1 20")
                handler.wfile.flush()
                handler.connection.shutdown(socket.SHUT_RDWR)
            case "flood":
                handler.send_response(200)
                handler.send_header("Content-Length", str(100 << 20))
                handler.end_headers()
                for _ in range(1600):
                    handler.wfile.write(bytes(64 << 10))
                    self.sent_bytes += 64 << 10
            case "redirect":
                handler.send_response(302)
                handler.send_header("Location", f"{self.url}/elsewhere")
                handler.end_headers()
            case int():
                handler.send_response(behaviour)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
            case (status, retry_after):
                handler.send_response(status)
                handler.send_header("Retry-After", retry_after)
                handler.send_header("Content-Length", "0")
                handler.end_headers()
