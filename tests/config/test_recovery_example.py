"""The example that resumes and cancels runs of pi-crew: tried on genuine folders with a stand-in runner."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "config" / "examples" / "recovery" / "pi-crew-recover"
GENUINE = ROOT / "tests" / "formats" / "pi_crew"
RUNNER = "import pathlib,sys; pathlib.Path('runner.txt').write_text(' '.join(sys.argv[1:]))"

pytestmark = pytest.mark.real_time


def folder_of(name: str, tmp_path: Path) -> Path:
    shutil.copytree(GENUINE / name, tmp_path / name)
    (manifest,) = (tmp_path / name / "project").rglob("manifest.json")
    told = json.loads(manifest.read_text())
    told["cwd"] = str(tmp_path)
    manifest.write_text(json.dumps(told))
    return manifest.parent


def recover(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, EXAMPLE, *words], capture_output=True, text=True, timeout=30, check=False)


def test_a_killed_run_is_resumed_with_its_finished_work_kept(tmp_path: Path) -> None:
    folder = folder_of("runner-sigkill-orphan-worker", tmp_path)
    done = recover("resume", str(folder), "--", sys.executable, "-c", RUNNER)
    assert done.returncode == 0, done.stderr
    tasks = json.loads((folder / "tasks.json").read_text())
    assert [task["status"] for task in tasks] == ["completed", "queued", "queued"]
    assert "checkpoint" not in tasks[1] and "startedAt" not in tasks[1] and "checkpoint" in tasks[0]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert f"runner {manifest['async']['pid']} " in done.stdout
    until = time.monotonic() + 20
    while not (tmp_path / "runner.txt").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not (folder / "run.lock").exists() and not list(folder.glob("*.tmp"))


def test_a_killed_run_is_cancelled(tmp_path: Path) -> None:
    folder = folder_of("killed-stale-pid", tmp_path)
    assert recover("cancel", str(folder)).returncode == 0
    assert {task["status"] for task in json.loads((folder / "tasks.json").read_text())} == {"cancelled"}
    assert json.loads((folder / "manifest.json").read_text())["status"] == "cancelled"


def test_a_run_that_ended_is_locked_or_has_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    ended = folder_of("completed", tmp_path)
    living = folder_of("killed-stale-pid", tmp_path)
    run_id = json.loads((living / "manifest.json").read_text())["runId"]
    worker = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", run_id], stdin=subprocess.PIPE)
    try:
        tasks = json.loads((living / "tasks.json").read_text())
        tasks[0]["checkpoint"]["childPid"] = worker.pid
        (living / "tasks.json").write_text(json.dumps(tasks))
        before = [(path / "tasks.json").read_bytes() for path in (ended, living)]
        for folder in (ended, living):
            assert recover("cancel", str(folder)).returncode == 1
            assert recover("resume", str(folder), "--", "true").returncode == 1
        assert "still works on it" in recover("cancel", str(living)).stderr
        assert before == [(path / "tasks.json").read_bytes() for path in (ended, living)]
    finally:
        worker.communicate()
    (living / "run.lock").write_text(json.dumps({"kind": "run", "pid": os.getpid()}))
    assert recover("cancel", str(living)).returncode == 1
    (living / "run.lock").write_text(json.dumps({"kind": "run", "pid": 2**22 + 7}))
    assert recover("cancel", str(living)).returncode == 0
