"""What a crewd makes of the attempts of its predecessor: real processes, and ledgers left as they were."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from crewd.engine.managed import transitions
from crewd.host.attempt_folder import folder_of
from crewd.ledger.batch import Batch
from crewd.model.failure import ErrorClass, Failure
from crewd.model.managed import Running, Starting
from crewd.model.plan import RetryPolicy
from tests.engine.managed.workshop import Workshop, marked, opened, protocol, shell

pytestmark = pytest.mark.real_time

PATIENT = "echo begun; while [ ! -e {go} ]; do sleep 0.02; done; echo done"


def wait_for(path: Path) -> str:
    return PATIENT.format(go=path)


def run(coroutine: object) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))  # type: ignore[arg-type]


def test_a_worker_outlives_its_crewd_and_goes_on_under_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        go = tmp_path / "go"
        async with opened(tmp_path / "s") as first:
            await first.submit("run-1", shell("a", wait_for(go)))
            await first.until(lambda: first.state_of("run-1", "a") == "running")
            pid = first.task("run-1", "a").state.process.pid  # type: ignore[union-attr]
        assert marked("run-1/a/1"), "it went with its crewd"
        async with opened(tmp_path / "s") as second:
            assert second.accounts.adopted == 1
            assert second.task("run-1", "a").state.process.pid == pid  # type: ignore[union-attr]
            go.touch()
            await second.ended("run-1")
            assert second.state_of("run-1", "a") == "completed"
            assert len(second.task("run-1", "a").attempts) == 1
            output = Path(folder_of(second.options.folder, "run-1", "a", 1), "stdout").read_text()
            assert output == "begun\ndone\n"

    run(story())


@pytest.mark.parametrize(("code", "state"), [(0, "completed"), (3, "dead_lettered")])
def test_an_exit_while_nobody_looked_is_read_from_its_record(tmp_path: Path, code: int, state: str) -> None:
    async def story() -> None:
        go = tmp_path / "go"
        failing = shell("a", f"{wait_for(go)}; exit {code}", success=_strict())
        async with opened(tmp_path / "s") as first:
            await first.submit("run-1", failing)
            await first.until(lambda: first.state_of("run-1", "a") == "running")
        go.touch()
        while marked("run-1/a/1"):
            await asyncio.sleep(0.02)
        async with opened(tmp_path / "s") as second:
            assert second.accounts.ended == 1
            await second.ended("run-1")
            assert second.state_of("run-1", "a") == state
            assert second.task("run-1", "a").attempts[0].exit.code == code

    run(story())


def test_a_worker_that_vanished_without_a_record_was_killed_and_is_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as first:
            await first.submit("run-1", shell("a", "test $CREWD_ATTEMPT_NUMBER = 2 || sleep 60"))
            await first.until(lambda: first.state_of("run-1", "a") == "running" and len(marked("run-1/a/1")) > 1)
        for pid in marked("run-1/a/1"):
            os.kill(pid, signal.SIGKILL)
        async with opened(tmp_path / "s") as second:
            await second.ended("run-1")
            assert second.classes("run-1", "a") == ["worker_killed", ""]

    run(story())


def test_an_attempt_whose_gate_was_never_opened_counts_and_is_tried_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s", max_parallel=0) as first:
            await first.submit("run-1", shell("a", "echo ran"))
            await _leave_starting(first, "run-1", "a")
        async with opened(tmp_path / "s") as second:
            assert second.accounts.never_ran == 1
            await second.ended("run-1")
            assert second.state_of("run-1", "a") == "completed"
            records = second.task("run-1", "a").attempts
            assert [each.attempt for each in records] == [1, 2]
            assert not records[0].interrupted, "a task that fells crewd would be started for ever"

    run(story())


def test_a_crewd_that_ends_at_every_start_of_a_task_gives_it_up_in_the_end(tmp_path: Path) -> None:
    async def story() -> None:
        for _ in range(3):
            async with opened(tmp_path / "s", max_parallel=0) as each:
                if not each.board.runs:
                    await each.submit("run-1", shell("a", "echo ran"))
                await each.until(lambda: each.state_of("run-1", "a") in ("waiting", "retry_wait", "dead_lettered"))
                if each.state_of("run-1", "a") == "dead_lettered":
                    break
                await _leave_starting(each, "run-1", "a")
        async with opened(tmp_path / "s") as last:
            await last.until(lambda: last.letters.open)
            assert [letter.reason for letter in last.letters.open.values()] == ["max-retries"]

    run(story())


def test_what_was_being_ended_is_ended_by_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as first:
            await first.submit("run-1", shell("a", "trap '' TERM; sleep 60", timeout=None))
            await first.until(lambda: first.state_of("run-1", "a") == "running" and len(marked("run-1/a/1")) > 1)
            task = first.task("run-1", "a")
            entry = first.board.runs["run-1"]
            failure = Failure(ErrorClass.TIMEOUT, "it was not done after 1 s", retryable=False)
            after, events = transitions.ending(entry.run, task, "its time was over", 1.0, failure)
            await first.ledger.commit(Batch(events=events, tasks=(after,)))
        assert marked("run-1/a/1")
        async with opened(tmp_path / "s") as second:
            await second.ended("run-1")
            assert second.classes("run-1", "a") == ["timeout"]
            assert not marked("run-1/a/1")

    run(story())


def test_a_cancel_that_was_under_way_stays_a_cancel(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as first:
            await first.submit("run-1", shell("a", "sleep 60"))
            await first.until(lambda: first.state_of("run-1", "a") == "running")
            entry = first.board.runs["run-1"]
            after, events = transitions.ending(entry.run, first.task("run-1", "a"), "not needed", 1.0, cancelled=True)
            await first.ledger.commit(Batch(events=events, tasks=(after,)))
        async with opened(tmp_path / "s") as second:
            await second.ended("run-1")
            assert second.state_of("run-1", "a") == "cancelled"

    run(story())


def test_a_protocol_worker_goes_on_talking_to_the_next_crewd(tmp_path: Path) -> None:
    talk = """
import json, os, sys, time
def say(**words): print(json.dumps(words), flush=True)
id = os.environ["CREWD_ATTEMPT"]
say(type="ready", protocol="crewd-worker/1")
task = json.loads(sys.stdin.readline())
say(type="usage", id=id, model="m", input_tokens=7, output_tokens=3)
while True:
    line = sys.stdin.readline().strip()
    if line and json.loads(line)["type"] == "cancel":
        say(type="error", id=id, **{"class": "cancelled"}, message="as asked")
        break
"""

    async def story() -> None:
        async with opened(tmp_path / "s") as first:
            await first.submit("run-1", protocol("a", talk))
            await first.until(lambda: _usage_told(first))
        async with opened(tmp_path / "s") as second:
            assert second.accounts.adopted == 1
            await second.until(lambda: second.conductor.voices[("run-1", "a")].messages.get("usage", 0) > 0)
            from crewd.engine.managed.attempt import Over

            second.conductor.attempts[("run-1", "a")].end(Over("enough", cancelled=True))
            await second.ended("run-1")
            task = second.task("run-1", "a")
            assert second.state_of("run-1", "a") == "cancelled"
            assert task.usage is not None
            assert task.usage.input == 7, "what was read again was counted twice"

    run(story())


def test_recovery_that_is_interrupted_and_begun_again_comes_to_the_same(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as first:
            await first.submit(
                "run-1", shell("a", "sleep 60"), shell("b", "exit 0"), shell("c", "true", depends_on=("b",))
            )
            await first.until(lambda: first.state_of("run-1", "c") == "completed")
        for pid in marked("run-1/a/1"):
            os.kill(pid, signal.SIGKILL)
        for _ in range(3):  # each ends in the middle of accounting
            workshop = Workshop(tmp_path / "s")
            opening = asyncio.create_task(workshop.open())
            await asyncio.wait([opening], timeout=0.05)
            opening.cancel()
            await asyncio.wait([opening])
            await workshop.close()
        async with opened(tmp_path / "s") as last:
            await last.until(lambda: last.state_of("run-1", "a") in ("running", "retry_wait"))
            await last.until(lambda: last.task("run-1", "a").attempts)
            assert last.classes("run-1", "a") == ["worker_killed"]
            assert last.states("run-1")["b"] == last.states("run-1")["c"] == "completed"
            assert last.violated == []
            await last.until(lambda: last.state_of("run-1", "a") == "running")
            from crewd.engine.managed.attempt import Over

            last.conductor.attempts[("run-1", "a")].end(Over("enough", cancelled=True))
            await last.ended("run-1")

    run(story())


def test_attempts_that_crewd_ended_by_stopping_spend_no_try(tmp_path: Path) -> None:
    async def story() -> None:
        go = tmp_path / "go"
        twice = RetryPolicy(max_attempts=2, base=0.05, cap=0.1)
        for number in range(1, 3):
            async with opened(tmp_path / "s") as each:
                if number == 1:
                    await each.submit("run-1", shell("a", f"test -e {go} || sleep 60; exit 1", retry=twice))
                await each.until(lambda: each.state_of("run-1", "a") == "running")
                await each.scheduler.close(0.0, lambda: None, asyncio.Event())
                assert each.state_of("run-1", "a") == "waiting"
                assert each.task("run-1", "a").attempts[-1].interrupted
        go.touch()
        async with opened(tmp_path / "s") as last:
            await last.ended("run-1")
            assert last.classes("run-1", "a") == ["", "", "unknown", "unknown"]

    run(story())


def test_a_deadline_counts_from_the_start_and_not_from_the_next_crewd(tmp_path: Path) -> None:
    async def story() -> None:
        once = RetryPolicy(max_attempts=1)
        async with opened(tmp_path / "s") as first:
            await first.submit("run-1", shell("a", "sleep 60", timeout=3.0, retry=once))
            await first.until(lambda: first.state_of("run-1", "a") == "running")
            began = first.conductor.attempts["run-1", "a"].started_mono
        async with opened(tmp_path / "s") as second:
            assert second.conductor.attempts["run-1", "a"].started_mono == began
            await second.ended("run-1")
            assert second.classes("run-1", "a") == ["timeout"]

    run(story())


def test_a_circuit_that_was_open_is_open_under_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        failing = "echo 'HTTP 503 overloaded' >&2; exit 1"
        once = RetryPolicy(max_attempts=1)
        async with opened(tmp_path / "s", max_parallel=1) as first:
            await first.submit("run-1", *(shell(f"t{n}", failing, provider="acme", retry=once) for n in range(3)))
            await first.until(lambda: first.scheduler.circuits.get("acme").state == "open")
        async with opened(tmp_path / "s") as second:
            await second.submit("run-2", shell("a", "true", provider="acme"), shell("b", "true"))
            await second.until(lambda: second.state_of("run-2", "b") == "completed")
            assert second.state_of("run-2", "a") == "waiting"
            assert "acme" in second.scheduler.held["run-2", "a"]

    run(story())


async def _leave_starting(workshop: Workshop, run_id: str, task_id: str) -> None:
    """Leave a task as a crewd does that ends between the lease and the process."""
    register, board = workshop.scheduler.register, workshop.board
    await workshop.scheduler.turn()
    async with asyncio.timeout(10):
        while not await register.pull([f"{run_id}/{task_id}"], workshop.scheduler._recorded):
            await asyncio.sleep(0.02)  # a retry is not due yet
    assert isinstance(board.runs[run_id].tasks[task_id].state, Starting)


def _usage_told(workshop: Workshop) -> bool:
    voice = workshop.conductor.voices.get(("run-1", "a"))
    running = isinstance(workshop.task("run-1", "a").state, Running)
    return running and voice is not None and voice.messages.get("usage", 0) > 0


def _strict() -> object:
    from crewd.model.plan import Success

    return Success(task_error_codes=(3,))
