"""`crewd worker check`: good workers pass, each fault is named, and nothing is left behind."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from crewd.cli.worker import worker

pytestmark = pytest.mark.real_time

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "config/examples/workers"
PYTHON = sys.executable
NAMES = ["start", "ready", "task", "heartbeat", "cancel", "stdout", "terminal", "exit"]

GOOD = """
def handle(task):
    if task.payload["check"] == "wait":
        worker.sleep(task.payload["seconds"])
    return task.payload["text"]
sys.exit(worker.run(handle, 0.3))
"""
READY = (
    'printf \'{"type":"ready","protocol":"crewd-worker/1","heartbeat_interval_s":0.3}\\n\'; read ping; read task; '
)
ID = 'id=$(printf %s "$task" | sed \'s/.*"id":"\\([^"]*\\)".*/\\1/\'); '


def result(more: str = "") -> str:
    return f'printf \'{{"type":"result","id":"%s","output":1{more}}}\\n\' "$id"; '


def run(*arguments: str, timeout: float = 3.0, options: tuple[str, ...] = ()) -> Result:
    environ = {"PYTHONPATH": str(ROOT)}
    return CliRunner(env=environ).invoke(worker, ["check", "--timeout", str(timeout), *options, "--", *arguments])


def examine(*arguments: str, timeout: float = 3.0) -> tuple[dict[str, tuple[str, str]], int]:
    """State and words of every point, and the exit code."""
    told = run(*arguments, timeout=timeout, options=("--json",))
    value: dict[str, Any] = json.loads(told.stdout)
    assert [each["name"] for each in value["checks"]] == NAMES
    assert value["ok"] == (told.exit_code == 0)
    return {each["name"]: (each["state"], each["words"]) for each in value["checks"]}, told.exit_code


def python(tmp_path: Path, code: str) -> tuple[str, str]:
    path = tmp_path / "main.py"
    path.write_text(f"import os, sys, time\nfrom crewd import worker\n{code}")
    return PYTHON, str(path)


def failed(checks: dict[str, tuple[str, str]]) -> set[str]:
    return {name for name, (state, _) in checks.items() if state == "FAIL"}


def marked() -> Iterator[str]:
    """Processes that carry the mark of a check."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                if f"CREWD_ATTEMPT=worker-check/{os.getpid()}-".encode() in (entry / "environ").read_bytes():
                    yield (entry / "cmdline").read_bytes().decode()
            except OSError:
                continue


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    yield
    assert list(marked()) == []


def test_a_good_worker_passes_every_point(tmp_path: Path) -> None:
    checks, code = examine(*python(tmp_path, GOOD))
    assert {name: state for name, (state, _) in checks.items()} == dict.fromkeys(NAMES, "ok")
    assert code == 0
    assert checks["task"][1].startswith("result after")
    assert checks["cancel"][1].startswith("error cancelled after")


@pytest.mark.parametrize("command", [(PYTHON, "run_command.py"), ("sh", "echo.sh")])
def test_the_examples_pass_every_point(command: tuple[str, str]) -> None:
    program, name = command
    checks, code = examine(program, str(EXAMPLES / name), timeout=6.0)
    assert code == 0, checks
    assert {name: state for name, (state, _) in checks.items() if name != "heartbeat"} == {
        name: "ok" for name in NAMES if name != "heartbeat"
    }
    assert checks["heartbeat"][0] == "ok" or "busy" in checks["heartbeat"][1]


def test_the_lines_for_people_say_the_same(tmp_path: Path) -> None:
    told = run(*python(tmp_path, GOOD))
    assert told.exit_code == 0
    assert [line.split()[:2] for line in told.stdout.splitlines()] == [["ok", name] for name in NAMES]


def test_a_mute_worker_is_not_ready() -> None:
    checks, code = examine("sleep", "1000", timeout=0.5)
    assert (code, failed(checks)) == (1, {"ready"})
    assert checks["ready"][1] == "no ready: within 0.5 s"
    assert checks["task"] == ("skip", "not reached")


def test_a_worker_that_ends_at_once_is_not_ready_and_its_stderr_is_shown() -> None:
    told = run("sh", "-c", "echo no such module >&2; exit 3")
    assert told.exit_code == 1
    assert "no ready: ended with 3" in told.stdout
    assert "no such module" in told.stderr


def test_noise_on_stdout_is_named(tmp_path: Path) -> None:
    noisy = "os.write(1, b'loading the model\\n')\n" + GOOD
    checks, code = examine(*python(tmp_path, noisy))
    assert (code, failed(checks)) == (1, {"stdout"})
    assert checks["stdout"][1] == "stdout noise: 2 bad lines, the first: not JSON: 'loading the model'"


def test_a_command_that_is_not_there_cannot_be_started() -> None:
    checks, code = examine("no-such-command-at-all")
    assert (code, failed(checks)) == (1, {"start"})
    assert checks["start"][1] == "no-such-command-at-all cannot be started: No such file or directory"


@pytest.mark.parametrize(
    ("script", "point", "words"),
    [
        ('printf \'{"type":"ready","protocol":"crewd-worker/2"}\\n\'; sleep 9', "ready", "speaks 'crewd-worker/2'"),
        (READY + "exit 0", "task", "no result or error with the id of the task: ended with 0"),
        (READY + "sleep 60", "task", "no result or error with the id of the task: within 1 s"),
        (READY + "id=other; " + result() + "sleep 60", "stdout", "the id 'other' is not that of this attempt"),
        (READY + ID + "sleep 1.5; " + result(), "heartbeat", "silent for 1."),
        (READY + ID + result() + result(), "terminal", "2 terminal messages for one task"),
        (READY + ID + result() + "exit 3", "exit", "ended with 3 after a result"),
        (READY + ID + result() + "sleep 60", "exit", "still there"),
        (READY + "kill -9 $$", "task", "ended by signal 9"),
        ("while :; do echo noise; done", "stdout", "stdout noise: 10 bad lines"),
    ],
)
def test_every_fault_is_named(script: str, point: str, words: str) -> None:
    checks, code = examine("sh", "-c", script, timeout=1.0 if "1 s" in words else 2.0)
    assert code == 1
    assert checks[point][0] == "FAIL", checks
    assert words in checks[point][1]


def test_a_cancel_that_is_not_honoured_is_named(tmp_path: Path) -> None:
    deaf = """
def handle(task):
    if task.payload["check"] == "wait":
        time.sleep(60)
sys.exit(worker.run(handle, 0.3))
"""
    checks, code = examine(*python(tmp_path, deaf), timeout=1.0)
    assert code == 1
    assert checks["cancel"] == ("FAIL", "still at work 1 s after the cancel")


def test_what_hides_in_a_session_of_its_own_is_ended_too(tmp_path: Path) -> None:
    script = "setsid sleep 1000 & " + READY + ID + result() + "setsid sh -c 'trap \"\" TERM; sleep 1000' &"
    checks, _ = examine("sh", "-c", script)
    assert checks["task"][0] == "ok"
    # The fixture looks whether any of it is left.


def test_a_payload_of_ones_own_is_given(tmp_path: Path) -> None:
    code = (
        "def handle(task): raise worker.Failed('task_error', task.payload['mine'])\nsys.exit(worker.run(handle, 0.3))"
    )
    told = run(*python(tmp_path, code), options=("--payload", '{"mine": "seen"}'))
    assert "error task_error after" in told.stdout
    assert "seen" in told.stdout


def test_a_payload_that_is_no_json_is_a_usage_problem() -> None:
    told = run("true", options=("--payload", "{"))
    assert told.exit_code != 0
    assert "--payload is no JSON" in str(told.exception)


def test_the_shell_example_tells_any_output_as_json(tmp_path: Path) -> None:
    script = (EXAMPLES / "echo.sh").read_text()
    assert 'echo "hello from $(uname -s)"' in script
    (tmp_path / "w.sh").write_text(
        script.replace('echo "hello from $(uname -s)"', "printf 'a\"b\\\\c\\td\\n\\001second\\n'")
    )
    checks, code = examine("sh", str(tmp_path / "w.sh"), timeout=6.0)
    assert (code, checks["stdout"][0]) == (0, "ok")
