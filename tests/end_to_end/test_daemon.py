"""The daemon as its users have it: started, asked, killed, stopped, reloaded, watched by a service manager."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.running import QUICK, Worker, crewd, events, eventually

pytestmark = [pytest.mark.slow, pytest.mark.real_time]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / ".crew"
    folder.mkdir(parents=True)
    return folder.parent


@pytest.fixture
def beats(tmp_path: Path) -> Path:
    folder = tmp_path / "beats"
    folder.mkdir()
    return folder


def test_a_worker_that_is_killed_is_dead_within_a_round_or_two_and_its_neighbour_is_well(
    tmp_path: Path, root: Path, beats: Path
) -> None:
    victim, neighbour = Worker(beats, "night", "one"), Worker(beats, "night", "two")
    try:
        with crewd(tmp_path / "state", root, "--beat-root", str(beats)) as daemon:
            daemon.wait_ready()
            eventually(lambda: (neighbour.beat(), daemon.level("night", "one"))[1] != "", daemon.process)
            eventually(lambda: (neighbour.beat(), daemon.get("/api/v1/status")[1]["health"]["hold"])[1] == "")
            victim.end()
            killed = time.monotonic()
            eventually(lambda: (neighbour.beat(), daemon.level("night", "one"))[1] == "dead", daemon.process)
            assert time.monotonic() - killed < 5
            assert daemon.level("night", "two") == "healthy"
        told = [(e["type"], e.get("task_id")) for e in events(tmp_path / "state")]
        assert told.count(("verdict.opened", "one")) == 1
        assert ("verdict.opened", "two") not in told
    finally:
        victim.end()
        neighbour.end()


def test_after_kill_9_the_ledger_opens_seq_goes_on_and_the_day_file_has_every_line_once_and_whole(
    tmp_path: Path, root: Path, beats: Path
) -> None:
    state = tmp_path / "state"
    for number in range(5):
        # A new run each time, so that there is something to write when the kill comes.
        for task in range(20):
            folder = beats / f"run-{number}"
            folder.mkdir(exist_ok=True)
            record = {"v": 1, "run": folder.name, "task": f"t{task}", "seq": 1, "at": "2026-01-01T00:00:00Z"}
            (folder / f"t{task}.json").write_text(json.dumps({**record, "status": "running"}))
        with crewd(state, root, "--beat-root", str(beats)) as daemon:
            eventually(lambda: (state / "ledger.sqlite3").exists(), daemon.process)
            time.sleep(0.15 * number)
            daemon.kill()
    with crewd(state, root, "--beat-root", str(beats)) as daemon:
        daemon.wait_ready()
        last = daemon.get("/api/v1/events?limit=1000")[1]["events"]
        eventually(lambda: bool(events(state)) and events(state)[-1]["seq"] >= last[-1]["seq"], daemon.process)
        assert daemon.get("/api/v1/status")[1]["health"]["hold"]
    lines = events(state)
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    discovered = [line["run_id"] for line in lines if line["type"] == "run.discovered"]
    assert sorted(discovered) == [f"run-{number}" for number in range(5)]


def test_a_second_crewd_on_the_same_ledger_refuses_with_77_and_touches_nothing(tmp_path: Path, root: Path) -> None:
    state = tmp_path / "state"
    with crewd(state, root) as first:
        first.wait_ready()
        record = (state / "daemon.json").read_bytes()
        with crewd(state, root) as second:
            assert second.process.wait(30) == 77
        assert (state / "daemon.json").read_bytes() == record
        assert first.get("/healthz")[0] == 200


def test_a_sigstopped_crewd_comes_back_with_a_hold_and_declares_nobody_dead(
    tmp_path: Path, root: Path, beats: Path
) -> None:
    worker = Worker(beats, "night", "one")
    try:
        with crewd(tmp_path / "state", root, "--beat-root", str(beats)) as daemon:
            daemon.wait_ready()
            eventually(lambda: (worker.beat(), daemon.get("/api/v1/status")[1]["health"]["hold"])[1] == "")
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(10)  # longer than dead_after
            daemon.process.send_signal(signal.SIGCONT)
            eventually(lambda: daemon.get("/api/v1/status")[1]["health"]["hold"].startswith("crewd itself"))
            assert daemon.level("night", "one") in ("healthy", "warn")
        assert "daemon.stalled" in [event["type"] for event in events(tmp_path / "state")]
    finally:
        worker.end()


def test_sighup_takes_over_good_settings_and_keeps_the_old_ones_when_the_new_are_bad(
    tmp_path: Path, root: Path
) -> None:
    file, state = tmp_path / "crewd.toml", tmp_path / "state"
    file.write_text('[log]\nlevel = "info"\n')
    with crewd(state, root, "--config", str(file)) as daemon:
        daemon.wait_ready()

        def told(type: str) -> list[dict[str, object]]:
            return [event for event in events(state) if event["type"] == type]

        file.write_text('[log]\nlevel = "debug"\n')
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: bool(told("daemon.reloaded")), daemon.process)
        file.write_text('[lgo]\nlevel = "debug"\n')
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: bool(told("daemon.reload_failed")), daemon.process)
        assert "lgo" in str(told("daemon.reload_failed")[0])
        assert b"crewd_config_last_reload_successful 0.0" in daemon.get("/metrics")[1]
        assert daemon.get("/readyz")[0] == 200


def test_the_level_of_the_log_changes_at_once_is_told_with_who_asked_and_a_reload_puts_it_back(
    tmp_path: Path, root: Path
) -> None:
    state = tmp_path / "state"

    def level(*words: str) -> str:
        command = [sys.executable, "-m", "crewd", "log-level", *words, "--state-dir", str(state)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

    with crewd(state, root) as daemon:
        daemon.wait_ready()
        before = level().strip()
        assert level("debug").startswith("crewd logs from debug on")
        assert daemon.get("/-/log-level")[1] == {"level": "debug", "configured": before}

        def told() -> list[dict[str, object]]:
            return [event for event in events(state) if event["type"] == "daemon.log_level_changed"]

        eventually(lambda: bool(told()), daemon.process)
        assert told()[0]["data"] == {"level": "debug", "former": before}
        assert str(told()[0]["actor"]).startswith("operator:")
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: level() == f"{before}\n", daemon.process)


def test_the_service_manager_hears_ready_status_watchdog_and_stopping(tmp_path: Path, root: Path) -> None:
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(30)
        heard: list[str] = []
        with crewd(tmp_path / "state", root, NOTIFY_SOCKET=str(address), WATCHDOG_USEC="10000000") as daemon:
            while "READY=1" not in heard or "WATCHDOG=1" not in heard[heard.index("READY=1") :]:
                heard.append(manager.recv(4096).decode())
            daemon.process.send_signal(signal.SIGSTOP)
            manager.settimeout(2)
            with pytest.raises(TimeoutError):
                while True:  # what was sent before the stop; then silence, which is how the manager learns of it
                    heard.append(manager.recv(4096).decode())
            manager.settimeout(30)
            assert daemon.stop() == 0
            while "STOPPING=1" not in heard:
                heard.append(manager.recv(4096).decode())
    assert any(line.startswith("STATUS=0 runs, 0 workers") for line in heard)
    assert not (tmp_path / "state" / "daemon.json").exists()


def test_bad_settings_end_the_start_with_78_and_every_mistake(tmp_path: Path, root: Path) -> None:
    command = [sys.executable, "-m", "crewd", "serve", "--root", str(root), "--state-dir", str(tmp_path / "state")]
    environ = {**os.environ, **QUICK, "CREWD_PATROL__INTERVAL": "never", "CREWD_HTTTP__PORT": "1"}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 78
    assert "CREWD_PATROL__INTERVAL: 'never'" in ended.stderr and "did you mean CREWD_HTTP__PORT" in ended.stderr
    assert not (tmp_path / "state").exists()


def test_a_port_that_is_taken_is_named_and_nothing_is_left_running(tmp_path: Path, root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "crewd", "serve", "--root", str(root), "--port", port]
        ended = subprocess.run(
            [*command, "--state-dir", str(tmp_path / "state")],
            env={**os.environ, **QUICK},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode not in (0, 2, 77, 78)
    assert port in ended.stderr and "Traceback" not in ended.stderr
