"""A state to answer requests from, and a way to ask."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
from prometheus_client import CollectorRegistry

from crewd.engine.managed.preview import run_preview
from crewd.ledger.reader import Reader
from crewd.model.asking import Done, OutputPiece, Submitted
from crewd.model.event import Event
from crewd.model.history import AttemptRow, HistoryPage, HistoryQuery
from crewd.model.plan import RunPlan
from crewd.model.recovery import Cause, PlanState, RecoveryPlan
from crewd.model.reloading import Reloaded
from crewd.model.snapshot import Snapshot
from crewd.model.verdict import Incident
from crewd.telemetry.exposition import Exposition
from crewd.telemetry.last_hour import LastHour
from crewd.telemetry.metrics import Metrics
from crewd.telemetry.redact import Redactor
from crewd.web.app import build_app
from crewd.web.asgi import Receive, Scope, Send
from crewd.web.broadcast import Broadcast
from crewd.web.caller import Peer
from crewd.web.guard import PEER
from tests.telemetry.pictures import event, snapshot, view, worker


class History:
    """A ledger of a few events."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.kept = list(events)
        self.pruned = 0
        self.incidents_kept: list[Incident] = []
        self.attempts_kept: list[AttemptRow] = []

    def events(
        self,
        after: int = 0,
        limit: int = 1000,
        types: Sequence[str] = (),
        run_id: str = "",
        newest_first: bool = False,
        crew: str = "",
        task_id: str = "",
    ) -> list[Event]:
        chosen = [
            each
            for each in self.kept
            if each.seq > after
            and (not types or each.type in types)
            and (not run_id or each.run_id == run_id)
            and (not crew or each.crew == crew)
            and (not task_id or each.task_id == task_id)
        ]
        return (chosen[::-1] if newest_first else chosen)[:limit]

    def attempts(self, query: HistoryQuery) -> HistoryPage[AttemptRow]:
        chosen = [row for row in self.attempts_kept if (row.run_id, row.task_id) == (query.run_id, query.task_id)]
        return HistoryPage(tuple(chosen[: query.limit]), None)

    def incidents(self, open_only: bool = False) -> list[Incident]:
        return [each for each in self.incidents_kept if not open_only or each.resolved_at is None]

    def pruned_to(self) -> int:
        return self.pruned

    def last_seq(self) -> int:
        return max((each.seq for each in self.kept), default=0)


TOKEN = "a-token-that-nobody-guesses"
WITH_TOKEN = {"authorization": f"Bearer {TOKEN}"}
ANNA = Peer(1000, "anna")


class Deeds:
    """Actions that only write down what they were asked, and fail as they are told."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.seen: set[str] = set()
        self.planned = RunPlan(run_id="r1", crew="blue", tasks=())
        self.records: list[Mapping[str, Any]] = []  # of the attempts of r1/t1

    def _note(self, *what: Any) -> Done:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure
        return Done(f"{what[0]} is done", ("r1",), {"note": "Bearer abcdefghijkl"})

    async def submit(self, data: Any, *, base: str, key: str, actor: str, source: str) -> Submitted:
        self._note("submit", data, base, key, actor, source)
        duplicate = key in self.seen
        self.seen |= {key} - {""}
        return Submitted("run-7", duplicate, len(data.get("tasks", ())))

    async def cancel(self, run_id: str, task_id: str, *, reason: str, actor: str) -> Done:
        return self._note("cancel", run_id, task_id, reason, actor)

    async def retry(self, run_id: str, task_id: str, *, actor: str) -> Done:
        return self._note("retry", run_id, task_id, actor)

    async def bury(self, run_id: str, task_id: str, *, reason: str, actor: str) -> Done:
        return self._note("bury", run_id, task_id, reason, actor)

    async def pause(self, scope: str, *, drain: bool, reason: str, actor: str) -> Done:
        return self._note("pause", scope, drain, reason, actor)

    async def resume(self, scope: str, *, actor: str) -> Done:
        return self._note("resume", scope, actor)

    async def redrive(self, keys: Sequence[str], fingerprint: str, *, dry_run: bool, limit: int, actor: str) -> Done:
        return self._note("redrive", list(keys), fingerprint, dry_run, limit, actor)

    async def discard(self, keys: Sequence[str], fingerprint: str, *, reason: str, dry_run: bool, actor: str) -> Done:
        return self._note("discard", list(keys), fingerprint, reason, dry_run, actor)

    async def handover(self, *, actor: str) -> Done:
        return self._note("handover", actor)

    def managed(self, run_id: str) -> Mapping[str, Any] | None:
        if run_id != "r1":
            return None
        return {"run_id": run_id, "tasks": [{"state": "waiting", "reason": "a slot"}, *self._tasks()]}

    def _tasks(self) -> list[Mapping[str, Any]]:
        return [{"task_id": "t1", "attempts": self.records}] if self.records else []

    async def plan(self, run_id: str) -> Mapping[str, Any] | None:
        return run_preview(self.planned) if run_id == self.planned.run_id else None

    def letters(self, *, state: str, crew: str, limit: int) -> Sequence[Mapping[str, Any]]:
        self.asked.append(("letters", state, crew, limit))
        return [{"key": "r1/t1:3", "error": "Bearer abcdefghijkl"}]

    def letter(self, key: str) -> Mapping[str, Any] | None:
        return {"key": key, "history": [Done("an attempt, with sk-abcdefghijklmnopqrstuv")]} if "/" in key else None

    def circuits(self) -> Sequence[Mapping[str, Any]]:
        return [{"name": "default", "state": "open"}]

    def pauses(self) -> Sequence[Mapping[str, Any]]:
        return [{"scope": "daemon"}]


class Words:
    """What people say of incidents: only written down."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def _note(self, *what: Any) -> Done:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure
        return Done(f"{what[0]} is done", ("r1/t1 dead",))

    async def acknowledge(self, subject: str, cause: str, *, by: str, note: str, actor: str) -> Done:
        return self._note("ack", subject, cause, by, note, actor)

    async def snooze(self, subject: str, cause: str, *, by: str, note: str, for_seconds: float, actor: str) -> Done:
        return self._note("snooze", subject, cause, by, note, for_seconds, actor)

    async def unsnooze(self, subject: str, cause: str, *, actor: str) -> Done:
        return self._note("unsnooze", subject, cause, actor)


class Plans:
    """Recovery plans; what people say of them is only written down."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.kept = [a_plan(), a_plan("00000000000000ff", PlanState.DECLINED)]

    def plans(self, *, state: str, limit: int) -> Sequence[RecoveryPlan]:
        return [plan for plan in self.kept if state in ("", plan.state.value)][:limit]

    def plan(self, plan_id: str) -> RecoveryPlan | None:
        return next((plan for plan in self.kept if plan.plan_id == plan_id), None)

    def command(self, plan: RecoveryPlan, action: str) -> tuple[str, ...]:
        return ("agent", action, plan.run_id, "--api-key", "hunter2") if action == "resume" else ()

    async def approve(self, plan_id: str, *, action: str, by: str, reason: str, actor: str) -> RecoveryPlan:
        return self._note("approve", plan_id, action, by, reason, actor)

    async def decline(self, plan_id: str, *, by: str, reason: str, actor: str) -> RecoveryPlan:
        return self._note("decline", plan_id, by, reason, actor)

    def _note(self, *what: Any) -> RecoveryPlan:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure
        return self.kept[0]


def a_plan(plan_id: str = "0123456789abcdef", state: PlanState = PlanState.PLANNED) -> RecoveryPlan:
    return RecoveryPlan(
        plan_id=plan_id,
        run_id="r1",
        runtime="pi_crew",
        root="pi_crew:/p",
        crew="blue",
        folder="/p/.crew/state/runs/r1",
        cause=Cause.ALL_EXITED,
        because="its runner is gone (pid 7 is gone); dead: t1",
        state=state,
        resumable=("t1",),
        preserved=("t0",),
        event_seq=7,
        offers=("resume", "cancel"),
        mark="m",
        created_at=1_767_225_600.0,
        output="Bearer abcdefghijkl",
    )


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
        self.hour = LastHour()
        self.redactor = Redactor(secrets)
        self.broadcast = Broadcast(self.history, self.redactor)
        self.allowed_hosts = allowed_hosts
        self.actions: Deeds | None = Deeds()
        self.incidents = Words()
        self.recoveries = Plans()
        self.token = TOKEN
        self.reloads: list[Reloaded] = []  # what the next reloads come to
        self.level, self.level_by = "info", ""
        self.written = {"stdout": b"", "stderr": b""}
        self.over = False
        self.wall = 1_767_225_600.0
        self.ledger = Path("/nowhere")  # its folder
        self.pruned: list[tuple[float, str]] = []
        self.observed: list[tuple[str, str, int]] = []

    async def reload(self) -> Reloaded:
        return self.reloads.pop(0)

    def now(self) -> float:
        return self.wall

    def look_back(self) -> Reader:
        return Reader.open(self.ledger)

    async def prune(self, before: float, *, actor: str) -> int:
        self.pruned.append((before, actor))
        return 7

    def log_level(self) -> tuple[str, str]:
        return self.level, "info"

    async def set_log_level(self, level: str, *, actor: str) -> None:
        self.level = level
        self.level_by = actor

    def output(
        self, run_id: str, task_id: str, attempt: int, stream: str, offset: int, limit: int
    ) -> OutputPiece | None:
        if (run_id, task_id) != ("r1", "t1"):
            return None
        data = self.written[stream][offset : offset + limit]
        return OutputPiece(data, offset, self.over and offset + len(data) == len(self.written[stream]), attempt or 2)

    def snapshot(self) -> Snapshot:
        return self.picture

    def explain(self, run_id: str, task_id: str) -> Mapping[str, Any] | None:
        return {"level": "healthy", "row": 1} if task_id == "t1" else None

    def http_observed(self, route: str, method: str, code: int, seconds: float) -> None:
        assert seconds >= 0
        self.observed.append((route, method, code))
        self.metrics.http_observed(route, method, code, seconds)


Request = tuple[str, str, Mapping[str, str | bytes]] | tuple[str, str, Mapping[str, str | bytes], Any]


def ask(
    state: State, path: str, method: str = "GET", headers: Mapping[str, str | bytes] | None = None
) -> httpx.Response:
    """Send one request through the whole application, without a socket."""
    return ask_all(state, [(method, path, dict(headers or {}))])[0]


def change(
    state: State,
    path: str,
    body: Any = None,
    headers: Mapping[str, str | bytes] | None = None,
    peer: Peer | None = ANNA,
) -> httpx.Response:
    """Ask for a change as one who may: through the unix socket, in JSON. Bytes are sent as they are."""
    content = body if isinstance(body, bytes) else msgspec.json.encode({} if body is None else body)
    sent = {"content-type": "application/json", **(headers or {})}
    return ask_all(state, [("POST", path, sent, content)], peer)[0]


def encoded(headers: Mapping[str, str | bytes]) -> list[tuple[bytes, bytes]]:
    """Encode header values as they are, so that odd bytes reach the application."""
    return [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers.items()]


def ask_all(state: State, requests: Sequence[Request], peer: Peer | None = None) -> list[httpx.Response]:
    """Send several, one after the other; through the unix socket if there is a peer."""
    app = build_app(state)

    async def through(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {} if peer is None else {PEER: peer}}, receive, send)

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=through)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9464") as client:
            return [
                await client.request(method, path, headers=encoded(headers), content=body[0] if body else None)
                for method, path, headers, *body in requests
            ]

    return asyncio.run(run())
