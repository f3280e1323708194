"""Many at once: what is common to all is one incident, nobody is declared dead for it, and nothing is done."""

import contextlib
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

import pytest

from tests.end_to_end.running import Crewd, crewd, events, eventually
from tests.fakes.receiver import Receiver

pytestmark = [pytest.mark.slow, pytest.mark.real_time]

MANY = 50
# A worker that beats four times a second, and goes on where its disk is full.
WORKER = """
import json, os, sys, time
folder, run, task, host = sys.argv[1:]
path, seq = f"{folder}/{run}/{task}.json", 0
while os.getppid() == int(os.environ["ABOVE"]):
    seq += 1
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = {"v": 1, "run": run, "task": task, "seq": seq, "at": at, "status": "running", "pid": os.getpid()}
    try:
        with open(path + ".tmp", "w") as file:
            file.write(json.dumps(record | {"host": host}) + " " * 2000)
        os.rename(path + ".tmp", path)
    except OSError:
        pass
    time.sleep(0.25)
"""


@contextlib.contextmanager
def workers(beats: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Fifty processes at work, in five runs; gone at the end of the block."""
    started: list[subprocess.Popen[bytes]] = []
    environ = {**os.environ, "ABOVE": str(os.getpid())}
    try:
        for number in range(MANY):
            run, task = f"run-{number % 5}", f"task-{number}"
            (beats / run).mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-I", "-S", "-c", WORKER, str(beats), run, task, socket.gethostname()]
            started.append(subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL))
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait(10)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, of one mebibyte; skipped where this user may mount none."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "crewd-test", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount(8)")
    if done.returncode != 0:
        pytest.skip("no file system may be mounted here; tests/engine has the same with a disk that is made up")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def watched(tmp_path: Path, beats: Path, *options: str) -> Iterator[Crewd]:
    """A crewd that sees all fifty well, and is past the hold of its start."""
    beats.mkdir(exist_ok=True)
    (tmp_path / "none").mkdir()
    with crewd(tmp_path / "state", tmp_path / "none", "--beat-root", str(beats), *options) as running:
        running.wait_ready()
        yield running


def levels(running: Crewd) -> dict[str, int]:
    _, body = running.get("/api/v1/status")
    counts: dict[str, int] = {}
    for crew in (body or {}).get("crews", ()):
        for level, number in crew["workers"].items():
            counts[level] = counts.get(level, 0) + number
    return counts


def all_well(running: Crewd) -> bool:
    _, body = running.get("/api/v1/status")
    return levels(running) == {"healthy": MANY} and not body["health"]["hold"]


def open_now(running: Crewd) -> list[dict[str, Any]]:
    _, body = running.get("/api/v1/incidents")
    return list((body or {}).get("incidents", ()))


def told(tmp_path: Path, prefix: str) -> list[dict[str, Any]]:
    return [event for event in events(tmp_path / "state") if event["type"].startswith(prefix)]


def nothing_was_done(tmp_path: Path) -> None:
    """Nobody was declared dead, given up, recovered or acted upon."""
    assert [e for e in told(tmp_path, "worker.level_changed") if e["data"]["to_level"] == "dead"] == []
    for prefix in ("verdict.", "deadletter.", "recovery.", "attempt.", "task.retry"):
        assert told(tmp_path, prefix) == [], prefix


def test_fifty_that_are_stopped_at_once_are_one_incident_that_says_so(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    with workers(beats) as crew, watched(tmp_path, beats) as running:
        eventually(lambda: all_well(running), running.process)
        for process in crew:
            process.send_signal(signal.SIGSTOP)
        eventually(lambda: [each["cause"] for each in open_now(running)] == ["mass_brake"], running.process)
        stopped_at = time.monotonic()
        # Beyond dead_after and hung_after, which are 8 and 12 s here.
        eventually(lambda: time.monotonic() - stopped_at > 12, running.process)
        [incident] = open_now(running)
        assert "their processes are stopped: SIGSTOP" in incident["summary"] and incident["severity"] == "critical"
        for process in crew:
            process.send_signal(signal.SIGCONT)
        eventually(lambda: all_well(running) and open_now(running) == [], running.process)
    assert [(e["type"], e["data"]["cause"]) for e in told(tmp_path, "incident.")] == [
        ("incident.opened", "mass_brake"),
        ("incident.resolved", "mass_brake"),
    ]
    nothing_was_done(tmp_path)


def test_fifty_that_are_killed_at_once_are_fifty_verdicts_and_one_notice(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    with Receiver() as receiver, workers(beats) as crew:
        (tmp_path / "crewd.toml").write_text(f'[notifications.channels.hook]\nurl = "{receiver.url}"\n')
        with watched(tmp_path, beats, "--config", str(tmp_path / "crewd.toml")) as running:
            eventually(lambda: all_well(running), running.process)
            for process in crew:
                process.kill()
            eventually(lambda: levels(running) == {"dead": MANY}, running.process)
            eventually(lambda: len(receiver.got) > 0, running.process)
            dead_at = time.monotonic()
            eventually(lambda: time.monotonic() - dead_at > 5, running.process)  # dead letters, and what follows
            found = open_now(running)
    [incident] = found
    assert incident["cause"] == "mass_death" and incident["summary"].startswith("50 workers died together")
    assert len(told(tmp_path, "verdict.opened")) == len(told(tmp_path, "deadletter.added")) == MANY
    [notice] = [each for got in receiver.got for each in got["notices"]]
    assert (notice["cause"], notice["severity"], notice["kind"]) == ("mass_death", "critical", "opened")


def test_everything_stopped_crewd_too_is_no_incident(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    with workers(beats) as crew, watched(tmp_path, beats) as running:
        eventually(lambda: all_well(running), running.process)
        everybody = [*crew, running.process]
        for process in everybody:
            process.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        eventually(lambda: time.monotonic() - stopped_at > 14)
        # crewd first: it looks before anybody had the time to beat.
        for process in reversed(everybody):
            process.send_signal(signal.SIGCONT)
        eventually(lambda: bool(told(tmp_path, "daemon.stalled")), running.process)
        eventually(lambda: all_well(running), running.process)
    assert told(tmp_path, "incident.") == [] and told(tmp_path, "daemon.brake") == []
    nothing_was_done(tmp_path)


def test_a_full_disk_is_one_incident_that_names_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as beats, workers(beats) as crew, watched(tmp_path, beats) as running:
        eventually(lambda: all_well(running), running.process)
        filler = beats / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        eventually(lambda: [each["cause"] for each in open_now(running)] == ["mass_brake"], running.process)
        [incident] = open_now(running)
        assert "the disk is full" in incident["summary"]
        assert all(process.poll() is None for process in crew)
        filler.unlink()
        eventually(lambda: all_well(running) and open_now(running) == [], running.process)
    assert [(e["type"], e["data"]["cause"]) for e in told(tmp_path, "incident.")] == [
        ("incident.opened", "mass_brake"),
        ("incident.resolved", "mass_brake"),
    ]
    nothing_was_done(tmp_path)


def test_a_word_about_an_incident_outlives_a_killed_crewd(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    with workers(beats) as crew:
        with watched(tmp_path, beats) as running:
            eventually(lambda: all_well(running), running.process)
            crew[7].kill()
            crew[7].wait(10)
            eventually(lambda: [each["cause"] for each in open_now(running)] == ["dead"], running.process)
            said = command(tmp_path, "ack", "run-2/task-7", "--by", "anna", "--note", "on it")
            assert said.returncode == 0 and "1 incident is acknowledged by anna" in said.stdout, said.stderr
            assert command(tmp_path, "snooze", "run-2/task-7", "dead", "--for", "1h").returncode == 0
            assert command(tmp_path, "ack", "run-2/task-8").returncode == 3
            running.kill()
        [kept] = json.loads(command(tmp_path, "list", "--json").stdout)["incidents"]
        assert (kept["state"], kept["acknowledged_by"], kept["note"]) == ("snoozed", "anna", "on it")
        with crewd(tmp_path / "state", tmp_path / "none", "--beat-root", str(beats)) as running:
            running.wait_ready()
            eventually(lambda: [each["state"] for each in open_now(running)] == ["snoozed"], running.process)
            assert command(tmp_path, "unsnooze", "run-2/task-7").returncode == 0
            eventually(lambda: [each["state"] for each in open_now(running)] == ["acknowledged"], running.process)
    assert len(told(tmp_path, "incident.opened")) == 1


def command(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "crewd", "incidents", *arguments, "--state-dir", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
