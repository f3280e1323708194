"""A daemon to ask, a ledger to fall back on, and a way to run commands."""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry

from crewd.cli.main import cli
from crewd.detection.explain import explain
from crewd.ledger.batch import Batch, StandingRow
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.model.event import Event
from crewd.model.process import ProcessSeen, ProcessState
from crewd.model.reloading import Reloaded
from crewd.model.run import Run, RunStatus, Task, TaskStatus
from crewd.model.snapshot import Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict
from crewd.telemetry.exposition import Exposition
from crewd.telemetry.metrics import Metrics
from crewd.telemetry.redact import Redactor
from crewd.web.app import build_app
from crewd.web.server import HttpOptions, Server
from tests.fakes.clock import FakeClock
from tests.web.world import Plans, Words

NOW = 1_767_225_600.0


def crewd(*arguments: str, folder: Path, environ: Mapping[str, str] | None = None) -> Result:
    """Run one command in an environment of its own."""
    clean = {name: None for name in os.environ if name.startswith("CREWD_") or name.endswith("_DIRECTORY")}
    runner = CliRunner(env={**clean, "HOME": str(folder), "XDG_STATE_HOME": None, "XDG_CONFIG_HOME": None})
    return runner.invoke(cli, list(arguments), env=dict(environ or {}))


def task(task_id: str, status: TaskStatus = TaskStatus.RUNNING, **others: Any) -> Task:
    return Task(task_id, status, status.value, **others)


def run(run_id: str, *tasks: Task, status: RunStatus = RunStatus.RUNNING, **others: Any) -> Run:
    others = {"crew": "blue", "goal": "ship it", "updated_at": NOW, **others}
    return Run(run_id, "pi_crew", status=status, status_text=status.value, folder="/srv/blue", tasks=tasks, **others)


def worker(task_id: str, level: Level = Level.HEALTHY, silence: float = 3.0, because: str = "") -> WorkerView:
    reason = {Level.HEALTHY: Reason.BEATING, Level.DEAD: Reason.EXITED}.get(level, Reason.SILENT)
    standing = Standing(level, reason, because or f"silent for {silence:.0f} s", since=NOW)
    verdict = Verdict(level, reason, standing.because, row=2 if level is Level.DEAD else 8)
    process = ProcessSeen(ProcessState.ALIVE, "pid 7 is alive")
    return WorkerView(task_id, 1, standing, verdict, heard_at=1000.0 - silence, progress_at=NOW, process=process)


def snapshot(*views: RunView, **health: Any) -> Snapshot:
    return Snapshot(
        taken_at=NOW,
        health=Health(**{"started_at": NOW, "round_number": 7, "round_at": NOW, **health}),
        runs={view.run.run_id: view for view in views},
        observed={"root": 1000.0},
    )


def picture() -> Snapshot:
    """Three runs at work, one of them in trouble, and one that has ended."""
    return snapshot(
        RunView(run("r-well", task("t1")), "root", (worker("t1"),)),
        RunView(
            run("r-bad", task("t1"), task("t2"), task("t3", TaskStatus.QUEUED)),
            "root",
            (worker("t1", Level.WARN, 40.0), worker("t2", Level.DEAD, 400.0, "pid 9 is gone")),
        ),
        RunView(run("r-ended", task("t1", TaskStatus.COMPLETED), status=RunStatus.COMPLETED), "root"),
    )


def event(seq: int, type: str = "task.started", **others: Any) -> Event:
    return Event(type, NOW + seq, {"n": seq}, run_id="r-bad", task_id="t1", **others)


def write_ledger(folder: Path, taken: Snapshot | None = None, events: Sequence[Event] = ()) -> None:
    """Leave a ledger behind as a daemon would that saw this."""
    taken = taken or picture()
    rows = [
        StandingRow(
            view.run.run_id,
            each.task_id,
            each.attempt,
            view.run.runtime,
            view.run.crew,
            each.standing,
            msgspec.to_builtins(explain(view, each, taken)),
        )
        for view in taken.runs.values()
        for each in view.workers
    ]
    batch = Batch(
        events=tuple(events) or tuple(event(seq) for seq in range(1, 4)),
        runs=tuple(view.run for view in taken.runs.values()),
        standings=tuple(rows),
    )

    async def write() -> None:
        ledger = Ledger.open(folder, FakeClock(NOW))
        await ledger.commit(batch)
        await ledger.close()

    asyncio.run(write())


class State:
    """What a daemon answers from."""

    allowed_hosts = ()
    actions = None  # it only watches
    incidents = Words()  # nobody is asked
    recoveries = Plans()  # nor here
    token = ""

    def __init__(self, folder: Path, taken: Snapshot) -> None:
        self.taken = taken
        self.folder = folder
        self.exposition = Exposition(Metrics(CollectorRegistry(), self.snapshot).registry)
        self.history = Reader.open(folder)
        self.redactor = Redactor()

    def snapshot(self) -> Snapshot:
        return self.taken

    async def reload(self) -> Reloaded:
        return Reloaded()

    def now(self) -> float:
        return NOW

    def look_back(self) -> Reader:
        return Reader.open(self.folder)

    async def prune(self, before: float, *, actor: str) -> int:
        return 0

    def output(self, *_: Any) -> None:
        return None

    def explain(self, run_id: str, task_id: str) -> Mapping[str, Any] | None:
        view = self.taken.runs[run_id]
        found = next((each for each in view.workers if each.task_id == task_id), None)
        return None if found is None else msgspec.to_builtins(explain(view, found, self.taken))

    def http_observed(self, route: str, method: str, code: int, seconds: float) -> None:
        pass


@contextlib.contextmanager
def daemon(folder: Path, taken: Snapshot | None = None) -> Iterator[str]:
    """Answer HTTP requests as crewd does, out of a ledger in `folder` that is there already."""
    state = State(folder, taken or picture())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = Server(build_app(state), HttpOptions(port=0))
    try:
        host, port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
        url = f"http://{host}:{port}"
        (folder / "daemon.json").write_text(json.dumps({"pid": os.getpid(), "url": url, "started_at": ""}))
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        state.history.close()
        (folder / "daemon.json").unlink(missing_ok=True)
