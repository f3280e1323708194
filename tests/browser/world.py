"""What the page is shown: a real daemon, real workers, a run that failed, and one whose runner will be killed."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crewd import worker as protocol
from crewd.model.moment import rfc3339
from tests.end_to_end.managed import shell, states, submit
from tests.end_to_end.running import Crewd, Worker, crewd, eventually

TOKEN = "a-token-for-the-browser-alone"
INTERRUPTED = "team_20260101000000_0123456789abcdef"
MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = f"{MARKUP} </script> <script>alert(2)</script> \u202egnirts \u202c {'x' * 10_000}"
# Notes its call, and lets the run end well, as far as crewd can see.
MOVES = """
import json, pathlib, sys
folder, calls = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
with calls.open("a") as log:
    log.write(sys.argv[3] + "\\n")
manifest = json.loads((folder / "manifest.json").read_text())
manifest["updatedAt"] = "2026-01-01T01:00:00.000Z"
new = folder / "manifest.json.tmp"
new.write_text(json.dumps(manifest))
new.rename(folder / "manifest.json")
print("resumed")
"""


class World:
    """One daemon and everything that it sees. `restart` brings it back under the same address."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.beats, self.project = folder / "beats", folder / "project"
        self.beats.mkdir()
        self.calls, self.go = folder / "calls", folder / "go"
        self.runner = self._interrupted_run()
        self.workers = {name: Worker(self.beats, "nightly", name) for name in ("build", "review", "publish")}
        for worker in self.workers.values():
            stack.callback(worker.end)
        self.settings = self._settings()
        self.daemon = stack.enter_context(self._serve())
        self.daemon.wait_ready()
        self.url = json.loads((self.daemon.state / "daemon.json").read_bytes())["url"]

    def _serve(self, *more: str) -> contextlib.AbstractContextManager[Crewd]:
        return crewd(
            self.folder / "state", self.project, "--beat-root", str(self.beats), *more,
            CREWD_CONFIG=str(self.settings), CREWD_HTTP__TOKEN=TOKEN,
            # Whoever is alive stays well here however slow this machine is: who is dead is known by its process.
            CREWD_HEARTBEAT__WARN_AFTER="2s", CREWD_HEARTBEAT__STALE_AFTER="10m", CREWD_HEARTBEAT__DEAD_AFTER="20m",
            CREWD_HEARTBEAT__HUNG_AFTER="40m",
        )  # fmt: skip

    def stop(self) -> None:
        self.daemon.stop()

    def restart(self) -> None:
        """Start it again where it was: whoever has the page open asks there."""
        self.daemon = self._stack.enter_context(self._serve("--port", self.url.rsplit(":", 1)[1]))
        self.daemon.wait_ready()

    def kill_worker(self, name: str) -> None:
        self.workers[name].end()

    def interrupt(self) -> None:
        """Kill the runner of the other program's run, for good."""
        self.runner.send_signal(signal.SIGKILL)
        self.runner.wait(10)
        eventually(lambda: [each["state"] for each in self.ask("/api/v1/recoveries")["recoveries"]] == ["planned"])

    def ask(self, path: str) -> Any:
        return self.daemon.get(path)[1]

    def failed_run(self, *, name: str = "shop", error: str = "no space for lemons", tasks: int = 2) -> str:
        """Run something that fails for the same reason in several tasks, until all are given up."""
        again = {"retry": True, "max_attempts": 2}
        retry = {"max_attempts": 2, "base": "0.1s", "cap": "0.1s", "classes": {"unknown": again}}
        script = f"echo attempt $CREWD_ATTEMPT_NUMBER >&2; printf '%s\\n' '{error}' >&2; test -e {self.go} || exit 3"
        env = {"OVEN_TOKEN": "very-secret-words", "LEVEL": "7"}
        names = [f"bake-{number}" for number in range(tasks)]
        plan = {
            "name": name,
            "crew": "shop",
            "tasks": [
                *(shell(each, script, retry=retry, env=env) for each in names),
                shell("sell", "true", depends_on=names),
            ],
        }
        run_id = submit(self.daemon, plan)
        eventually(
            lambda: (
                [state for task, state in sorted(states(self.daemon, run_id).items()) if task != "sell"]
                == ["dead_lettered"] * tasks
            ),
            self.daemon.process,
        )
        return run_id

    def protocol_run(self) -> str:
        """Run a worker that speaks the protocol, and says three times how far it is."""
        code = (
            "import sys; from crewd import worker\n"
            "def work(task):\n"
            "    for page in (1, 2, 3): worker.progress(f'{page} of 3', step=f'page {page}')\n"
            "    return {}\n"
            "sys.exit(worker.run(work))"
        )
        env = {"PYTHONPATH": str(Path(protocol.__file__).parents[1])}
        command = [sys.executable, "-c", code]
        task = {"id": "translate", "mode": "protocol", "command": command, "cwd": "/", "env": env}
        run_id = submit(self.daemon, {"name": "handbook", "crew": "docs", "tasks": [task]})
        eventually(lambda: states(self.daemon, run_id) == {"translate": "completed"}, self.daemon.process)
        return run_id

    def _settings(self) -> Path:
        command = [sys.executable, "-c", MOVES, "{folder}", str(self.calls), "{run}"]
        path = self.folder / "crewd.toml"
        path.write_text(
            f'[recovery]\ncommand = {json.dumps(command)}\ndeadline = "20s"\nmax_attempts = 1\n'
            "[dead_letters]\nredrive_rate = 50\n"
        )
        return path

    def _interrupted_run(self) -> subprocess.Popen[bytes]:
        folder = self.project / ".crew/state/runs" / INTERRUPTED
        folder.mkdir(parents=True)
        runner = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()", "--run-id", INTERRUPTED], stdin=subprocess.PIPE
        )
        self._stack.callback(_end, runner)
        now = rfc3339(time.time())
        manifest = {
            "schemaVersion": 1, "runId": INTERRUPTED, "team": "docs", "workflow": "plan", "goal": HOSTILE,
            "status": "running", "createdAt": now, "updatedAt": now, "cwd": str(self.project),
            "async": {"pid": runner.pid, "spawnedAt": now},
        }  # fmt: skip
        tasks = [
            {"id": "01_plan", "runId": INTERRUPTED, "role": "plan", "agent": "a", "title": HOSTILE,
             "status": "completed", "startedAt": now, "finishedAt": now},
            {"id": "02_write", "runId": INTERRUPTED, "role": MARKUP, "agent": MARKUP, "title": HOSTILE,
             "status": "running", "startedAt": now, "dependsOn": ["01_plan"], "error": HOSTILE},
        ]  # fmt: skip
        lines = [
            {"time": now, "type": "task.started", "runId": INTERRUPTED, "metadata": {"seq": seq}} for seq in (1, 2, 3)
        ]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "tasks.json").write_text(json.dumps(tasks))
        (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return runner


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Everything, until the end of the block."""
    with contextlib.ExitStack() as stack:
        yield World(folder, stack)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)
    if process.stdin is not None:
        process.stdin.close()
