"""Why an observed run stands still: which worker, since when, the evidence in a sentence, and what helps."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crewd.cli.stuck import run_waits, stuck
from crewd.model.run import RunStatus, TaskStatus, Waiting
from crewd.model.snapshot import RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Wedge
from tests.cli.world import crewd, daemon, run, snapshot, task, worker, write_ledger


def why(folder: Path, taken: Snapshot, *options: str) -> str:
    write_ledger(folder, taken)
    with daemon(folder, taken):
        result = crewd("why", "r-1", *options, "--state-dir", str(folder), folder=folder)
    assert result.exit_code == 0, result.output
    return result.stdout


def with_wedge(each: WorkerView, wedge: Wedge | None, reason: Reason = Reason.SILENT, **others: Any) -> WorkerView:
    standing = msgspec.structs.replace(each.standing, wedge=wedge, reason=reason, **others)
    return msgspec.structs.replace(each, standing=standing)


def test_the_worker_in_most_trouble_comes_first_with_everything_that_is_needed(tmp_path: Path) -> None:
    quiet = with_wedge(worker("quiet", Level.STALE, 700.0, "silent for 700 s"), Wedge.API_STREAM_HANG)
    gone = worker("gone", Level.DEAD, 400.0, "pid 9 is gone")
    view = RunView(run("r-1", task("fine"), task("quiet"), task("gone")), "root", (worker("fine"), quiet, gone))
    lines = why(tmp_path, snapshot(view)).splitlines()
    at = [line.split(" ")[0] for line in lines].index("gone")
    assert lines[at].startswith("gone DEAD since 2026-01-01T00:00:00.000Z, silent for 6m")
    assert lines[at + 1].split(maxsplit=1) == ["evidence", "pid 9 is gone; pid 7 is alive"]
    assert lines[at + 3].split(maxsplit=1) == ["next", "crewd explain r-1 gone"]
    assert lines[at + 4].startswith("quiet STALE since")
    assert "api stream hang" in lines[at + 5]
    assert "resume its session" in lines[at + 6]
    assert not any("fine" in line.split() for line in lines[at:])
    assert not any("nothing stands in its way" in line for line in lines)


def test_a_declared_wait_says_whose_answer_is_missing(tmp_path: Path) -> None:
    waiting = with_wedge(worker("ask", Level.WAITING), Wedge.WAITING_HUMAN, Reason.HUMAN)
    asks = task("ask", TaskStatus.WAITING, waiting=Waiting("human", 1_767_225_600.0, "may I push?"))
    text = why(tmp_path, snapshot(RunView(run("r-1", asks), "root", (waiting,))))
    assert "ask waiting since" in text
    assert "Answer it; nobody else will." in text
    assert "1 task waits" not in text


def test_a_run_that_waits_itself_and_one_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    blocked = run("r-1", status=RunStatus.BLOCKED, waiting=Waiting("human", 1_767_225_600.0, "approval of the plan"))
    text = why(tmp_path, snapshot(RunView(blocked, "root")))
    assert "the run waits  for human since 2026-01-01T00:00:00.000Z approval of the plan" in text
    unread = {"unread": "torn", "unread_rounds": 7}
    assert list(run_waits(unread)) == [("unread", "its files could not be read for 7 rounds: torn")]


def test_many_are_counted_and_json_has_them_all(tmp_path: Path) -> None:
    names = [f"t{number:02}" for number in range(20)]
    workers = tuple(worker(name, Level.STALE, 700.0) for name in names)
    taken = snapshot(RunView(run("r-1", *map(task, names)), "root", workers))
    assert "and 12 more: t08 (stale)" in why(tmp_path, taken)
    told = json.loads(why(tmp_path, taken, "--json"))
    assert [each["task"] for each in told["workers"]] == names
    assert all(each["remedy"] and each["next_action"] and each["since"] for each in told["workers"])


@pytest.mark.parametrize("level", ["dead", "stale", "warn", "unreadable", "waiting"])
@pytest.mark.parametrize("wedge", [None, "unknown", "of a newer crewd", *(each.value for each in Wedge)])
def test_every_level_and_wedge_has_a_remedy(level: str, wedge: str | None) -> None:
    standing = {"level": level, "reason": "silent", "because": "", "since": None, "silence_seconds": None}
    rest = {"wedge": wedge, "held_by": "hold", "tool": "Bash", "process": None}
    [found] = stuck({"run_id": "r", "tasks": [{"task_id": "t", "worker": {**standing, **rest}}]})
    assert found.remedy or wedge == "of a newer crewd"
    assert found.evidence.startswith("silent")


def test_the_ledger_tells_the_same_without_the_silence(tmp_path: Path) -> None:
    view = RunView(run("r-1", task("t1")), "root", (worker("t1", Level.DEAD, 9.0, "pid 9 is gone"),))
    write_ledger(tmp_path, snapshot(view))
    result = crewd("why", "r-1", "--state-dir", str(tmp_path), folder=tmp_path)
    assert "t1 DEAD since 2026-01-01T00:00:00.000Z\n" in result.stdout
    assert "pid 9 is gone" in result.stdout
