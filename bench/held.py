"""What crewd holds and does while 1,000 attempts are at work and nothing happens."""

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.memory import resident
from bench.result import Result, main
from bench.serving import Serving, cpu_seconds, descriptors, serving

WORKERS = 1000
STARTING, HELD, ENDING = 120.0, 10.0, 120.0  # seconds
COUNT = "SELECT count(*) FROM managed_tasks WHERE run_id = ? AND state = ?"


def compare() -> list[Result]:
    """Start them all, watch them do nothing, and let them end all at once."""
    with TemporaryDirectory(prefix="crewd-bench-") as name:
        pipe = Path(name, "pipe")
        os.mkfifo(pipe)
        writing = os.open(pipe, os.O_RDWR | os.O_CLOEXEC)  # whoever reads from it waits until this is closed
        with serving(Path(name, "crewd"), TASKS__MAX_PARALLEL=str(WORKERS), TASKS__START_RATE="0") as daemon:
            try:
                run_id, results = _held(daemon, pipe)
            finally:
                os.close(writing)
            return [*results, _ended(daemon, run_id)]


def _held(daemon: Serving, pipe: Path) -> tuple[str, list[Result]]:
    empty, handles = resident(daemon.pid), descriptors(daemon.pid)
    tasks = [{"id": f"t{number}", "command": ["/bin/cat", str(pipe)], "cwd": "/"} for number in range(WORKERS)]
    began = time.perf_counter()
    run_id = daemon.submit({"tasks": tasks})
    running = 0
    while running < WORKERS and time.perf_counter() - began < STARTING:
        time.sleep(0.1)
        running = daemon.rows(COUNT, run_id, "running")[0][0]
    started = time.perf_counter() - began
    print(f"held: {running} started in {started:.0f} s", file=sys.stderr)
    time.sleep(2.0)  # the patrol has met them all
    before, held_from = cpu_seconds(daemon.pid), time.perf_counter()
    time.sleep(HELD)
    share = (cpu_seconds(daemon.pid) - before) / (time.perf_counter() - held_from)
    full, more = resident(daemon.pid) - empty, descriptors(daemon.pid) - handles
    return run_id, [
        Result(
            f"{running:,} attempts held: memory", f"{resident(daemon.pid):.0f} MiB", "", None, "", None,
            f"{full / max(1, running) * 1024:.1f} KiB for each above the empty daemon; started in {started:.1f} s",
        ),
        Result(f"{running:,} attempts held: descriptors each", f"{more / max(1, running):.2f}", "", None, "", None),
        Result(f"{running:,} attempts held: share of a core over {HELD:g} s", f"{share:.1%}", "", None, "", None),
    ]  # fmt: skip


def _ended(daemon: Serving, run_id: str) -> Result:
    """From the moment at which all workers can end to the end of their run on disk."""
    before, began = cpu_seconds(daemon.pid), time.perf_counter()
    ended = daemon.wait_ended(run_id, ENDING)
    seconds, cpu = time.perf_counter() - began, cpu_seconds(daemon.pid) - before
    done = daemon.rows(COUNT, run_id, "completed")[0][0]
    words = f"{cpu / max(1, done) * 1000:.2f} ms CPU for each" + ("" if ended else f"; {done} of {WORKERS} in time")
    return Result(
        f"{WORKERS:,} attempts end at once: all of it on disk", f"{seconds:.1f} s", "", None, "", None, words
    )


if __name__ == "__main__":
    main(compare, __doc__)
