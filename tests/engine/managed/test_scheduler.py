"""What the scheduler starts, holds and closes: real tasks, small enough to be over in milliseconds."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from crewd.model.failure import ErrorClass
from crewd.model.managed import Pause, RetryWait
from crewd.model.plan import Jitter, RetryPolicy, RetryRule, Success
from crewd.model.run import RunStatus
from crewd.policy.circuit import CircuitOptions
from crewd.policy.fold import differences, fold
from tests.engine.managed.workshop import opened, protocol, shell, types_of

pytestmark = pytest.mark.real_time
ALWAYS = RetryPolicy(
    max_attempts=4, base=0.02, cap=0.05, classes={ErrorClass.UNKNOWN: RetryRule(retry=True, max_attempts=4)}
)


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def test_a_run_tells_its_whole_life_in_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "true"))
            await w.ended("run-1")
            told = [each for each in types_of(w.events, "run-1") if each != "run.started"]
            assert told == [
                "task.queued",
                "attempt.starting",
                "attempt.started",
                "task.started",
                "attempt.finished",
                "task.completed",
                "run.completed",
            ]
            assert [event.seq for event in w.events] == sorted({event.seq for event in w.events})

    run(story())


def test_the_states_are_the_fold_of_the_events(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit(
                "run-1",
                shell("ok", "true"),
                shell("flaky", "test $CREWD_ATTEMPT_NUMBER -ge 3", retry=ALWAYS),
                shell("bad", "exit 1"),
                shell("after", "true", depends_on=("bad",)),
                shell("wait", "true", depends_on=("bad",), on_dependency_failure="block"),
            )
            await w.until(lambda: w.board.runs["run-1"].run.status is RunStatus.FAILED)
            tasks = {("run-1", name): task for name, task in w.board.runs["run-1"].tasks.items()}
            assert differences(fold(w.events), tasks) == []
            assert w.states("run-1") == {
                "ok": "completed",
                "flaky": "completed",
                "bad": "dead_lettered",
                "after": "skipped",
                "wait": "blocked",
            }
            recalled = w.ledger.recall()
            assert recalled.managed == {}, "a run that has ended is recalled"
            assert w.violated == []

    run(story())


def test_dependencies_are_started_only_after_what_they_wait_for(tmp_path: Path) -> None:
    async def story() -> None:
        log = tmp_path / "log"
        mark = f"echo $CREWD_TASK_ID >> {log}"
        async with opened(tmp_path / "s", max_parallel=8) as w:
            await w.submit(
                "run-1",
                shell("d", mark, depends_on=("b", "c")),
                shell("b", mark, depends_on=("a",)),
                shell("c", mark, depends_on=("a",)),
                shell("a", f"sleep 0.1; {mark}"),
            )
            await w.ended("run-1")
        order = log.read_text().split()
        assert order[0] == "a"
        assert order[3] == "d"

    run(story())


def test_never_more_at_work_than_slots(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s", max_parallel=3, executors_max={"narrow": 1}) as w:
            await w.submit(
                "run-1",
                *(shell(f"n{i}", "sleep 0.05", executor="narrow") for i in range(4)),
                *(shell(f"k{i}", "sleep 0.05", concurrency_key="db") for i in range(3)),
                *(shell(f"t{i}", "sleep 0.05") for i in range(4)),
            )
            worst, narrow, keyed = 0, 0, 0
            while w.board.runs["run-1"].run.status is not RunStatus.COMPLETED:
                names = [task_id for _, task_id in w.board.at_work]
                worst = max(worst, len(names))
                narrow = max(narrow, sum(name.startswith("n") for name in names))
                keyed = max(keyed, sum(name.startswith("k") for name in names))
                await asyncio.sleep(0.002)
            assert (worst, narrow, keyed) == (3, 1, 1)

    run(story())


def test_a_higher_priority_goes_first(tmp_path: Path) -> None:
    async def story() -> None:
        log = tmp_path / "log"
        async with opened(tmp_path / "s", max_parallel=1) as w:
            w.scheduler.pauses["daemon"] = Pause("daemon")
            await w.submit(
                "run-1", shell("low", f"echo low >> {log}"), shell("high", f"echo high >> {log}", priority=5)
            )
            w.scheduler.pauses.clear()
            w.scheduler.register.wake.set()
            await w.ended("run-1")
        assert log.read_text().split() == ["high", "low"]

    run(story())


def test_a_retry_waits_for_its_time_and_tells_it(tmp_path: Path) -> None:
    async def story() -> None:
        policy = RetryPolicy(max_attempts=2, base=0.4, jitter=Jitter.NONE)
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "test $CREWD_ATTEMPT_NUMBER = 2", retry=policy))
            await w.until(lambda: w.state_of("run-1", "a") == "retry_wait")
            waits = w.task("run-1", "a").state
            assert isinstance(waits, RetryWait)
            assert waits.delay == pytest.approx(0.4)
            assert w.board.runs["run-1"].run.status is RunStatus.RUNNING, "between two attempts nothing has failed"
            await w.ended("run-1")
            first, second = w.task("run-1", "a").attempts
            assert second.started_at - first.ended_at >= 0.4

    run(story())


def test_three_failures_of_a_provider_open_its_circuit_and_burn_no_further_attempts(tmp_path: Path) -> None:
    async def story() -> None:
        options = CircuitOptions(failures=3, open_for=0.5, open_for_max=1.0)
        busy = "test -e {go} || {{ echo 'HTTP 503 overloaded' >&2; exit 1; }}"
        script = busy.format(go=tmp_path / "go")
        patient = RetryPolicy(max_attempts=20, base=0.01, cap=0.02)
        async with opened(tmp_path / "s", max_parallel=1, circuits=options) as w:
            await w.submit("run-1", *(shell(f"t{i}", script, provider="acme", retry=patient) for i in range(6)))
            await w.until(lambda: w.told("circuit.opened"))
            spent = len(w.told("attempt.starting"))
            await asyncio.sleep(0.3)
            assert len(w.told("attempt.starting")) == spent, "an open circuit was not respected"
            assert any("acme" in why for why in w.scheduler.held.values())
            (tmp_path / "go").touch()
            await w.ended("run-1")
            assert set(w.states("run-1").values()) == {"completed"}
            assert w.told("circuit.half_opened")
            assert w.told("circuit.closed")

    run(story())


def test_exit_0_without_what_was_promised_is_no_success(tmp_path: Path) -> None:
    async def story() -> None:
        from crewd.model.plan import RequiredFile

        async with opened(tmp_path / "s") as w:
            cwd = str(tmp_path)
            await w.submit(
                "run-1",
                shell("file", "true", cwd=cwd, success=Success(files=(RequiredFile("out.txt"),))),
                shell("bytes", "echo x", success=Success(output_bytes_min=100)),
                shell("check", "true", success=Success(command=("/bin/false",))),
                shell("kept", "echo x > kept.txt", cwd=cwd, success=Success(files=(RequiredFile("kept.txt"),))),
            )
            await w.ended("run-1")
            assert w.classes("run-1", "file") == ["output_empty"] * 2
            assert w.classes("run-1", "bytes") == ["output_empty"] * 2
            assert w.classes("run-1", "check") == ["output_invalid"] * 2
            assert w.state_of("run-1", "kept") == "completed"
            assert not [event for event in w.told("task.completed") if event.task_id != "kept"]

    run(story())


def test_a_drain_lets_what_runs_end_and_puts_the_rest_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s", max_parallel=2) as w:
            await w.submit("run-1", shell("short", "sleep 0.3"), shell("long", "sleep 60"), shell("next", "true"))
            await w.until(lambda: len(w.board.at_work) == 2)
            await w.scheduler.close(1.0, lambda: None, asyncio.Event())
            assert w.states("run-1") == {"short": "completed", "long": "waiting", "next": "waiting"}
            assert [each.interrupted for each in w.task("run-1", "long").attempts] == [True]
            assert w.letters.open == {}

    run(story())


def test_a_fence_that_was_overtaken_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"))
            await w.until(lambda: w.state_of("run-1", "a") == "running")
            work = w.scheduler.register.work
            (lease,) = await work.holding()
            await work.retry(lease, 0.0)  # somebody else takes it over
            await work.pull(["run-1/a"], None)
            (tmp_path / "go").touch()
            await w.until(lambda: w.told("attempt.fenced"))
            assert w.state_of("run-1", "a") == "running", "a result behind its fence was merged"

    run(story())


def test_a_worker_that_cancels_itself_has_not_been_cancelled(tmp_path: Path) -> None:
    async def story() -> None:
        words = 'print(json.dumps({"type": "error", "id": os.environ["CREWD_ATTEMPT"], "class": "cancelled"}))'
        ready = 'print(json.dumps({"type": "ready", "protocol": "crewd-worker/1"}))'
        async with opened(tmp_path / "s") as w:
            once = RetryPolicy(max_attempts=1)
            await w.submit("run-1", protocol("a", f"import json, os\n{ready}\n{words}", retry=once))
            await w.ended("run-1")
            assert w.state_of("run-1", "a") == "dead_lettered"
            assert w.classes("run-1", "a") == ["unknown"]

    run(story())


def test_a_command_finds_its_payload_in_a_file_and_only_if_it_has_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            out = tmp_path / "out"
            await w.submit(
                "run-1",
                shell("with", f"cp $CREWD_PAYLOAD_FILE {out}", payload={"n": [1, "ü"]}),
                shell("without", 'test -z "${CREWD_PAYLOAD_FILE+x}"'),
            )
            await w.ended("run-1")
            assert set(w.states("run-1").values()) == {"completed"}
            assert json.loads(out.read_text()) == {"n": [1, "ü"]}

    run(story())
