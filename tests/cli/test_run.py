"""`crewd run`: with a daemon that is there, and with one of its own. Real processes; each ends with its test."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crewd.cli.client import Place
from crewd.cli.embedded import LOG, DidNotStart, Embedded
from tests.cli.contract import Contract, managed, one_after_the_other, serving, task
from tests.cli.world import crewd

RUN = 'name = "nightly"\n[[tasks]]\nid = "a"\ncommand = ["true"]\n'
ROUTE = "GET /api/v1/runs/r-1/managed"


def routes(*bodies: Any) -> dict[str, Any]:
    accepted = {"run_id": "r-1", "duplicate": False, "tasks": 1}
    return {
        "GET /healthz": {"status": "ok"},
        "POST /api/v1/runs": (201, accepted),
        ROUTE: one_after_the_other(*bodies),
    }


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1)])
def test_a_daemon_that_is_there_is_used_and_left_alone(tmp_path: Path, status: str, code: int) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    state = "completed" if status == "completed" else "dead_lettered"
    bodies = (managed("running", task("a", "running")), managed(status, task("a", state)))
    with serving(tmp_path / "state", Contract(routes(*bodies))):
        result = crewd("run", str(tmp_path / "run.toml"), "--state-dir", str(tmp_path / "state"), folder=tmp_path)
    assert result.exit_code == code, result.output
    assert f"r-1 {status}" in result.stdout
    assert "no daemon runs" not in result.stderr
    assert not (tmp_path / "state" / LOG).exists()


def test_a_key_that_was_known_is_followed(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    made = routes(managed("completed", task("a", "completed")))
    made["POST /api/v1/runs"] = {"run_id": "r-1", "duplicate": True, "tasks": 1}
    arguments = ("run", str(tmp_path / "run.toml"), "--key", "k", "--state-dir", str(tmp_path / "state"))
    with serving(tmp_path / "state", Contract(made)):
        result = crewd(*arguments, folder=tmp_path)
    assert result.exit_code == 0
    assert "accepted before under this key; it is followed" in result.stderr


@pytest.mark.slow
@pytest.mark.real_time
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_run_and_sees_it_end(tmp_path: Path, number: int) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    made = routes(managed("running", task("a", "running")))
    contract = Contract(made)

    def cancel(query: Any, body: Any) -> Any:
        made[ROUTE] = managed("cancelled", task("a", "cancelled"))
        return {"what": "cancelled", "ids": [], "details": {}}

    made["POST /api/v1/runs/r-1/cancel"] = cancel
    command = [
        sys.executable,
        "-m",
        "crewd",
        "run",
        str(tmp_path / "run.toml"),
        "--state-dir",
        str(tmp_path / "state"),
    ]
    with (
        serving(tmp_path / "state", contract),
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "r-1: 0 of 1 done, 1 running (a)\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert said.splitlines() == ["crewd: cancelling r-1; ^C again leaves at once", "crewd: r-1 is cancelled"]
    assert contract.posted("/api/v1/runs/r-1/cancel") == [{"reason": "interrupted"}]


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CREWD_")}
    return {**kept, "HOME": str(folder), "PYTHONUNBUFFERED": "1"}


@pytest.mark.slow
@pytest.mark.real_time
def test_a_daemon_of_our_own_serves_until_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    state = tmp_path / "state"
    with Embedded(Place(state)) as embedded:
        assert embedded.ensure()
        assert not embedded.ensure(), "one is enough"
        told = json.loads((state / "daemon.json").read_text())
        with Place(state).daemon() as daemon:
            assert daemon.json("/healthz") == {"status": "ok"}
    assert not Path(f"/proc/{told['pid']}").exists()
    assert not (state / "daemon.json").exists(), "it stopped in order"


@pytest.mark.slow
@pytest.mark.real_time
def test_a_daemon_of_our_own_ends_with_whoever_started_it_even_by_kill(tmp_path: Path) -> None:
    state = tmp_path / "state"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from crewd.cli.client import Place\n"
        "from crewd.cli.embedded import Embedded\n"
        f"embedded = Embedded(Place(Path({str(state)!r})))\n"
        "embedded.ensure()\n"
        "print('up', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(tmp_path)
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        pid = json.loads((state / "daemon.json").read_text())["pid"]
        handle = os.pidfd_open(pid)
        starter.kill()
        starter.wait(10)
    try:
        import select

        assert select.select([handle], [], [], 20)[0], "the daemon is gone"
    finally:
        os.close(handle)


@pytest.mark.slow
@pytest.mark.real_time
def test_a_daemon_that_cannot_start_says_why_and_leaves_with_its_code(tmp_path: Path) -> None:
    config = tmp_path / "crewd.toml"
    config.write_text("[patrol]\ninterval = 900\n")
    with Embedded(Place(tmp_path / "state"), config) as embedded, pytest.raises(DidNotStart) as caught:
        embedded.ensure()
    assert caught.value.exit_code == 78
    assert "patrol.interval" in str(caught.value)
