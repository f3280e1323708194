"""Managed runs under a real crewd that is killed, stopped, and handed over."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.managed import ask, left_of, managed, shell, states, submit
from tests.end_to_end.running import Crewd, crewd, events, eventually

pytestmark = [pytest.mark.slow, pytest.mark.real_time]
RETRY = {"max_attempts": 4, "base": "0.2s", "cap": "0.5s", "classes": {"unknown": {"retry": True, "max_attempts": 4}}}


def four(log: Path) -> dict[str, object]:
    """Four dependent tasks, one of which fails twice before it passes."""
    flaky = f"echo $CREWD_TASK_ID $CREWD_ATTEMPT_NUMBER >> {log}; sleep 0.5; test $CREWD_ATTEMPT_NUMBER -ge 3"
    mark = f"echo $CREWD_TASK_ID $CREWD_ATTEMPT_NUMBER >> {log}; sleep 1"
    return {
        "name": "four",
        "crew": "shop",
        "tasks": [
            shell("clone", mark),
            shell("test", flaky, depends_on=["clone"], retry=RETRY),
            shell("lint", mark, depends_on=["clone"]),
            shell("report", mark, depends_on=["test", "lint"]),
        ],
    }


def is_done(running: Crewd, run_id: str) -> bool:
    return managed(running, run_id).get("status") == "completed"


def test_a_run_ends_right_although_crewd_is_killed_in_the_middle(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with crewd(tmp_path / "state", tmp_path) as first:
        first.wait_ready()
        run_id = submit(first, four(log))
        eventually(lambda: states(first, run_id).get("lint") == "running", first.process)
        first.kill()
    assert left_of(tmp_path / "state"), "the workers went with crewd"
    with crewd(tmp_path / "state", tmp_path) as second:
        second.wait_ready()
        eventually(lambda: is_done(second, run_id), second.process)
        assert [each["error_class"] for each in _attempts(second, run_id, "test")] == ["unknown", "unknown", None]
        assert sorted(log.read_text().splitlines()) == ["clone 1", "lint 1", "report 1", "test 1", "test 2", "test 3"]
        eventually(lambda: _told(tmp_path, "run.completed") == [run_id])
    assert left_of(tmp_path / "state") == []
    numbers = [event["seq"] for event in events(tmp_path / "state")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_run_has_ended_for_everybody_who_asks_as_soon_as_its_tasks_have(tmp_path: Path) -> None:
    """The next round is a minute away, but for one a second after something happened."""
    with crewd(tmp_path / "state", tmp_path, CREWD_PATROL__INTERVAL="60s") as running:
        running.wait_ready()
        for _ in range(3):
            run_id = submit(running, {"name": "short", "tasks": [shell("a", "true"), shell("b", "true")]})
            while "running" in (seen := told_by(running, run_id)) or "queued" in seen:
                assert len(set(seen)) == 1 or told_by(running, run_id) != seen, f"they differ, and go on to: {seen}"
            assert seen == ("completed", "completed", "completed")


def told_by(running: Crewd, run_id: str) -> tuple[str, ...]:
    """How a run stands by what is told of it, of its tasks, and of all runs."""
    tasks = set(states(running, run_id).values())
    going = tasks & {"waiting", "starting", "running", "ending", "retry_wait"}
    _, one = ask(running, "GET", f"/api/v1/runs/{run_id}")
    _, every = ask(running, "GET", "/api/v1/runs")
    listed = next(each["status"] for each in every["runs"] if each["run_id"] == run_id)
    return (one["status"] if going else tasks.pop(), one["status"], listed)


def test_sigterm_drains_and_what_it_stopped_is_tried_again(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with crewd(tmp_path / "state", tmp_path, CREWD_TASKS__DRAIN_TIMEOUT="1s") as first:
        first.wait_ready()
        run_id = submit(
            first,
            {"name": "two", "tasks": [shell("short", "sleep 1"), shell("long", f"test -e {go} || sleep 100")]},
        )
        eventually(lambda: list(states(first, run_id).values()) == ["running", "running"], first.process)
        own = os.getpgid(first.process.pid)
        assert first.stop() == 0
    assert left_of(tmp_path / "state") == []
    assert own == os.getpgid(0), "crewd changed its group"
    go.touch()
    with crewd(tmp_path / "state", tmp_path) as second:
        second.wait_ready()
        eventually(lambda: is_done(second, run_id), second.process)
        attempts = _attempts(second, run_id, "long")
        assert [(each["interrupted"], each["error_class"]) for each in attempts] == [(True, None), (False, None)]
        assert len(_attempts(second, run_id, "short")) == 1


def test_a_crewd_that_waits_for_what_runs_says_so_and_a_second_wish_is_answered_at_once(tmp_path: Path) -> None:
    def why() -> str:
        return str(ask(first, "GET", "/readyz")[1]["parts"].get("stopping", {}).get("why", ""))

    with crewd(tmp_path / "state", tmp_path, CREWD_TASKS__DRAIN_TIMEOUT="60s") as first:
        first.wait_ready()
        run_id = submit(first, {"name": "one", "tasks": [shell("long", "sleep 100")]})
        eventually(lambda: states(first, run_id).get("long") == "running", first.process)
        first.process.terminate()
        eventually(lambda: "ends once the attempts that run are over" in why(), first.process)
        assert first.stop() == 0
    assert left_of(tmp_path / "state") == []


def test_a_handover_loses_no_worker(tmp_path: Path) -> None:
    with crewd(tmp_path / "state", tmp_path) as first:
        first.wait_ready()
        run_id = submit(first, {"name": "one", "tasks": [shell("a", "echo begun; sleep 4; echo done")]})
        eventually(lambda: states(first, run_id).get("a") == "running", first.process)
        status, answer = ask(first, "POST", "/-/handover", {})
        assert status == 200, answer
        assert first.process.wait(20) == 0
    assert left_of(tmp_path / "state")
    with crewd(tmp_path / "state", tmp_path) as second:
        second.wait_ready()
        eventually(lambda: is_done(second, run_id), second.process)
        assert len(_attempts(second, run_id, "a")) == 1
    assert (tmp_path / "state" / "runs" / run_id / "a" / "1" / "stdout").read_text() == "begun\ndone\n"


def test_a_stopped_crewd_ends_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    with crewd(tmp_path / "state", tmp_path) as running:
        running.wait_ready()
        run_id = submit(running, {"name": "one", "tasks": [shell("a", "sleep 3", timeout="30s")]})
        eventually(lambda: states(running, run_id).get("a") == "running", running.process)
        running.process.send_signal(signal.SIGSTOP)
        eventually(lambda: not left_of(tmp_path / "state"))
        running.process.send_signal(signal.SIGCONT)
        eventually(lambda: is_done(running, run_id), running.process)


def test_files_in_the_inbox_are_taken_once(tmp_path: Path) -> None:
    with crewd(tmp_path / "state", tmp_path) as running:
        running.wait_ready()
        inbox = tmp_path / "state" / "inbox"
        (inbox / "good.toml").write_text('name = "good"\n[[tasks]]\nid = "a"\ncommand = ["true"]\ncwd = "/"\n')
        (inbox / "bad.toml").write_text('name = "bad"\n[[tasks]]\nid = "../x"\ncommand = []\n')
        eventually(lambda: len(list((inbox / "accepted").iterdir())) == 1, running.process)
        eventually(lambda: len(list((inbox / "refused").iterdir())) == 2, running.process)
        (words,) = (inbox / "refused").glob("*.errors.txt")
        assert "../x" in words.read_text()
        assert not list(inbox.glob("*.toml"))
        eventually(lambda: len(_told(tmp_path, "run.completed")) == 1)


def test_the_commands_do_what_they_say(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'name = "cli"\ncrew = "shop"\n[[tasks]]\nid = "a"\ncommand = ["/bin/sh", "-c", "echo hello; exit 3"]\n'
        'retry = { base = "0.1s" }\n[[tasks]]\nid = "b"\ncommand = ["true"]\ndepends_on = ["a"]\n'
    )
    with crewd(tmp_path / "state", tmp_path) as running:
        running.wait_ready()
        run_id = _cli(tmp_path, 0, "submit", str(file), "--quiet").strip()
        _cli(tmp_path, 1, "wait", run_id)
        assert "hello" in _cli(tmp_path, 0, "logs", run_id, "a")
        why = _cli(tmp_path, 0, "why", run_id)
        assert "a" in why
        assert "unknown" in why
        letters = _cli(tmp_path, 0, "deadletter", "list", "--json")
        assert f"managed:{run_id}/a/2" in letters
        _cli(tmp_path, 0, "deadletter", "discard", f"managed:{run_id}/a/2", "--reason", "known")
        _cli(tmp_path, 0, "pause")
        _cli(tmp_path, 0, "resume")
    assert "dead_lettered" in _cli(tmp_path, 0, "show", run_id), "without the daemon, from the ledger"


def _cli(home: Path, code: int, *arguments: str) -> str:
    command = [sys.executable, "-m", "crewd", *arguments, "--state-dir", str(home / "state")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CREWD_")}
    done = subprocess.run(command, env={**clean, "HOME": str(home)}, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


def _attempts(running: Crewd, run_id: str, task_id: str) -> list[dict[str, object]]:
    tasks = {task["task_id"]: task for task in managed(running, run_id)["tasks"]}
    return list(tasks[task_id]["attempts"])


def _told(home: Path, type: str) -> list[str]:
    return [event["run_id"] for event in events(home / "state") if event["type"] == type]
