"""Every route of the application with something behind it, and a way to ask that bends no request into shape."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from crewd.model.reloading import Reloaded
from crewd.web.app import routes
from crewd.web.asgi import App
from crewd.web.caller import Peer
from crewd.web.guard import PEER
from tests.cli.contract import attempt as an_attempt
from tests.cli.contract import managed
from tests.cli.contract import task as a_task
from tests.ledger.past import NOW, attempt, run, task, write_past
from tests.web.world import ANNA, TOKEN, Deeds, State

JSON = "application/json"
STREAM = "text/event-stream"
PATIENCE = 20.0  # seconds
IDS = {"run": "r1", "task": "t1", "plan": "0123456789abcdef", "name": "app.js"}
QUERIES = {"/api/v1/deadletter": "key=r1/t1:3"}
# What each change is asked for with; {} for one that is not here.
SUBJECT = {"subject": "r1/t1"}
SCOPE = {"scope": "daemon"}
BODIES: Mapping[str, Any] = {
    "/api/v1/runs": {"run": {"tasks": []}},
    "/api/v1/runs/{run}/tasks/{task}/bury": {"reason": "enough"},
    "/api/v1/pause": SCOPE,
    "/api/v1/resume": SCOPE,
    "/api/v1/deadletters/redrive": {"keys": ["r1/t1:3"]},
    "/api/v1/deadletters/discard": {"keys": ["r1/t1:3"], "reason": "enough"},
    "/api/v1/recoveries/{plan}/approve": {"by": "anna"},
    "/api/v1/recoveries/{plan}/decline": {"by": "anna"},
    "/api/v1/incidents/ack": SUBJECT,
    "/api/v1/incidents/snooze": {**SUBJECT, "for_seconds": 60},
    "/api/v1/incidents/unsnooze": SUBJECT,
    "/api/v1/history/prune": {"before": "2025-01-01T00:00:00Z"},
    "/-/log-level": {"level": "debug"},
}


class Doing(Deeds):
    """Deeds that are only noted, on a run that is laid out in full."""

    def managed(self, run_id: str) -> Mapping[str, Any] | None:
        return managed("running", a_task("t1", "running", an_attempt(1)), run_id=run_id) if run_id == "r1" else None


class Watched(State):
    """A state in which everything is there, and every change is counted."""

    def __init__(self, folder: Path, **more: Any) -> None:
        super().__init__(**more)
        write_past(folder, [attempt(1, run_id="r1")], [task(1, run_id="r1")], [run(1, run_id="r1")])
        self.actions = Doing()
        self.ledger, self.wall = folder, NOW
        self.history.attempts_kept = [attempt(1, run_id="r1"), attempt(2, run_id="r1", attempt=2)]
        self.others: list[str] = []  # changes that no other part notes

    async def reload(self) -> Reloaded:
        self.others.append("reload")
        return Reloaded()

    async def prune(self, before: float, *, actor: str) -> int:
        self.others.append("prune")
        return 7

    async def set_log_level(self, level: str, *, actor: str) -> None:
        self.others.append("log level")
        await super().set_log_level(level, actor=actor)

    def changes(self) -> int:
        """Count everything that was changed until now."""
        assert isinstance(self.actions, Deeds)
        done = [each for each in self.actions.asked if each[0] != "letters"]  # which is a question
        return len(done) + len(self.incidents.asked) + len(self.recoveries.asked) + len(self.others)


@dataclass(frozen=True)
class Place:
    """One path of the application, and what may be done there."""

    template: str
    methods: frozenset[str]

    @property
    def path(self) -> str:
        """The path of something that is there, with its query."""
        path = self.template.format(**IDS)
        query = QUERIES.get(self.template)
        return f"{path}?{query}" if query else path

    @property
    def body(self) -> bytes:
        return msgspec.json.encode(BODIES.get(self.template, {}))

    @property
    def streams(self) -> bool:
        return self.template.endswith("/events")

    @property
    def tells_output(self) -> bool:
        return self.template.endswith("/output")


@cache
def places() -> list[Place]:
    """Every path of the application's own table: a route that is new there is in here by itself."""
    methods: dict[str, set[str]] = {}
    for template, some in _table(routes(State()).routes):
        methods.setdefault(template, set()).update(some)
    return [Place(template, frozenset(some)) for template, some in methods.items()]


def _table(found: Sequence[Any]) -> Iterator[tuple[str, set[str]]]:
    for route in found:
        # A router that was included stands in the table as one entry (FastAPI from 0.165 on).
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from _table(inner.routes)
        else:
            yield route.path, set(route.methods)


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == name.encode()]

    @property
    def code(self) -> str:
        """Name of the refusal; "" where it is none."""
        try:
            return str(msgspec.json.decode(self.body)["error"]["code"])
        except (msgspec.DecodeError, KeyError, TypeError):
            return ""


Headers = Sequence[tuple[str, str]]


async def asked(
    app: App, method: str, path: str, headers: Headers = (), body: bytes = b"", peer: Peer | None = None
) -> Answer:
    """Send one request to an application, as it is. A stream is left as soon as it has begun."""
    raw, _, query = path.partition("?")
    answer, left = Answer(), asyncio.Event()
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if pieces:
            return pieces.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message["headers"])
            if any(value.startswith(STREAM.encode()) for value in map(str.encode, answer.values("content-type"))):
                left.set()
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote_to_bytes(raw).decode("utf-8", "replace"), "raw_path": raw.encode("latin-1"),
        "query_string": query.encode("latin-1"), "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 9464), "state": {} if peer is None else {PEER: peer},
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)
    return answer


def trusted(*more: tuple[str, str]) -> list[tuple[str, str]]:
    """Headers of somebody who may do everything over TCP."""
    return [("host", "127.0.0.1:9464"), ("authorization", f"Bearer {TOKEN}"), ("content-type", JSON), *more]


DOORS: Mapping[str, Peer | None] = {"tcp": None, "socket": ANNA}
