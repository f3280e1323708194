"""A stand-in for the daemon's routes on managed runs, on a unix socket and, if wanted, on TCP."""

import contextlib
import json
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any, dict[str, str]]
WAS = "2026-01-01T00:00:00.000Z"


def attempt(
    number: int, error_class: str | None = "worker_crash", error: str = "exit 1", **others: Any
) -> dict[str, Any]:
    return {
        "attempt": number,
        "started_at": WAS,
        "ended_at": f"2026-01-01T00:00:{number:02d}.500Z",
        "error_class": error_class,
        "error": error if error_class else "",
        "exit": {"code": 1 if error_class else 0, "signal": None},
        "interrupted": False,
        "tail": "",
        "output_bytes": 6,
        "folder": "",
        **others,
    }


def task(task_id: str, state: str, *attempts: dict[str, Any], **others: Any) -> dict[str, Any]:
    newest = attempts[-1]["attempt"] if attempts else int(state in ("running", "completed"))
    known = {"task_id": task_id, "state": state, "attempt": newest, "fence": newest, "why": "", "due_at": None}
    rest = {"attempts": list(attempts), "usage": None, "artifacts": [], "executor": "default", "priority": 0}
    return {**known, **rest, "depends_on": [], **others}


def managed(status: str, *tasks: dict[str, Any], run_id: str = "r-1", **others: Any) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for each in tasks:
        counts[each["state"]] = counts.get(each["state"], 0) + 1
    known = {"run_id": run_id, "crew": "blue", "name": "", "status": status, "key": "", "submitted_at": WAS}
    return {**known, "ended_at": None, "counts": counts, "tasks": list(tasks), "held": {}, **others}


def letter(key: str, run_id: str = "r-1", task_id: str = "build", **others: Any) -> dict[str, Any]:
    known = {"key": key, "run_id": run_id, "task_id": task_id, "runtime": "managed", "crew": "blue"}
    what = {"reason": "max-retries", "words": "", "error_class": "worker_crash", "error": "exit 1", "attempts": 3}
    rest = {"at": WAS, "fingerprint": "f-1", "history": [attempt(1), attempt(2)], "evidence": {}, "state": "open"}
    return {**known, **what, **rest, "settled_at": None, "settled_by": "", "note": "", **others}


def refusal(code: str, message: str, *details: dict[str, str]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "details": list(details)}}


@dataclass
class Contract:
    """What is answered: by route, each a value, a (status, value) pair, or a function of query and body."""

    routes: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, str, Any, dict[str, str]]] = field(default_factory=list)  # method, path, body, headers
    hang_up: int = 0  # how many POSTs are carried out and not answered
    token: str = ""  # without it nothing but GET is served over TCP

    def posted(self, path: str) -> list[Any]:
        return [body for method, asked, body, _ in self.asked if method == "POST" and asked == path]

    def answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Answer:
        found = self.routes.get(f"{method} {path}")
        if callable(found):
            found = found(query, body)
        match found:
            case None:
                return 404, refusal("not_found", f"no such thing: {path}"), {}
            case (int() as status, value, dict() as headers):
                return status, value, headers
            case (int() as status, value):
                return status, value, {}
        return 200, found, {}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    contract: Contract
    over_tcp: bool

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""

    def address_string(self) -> str:
        return "local"

    def _serve(self, method: str) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = unquote(parts.path)
        self.contract.asked.append((method, path, body, headers))
        if self.over_tcp and method == "POST" and headers.get("authorization") != f"Bearer {self.contract.token}":
            self._send(401, refusal("wrong_token", "this token is not crewd's"), {})
            return
        if self.over_tcp and path.endswith("/output"):
            self._send(403, refusal("output_not_allowed", "output is told only through the unix socket"), {})
            return
        status, value, more = self.contract.answer(method, path, query, body)
        if method == "POST" and self.contract.hang_up:
            self.contract.hang_up -= 1
            self.close_connection = True
            return
        self._send(status, value, more)

    def _send(self, status: int, value: Any, more: dict[str, str]) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {**more, "Content-Length": str(len(data))}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


class _Threads(socketserver.ThreadingMixIn):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A command that ends closes its connections as it likes."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[misc]


class _Unix(_Threads, socketserver.UnixStreamServer):
    """On a unix socket."""


class _Tcp(_Threads, socketserver.TCPServer):
    """On a port of the loopback address."""


@contextlib.contextmanager
def serving(state: Path, contract: Contract, unix: bool = True, tcp: bool = False) -> Iterator[Contract]:
    """Answer for a state folder, until the end of the `with` block."""
    state.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        url = ""
        if unix:
            stack.enter_context(_run(_Unix(str(state / "crewd.sock"), _handler(contract, False))))
            stack.callback((state / "crewd.sock").unlink)
        if tcp:
            server = _Tcp(("127.0.0.1", 0), _handler(contract, True))
            url = f"http://127.0.0.1:{server.server_address[1]}"
            stack.enter_context(_run(server))
        (state / "daemon.json").write_text(json.dumps({"pid": os.getpid(), "url": url, "started_at": ""}))
        stack.callback((state / "daemon.json").unlink)
        yield contract


def dead_socket(state: Path) -> None:
    """Leave a socket behind as a daemon that was killed does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(state / "crewd.sock"))


def _handler(contract: Contract, over_tcp: bool) -> type[_Handler]:
    return type("Handler", (_Handler,), {"contract": contract, "over_tcp": over_tcp})


@contextlib.contextmanager
def _run(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def one_after_the_other(*values: Any) -> Callable[[Any, Any], Any]:
    """Answer with each value in turn, and with the last one ever after."""
    left = list(values)
    return lambda query, body: left.pop(0) if len(left) > 1 else left[0]
