"""The peers of managed runs: queues that others use to run commands, each in an environment of its own, 4 at once.

Their packages (peers.txt) go into an environment below the user's cache folder; Redis is the machine's own, on a
free loopback port, with every write synced before it is answered. Whoever cannot be had is named with the reason.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.serving import cpu_seconds

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "peers.txt"
APPS = HERE / "peer_apps"
PATIENCE = 30.0  # seconds for workers to take their first task
INSTALLING = 180.0  # seconds for one package
WARM_UP = 8  # tasks
NOISE = 0.005


class Turn(NamedTuple):
    """One measurement of one contender."""

    rate: float  # tasks a second, from the first being handed in until the last has ended
    cpu: float  # seconds a task: of its own processes, without the commands that it ran
    done: int
    broker_cpu: float = 0.0  # seconds a task


@dataclass(frozen=True)
class Peer:
    """One peer: its workers, started by this command, and how many at once."""

    name: str
    package: str  # its line in peers.txt begins so
    command: Sequence[str]
    app: str  # module that enqueues; "": the worker does so itself
    how: str  # for whoever reads the figures
    needs_redis: bool = True
    tasks: int = 1000


PEERS = (
    Peer(
        "Dramatiq", "dramatiq", ("dramatiq", "--processes", "4", "--threads", "1", "dramatiq_app"), "dramatiq_app",
        "Redis; 4 processes; acknowledged after the task",
    ),
    Peer(
        "Huey", "huey", ("huey_consumer", "huey_app.huey", "-w", "4", "-k", "process", "-q"), "huey_app",
        "Redis; 4 processes; a task whose worker dies is lost",
    ),
    Peer(
        "Celery", "celery",
        ("celery", "-A", "celery_app", "worker", "-c", "4", "--without-gossip", "--without-mingle",
         "--without-heartbeat", "-l", "ERROR"),
        "celery_app", "Redis; 4 processes; acknowledged after the task",
    ),
    Peer(
        "DBOS", "dbos", ("python", "dbos_app.py"), "", "SQLite; 4 threads; start and end of each task recorded",
        needs_redis=False, tasks=200,
    ),
)  # fmt: skip


def install() -> tuple[Path, dict[str, str]]:
    """Make the environment of all peers, if it is not there; returns it, and package -> why it is missing."""
    wanted = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    digest = hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "crewd-bench" / f"peers-{digest}"
    python = folder / "bin" / "python"
    missing: dict[str, str] = {}
    if not python.exists():
        made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
        if made.returncode:
            return folder, {_package(line): _last_line(made.stderr or made.stdout) for line in wanted}
    for line in wanted:
        done = folder / f"has-{_package(line)}"
        if done.exists():
            continue
        print(f"tasks: installs {line}", file=sys.stderr)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", line]
        try:
            installed = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING)
        except subprocess.TimeoutExpired:
            missing[_package(line)] = f"pip did not install it within {INSTALLING:g} s"
            continue
        if installed.returncode:
            missing[_package(line)] = _last_line(installed.stderr)
        else:
            done.touch()
    return folder, missing


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[tuple[int, int, str]]:
    """Serve Redis until the end of the block; yields its port and pid, or 0, 0 and why there is none."""
    server = shutil.which("redis-server")
    if server is None:
        yield 0, 0, "no redis-server on this machine"
        return
    folder.mkdir()
    port = _free_port()
    options = {
        "port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "yes", "appendfsync": "always",
        "daemonize": "no",
    }  # fmt: skip
    command = [server, *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        if _answers(port, process):
            yield port, process.pid, ""
        else:
            yield 0, 0, f"redis-server did not answer: {_last_line((folder / 'log').read_text())}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def measure(peer: Peer, environment: Path, port: int, redis_pid: int, folder: Path, seconds: float) -> Turn:
    """Start its workers, hand in its tasks, and wait for their ends; at most so long. Raises RuntimeError."""
    folder.mkdir()
    done = folder / "done"
    variables = {
        "PATH": f"{environment}/bin:{os.environ.get('PATH', os.defpath)}", "HOME": str(folder),
        "PYTHONPATH": str(APPS), "PYTHONDONTWRITEBYTECODE": "1", "BENCH_FOLDER": str(folder),
        "BENCH_REDIS": f"redis://127.0.0.1:{port}/0", "BENCH_DONE": str(done),
    }  # fmt: skip
    enqueue = [str(environment / "bin" / "python"), str(APPS / "enqueue.py"), peer.app]
    program, *arguments = peer.command
    work = [str(environment / "bin" / program), *arguments]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("w"))
        talk = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": log}
        workers = subprocess.Popen(  # type: ignore[call-overload]
            work, cwd=APPS, env=variables, stderr=log, start_new_session=True, **(quiet if peer.app else talk)
        )
        stack.callback(_end, workers)
        client = workers
        if peer.app:
            client = subprocess.Popen(enqueue, cwd=APPS, env=variables, stderr=log, **talk)  # type: ignore[call-overload]
            stack.callback(_end, client)
        if client.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{peer.name} does not start: {_last_line((folder / 'log').read_text())}")
        _ask(client, WARM_UP)
        if not _wait(done, WARM_UP, PATIENCE):
            raise RuntimeError(f"{peer.name} does no task: {_last_line((folder / 'log').read_text())}")
        before, redis_before = _family_cpu(workers.pid), cpu_seconds(redis_pid) if redis_pid else 0.0
        began, enqueued_cpu = _ask(client, peer.tasks)
        _wait(done, WARM_UP + peer.tasks, seconds)
        elapsed = time.monotonic() - began
        count = done.stat().st_size - WARM_UP
        own = _family_cpu(workers.pid) - before + (enqueued_cpu if peer.app else 0.0)
        broker = cpu_seconds(redis_pid) - redis_before if redis_pid and peer.needs_redis else 0.0
    return Turn(count / elapsed, own / max(1, count), count, broker / max(1, count))


def _ask(client: "subprocess.Popen[str]", tasks: int) -> tuple[float, float]:
    """Have so many tasks enqueued; returns when that began, by the monotonic clock, and what CPU time it took."""
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(f"{tasks}\n")
    client.stdin.flush()
    began, cpu = client.stdout.readline().split()
    return float(began), float(cpu)


def _wait(done: Path, count: int, seconds: float) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if done.exists() and done.stat().st_size >= count:
            return True
        time.sleep(NOISE)
    return False


def _family_cpu(pid: int) -> float:
    """CPU time of a process and of all that live below it: no command counts, for it has ended."""
    total, queue = 0.0, [pid]
    for each in queue:
        with contextlib.suppress(OSError):
            total += cpu_seconds(each)
            for thread in os.listdir(f"/proc/{each}/task"):
                queue += map(int, Path(f"/proc/{each}/task/{thread}/children").read_text().split())
    return total


def _end(process: "subprocess.Popen[str]") -> None:
    """End a process that was started here, and whoever it leads."""
    leads = os.getpgid(process.pid) == process.pid if process.poll() is None else False
    for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if process.poll() is not None:
            break
        (os.killpg if leads and number == signal.SIGKILL else os.kill)(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return True
        time.sleep(0.05)
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _package(line: str) -> str:
    return line.partition("==")[0].partition("[")[0]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
