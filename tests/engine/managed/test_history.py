"""What managed attempts leave behind for whoever looks back: told by genuine workers, found in the ledger."""

import asyncio
from pathlib import Path

import pytest

from crewd.ledger.reader import Reader
from crewd.model.history import HistoryQuery
from crewd.model.plan import RetryPolicy
from crewd.model.run import Usage
from tests.engine.managed.workshop import opened, protocol, shell

pytestmark = pytest.mark.real_time

EIGHT = """
import json, os, sys
def say(type, **data): os.write(1, (json.dumps({"type": type, **data}) + chr(10)).encode())
say("ready", protocol="crewd-worker/1")
id = json.loads(sys.stdin.readline())["id"]
for n in range(1, 9):
    say("heartbeat", id=id, seq=n, step=f"step {n}")
    say("heartbeat", id=id, seq=100 + n)
say("usage", id=id, model="opus", input_tokens=7, output_tokens=2, cost_usd=0.5)
say("result", id=id, output=1)
"""


def test_eight_iterations_are_eight_events_and_the_attempt_is_found_with_all_that_it_is_grouped_by(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            kind = {"task_type": "build", "model": "opus", "variants": {"prompt": "b"}}
            await w.submit("run-1", protocol("a", EIGHT, **kind))
            await w.ended("run-1")
            told = w.told("task.progressed")
            assert [event.data["iteration"] for event in told] == list(range(1, 9))
            assert [event.data["step"] for event in told] == [f"step {n}" for n in range(1, 9)]
            assert all(event.attempt == 1 and event.task_id == "a" for event in told)
            assert not any("iteration" in event.data for event in w.told("task.completed"))
            assert not any("iteration" in event.data for event in w.told("attempt.finished"))
        with Reader.open(tmp_path / "s") as reader:
            [row] = reader.attempts(HistoryQuery(states=("completed",), task_type="build")).rows
            assert (row.model, row.variants, row.iterations) == ("opus", {"prompt": "b"}, 8)
            assert row.usage == Usage(input=7, output=2, cost_usd=0.5, model="opus")
            assert row.executor == "default"
            assert row.queue_seconds is not None
            assert row.duration_seconds is not None
            assert reader.history_problems() == []

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_failed_attempt_and_the_one_after_it_are_one_task(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            script = f"test -e {tmp_path}/seen && exit 0; touch {tmp_path}/seen; exit 3"
            await w.submit("run-1", shell("a", script, retry=RetryPolicy(max_attempts=2, base=0.01)))
            await w.ended("run-1")
        with Reader.open(tmp_path / "s") as reader:
            attempts = reader.attempts(HistoryQuery(run_id="run-1")).rows
            assert [(row.attempt, row.outcome) for row in attempts] == [(2, "completed"), (1, "failed")]
            assert attempts[1].error_class == "unknown"
            [task] = reader.tasks(HistoryQuery()).rows
            assert (task.outcome, task.attempts) == ("completed", 2)
            [run] = reader.past_runs(HistoryQuery()).rows
            assert (run.status, run.tasks, run.attempts) == ("completed", {"completed": 1}, 2)
            assert reader.history_problems() == []

    asyncio.run(asyncio.wait_for(story(), 30))
