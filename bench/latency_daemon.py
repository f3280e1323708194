"""A whole daemon in this process, with a listener that notes when what happened is durable. Prints JSON."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crewd import daemon
from crewd.cli.settling import settle_process
from crewd.config.load import load
from crewd.model.event import Event
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot

STARTS, RATE = 300, 50.0  # runs, and how many of them a second
KILLS, APART = 60, 0.05  # workers, and the seconds from one kill to the next
PATIENCE = 30.0


class Noted:
    """What was told durable, and when by the monotonic clock."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str, str], float] = {}
        self.pids: dict[str, int] = {}  # task -> shim
        self._heard = asyncio.Event()

    def on_events(self, events: Sequence[Event]) -> None:
        now = time.monotonic()
        for event in events:
            self.at[event.type, event.run_id, event.task_id] = now
            if event.type == "attempt.started":
                self.pids[event.task_id] = int(event.data["pid"])
        self._heard.set()

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        pass

    async def until(self, *told: tuple[str, str, str]) -> float:
        """Wait until all of it is durable; returns when the last was."""
        async with asyncio.timeout(PATIENCE):
            while any(each not in self.at for each in told):
                self._heard.clear()
                await self._heard.wait()
        return max(self.at[each] for each in told)


async def run(folder: Path) -> dict[str, Any]:
    """Serve, measure, end."""
    noted, stop = Noted(), asyncio.Event()
    ready: asyncio.Future[daemon.Daemon] = asyncio.get_running_loop().create_future()
    overrides = {
        "ledger.folder": str(folder / "state"), "http.port": 0, "sources.roots": (str(folder / "crew"),),
        "tasks.max_parallel": 2 * KILLS, "tasks.start_rate": 0, "log.level": "error", "tasks.inbox_enabled": False,
        "dead_letters.threshold_per_hour": 10 * KILLS,
    }  # fmt: skip
    (folder / "crew").mkdir()
    environ = {"HOME": str(folder), "PATH": os.environ.get("PATH", os.defpath)}
    serving = asyncio.create_task(
        daemon.serve(load(None, environ, overrides), environ, listeners=[noted], on_ready=ready.set_result, stop=stop)
    )
    await asyncio.wait([serving, ready], return_when=asyncio.FIRST_COMPLETED)
    try:
        if serving.done():
            await serving
        settle_process()
        actions = ready.result().actions
        return {"started": await _starts(folder, actions, noted), "known": await _kills(actions, noted), "rate": RATE}
    finally:
        stop.set()
        await serving


async def _starts(folder: Path, actions: Any, noted: Noted) -> list[float]:
    """Submit one run after the other at the rate; each tells the time at which its command began."""
    accepted: dict[str, float] = {}
    began = time.monotonic()
    for number in range(STARTS):
        await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
        plan = {"tasks": [{"id": "t", "command": ["date", "+%s%N"], "cwd": "/"}]}
        submitted = await actions.submit(plan, base="/", key="", actor="bench", source="")
        accepted[submitted.run_id] = time.time()
    await noted.until(*(("attempt.finished", run_id, "t") for run_id in accepted))
    ran = (
        (int(Path(f"{folder}/state/runs/{run_id}/t/1/stdout").read_text()) / 1e9, at)
        for run_id, at in accepted.items()
    )
    return [max(0.0, began_at - at) for began_at, at in ran]


async def _kills(actions: Any, noted: Noted) -> list[float]:
    """Kill the command of one attempt after the other, and wait until its end is on disk."""
    names = [f"k{number}" for number in range(KILLS)]
    tasks = [{"id": name, "command": ["sleep", "600"], "cwd": "/", "retry": {"max_attempts": 1}} for name in names]
    run_id = (await actions.submit({"tasks": tasks}, base="/", key="", actor="bench", source="")).run_id
    await noted.until(*(("attempt.started", run_id, name) for name in names))
    await asyncio.sleep(1.0)
    known = []
    for name in names:
        shim = noted.pids[name]
        command = int(Path(f"/proc/{shim}/task/{shim}/children").read_text())
        began = time.monotonic()
        os.kill(command, signal.SIGKILL)
        known.append(await noted.until(("attempt.finished", run_id, name)) - began)
        await asyncio.sleep(APART)
    return known


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(Path(sys.argv[1])))))
