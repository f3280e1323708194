"""The server: counts what it is asked, keeps it, and answers as the scenario of the moment says."""

import contextlib
import json
import select
import socket
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.real_agents.mock_model.dialects import Answer, Dialect, Document, Trouble, dialect_of, model_of

DONE = ("Done: ", "the command ", "has been run.")


class Scenario(StrEnum):
    """What the model is like."""

    TOOL_THEN_DONE = "tool_then_done"  # one call of the shell tool for each command, then words
    RATE_LIMITED_ONCE = "rate_limited_once"  # 429 with retry-after 1, twice; then as the first
    DROPPED_ONCE = "dropped_once"  # the connection is cut in mid answer, once; then as the first
    RATE_LIMITED_LONG = "rate_limited_long"  # 429 with retry-after 3600
    UNAUTHORIZED = "unauthorized"
    HANG = "hang"  # headers and a few tokens, then silence
    OVERLOADED = "overloaded"
    CONTEXT_FULL = "context_full"


@dataclass(frozen=True)
class Asked:
    """One request of an agent, and what it was answered."""

    at: float  # monotonic seconds
    dialect: str
    path: str
    model: str
    results: int  # results of tools that it carries
    body: Document
    credential: str  # as sent, without the word before it; "": none
    answer: str  # "tool", "text", "hang", "drop", or the status of a refusal


class MockModel:
    """A model server on a free port of 127.0.0.1. `play` may be called at any time, from any thread."""

    def __init__(self, *commands: str, scenario: Scenario = Scenario.TOOL_THEN_DONE) -> None:
        """`commands` are given to the shell tool, one an answer: the n-th while n results are in the request."""
        self._lock = threading.Lock()
        self._commands = commands
        self._scenario = scenario
        self._since = 0  # requests that the scenario of the moment has met
        self._asked: list[Asked] = []
        self._strays: list[str] = []
        self.ended = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler, bind_and_activate=True)
        self._server.model = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="mock model")

    @property
    def url(self) -> str:
        """Without a path: some agents want /v1 behind it."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def play(self, scenario: Scenario, *commands: str) -> None:
        """Answer so from now on. Without commands those of before stay."""
        with self._lock:
            self._scenario, self._since = scenario, 0
            self._commands = commands or self._commands

    @property
    def asked(self) -> tuple[Asked, ...]:
        """Every request to the model so far."""
        with self._lock:
            return tuple(self._asked)

    @property
    def answers(self) -> tuple[str, ...]:
        return tuple(each.answer for each in self.asked)

    @property
    def strays(self) -> tuple[str, ...]:
        """Requests for anything that is no question to a model: method and path."""
        with self._lock:
            return tuple(self._strays)

    def __enter__(self) -> "MockModel":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def stray(self, line: str) -> None:
        with self._lock:
            self._strays.append(line)

    def decide(self, dialect: Dialect, path: str, body: Document, credential: str) -> tuple[Scenario, Answer]:
        """Record a request; say how it is to be answered."""
        results, tools = dialect.results(body), dialect.tools(body)
        with self._lock:
            self._since += 1
            met = self._met(self._since)
            command = self._commands[results] if tools and results < len(self._commands) else None
            answer = Answer(len(self._asked) + 1, model_of(path, body), DONE, command)
            said = "text" if command is None else "tool"
            name = said if met is Scenario.TOOL_THEN_DONE else met.value
            now = time.monotonic()
            self._asked.append(Asked(now, dialect.name, path, answer.model, results, body, credential, name))
        return met, answer

    def _met(self, number: int) -> Scenario:
        """What the n-th request since the scenario began meets."""
        match self._scenario:
            case Scenario.RATE_LIMITED_ONCE:
                return Scenario.RATE_LIMITED_ONCE if number <= 2 else Scenario.TOOL_THEN_DONE
            case Scenario.DROPPED_ONCE:
                return Scenario.DROPPED_ONCE if number <= 1 else Scenario.TOOL_THEN_DONE
            case other:
                return other


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a hung answer ends by itself soon after the server has
    model: MockModel

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An agent that was killed leaves broken connections: nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self.server.model.stray(f"{self.command} {self.path}")
        self._send(404, {"error": {"message": "no such thing", "type": "not_found_error", "code": 404}})

    do_HEAD = do_PUT = do_DELETE = do_GET

    def do_POST(self) -> None:
        body = self._body()
        route = urlsplit(self.path).path
        if route.endswith("/count_tokens"):
            self._send(200, {"input_tokens": 1000})
            return
        if route.endswith(":countTokens"):
            self._send(200, {"totalTokens": 1000})
            return
        dialect = dialect_of(self.path)
        if dialect is None:
            self.do_GET()
            return
        met, answer = self.server.model.decide(dialect, self.path, body, self._credential())
        match met:
            case Scenario.TOOL_THEN_DONE:
                self._answer(dialect, answer, body)
            case Scenario.HANG:
                self._begin(dialect, answer, body)
                self._wait_for_the_end()
            case Scenario.DROPPED_ONCE:
                self._begin(dialect, answer, body)
                self.connection.shutdown(socket.SHUT_RDWR)
            case Scenario.RATE_LIMITED_ONCE:
                self._refuse(dialect, Trouble.RATE_LIMIT, retry_after=1)
            case Scenario.RATE_LIMITED_LONG:
                self._refuse(dialect, Trouble.RATE_LIMIT, retry_after=3600)
            case Scenario.UNAUTHORIZED:
                self._refuse(dialect, Trouble.UNAUTHORIZED)
            case Scenario.OVERLOADED:
                self._refuse(dialect, Trouble.OVERLOADED)
            case Scenario.CONTEXT_FULL:
                self._refuse(dialect, Trouble.CONTEXT_FULL)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what was asked is kept."""

    def _answer(self, dialect: Dialect, answer: Answer, body: Document) -> None:
        tools = dialect.tools(body)
        if not dialect.streams(self.path, body):
            self._send(200, dialect.document(answer, tools))
            return
        self._open_stream()
        for event in dialect.stream(answer, tools):
            self._write(event)

    def _begin(self, dialect: Dialect, answer: Answer, body: Document) -> None:
        """Headers and the first words of an answer that does not come."""
        self._open_stream()
        words = Answer(answer.number, answer.model, ("Let ", "me ", "see ", "what ", "there ", "is"))
        for event in dialect.stream(words, ())[:5]:
            self._write(event)

    def _refuse(self, dialect: Dialect, trouble: Trouble, retry_after: int = 0) -> None:
        refusal = dialect.refusal(trouble, retry_after)
        self._send(refusal.status, refusal.body, {"retry-after": str(retry_after)} if retry_after else {})

    def _credential(self) -> str:
        sent = (self.headers.get(name) for name in ("authorization", "x-api-key", "x-goog-api-key"))
        return next((str(each).rpartition(" ")[2] for each in sent if each), "")

    def _body(self) -> Document:
        text = self.rfile.read(int(self.headers.get("content-length") or 0))
        with contextlib.suppress(ValueError):
            body = json.loads(text)
            return body if isinstance(body, dict) else {}
        return {}

    def _send(self, status: int, body: Document, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _open_stream(self) -> None:
        self.close_connection = True  # the end of the stream is the end of the connection
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("cache-control", "no-cache")
        self.send_header("connection", "close")
        self.end_headers()

    def _write(self, event: str) -> None:
        self.wfile.write(event.encode())
        self.wfile.flush()

    def _wait_for_the_end(self) -> None:
        """Be silent until the agent hangs up or the server ends."""
        while not self.server.model.ended.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.2)
            if readable and not self._still_there():
                return

    def _still_there(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.connection.recv(1024, socket.MSG_PEEK))
        return False
