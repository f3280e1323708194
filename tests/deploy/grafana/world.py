"""A crewd of which every family moves: its exposition on a loopback port, and a Prometheus that scrapes it."""

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.exposition import generate_latest

from crewd.telemetry import families as known
from tests.deploy.grafana.dashboards import ROOT
from tests.telemetry.pictures import event, report
from tests.telemetry.test_metrics import Ledger, World, full, managed

RULES = ROOT / "deploy/prometheus"
REMEDY = "prometheus is not on PATH: install Debian's package prometheus to run the queries of the dashboards"
# The shipped rules count at once: what they wait for is tested beside them.
WAITS = re.compile(r"^ *(for|keep_firing_for|interval): .*\n", re.MULTILINE)
DOWN = "127.0.0.1:1"  # nobody answers there
CONFIGURATION = """
global: {{scrape_interval: 500ms, scrape_timeout: 450ms, evaluation_interval: 500ms}}
rule_files: [rules.yml, alerts.yml]
scrape_configs: [{{job_name: crewd, static_configs: [{{targets: ["127.0.0.1:{port}", "{down}"]}}]}}]
"""


def move(world: World, seq: Iterator[int]) -> None:
    """Let something of each kind happen, as between two scrapes of a busy crewd."""

    def told(type: str, **data: Any) -> Any:
        return event(type, next(seq), data=data)

    def of_managed(type: str, **data: Any) -> Any:
        return managed(type, next(seq), **data)

    world.metrics.on_round(report(heartbeats={"pi_crew": 2}, heartbeat_intervals=(("pi_crew", 4.0),)), world.picture)
    events = [
        told("run.completed", duration_seconds=61.0),
        told("run.failed", duration_seconds=7.0),
        told("task.completed", task_type="explore", duration_seconds=3.0),
        told("task.failed", task_type="explore", duration_seconds=3.0),
        told("usage.recorded", model="m", input=10, output=5, cost_usd=0.25),
        told("worker.level_changed", from_level="warn", to_level="stale"),
        told("worker.level_changed", from_level="stale", to_level="healthy"),
        told("task.retry_scheduled", attempt=1, delayMs=1500),
        told("deadletter.added", reason="max-retries"),
        told("recovery.verified", cause="all_exited", duration_seconds=4.0),
        of_managed("attempt.starting", task_type="explore", queue_seconds=1.5),
        of_managed("attempt.finished", executor="default", error_class="timeout"),
        of_managed("deadletter.redriven", key="k"),
    ]
    for reason in known.DEAD_REASONS:
        events.append(told("verdict.opened", reason=reason, latency_seconds=2.0))
        events.append(told("verdict.refuted", reason=reason))
    world.metrics.on_events(events)
    world.metrics.http_observed("/metrics", "GET", 200, 0.01)
    world.metrics.loop_lag_observed(0.001)
    commits = next(seq)
    world.metrics.watch_ledger(lambda: Commits(commits))


class Commits(Ledger):
    """A ledger that has committed so often, each time within 10 ms."""

    def __init__(self, commits: int) -> None:
        self.commits = commits
        self.duration_buckets = ((0.001, commits // 2), (0.01, commits))


@contextmanager
def exposition() -> Iterator[int]:
    """Serve `/metrics` of a world in which every family has a series; each scrape finds that it went on."""
    world, seq = full(), count(1000)
    thresholds = {"default": {"warn": 30.0, "stale": 120.0, "hung": 600.0, "dead": 300.0}}
    world.picture = msgspec.structs.replace(world.picture, thresholds=thresholds)
    for folder in known.FOLDERS:
        world.metrics.free_space_observed(folder, 1 << 30)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            move(world, seq)
            body = generate_latest(world.metrics.registry)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[httpx.Client]:
    """Run a Prometheus with the shipped rules, and give what asks it."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip(REMEDY)
    for name in ("rules.yml", "alerts.yml"):
        (folder / name).write_text(WAITS.sub("", (RULES / name).read_text()))
    (folder / "prometheus.yml").write_text(CONFIGURATION.format(port=target, down=DOWN))
    address = f"127.0.0.1:{_free_port()}"
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}/api/v1", timeout=20) as client:
            _await(client, process, folder / "prometheus.log")
            yield client
    finally:
        process.terminate()
        process.wait(20)


def _await(client: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until there were scrapes enough for rates, and the rules of rules were evaluated."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = client.get("/query", params={"query": "min(count_over_time(up[1m]))"})
        except httpx.TransportError:
            answer = httpx.Response(503)
        scraped = answer.json()["data"]["result"] if answer.is_success else []
        if scraped and int(scraped[0]["value"][1]) >= 5:
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


def _free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port
