"""The nemesis: crewd is killed with -9 every few seconds while hundreds of tasks run, and nothing may be lost.

The workers keep a ledger of their own, one line appended for each start and each end, and it is the judge: every task
ends once, none begins after its end, no two attempts of one task live at one time, no line of output is missing.
"""

import os
import random
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.end_to_end.managed import left_of, managed, shell, submit
from tests.end_to_end.running import Crewd, events

pytestmark = [pytest.mark.slow, pytest.mark.real_time]

SEED = int(os.environ.get("CREWD_NEMESIS_SEED", "7"))
SECONDS = float(os.environ.get("CREWD_NEMESIS_SECONDS", "90"))
TASKS = 500
RUNS = 10
LINES = 40
QUICK = {
    "CREWD_TASKS__MAX_PARALLEL": "16",
    "CREWD_TASKS__START_RATE": "0",
    "CREWD_PATROL__INTERVAL": "1s",
}
# Whoever was killed with its crewd in the middle of a start has spent an attempt: there must be some to spare.
RETRY = {
    "max_attempts": 30,
    "base": "0.1s",
    "cap": "0.5s",
    "classes": {"unknown": {"retry": True, "max_attempts": 30}},
}
# A start, a numbered output, now and then a failure, a child in a session of its own, and an end.
WORK = """
say() {{ echo "$1 $CREWD_TASK_ID $CREWD_ATTEMPT_NUMBER $CREWD_FENCE $(cut -d' ' -f1 /proc/uptime)" >> {book}; }}
say start
n=0; while [ $n -lt {lines} ]; do echo "line $n"; n=$((n+1)); [ $((n % 10)) = 0 ] && sleep {nap}; done
{extra}
say end
"""
FAILS = "test $CREWD_ATTEMPT_NUMBER -ge 2 || { say fail; exit 1; }"
LEAVES = "setsid sh -c 'sleep 300' >/dev/null 2>&1 &"


def test_five_hundred_tasks_survive_a_crewd_that_is_killed_again_and_again(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    book, state = tmp_path / "book", tmp_path / "state"
    began = time.monotonic()
    running = started(state, tmp_path)
    runs = [submit(running, plan(number, book, chance), key=f"run-{number}") for number in range(RUNS)]
    kills = 0
    while time.monotonic() - began < SECONDS:
        time.sleep(chance.uniform(0.5, 5.0))
        running.kill()
        kills += 1
        running = started(state, tmp_path)
        # Whoever asks again after a crash, with the same key, makes no second run.
        assert submit(running, plan(0, book, random.Random(SEED)), key="run-0") == runs[0]
    try:
        wait_for_all(running, runs)
        found = {run: managed(running, run) for run in runs}
    finally:
        running.stop()
    assert kills >= SECONDS / 10
    judge_book(book, found)
    judge_output(state, found)
    assert left_of(state) == [], "somebody was left behind"
    told = events(state)
    assert [event["seq"] for event in told] == list(range(1, len(told) + 1))
    assert len([event for event in told if event["type"] == "task.completed"]) == TASKS
    log = running.log.read_text()
    assert "invariant.violated" not in log
    assert "attempt.defect" not in log
    assert "Traceback" not in log


def plan(number: int, book: Path, chance: random.Random) -> dict[str, object]:
    tasks = []
    for each in range(TASKS // RUNS):
        extra = chance.choice(["", "", "", FAILS, LEAVES])
        script = WORK.format(book=book, lines=LINES, nap=round(chance.uniform(0.02, 0.5), 2), extra=extra)
        task_id = f"r{number}t{each}"
        depends = [f"r{number}t{each - 1}"] if each % 5 == 4 else []
        tasks.append(shell(task_id, script, retry=RETRY, depends_on=depends, stop={"drain": "0.1s"}))
    return {"name": f"nemesis-{number}", "crew": "shop", "tasks": tasks}


def started(state: Path, root: Path) -> Crewd:
    running = Crewd(state, root, **QUICK)
    running.wait_ready()
    return running


def wait_for_all(running: Crewd, runs: list[str]) -> None:
    deadline = time.monotonic() + 240
    waiting = list(runs)
    while waiting:
        assert time.monotonic() < deadline, {run: managed(running, run)["counts"] for run in waiting}
        assert running.process.poll() is None
        waiting = [run for run in waiting if managed(running, run).get("status") not in ("completed", "failed")]
        time.sleep(0.3)


def judge_book(book: Path, found: dict[str, dict[str, object]]) -> None:
    ends: dict[str, int] = defaultdict(int)
    attempts: dict[str, list[int]] = defaultdict(list)
    for line in book.read_text().splitlines():
        what, task, attempt, _fence, _at = line.split()
        if what == "start":
            assert not ends[task], f"{task} was begun again after its end"
            assert int(attempt) not in attempts[task], f"attempt {attempt} of {task} was begun twice"
            assert not attempts[task] or int(attempt) > attempts[task][-1], f"{task}: attempts out of order"
            attempts[task].append(int(attempt))
        elif what == "end":
            ends[task] += 1
    assert len(ends) == TASKS
    assert set(ends.values()) == {1}, "a task ended more than once, or never"
    for run in found.values():
        assert run["status"] == "completed", run["counts"]
        for task in run["tasks"]:  # type: ignore[attr-defined]
            assert task["state"] == "completed"
            fences = [each["fence"] for each in task["attempts"]]
            assert fences == sorted(set(fences))


def judge_output(state: Path, found: dict[str, dict[str, object]]) -> None:
    whole = [f"line {number}" for number in range(LINES)]
    for run_id, run in found.items():
        for task in run["tasks"]:  # type: ignore[attr-defined]
            folder = state / "runs" / run_id / task["task_id"] / str(task["attempt"])
            assert (folder / "stdout").read_text().splitlines() == whole, f"{folder}: output is missing"
