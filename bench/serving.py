"""A real `crewd serve` in a process of its own, for measuring it from outside."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

PATIENCE = 60.0  # seconds for crewd to be ready, and to end
NOISE = 0.005  # seconds between two looks at whether something has happened
TICKS = os.sysconf("SC_CLK_TCK")
ENDED = "SELECT ended_at FROM managed_runs WHERE run_id = ?"


class Serving:
    """One daemon, asked through its socket. What became of a run is read from its ledger, which costs it nothing."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.state = folder / "state"
        (folder / "crew").mkdir(parents=True)
        environment = {"HOME": str(folder), "PATH": os.environ.get("PATH", os.defpath)}
        environment |= {f"CREWD_{name}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "crewd", "serve", "--root", str(folder / "crew"), "--port", "0"]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--state-dir", str(self.state)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self.process.pid
        self._socket = _OverSocket(self.state / "crewd.sock")
        self._ledger: apsw.Connection | None = None

    def wait_ready(self) -> None:
        """Wait until it takes runs. Raises RuntimeError with its log."""
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"crewd was not ready in time: {self.log.read_text()[-2000:]}")

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Ask over the one connection that is kept."""
        data = None if body is None else json.dumps(body)
        try:
            self._socket.request(method, path, data, {"Content-Type": "application/json"})
            answer = self._socket.getresponse()
            return answer.status, answer.read()
        except BaseException:
            self._socket.close()  # the next question connects again
            raise

    def submit(self, run: dict[str, Any]) -> str:
        """Submit a run; returns its id once it is durable."""
        status, answer = self.ask("POST", "/api/v1/runs", {"run": run, "base": "/"})
        if status not in (200, 201, 202):
            raise RuntimeError(f"the run was refused: {status} {answer.decode(errors='replace')[:500]}")
        return str(json.loads(answer)["run_id"])

    def wait_ended(self, run_id: str, seconds: float) -> bool:
        """Wait until the end of a run is durable; False: it was not in time."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if any(row[0] is not None for row in self.rows(ENDED, run_id)):
                return True
            time.sleep(NOISE)
        return False

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Read from its ledger."""
        if self._ledger is None:
            path = self.state / "ledger.sqlite3"
            self._ledger = apsw.Connection(
                f"file:{path}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
            )
            self._ledger.set_busy_timeout(5000)
        return self._ledger.execute(sql, bindings).fetchall()

    def stop(self) -> None:
        """End it, by its own pid."""
        self._socket.close()
        if self._ledger is not None:
            self._ledger.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextlib.contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Serving]:
    """A daemon that takes runs, until the end of the block."""
    daemon = Serving(folder, **settings)
    try:
        daemon.wait_ready()
        yield daemon
    finally:
        daemon.stop()


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, its ended threads included and its children not (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class _OverSocket(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))
