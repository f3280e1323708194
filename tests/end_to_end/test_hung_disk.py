"""Roots on a network filesystem whose server is gone: nobody else waits for them, nobody on them is declared dead."""

import signal
import time
from pathlib import Path

import pytest

from tests.end_to_end.managed import ask, states, submit
from tests.end_to_end.running import Crewd, Worker, crewd, eventually
from tests.fakes.hung_mount import mounts, why_not

pytestmark = [pytest.mark.slow, pytest.mark.real_time]
HUNG = 6  # more than are looked at together
FAST = {"CREWD_PATROL__LOOK_TIMEOUT": "1s", "CREWD_SOURCES__DISCOVER_EVERY": "2s"}


@pytest.fixture(autouse=True)
def _possible(tmp_path: Path) -> None:
    (tmp_path / "try").mkdir()
    if reason := why_not(tmp_path / "try"):
        pytest.skip(reason)


def metric(daemon: Crewd, name: str) -> int:
    _, body = daemon.get("/metrics")
    (value,) = [line.rsplit(" ", 1)[1] for line in body.decode().splitlines() if line.startswith(f"{name} ")]
    return int(float(value))


def stuck(daemon: Crewd) -> int:
    return metric(daemon, "crewd_looks_stuck")


def rounds(daemon: Crewd) -> int:
    return metric(daemon, "crewd_round_duration_seconds_count")


def threads_of(daemon: Crewd) -> int:
    return len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir()))


def test_crewd_starts_beside_roots_that_hang_and_watches_the_others(tmp_path: Path) -> None:
    roots = [tmp_path / f"hung{number}" for number in range(HUNG)]
    beats, root = tmp_path / "beats", tmp_path / "root"
    for folder in (*roots, beats, root):
        folder.mkdir()
    named = [
        part for number, folder in enumerate(roots) for part in (("--root", "--beat-root")[number % 2], str(folder))
    ]
    worker = Worker(beats, "night", "one")
    try:
        with mounts(*roots) as made:
            for each in made:
                each.hang()
            with crewd(tmp_path / "state", root, *named, "--beat-root", str(beats), **FAST) as daemon:
                daemon.wait_ready()
                eventually(lambda: daemon.level("night", "one") != "", daemon.process)
                eventually(lambda: stuck(daemon) == HUNG, daemon.process)
                health = daemon.get("/api/v1/status")[1]["health"]
                assert sorted(health["roots_stuck"]) == sorted(map(str, roots)) and health["ready"]
                worker.end()
                began = time.monotonic()
                eventually(lambda: daemon.level("night", "one") == "dead", daemon.process)
                assert time.monotonic() - began < 10
                before, threads = rounds(daemon), threads_of(daemon)
                time.sleep(5)
                assert rounds(daemon) >= before + 3, "no round waits for them again"
                assert threads_of(daemon) <= threads + 1, "nothing piles up"
                daemon.process.terminate()
                began = time.monotonic()
                assert daemon.process.wait(20) == 0
                assert time.monotonic() - began < 10, "its end waits for nobody who hangs"
            log = daemon.log.read_text()
            assert [log.count(f"{root}: it does not answer") for root in roots] == [1] * HUNG, "each is told, once"
    finally:
        worker.end()


def test_a_root_that_begins_to_hang_is_held_against_nobody_and_is_back_when_it_is_back(tmp_path: Path) -> None:
    there, elsewhere, root = tmp_path / "there", tmp_path / "elsewhere", tmp_path / "root"
    for folder in (there, elsewhere, root):
        folder.mkdir()
    settings = tmp_path / "crewd.toml"
    settings.write_text("")
    silent, other = Worker(there, "far", "one"), Worker(elsewhere, "near", "one")
    options = ["--beat-root", str(there), "--beat-root", str(elsewhere), "--config", str(settings)]
    try:
        with mounts(there) as (mount,), crewd(tmp_path / "state", root, *options, **FAST) as daemon:
            daemon.wait_ready()
            eventually(lambda: daemon.level("far", "one") == daemon.level("near", "one") == "healthy", daemon.process)
            mount.hang()
            eventually(lambda: stuck(daemon) == 1, daemon.process)
            at = time.monotonic()
            while time.monotonic() - at < 14:  # beyond hung_after
                other.beat()
                time.sleep(0.5)
            assert daemon.level("far", "one") == daemon.level("near", "one") == "healthy"
            settings.write_text('[log]\nlevel = "debug"\n')
            began = time.monotonic()
            status, answer = ask(daemon, "POST", "/-/reload", {})
            assert (status, answer["details"]["changed"]) == (200, ["log.level"])
            assert time.monotonic() - began < 10
            daemon.process.send_signal(signal.SIGHUP)
            mount.let_go()
            silent.beat()
            eventually(lambda: stuck(daemon) == 0, daemon.process)
            silent.end()
            eventually(lambda: daemon.level("far", "one") == "dead", daemon.process)
    finally:
        silent.end()
        other.end()


def test_a_task_whose_folder_does_not_answer_waits_and_keeps_nobody_else_from_working_or_crewd_from_ending(
    tmp_path: Path,
) -> None:
    away, logs, root = tmp_path / "away", tmp_path / "logs", tmp_path / "root"
    for folder in (away, logs, root):
        folder.mkdir()
    with mounts(away, logs) as made:
        environ = {**FAST, "CREWD_SINKS__FOLDER": str(logs)}
        with crewd(tmp_path / "state", root, **environ) as daemon:
            daemon.wait_ready()
            for each in made:
                each.hang()
            parts = {"far": {"cwd": str(away)}, "lost": {"cwd": str(away)}, "near": {"cwd": str(tmp_path)}}
            tasks = [{"id": name, "command": ["true"], **more} for name, more in parts.items()]
            run_id = submit(daemon, {"name": "hung", "tasks": tasks})
            eventually(lambda: states(daemon, run_id).get("near") == "completed", daemon.process)
            eventually(lambda: "does not answer" in daemon.log.read_text(), daemon.process)
            assert states(daemon, run_id)["far"] == "starting"
            status, _ = ask(daemon, "POST", f"/api/v1/runs/{run_id}/tasks/lost/cancel", {})
            assert status in (200, 202)
            eventually(lambda: states(daemon, run_id)["lost"] == "cancelled", daemon.process)
            made[0].let_go()
            # The disk is away now, and answers so: what becomes of the task is decided like that of any other.
            eventually(lambda: states(daemon, run_id)["far"] not in ("starting", "ready"), daemon.process)
            daemon.process.terminate()
            began = time.monotonic()
            assert daemon.process.wait(30) == 0
            assert time.monotonic() - began < 15, "its end waits for nobody who hangs"
