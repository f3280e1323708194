"""A channel over a ledger in memory, real threads and a real receiver; waits between tries are noted, not waited."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

from msgspec import structs

from crewd.host.clock import SystemClock
from crewd.model.event import Event
from crewd.model.moment import Reading
from crewd.model.verdict import Incident
from crewd.policy.notifying import Route
from crewd.telemetry.notify.channel import Channel
from crewd.telemetry.notify.options import ChannelOptions
from crewd.telemetry.redact import Redactor

NOON = 1_767_268_800.0  # 2026-01-01T12:00:00Z


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in a loop of its own, in real time."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


class Log:
    """A ledger of incidents."""

    def __init__(self) -> None:
        self.kept: list[Event] = []
        self.known: dict[tuple[str, str], Incident] = {}
        self.broken = False
        self.over: Incident | None = None  # the latest that ended

    def open(self, subject: str, cause: str = "dead", severity: str = "critical", **more: Any) -> Event:
        run_id, _, task_id = subject.partition("/")
        summary = more.pop("summary", f"{subject} is {cause}")
        crew = more.pop("crew", "blue")
        damped = bool(more.get("damped"))
        self.known[subject, cause] = Incident(
            subject, cause, severity, summary, NOON, crew, run_id, task_id, damped=damped
        )
        return self._add("incident.opened", self.known[subject, cause], more)

    def set(self, subject: str, cause: str = "dead", **more: Any) -> None:
        """Let it be otherwise; nobody is told."""
        self.known[subject, cause] = structs.replace(self.known[subject, cause], **more)

    def resolve(self, subject: str, cause: str = "dead", **more: Any) -> Event:
        self.over = self.known.pop((subject, cause))
        return self._add("incident.resolved", self.over, more)

    def again_resolved(self, subject: str) -> Event:
        """It has been quiet, and is damped no more."""
        assert self.over is not None and self.over.subject == subject
        return self._add("incident.resolved", self.over, {"change": "damping_over", "damped": False})

    def update(self, subject: str, cause: str = "dead", **more: Any) -> Event:
        return self._add("incident.updated", self.known[subject, cause], more)

    def other(self) -> None:
        self.kept.append(Event("task.started", NOON, seq=len(self.kept) + 1))

    def events(self, after: int = 0, limit: int = 1000, types: Sequence[str] = ()) -> list[Event]:
        if self.broken:
            raise RuntimeError("the ledger is busy")
        return [event for event in self.kept if event.seq > after and (not types or event.type in types)][:limit]

    def incidents(self, open_only: bool = False) -> list[Incident]:
        return list(self.known.values())

    def last_seq(self) -> int:
        return len(self.kept)

    def _add(self, type: str, incident: Incident, more: dict[str, Any]) -> Event:
        data = {name: getattr(incident, name) for name in ("subject", "cause", "severity", "summary")} | more
        self.kept.append(
            Event(type, NOON, data, incident.run_id, incident.task_id, crew=incident.crew, seq=len(self.kept) + 1)
        )
        return self.kept[-1]


class Clock:
    """The genuine monotonic clock, and a wall clock that can be set."""

    def __init__(self, wall: float = NOON) -> None:
        self.wall = wall
        self.ahead = 0.0
        self._real = SystemClock()

    def read(self) -> Reading:
        now = self._real.read()
        return Reading(self.wall, now.mono + self.ahead, now.boot + self.ahead)


class World:
    """One channel, started and stopped at will; what it remembered outlives it."""

    def __init__(self, **options: Any) -> None:
        route = options.pop("route", Route())
        given = ChannelOptions(
            "hook", route=route, timeout=options.pop("timeout", 2.0), burst=options.pop("burst", 1000)
        )
        self.options = replace(given, **options)
        self.log = Log()
        self.clock = Clock()
        self.remembered = ""
        self.waits: list[float] = []
        self.channel: Channel | None = None
        self.figures = None

    async def __aenter__(self) -> "World":
        self.channel = Channel(
            self.options, self.log, self.clock, Redactor(("hunter2secret",)), self.remembered, self._keep, self._sleep
        )
        self._task = asyncio.create_task(self.channel.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.channel is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self.channel.close()

    async def until(self, condition: Any, seconds: float = 10.0) -> None:
        """Wait for something, and wake the channel meanwhile."""
        assert self.channel is not None
        async with asyncio.timeout(seconds):
            while not condition():
                self.channel.wake()
                await asyncio.sleep(0.01)

    async def settle(self) -> None:
        """Let it do everything there is to do."""
        assert self.channel is not None
        for _ in range(15):
            self.channel.wake()
            await asyncio.sleep(0.01)

    async def _keep(self, name: str, value: str) -> None:
        assert name == "notify:hook"
        self.remembered = value

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)
