"""A crewd that is itself stopped for a while is fair to those who went on."""

import signal
import time
from pathlib import Path

import pytest

from tests.end_to_end.managed import managed, shell, states, submit
from tests.end_to_end.running import crewd, eventually

pytestmark = [pytest.mark.slow, pytest.mark.real_time]


def test_who_ended_while_crewd_was_stopped_has_not_run_out_of_time(tmp_path: Path) -> None:
    once = {"retry": {"max_attempts": 1}}
    tasks = [
        *(shell(f"done-{number}", "sleep 1", timeout="2s", **once) for number in range(3)),
        shell("endless", "sleep 60", timeout="2s", **once),
    ]
    with crewd(tmp_path / "state", tmp_path) as running:
        running.wait_ready()
        run_id = submit(running, {"name": "stopped", "tasks": tasks})
        eventually(lambda: set(states(running, run_id).values()) == {"running"}, running.process)
        running.process.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        eventually(lambda: time.monotonic() - stopped_at > 3)
        running.process.send_signal(signal.SIGCONT)
        eventually(lambda: managed(running, run_id).get("status") == "failed", running.process)
        told = {task["task_id"]: task["attempts"][0]["error_class"] for task in managed(running, run_id)["tasks"]}
        assert told == {"done-0": None, "done-1": None, "done-2": None, "endless": "timeout"}
