"""The canary: a process is killed, and the message about it is waited for. Everything between is the genuine crewd.

In a temporary folder, with a daemon, a source and a receiver of its own: no channel of the settings is used.
"""

import asyncio
import json
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from crewd.errors import CrewdError

if TYPE_CHECKING:
    from crewd.config.load import Loaded
    from crewd.demo.actors import Actor
    from crewd.model.event import Event
    from crewd.model.report import RoundReport
    from crewd.model.snapshot import Snapshot

SECONDS_MAX = 50.0  # for all of it
INTERVAL = 1.0  # of the canary's rounds
HOLD = 2.0  # for which a fresh crewd judges nobody: its warn_after
BODY_MAX = 1 << 20
RUN, TASK = "canary", "victim"


@dataclass(frozen=True)
class Step:
    """One step of the path, and how long it took. A step that never came has no time."""

    name: str
    seconds: float | None


def fly() -> list[Step]:
    """Go the whole path; the steps in their order, up to the first that did not come."""
    with tempfile.TemporaryDirectory(prefix="crewd-canary-", ignore_cleanup_errors=True) as folder:
        return asyncio.run(_fly(Path(folder)))


async def _fly(folder: Path) -> list[Step]:
    from crewd import daemon
    from crewd.demo.actors import Actor
    from crewd.host.clock import SystemClock

    clock, loop = SystemClock(), asyncio.get_running_loop()
    stop = asyncio.Event()
    path = _Path(lambda: clock.read().mono, stop)
    victim = Actor()

    def told(body: Any) -> None:
        loop.call_soon_threadsafe(path.arrived, body)

    try:
        with _Receiver(told) as receiver:
            beats = folder / "beats"
            beats.mkdir()
            flight = asyncio.create_task(path.follow(beats, victim), name="canary")
            flight.add_done_callback(lambda _: stop.set())
            with (folder / "crewd.log").open("w") as log, redirect_stderr(log):
                await daemon.serve(
                    _settings(folder, receiver.url),
                    _environment(folder),
                    listeners=(path,),
                    on_ready=lambda _: path.mark("ready"),
                    stop=stop,
                )
            if not flight.done():
                flight.cancel()
            await asyncio.wait([flight])
            if not flight.cancelled() and (error := flight.exception()) is not None:
                raise error
    finally:
        victim.kill()
    return path.steps


@dataclass(eq=False)
class _Path:
    """Hears what the daemon tells, and does what comes next."""

    mono: Callable[[], float]
    stop: asyncio.Event
    steps: list[Step] = field(default_factory=list)
    _marks: dict[str, float] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def mark(self, name: str) -> None:
        self._marks.setdefault(name, self.mono())
        self._changed.set()

    def on_events(self, events: "Sequence[Event]") -> None:
        for event in events:
            if event.task_id == TASK:
                self.mark(event.type)

    def on_round(self, report: "RoundReport", snapshot: "Snapshot") -> None:
        view = snapshot.runs.get(RUN)
        # While crewd holds, because it has just started, it judges nobody: that would be measured too.
        if view is not None and not snapshot.health.hold and any(worker.task_id == TASK for worker in view.workers):
            self.mark("seen")

    def arrived(self, body: Any) -> None:
        for notice in body.get("notices", ()) if isinstance(body, Mapping) else ():
            if notice.get("subject") == f"{RUN}/{TASK}":
                self.mark(f"told {notice.get('kind')}")

    async def follow(self, beats: Path, victim: "Actor") -> None:
        """Do each thing once the one before has shown."""
        began = self.mono()
        try:
            async with asyncio.timeout(SECONDS_MAX):
                began = await self._step("crewd is ready", began, "ready")
                await asyncio.to_thread(_beat, beats, victim.pid, 1, "running")
                began = await self._step("the worker is seen, the first hold over", began, "seen")
                victim.kill()
                began = await self._step("its death is judged", began, "verdict.opened")
                began = await self._step("its incident is recorded", began, "incident.opened")
                began = await self._step("the message arrives", began, "told opened")
                await asyncio.to_thread(_beat, beats, None, 2, "failed")
                await self._step("the message of its end arrives", began, "told resolved")
        except TimeoutError:
            return  # the step that did not come is the last, without a time

    async def _step(self, name: str, began: float, mark: str) -> float:
        self.steps.append(Step(name, None))
        while mark not in self._marks:
            self._changed.clear()
            await self._changed.wait()
        at = max(began, self._marks[mark])
        self.steps[-1] = Step(name, round(at - began, 3))
        return at


class _Receiver:
    """A webhook on a free port of the loopback address."""

    def __init__(self, told: Callable[[Any], None]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = min(int(self.headers.get("Content-Length") or 0), BODY_MAX)
                told(json.loads(self.rfile.read(size)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/canary"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


def _beat(beats: Path, pid: int | None, seq: int, status: str) -> None:
    """Write the beat of the victim, with the identity of its process."""
    from crewd.host.clock import SystemClock
    from crewd.host.files import write_atomically
    from crewd.host.machine import host_name
    from crewd.host.processes import ProcProcesses
    from crewd.sources.beat.form import encode_beat

    clock = SystemClock()
    process: dict[str, Any] = {}
    if pid is not None:
        facts = ProcProcesses(clock).facts(pid)
        if facts is None:
            raise CrewdError(f"the canary's process {pid} ended by itself")
        process = {"pid": pid, "start_ticks": facts.identity.start_ticks, "host": host_name()}
        process |= {"boot_id": facts.identity.boot_id, "pid_namespace": facts.identity.pid_namespace or None}
    data = encode_beat(run=RUN, task=TASK, seq=seq, at=clock.read().wall, status=status, crew="canary", **process)
    (beats / RUN).mkdir(exist_ok=True)
    write_atomically(beats / RUN / f"{TASK}.json", data, durable=False)


def _settings(folder: Path, url: str) -> "Loaded":
    from crewd.config.load import load

    (folder / "project").mkdir()
    return load(
        None,
        _environment(folder),
        {
            "sources.roots": (str(folder / "project"),),
            "sources.beat_roots": (str(folder / "beats"),),
            "sources.follow_index": False,
            "patrol.interval": INTERVAL,
            "heartbeat.warn_after": HOLD,
            "heartbeat.stale_after": 2 * HOLD,
            "ledger.folder": str(folder / "state"),
            "sinks.enabled": False,
            "tasks.enabled": False,
            "http.enabled": False,
            "http.socket": False,
            "notifications.channels": {"canary": {"kind": "webhook", "url": url, "min_severity": "info"}},
            "log.format": "json",
        },
    )


def _environment(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
