"""A real crewd in a process of its own, on a free port, with short thresholds; and real workers beside it."""

import contextlib
import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PATIENCE = 30.0
QUICK = {
    "CREWD_PATROL__INTERVAL": "1s",
    "CREWD_HEARTBEAT__WARN_AFTER": "2s",
    "CREWD_HEARTBEAT__STALE_AFTER": "4s",
    "CREWD_HEARTBEAT__DEAD_AFTER": "8s",
    "CREWD_HEARTBEAT__HUNG_AFTER": "12s",
    "CREWD_HEARTBEAT__STARTUP_GRACE": "0",
    "CREWD_SINKS__METRICS_EVERY": "1s",
}


class Crewd:
    """One `crewd serve`. `stop` ends it by its own handle."""

    def __init__(self, state: Path, root: Path, *more: str, **environ: str) -> None:
        self.state = state
        command = [sys.executable, "-m", "crewd", "serve", "--root", str(root), "--state-dir", str(state)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CREWD_")}
        self.log = state.parent / f"{state.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", "0", "--log-format", "json", *more],
                env={**clean, **QUICK, "HOME": str(state.parent), **environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self) -> None:
        eventually(lambda: self.get("/readyz")[0] == 200, self.process)

    def get(self, path: str) -> tuple[int, Any]:
        """Ask over HTTP; (0, None) where nobody answers."""
        try:
            record = json.loads((self.state / "daemon.json").read_bytes())
            if record["pid"] != self.process.pid:
                return 0, None
            host, port = record["url"].removeprefix("http://").rsplit(":", 1)
            connection = http.client.HTTPConnection(host, int(port), timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
        except (OSError, ValueError, http.client.HTTPException):
            return 0, None
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(body)
        return answer.status, body

    def level(self, run: str, task: str) -> str:
        _, body = self.get(f"/api/v1/runs/{run}/tasks/{task}")
        return str(body["explain"]["level"]) if body and body.get("explain") else ""

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@contextlib.contextmanager
def crewd(state: Path, root: Path, *more: str, **environ: str) -> Iterator[Crewd]:
    """Run crewd until the end of the block."""
    running = Crewd(state, root, *more, **environ)
    try:
        yield running
    finally:
        running.stop()


def eventually(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something is true, at most as long as patience lasts."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"crewd ended with {process.returncode}")
        assert time.monotonic() < deadline, "not within 30 s"
        time.sleep(0.05)


def events(state: Path) -> list[dict[str, Any]]:
    """All whole lines of the event sink, over all its days; those that are over may be packed already."""
    days = sorted((state / "logs").glob("events-2*.jsonl*"))
    contents = [gzip.decompress(day.read_bytes()) if day.suffix == ".gz" else day.read_bytes() for day in days]
    return [json.loads(line) for line in b"".join(contents).split(b"\n") if line]


class Worker:
    """A real process, named by a beat file that is renewed on request."""

    def __init__(self, root: Path, run: str, task: str) -> None:
        self.root, self.run, self.task, self.seq = root, run, task, 0
        code = "import sys; sys.stdin.read()"  # lives until its parent lets go
        self.process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        self.beat()

    def beat(self, **more: Any) -> None:
        self.seq += 1
        folder = self.root / self.run
        folder.mkdir(parents=True, exist_ok=True)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = {"v": 1, "run": self.run, "task": self.task, "seq": self.seq, "at": now, "status": "running"}
        record |= {"pid": self.process.pid, "host": socket.gethostname(), **more}
        path = folder / f"{self.task}.json"
        path.with_suffix(".tmp").write_text(json.dumps(record))
        path.with_suffix(".tmp").rename(path)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
