"""How long commands take from start to end, against a Python that does nothing."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.result import Result, main
from bench.timing import interleaved, milliseconds
from crewd.host.clock import SystemClock
from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.model.event import Event

REPEATS = 11
VERSION_MAX, STATUS_MORE_MAX = 0.100, 0.200  # seconds; the latter above bare Python


def compare() -> list[Result]:
    """Start each in turn."""
    with TemporaryDirectory(prefix="crewd-bench-") as name:
        folder = Path(name)
        asyncio.run(_write_ledger(folder / "state"))
        environment = {"HOME": name, "PATH": os.environ.get("PATH", "")}

        def run(*arguments: str) -> None:
            subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)

        state = str(folder / "state")
        found = interleaved(
            REPEATS,
            python=lambda: run("-c", "pass"),
            version=lambda: run("-m", "crewd", "--version"),
            status=lambda: run("-m", "crewd", "status", "--state-dir", state),
            beat=lambda: run("-m", "crewd", "beat", "--run", "r", "--task", "t", "--root", f"{name}/beats"),
        )
    python = found["python"]
    against = f"python -c pass: {milliseconds(python)}"
    version, status, beat = found["version"], found["status"], found["beat"]
    return [
        Result("crewd --version", milliseconds(version), against, version / python,
               f"<= {milliseconds(VERSION_MAX)}", version <= VERSION_MAX),
        Result("crewd status, from the ledger", milliseconds(status), against, status / python,
               f"<= bare python + {milliseconds(STATUS_MORE_MAX)}", status <= python + STATUS_MORE_MAX),
        Result("crewd beat", milliseconds(beat), against, beat / python, "", None),
    ]  # fmt: skip


async def _write_ledger(state: Path) -> None:
    ledger = Ledger.open(state, SystemClock())
    await ledger.commit(Batch(events=(Event("daemon.started", 0.0),)))
    await ledger.close()


if __name__ == "__main__":
    main(compare, __doc__)
