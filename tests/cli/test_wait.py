"""Waiting: each change once, over restarts, and the exit code of the run."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from crewd.cli.client import Place
from crewd.cli.following import Following
from crewd.cli.progress import BarProgress, PlainProgress, standing
from tests.cli.contract import Contract, attempt, managed, one_after_the_other, serving, task
from tests.cli.world import crewd, run, snapshot, write_ledger
from tests.cli.world import task as observed_task

ROUTE = "GET /api/v1/runs/r-1/managed"


def wait(tmp_path: Path, answer: Any, *arguments: str) -> Result:
    with serving(tmp_path / "state", Contract({ROUTE: answer})):
        return crewd("wait", "r-1", *arguments, "--state-dir", str(tmp_path / "state"), folder=tmp_path)


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("blocked", 1), ("cancelled", 1)])
def test_the_exit_code_is_the_end_of_the_run(tmp_path: Path, status: str, code: int) -> None:
    result = wait(tmp_path, managed(status, task("a", "completed")))
    assert result.exit_code == code
    assert f"r-1 {status}: 1 of 1 done" in result.stdout


def test_each_change_is_one_line(tmp_path: Path) -> None:
    failed = task("a", "retry_wait", attempt(1), due_at="2026-01-01T00:00:00.000Z")
    result = wait(
        tmp_path,
        one_after_the_other(
            managed("running", task("a", "running"), task("b", "waiting")),
            managed("running", task("a", "running"), task("b", "waiting")),
            managed("running", failed, task("b", "waiting")),
            managed("running", task("a", "completed", attempt(1), attempt(2, None)), task("b", "running")),
            managed("completed", task("a", "completed", attempt(1), attempt(2, None)), task("b", "completed")),
        ),
    )
    assert result.stdout.splitlines() == [
        "r-1: 0 of 2 done, 1 running (a)",
        "a: retry_wait: retry due; worker_crash: exit 1",
        "a: completed (attempt 2)",
        "b: running",
        "b: completed",
        "r-1 completed: 2 of 2 done",
    ]


def test_a_failed_run_tells_its_first_cause(tmp_path: Path) -> None:
    body = managed("failed", task("a", "dead_lettered", attempt(3)), task("b", "skipped", depends_on=["a"]))
    lines = wait(tmp_path, body).stdout.splitlines()
    assert lines[-2:] == [
        "  a dead_lettered: worker_crash: exit 1",
        "  `crewd why r-1` tells the cause and what to do",
    ]


def test_time_that_is_over_leaves_with_124_and_says_that_the_run_goes_on(tmp_path: Path) -> None:
    result = wait(tmp_path, managed("running", task("a", "running")), "--timeout", "0.2")
    assert result.exit_code == 124
    assert "r-1 has not ended within 0s; it goes on" in result.stderr


def test_a_time_is_written_as_everywhere_else(tmp_path: Path) -> None:
    for written in ("200ms", "0.2s", "0.2"):
        assert wait(tmp_path, managed("running", task("a", "running")), "--timeout", written).exit_code == 124
    assert wait(tmp_path, managed("completed", task("a", "completed")), "--timeout", "1h30m").exit_code == 0
    for written in ("soon", "-1", "10 minutes"):
        refused = wait(tmp_path, managed("running", task("a", "running")), "--timeout", written)
        assert refused.exit_code == 2
        assert "write 30s, 10m or 1h30m" in refused.stderr


def test_json_is_one_value_at_the_end(tmp_path: Path) -> None:
    result = wait(tmp_path, managed("completed", task("a", "completed")), "--json")
    assert json.loads(result.stdout)["status"] == "completed"


def test_a_run_that_nobody_knows_leaves_with_3_and_nobody_to_ask_with_69(tmp_path: Path) -> None:
    assert wait(tmp_path, (404, {"error": {"message": "no such run"}})).exit_code == 3
    assert crewd("wait", "r-1", "--state-dir", str(tmp_path / "none"), folder=tmp_path).exit_code == 69


def test_a_run_of_another_runtime_can_be_waited_for(tmp_path: Path) -> None:
    from crewd.model.run import RunStatus, TaskStatus
    from crewd.model.snapshot import RunView

    ended = run("r-1", observed_task("t1", TaskStatus.FAILED, error="boom"), status=RunStatus.FAILED)
    write_ledger(tmp_path, snapshot(RunView(ended, "root")))
    result = crewd("wait", "r-1", "--state-dir", str(tmp_path), folder=tmp_path)
    assert result.exit_code == 1
    assert "t1 failed: boom" in result.stdout


class Heard:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.seen: list[str] = []

    def show(self, body: dict[str, Any], now: float) -> None:
        self.seen.append(body["status"])

    def say(self, words: str) -> None:
        self.said.append(words)


def test_a_daemon_that_is_started_anew_is_waited_for_and_both_are_told_once(tmp_path: Path) -> None:
    screen, contract, stack = Heard(), Contract({ROUTE: managed("running", task("a", "running"))}), ExitStack()
    steps = iteration(tmp_path, contract, stack)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        next(steps)

    stack.enter_context(serving(tmp_path, contract))
    with stack:
        body = Following(Place(tmp_path), "r-1", screen, pause).until_over(None)
    assert body is not None
    assert body["status"] == "completed"
    assert len(screen.said) == 2
    assert "it is not running" in screen.said[0]
    assert screen.said[0].endswith("waiting for the daemon")
    assert screen.said[1] == "the daemon is back"
    assert max(pauses) <= 1.0
    assert min(pauses) > 0


def iteration(state: Path, contract: Contract, stack: ExitStack) -> Iterator[None]:
    """Two looks, then the daemon is away for three, then it is back and the run ends."""
    yield
    stack.close()
    yield
    yield
    yield
    stack.enter_context(serving(state, contract))
    yield
    contract.routes[ROUTE] = managed("completed", task("a", "completed"))
    while True:
        yield


def test_polling_slows_down_to_a_second_and_a_change_makes_it_fast_again(tmp_path: Path) -> None:
    still, moved = managed("running", task("a", "running")), managed("running", task("a", "ending"))
    bodies = [still] * 12 + [moved] + [managed("completed", task("a", "completed"))]
    pauses: list[float] = []
    with serving(tmp_path, Contract({ROUTE: one_after_the_other(*bodies)})):
        Following(Place(tmp_path), "r-1", Heard(), pauses.append).until_over(None)
    assert pauses[:12] == sorted(pauses[:12])
    assert pauses[11] == 1.0
    assert pauses[12] == pauses[0] < 0.2


def test_the_sum_names_a_few_and_counts_the_rest() -> None:
    running = [task(name, "running") for name in "abcdef"]
    body = managed("running", *running, task("x", "retry_wait", attempt(1)), task("y", "dead_lettered", attempt(1)))
    assert standing(body) == "1 of 8 done, 6 running (a, b, c, d, …), 1 retrying, 1 failed"


def test_hostile_names_cannot_act_on_the_bar() -> None:
    import io

    from rich.console import Console

    out = io.StringIO()
    bad = task("[red]\x1b[2J\x07", "running")
    with BarProgress(Console(file=out, force_terminal=True, width=100, highlight=False)) as bar:
        bar.show(managed("running", bad, run_id="[bold]r\x9b31m"), 0.0)
        bar.say("[link]x")
    text = out.getvalue()
    assert "[red]" in text
    assert "[bold]r" in text
    assert "[link]x" in text
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert "\x9b" not in text
    lines: list[str] = []
    plain = PlainProgress(lines.append)
    plain.show(managed("running", bad), 0.0)
    plain.show(managed("running", {**bad, "state": "ending"}), 0.0)
    assert not set("\x1b\x07") & set("".join(lines))
