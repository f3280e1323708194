"""A state to answer requests from, and a way to ask."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from crewd.model.event import Event
from crewd.model.snapshot import Snapshot
from crewd.telemetry.exposition import Exposition
from crewd.telemetry.metrics import Metrics
from crewd.telemetry.redact import Redactor
from crewd.web.app import build_app
from tests.telemetry.pictures import event, snapshot, view, worker


class History:
    """A ledger of a few events."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.kept = list(events)
        self.pruned = 0

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        types: Sequence[str] = (),
        run_id: str = "",
        newest_first: bool = False,
    ) -> list[Event]:
        chosen = [
            each
            for each in self.kept
            if each.seq > after and (not types or each.type in types) and (not run_id or each.run_id == run_id)
        ]
        return (chosen[::-1] if newest_first else chosen)[:limit]

    def pruned_to(self) -> int:
        return self.pruned


class State:
    """What the web is answered from."""

    def __init__(
        self, picture: Snapshot | None = None, allowed_hosts: Sequence[str] = (), secrets: Sequence[str] = ()
    ):
        self.picture = picture or snapshot(view("r1", "blue", worker("t1")), view("r2", "red"))
        self.metrics = Metrics(CollectorRegistry(), self.snapshot)
        self.exposition = Exposition(self.metrics.registry)
        self.history = History(
            [event("run.started", 1, task_id=""), event("task.started", 2), event("task.failed", 3)]
        )
        self.redactor = Redactor(secrets)
        self.allowed_hosts = allowed_hosts
        self.observed: list[tuple[str, str, int]] = []

    def snapshot(self) -> Snapshot:
        return self.picture

    def explain(self, run_id: str, task_id: str) -> Mapping[str, Any] | None:
        return {"level": "healthy", "row": 1} if task_id == "t1" else None

    def http_observed(self, route: str, method: str, code: int, seconds: float) -> None:
        assert seconds >= 0
        self.observed.append((route, method, code))
        self.metrics.http_observed(route, method, code, seconds)


def ask(
    state: State, path: str, method: str = "GET", headers: Mapping[str, str | bytes] | None = None
) -> httpx.Response:
    """Send one request through the whole application, without a socket."""
    return ask_all(state, [(method, path, dict(headers or {}))])[0]


def encoded(headers: Mapping[str, str | bytes]) -> list[tuple[bytes, bytes]]:
    """Encode header values as they are, so that odd bytes reach the application."""
    return [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers.items()]


def ask_all(state: State, requests: Sequence[tuple[str, str, Mapping[str, str | bytes]]]) -> list[httpx.Response]:
    """Send several, one after the other."""

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=build_app(state))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9464") as client:
            return [
                await client.request(method, path, headers=encoded(headers)) for method, path, headers in requests
            ]

    return asyncio.run(run())
