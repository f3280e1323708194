"""From a killed process to the webhook, with the daemon as its users have it."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.running import Worker, crewd, eventually
from tests.fakes.receiver import HANG, Receiver

pytestmark = [pytest.mark.slow, pytest.mark.real_time]
SECRET = "T0KENofTHEhookAAAABBBB"


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


def settings(folder: Path, url: str, **more: Any) -> list[str]:
    """A configuration file with one webhook, and the options that name it."""
    lines = [f'[notifications.channels.hook]\nurl = "{url}/services/{SECRET}"\ntimeout = "1s"']
    lines += [f"{name} = {value}" for name, value in more.items()]
    path = folder / "crewd.toml"
    path.write_text("\n".join(lines))
    return ["--config", str(path)]


def told(receiver: Receiver) -> list[tuple[str, str, str]]:
    return [(each["kind"], each["cause"], each["subject"]) for got in receiver.got for each in got["notices"]]


def test_a_killed_worker_arrives_at_the_webhook_once_and_its_end_once_and_a_restart_repeats_nothing(
    tmp_path: Path, root: Path, beats: Path
) -> None:
    worker = Worker(beats, "night", "one")
    opened, resolved = ("opened", "dead", "night/one"), ("resolved", "dead", "night/one")
    state = tmp_path / "state"
    try:
        with Receiver() as receiver:
            options = ["--beat-root", str(beats), *settings(tmp_path, receiver.url)]
            with crewd(state, root, *options) as daemon:
                daemon.wait_ready()
                eventually(lambda: daemon.level("night", "one") != "", daemon.process)
                worker.end()
                eventually(lambda: opened in told(receiver), daemon.process)
                daemon.kill()
            with crewd(state, root, *options) as daemon:
                daemon.wait_ready()
                eventually(lambda: daemon.level("night", "one") == "dead", daemon.process)
                time.sleep(1.5)  # rounds in which it might be told again
                worker.seq += 10
                worker.beat(status="failed", pid=None)
                eventually(lambda: resolved in told(receiver), daemon.process)
                status, text = daemon.get("/metrics")
                assert status == 200
                assert b'crewd_notifications_total{channel="hook",result="sent"} 1.0' in text
            with crewd(state, root, *options) as daemon:
                daemon.wait_ready()
                time.sleep(1.5)
            assert [each for each in told(receiver) if each[2] == "night/one"] == [opened, resolved]
            assert SECRET not in daemon.log.read_text()
    finally:
        worker.end()


def test_what_opened_while_the_receiver_was_away_is_told_by_the_next_crewd(
    tmp_path: Path, root: Path, beats: Path
) -> None:
    worker = Worker(beats, "night", "one")
    try:
        with Receiver(HANG) as receiver:
            options = ["--beat-root", str(beats), *settings(tmp_path, receiver.url)]
            with crewd(tmp_path / "state", root, *options) as daemon:
                daemon.wait_ready()
                eventually(lambda: daemon.level("night", "one") != "", daemon.process)
                worker.end()
                eventually(lambda: len(receiver.got) >= 1, daemon.process)
                began = time.monotonic()
                assert daemon.stop() == 0
                assert time.monotonic() - began < 5, "a receiver that hangs keeps nobody from ending"
            tries = len(receiver.got)
            receiver.be(200)
            with crewd(tmp_path / "state", root, *options) as daemon:
                eventually(lambda: len(receiver.got) > tries, daemon.process)
                time.sleep(1.5)
            assert told(receiver)[tries:] == [("opened", "dead", "night/one")]
    finally:
        worker.end()


def test_a_command_that_is_at_work_ends_with_crewd(tmp_path: Path, root: Path, beats: Path) -> None:
    worker, pids = Worker(beats, "night", "one"), tmp_path / "pids"
    script = f"sleep 300 & echo $$ $! > {pids}.tmp; mv {pids}.tmp {pids}; wait"
    (tmp_path / "crewd.toml").write_text(
        f"[notifications.channels.page]\nkind = 'command'\ncommand = ['sh', '-c', '{script}']\ntimeout = '1m'\n"
    )
    options = ["--beat-root", str(beats), "--config", str(tmp_path / "crewd.toml")]
    try:
        with crewd(tmp_path / "state", root, *options) as daemon:
            daemon.wait_ready()
            eventually(lambda: daemon.level("night", "one") != "", daemon.process)
            worker.end()
            eventually(pids.exists, daemon.process)
            began = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began < 5
        eventually(lambda: not any(is_alive(pid) for pid in pids.read_text().split()))
    finally:
        worker.end()


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_a_channel_that_a_reload_adds_tells_what_is_open_and_its_secret_shows_nowhere(
    tmp_path: Path, root: Path, beats: Path
) -> None:
    worker = Worker(beats, "night", "one")
    try:
        with Receiver(404, 200) as receiver:
            options = settings(tmp_path, receiver.url)
            path = Path(options[1])
            channels = path.read_text()
            path.write_text("")
            with crewd(tmp_path / "state", root, "--beat-root", str(beats), *options) as daemon:
                daemon.wait_ready()
                eventually(lambda: daemon.level("night", "one") != "", daemon.process)
                worker.end()
                eventually(lambda: daemon.level("night", "one") == "dead", daemon.process)
                path.write_text(channels)
                daemon.process.send_signal(signal.SIGHUP)
                eventually(lambda: told(receiver) == [("opened", "dead", "night/one")], daemon.process)
                eventually(lambda: b'result="failed"} 1.0' in daemon.get("/metrics")[1], daemon.process)
                shown = str([daemon.get(page) for page in ("/metrics", "/api/v1/status", "/api/v1/events", "/plain")])
            kept = (tmp_path / "state" / "ledger.sqlite3").read_bytes() + daemon.log.read_bytes()
            assert SECRET not in shown
            assert SECRET.encode() not in kept
            assert b"notify.gave_up" in kept
    finally:
        worker.end()
