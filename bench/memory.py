"""What crewd holds in memory: 100,000 tasks watched, and a daemon with nothing to watch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.crews import crew_of, end
from bench.result import Result, main

RUNS, TASKS, EVENTS = 10_000, 10, 5
WATCHING_MAX, IDLE_MAX = 150, 80  # MiB of resident memory
IDLE_CPU_MAX = 0.002  # of one core
SETTLING, WATCHED = 4.0, 20.0  # seconds
ROUNDS = 3
CHILD = """
import sys
from pathlib import Path
from bench.memory import resident
from bench.rounds import Watched
watched = Watched(sys.argv[1])
empty = resident("self")
for _ in range(int(sys.argv[2])):
    watched.round()
print(empty, resident("self"), sum(len(view.workers) for view in watched.patrol.picture.snapshot.runs.values()))
"""


def compare() -> list[Result]:
    """Measure both in child processes, so that this one's memory does not count."""
    with crew_of(RUNS, TASKS, EVENTS) as (project, folders):
        results = [_watching(project, f"{RUNS:,} runs, all running")]
        end(folders[: RUNS * 19 // 20])
        results.append(_watching(project, f"{RUNS:,} runs, 5 % of them running"))
    return results + _idle()


def resident(pid: int | str) -> float:
    """Resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS: is it a zombie?")


def _watching(project: Path, what: str) -> Result:
    command = [sys.executable, "-c", CHILD, str(project), str(ROUNDS)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    empty, full, workers = float(answer[0]), float(answer[1]), int(answer[2])
    each = (full - empty) * 1024 / (RUNS * TASKS)
    return Result(
        f"memory: {what}, {RUNS * TASKS:,} tasks ({workers:,} at work)",
        f"{full:.0f} MiB", "", None, f"<= {WATCHING_MAX} MiB", full <= WATCHING_MAX,
        f"{empty:.0f} MiB before the first round; {each:.2f} KiB a task; sources and patrol, without web and ledger",
    )  # fmt: skip


def _idle() -> list[Result]:
    with TemporaryDirectory(prefix="crewd-bench-") as name:
        environment = {"HOME": name, "PATH": os.environ.get("PATH", "")}
        command = [sys.executable, "-m", "crewd", "serve", "--root", f"{name}/crew", "--state-dir", f"{name}/state"]
        Path(name, "crew").mkdir()
        with Path(name, "log").open("w") as log:
            daemon = subprocess.Popen([*command, "--port", "0"], env=environment, stderr=log, stdout=log)
        try:
            time.sleep(SETTLING)
            before = _cpu_seconds(daemon.pid)
            time.sleep(WATCHED)
            share = (_cpu_seconds(daemon.pid) - before) / WATCHED
            memory = resident(daemon.pid)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
    return [
        Result(
            f"idle daemon: share of a core over {WATCHED:.0f} s", f"{share:.2%}", "", None,
            f"<= {IDLE_CPU_MAX:.1%}", share <= IDLE_CPU_MAX,
        ),
        Result("idle daemon: memory", f"{memory:.0f} MiB", "", None, f"<= {IDLE_MAX} MiB", memory <= IDLE_MAX),
    ]  # fmt: skip


def _cpu_seconds(pid: int) -> float:
    """Sum what the threads of a process have run, to the nanosecond (Documentation/scheduler/sched-stats)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


if __name__ == "__main__":
    main(compare, __doc__)
