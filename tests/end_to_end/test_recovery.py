"""Recovery, whole: a real daemon, a run folder of pi-crew's form whose real runner is killed, a real command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crewd.model.moment import rfc3339
from tests.end_to_end.running import Crewd, crewd, events, eventually

pytestmark = [pytest.mark.slow, pytest.mark.real_time]

RUN = "team_20260101000000_0123456789abcdef"
# Resumes as far as crewd can see it: it notes its call, and lets the run end well.
MOVES = """
import json, pathlib, sys, time
folder, calls, wait = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
with calls.open("a") as log:
    log.write(f"{sys.argv[4]}\\n")
while wait == "wait" and not calls.with_suffix(".go").exists():
    time.sleep(0.05)
manifest = json.loads((folder / "manifest.json").read_text())
manifest["updatedAt"] = "2026-01-01T01:00:00.000Z"
new = folder / "manifest.json.tmp"
new.write_text(json.dumps(manifest))
new.rename(folder / "manifest.json")
print("resumed")
"""
PRESET = Path(__file__).parent.parent.parent / "config/examples/recovery/pi-crew-recover"
# A stand-in for pi-crew's background runner: beats, takes up what is queued, keeps what is done, and ends the run.
RUNNER = """
import json, os, pathlib, sys, time
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder = pathlib.Path(words["--cwd"]) / ".crew/state/runs" / words["--run-id"]
def write(name, value):
    new = folder / (name + ".tmp")
    new.write_text(json.dumps(value))
    new.rename(folder / name)
time.sleep(0.5)  # it loads for longer than the command that began it
def tell(seq, type):
    line = {"time": "2026-01-01T01:00:00.000Z", "type": type, "runId": words["--run-id"], "metadata": {"seq": seq}}
    with (folder / "events.jsonl").open("a") as log:
        log.write(json.dumps(line) + chr(10))
write("heartbeat.json", {"pid": os.getpid(), "at": int(time.time() * 1000)})
tasks = json.loads((folder / "tasks.json").read_text())
for task in [each for each in tasks if each["status"] == "queued"]:
    task["status"] = "running"
    write("tasks.json", tasks)
    tell(4, "task.started")
    time.sleep(1.5)
    task["status"] = "completed"
    write("tasks.json", tasks)
manifest = json.loads((folder / "manifest.json").read_text())
write("manifest.json", {**manifest, "status": "completed", "summary": str(manifest["async"]["pid"] == os.getpid())})
tell(5, "run.completed")
"""
NOTHING = "import sys; open(sys.argv[2], 'a').write('called\\n'); print('nothing to do')"


class Interrupted:
    """A project with one run, and the real process that runs it."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.run = self.project / ".crew/state/runs" / RUN
        self.run.mkdir(parents=True)
        self.calls = folder / "calls"
        self.runner = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()", "--run-id", RUN], stdin=subprocess.PIPE
        )
        now = rfc3339(time.time())
        self.write("manifest.json", {
            "schemaVersion": 1, "runId": RUN, "team": "docs", "workflow": "plan", "goal": "w", "status": "running",
            "createdAt": now, "updatedAt": now, "cwd": str(self.project),
            "async": {"pid": self.runner.pid, "spawnedAt": now},
        })  # fmt: skip
        self.write("tasks.json", [
            {"id": "01_plan", "runId": RUN, "role": "plan", "agent": "a", "title": "p", "status": "completed",
             "startedAt": now, "finishedAt": now},
            {"id": "02_write", "runId": RUN, "role": "write", "agent": "a", "title": "w", "status": "running",
             "startedAt": now, "dependsOn": ["01_plan"]},
        ])  # fmt: skip
        lines = [{"time": now, "type": "task.started", "runId": RUN, "metadata": {"seq": seq}} for seq in (1, 2, 3)]
        (self.run / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def write(self, name: str, value: Any) -> None:
        (self.run / name).write_text(json.dumps(value))

    def kill(self) -> None:
        self.runner.send_signal(signal.SIGKILL)
        self.runner.wait(10)
        if self.runner.stdin is not None:
            self.runner.stdin.close()

    def times_called(self) -> int:
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0

    def settings(self, script: str, *more: str, deadline: str = "20s") -> dict[str, str]:
        command = [sys.executable, "-c", script, "{folder}", str(self.calls), *more]
        return self.configured(f"command = {json.dumps(command)}\ndeadline = {deadline!r}\nmax_attempts = 1\n")

    def preset(self) -> dict[str, str]:
        """Configure what is documented, with a stand-in for the runner."""
        preset = [sys.executable, str(PRESET)]
        resume = [*preset, "resume", "{folder}", "--", sys.executable, "-c", RUNNER]
        commands = {"command": resume, "cancel_command": [*preset, "cancel", "{folder}"]}
        return self.configured("".join(f"{name} = {json.dumps(words)}\n" for name, words in commands.items()))

    def configured(self, recovery: str) -> dict[str, str]:
        path = self.project.parent / "crewd.toml"
        path.write_text(f"[recovery]\n{recovery}")
        return {"CREWD_CONFIG": str(path)}

    def read(self, name: str) -> Any:
        return json.loads((self.run / name).read_text())


@pytest.fixture
def interrupted(tmp_path: Path) -> Iterator[Interrupted]:
    made = Interrupted(tmp_path)
    try:
        yield made
    finally:
        made.kill()


def recover(daemon: Crewd, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "crewd", "recover", *words, "--json", "--state-dir", str(daemon.state)],
        env={**os.environ, "HOME": str(daemon.state.parent)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def plans(daemon: Crewd) -> list[dict[str, Any]]:
    _, body = daemon.get("/api/v1/recoveries")
    return list(body["recoveries"]) if body else []


def is_in(daemon: Crewd, state: str) -> bool:
    return [plan["state"] for plan in plans(daemon)] == [state]


def killed_and_approved(daemon: Crewd, interrupted: Interrupted, *how: str) -> None:
    daemon.wait_ready()
    eventually(lambda: (daemon.get("/api/v1/status")[1] or {"health": {"hold": "?"}})["health"]["hold"] == "")
    assert plans(daemon) == []
    interrupted.kill()
    eventually(lambda: is_in(daemon, "planned"), daemon.process)
    (plan,) = plans(daemon)
    assert (plan["resumable"], plan["preserved"], plan["event_seq"]) == (["02_write"], ["01_plan"], 3)
    time.sleep(2)
    assert interrupted.times_called() == 0  # no time stands in for a person's word
    answer = recover(daemon, "approve", RUN, "--by", "ann", *how)
    assert answer["ids"] == [plan["plan_id"]]


def test_a_killed_run_is_planned_for_once_approved_applied_once_and_verified(
    tmp_path: Path, interrupted: Interrupted
) -> None:
    state = tmp_path / "state"
    with crewd(state, interrupted.project, **interrupted.settings(MOVES, "go", "{run}")) as daemon:
        killed_and_approved(daemon, interrupted)
        eventually(lambda: is_in(daemon, "verified"), daemon.process)
        assert interrupted.calls.read_text() == f"{RUN}\n"
        assert recover(daemon, "show", RUN)["output"] == "resumed"
    told = [event["type"] for event in events(state) if event["type"].startswith("recovery.")]
    assert told == ["recovery.planned", "recovery.approved", "recovery.applied", "recovery.verified"]
    assert recover(daemon, "list")["recoveries"][0]["state"] == "verified"  # of the ledger: the daemon is down


def test_a_command_that_does_nothing_has_failed_and_is_an_incident(tmp_path: Path, interrupted: Interrupted) -> None:
    state = tmp_path / "state"
    with crewd(state, interrupted.project, **interrupted.settings(NOTHING, deadline="3s")) as daemon:
        killed_and_approved(daemon, interrupted)
        eventually(lambda: is_in(daemon, "failed"), daemon.process)
        assert interrupted.times_called() == 1
    opened = [event["data"] for event in events(state) if event["type"] == "incident.opened"]
    (incident,) = [each for each in opened if each["cause"] == "recovery_failed"]
    assert incident["severity"] == "critical"


def test_what_was_applied_when_crewd_was_killed_is_verified_by_the_next_and_ran_once(
    tmp_path: Path, interrupted: Interrupted
) -> None:
    state, settings = tmp_path / "state", interrupted.settings(MOVES, "wait", "{run}")
    with crewd(state, interrupted.project, **settings) as daemon:
        killed_and_approved(daemon, interrupted)
        eventually(lambda: interrupted.times_called() == 1, daemon.process)
        assert is_in(daemon, "applied")
        daemon.kill()
    with crewd(state, interrupted.project, **settings) as daemon:
        daemon.wait_ready()
        eventually(lambda: is_in(daemon, "applied"), daemon.process)
        interrupted.calls.with_suffix(".go").touch()
        eventually(lambda: is_in(daemon, "verified"), daemon.process)
        assert interrupted.times_called() == 1


def test_the_documented_preset_resumes_a_killed_run_which_then_ends_well(
    tmp_path: Path, interrupted: Interrupted
) -> None:
    state = tmp_path / "state"
    with crewd(state, interrupted.project, **interrupted.preset()) as daemon:
        killed_and_approved(daemon, interrupted)
        eventually(lambda: is_in(daemon, "verified"), daemon.process)
        assert "resumes" in recover(daemon, "show", RUN)["output"]
        eventually(lambda: interrupted.read("manifest.json")["status"] == "completed", daemon.process)
        eventually(lambda: daemon.get(f"/api/v1/runs/{RUN}")[1]["status"] == "completed", daemon.process)
        assert is_in(daemon, "verified")
    assert interrupted.read("manifest.json")["summary"] == "True"  # its pid stands in the manifest
    tasks = {task["id"]: task for task in interrupted.read("tasks.json")}
    assert {task["status"] for task in tasks.values()} == {"completed"}
    assert "finishedAt" in tasks["01_plan"] and "startedAt" not in tasks["02_write"]  # what was done is kept
    told = [event["type"] for event in events(state) if event["type"].startswith("recovery.")]
    assert told == ["recovery.planned", "recovery.approved", "recovery.applied", "recovery.verified"]


def test_the_documented_preset_cancels_a_killed_run(tmp_path: Path, interrupted: Interrupted) -> None:
    with crewd(tmp_path / "state", interrupted.project, **interrupted.preset()) as daemon:
        killed_and_approved(daemon, interrupted, "--action", "cancel")
        eventually(lambda: is_in(daemon, "verified"), daemon.process)
    assert interrupted.read("manifest.json")["status"] == "cancelled"
    assert [task["status"] for task in interrupted.read("tasks.json")] == ["completed", "cancelled"]
