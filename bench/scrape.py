"""How long the event loop stands still while some 10,000 series are scraped, against its own lag when nobody asks."""

import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from prometheus_client import CollectorRegistry

from bench.result import Result, main
from bench.timing import milliseconds
from crewd.cli.settling import settle_process
from crewd.model.event import Event
from crewd.model.process import HIDDEN
from crewd.model.report import RoundReport
from crewd.model.run import Run, RunStatus, Task, TaskStatus
from crewd.model.snapshot import Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict
from crewd.telemetry.exposition import Exposition
from crewd.telemetry.metrics import Metrics
from crewd.telemetry.redact import Redactor
from crewd.telemetry.tallies import MetricsOptions
from crewd.web.app import build_app
from crewd.web.server import HttpOptions, Server

WORKERS = 5_600  # one series each; with those of fifty crews some 10,000
WINDOW, WINDOWS = 2.0, 4  # seconds; how often idle and scraped take turns
BEAT = 0.002  # seconds between two looks at the lag
STALL_MAX = 0.010
SCRAPER = """
import http.client, sys, time
end = time.monotonic() + float(sys.argv[2])
size = count = 0
while time.monotonic() < end:
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
    connection.request("GET", "/metrics")
    size = len(connection.getresponse().read())
    connection.close()
    count += 1
    time.sleep(0.3)
print(count, size)
"""


class State:
    """What the web asks for, around one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        options = MetricsOptions(per_worker=True, per_worker_max=WORKERS)
        self.metrics = Metrics(CollectorRegistry(), self.snapshot, options)
        self.exposition = Exposition(self.metrics.registry)
        self.redactor = Redactor()
        self.allowed_hosts: Sequence[str] = ()
        self.history = self

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def explain(self, run_id: str, task_id: str) -> Mapping[str, Any] | None:
        return None

    def events(self, *_: object, **__: object) -> list[Event]:
        return []

    def pruned_to(self) -> int:
        return 0

    def http_observed(self, route: str, method: str, code: int, seconds: float) -> None:
        self.metrics.http_observed(route, method, code, seconds)


def compare() -> list[Result]:
    """Measure the lag of the loop that serves, in turns of silence and scraping."""
    before = sys.getswitchinterval()
    try:
        return asyncio.run(_compare())
    finally:  # others follow in this process
        gc.unfreeze()
        sys.setswitchinterval(before)


async def _compare() -> list[Result]:
    snapshot = _snapshot()
    state = State(snapshot)
    state.metrics.on_round(RoundReport(1, snapshot.taken_at, 0.0), snapshot)
    server = Server(build_app(state), HttpOptions(port=0))
    _, port = await server.start()
    series = sum(not line.startswith(b"#") for line in (await state.exposition.answer()).body.splitlines())
    settle_process()  # as `crewd serve` does once it is ready
    idle: list[float] = []
    scraped: list[float] = []
    scrapes = size = 0
    for _ in range(WINDOWS):
        idle.append(await _worst_lag())
        scraper = subprocess.Popen(
            [sys.executable, "-c", SCRAPER, str(port), str(WINDOW - 0.2)], stdout=subprocess.PIPE, text=True
        )
        scraped.append(await _worst_lag())
        answer, _ = await asyncio.to_thread(scraper.communicate)
        scrapes += int(answer.split()[0])
        size = int(answer.split()[1])
    await server.stop()
    rest, stall = median(idle), median(scraped)
    return [
        Result(
            f"loop lag while {series:,} series are scraped", milliseconds(stall), f"idle lag: {milliseconds(rest)}",
            stall / rest, f"<= idle + {milliseconds(STALL_MAX)}", stall <= rest + STALL_MAX,
            f"worst lag of {WINDOW:.0f} s, median of {WINDOWS}; {scrapes} scrapes of {size / 1024:.0f} KiB",
        )
    ]  # fmt: skip


async def _worst_lag() -> float:
    worst = 0.0
    end = time.perf_counter() + WINDOW
    while (now := time.perf_counter()) < end:
        await asyncio.sleep(BEAT)
        worst = max(worst, time.perf_counter() - now - BEAT)
    return worst


def _snapshot() -> Snapshot:
    verdict = Verdict(Level.HEALTHY, Reason.BEATING, "silent for 1 s", 6)
    now = time.time()
    runs = {}
    for number in range(WORKERS // 10):
        run_id = f"team_20261121000000_{number:016x}"
        tasks = tuple(Task(f"{place:02d}_step", TaskStatus.RUNNING, "running") for place in range(10))
        run = Run(run_id, "pi_crew", f"crew-{number % 50}", RunStatus.RUNNING, "running", f"/crews/{run_id}", tasks)
        workers = tuple(WorkerView(task.task_id, 1, Standing(), verdict, 0.0, now, HIDDEN) for task in tasks)
        runs[run_id] = RunView(run, "pi_crew:/crews", workers)
    return Snapshot(now, Health(round_at=now, round_number=1), runs, {"pi_crew:/crews": 1.0})


if __name__ == "__main__":
    main(compare, __doc__)
