"""How soon an accepted task runs, and how soon the death of a worker is known, in a daemon of its own process."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.result import Result, main
from bench.timing import milliseconds

PATIENCE = 120.0  # seconds
KNOWN_MAX = 0.010


def compare() -> list[Result]:
    """Have a child process measure both: a daemon changes what its process does with signals and orphans."""
    with TemporaryDirectory(prefix="crewd-bench-") as name:
        command = [sys.executable, "-m", "bench.latency_daemon", name]
        root = Path(__file__).parent.parent
        child = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True)
    found = json.loads(child.stdout)
    started, known = found["started"], found["known"]
    return [
        Result(
            f"accepted until its command runs, {found['rate']:g} a second: p50, p99",
            f"{milliseconds(median(started))}, {milliseconds(_high(started))}", "", None, "", None,
            f"{len(started)} runs of one task; the start of `date` itself is in it",
        ),
        Result(
            "kill -9 of a worker until attempt.finished is durable: p50", milliseconds(median(known)), "", None,
            f"<= {milliseconds(KNOWN_MAX)}", median(known) <= KNOWN_MAX,
            f"p99 {milliseconds(_high(known))}; {len(known)} kills; nothing of the attempt is left by then",
        ),
    ]  # fmt: skip


def _high(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(0.99 * len(values)))]


if __name__ == "__main__":
    main(compare, __doc__)
