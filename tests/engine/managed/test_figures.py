"""The numbers of managed runs, as they are while real attempts run, wait, fail and stop."""

import asyncio
from pathlib import Path

import pytest

from crewd.engine.managed import transitions
from crewd.engine.managed.attempt import Over
from crewd.engine.managed.figures import figures
from crewd.model.failure import ErrorClass
from crewd.model.managed import AnyState, CircuitState, Completed, ManagedTask, Pause, RetryWait, Waiting
from crewd.model.plan import RetryPolicy
from tests.engine.managed.workshop import opened, protocol, shell

LATER = RetryPolicy(base=60.0, cap=60.0)
WORKER = """
import json, sys
def say(type, **more):
    print(json.dumps({"type": type, **more}), flush=True)
say("ready", protocol="crewd-worker/1")
id = json.loads(sys.stdin.readline())["id"]
print("no message", flush=True)
say("heartbeat", id=id, seq=1)
say("gossip", id=id)
say("result", id=id, output="done")
say("result", id=id, output="late")
"""


def test_what_runs_waits_and_is_tried_again_is_counted(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path, max_parallel=2) as w:
            fails = shell("fails", "exit 3", retry=LATER, executor="shell", priority=1)
            more = (shell("ready", "true"), shell("after", "true", depends_on=("ready",)))
            await w.submit("r", fails, shell("one", "sleep 60"), shell("two", "sleep 60"), *more)
            await w.until(lambda: w.state_of("r", "fails") == "retry_wait" and w.state_of("r", "two") == "running")
            w.scheduler.pauses["crew:night"] = Pause("crew:night")
            w.scheduler.circuits.recall([CircuitState("openai", "open")])
            w.conductor.stuck["r", "one"] = "it does not end"
            w.scheduler.register.failed = "disk full"
            seen = figures(w.scheduler, w.purse)
            assert (seen.running, seen.running_max, seen.ready) == (2, 2, 1)
            assert seen.retries_pending == {"shop": 1} and seen.circuits["openai"] == "open"
            assert seen.paused == ("crew:night",) and seen.stuck == {"r/one/1": "it does not end"}
            assert seen.ledger_failed == "disk full" and seen.succeeded_at == w.scheduler.succeeded_at > 0
            [told] = w.told("attempt.finished")
            assert told.data["executor"] == "shell" and told.data["error_class"] in set(ErrorClass)
            attempts = list(w.conductor.attempts.values())
            for attempt in attempts:
                attempt.end(Over("the test is over", cancelled=True))
            await asyncio.gather(*(attempt.settled.wait() for attempt in attempts))

    asyncio.run(story())


def test_messages_are_counted_once_their_attempt_is_over(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path) as w:
            await w.submit("r", protocol("talks", WORKER))
            await w.ended("r")
            await w.until(lambda: not w.conductor.attempts)
            assert figures(w.scheduler, w.purse).messages == {"ready": 1, "heartbeat": 1, "result": 2, "unknown": 1}
            assert figures(w.scheduler, w.purse).retries_pending == {}  # a run that has ended tries nothing again
            assert w.told("worker.protocol_error")[0].data["kinds"] == {"bad_json": 1}
            assert w.told("attempt.fenced")[0].data == {"late_results": 1}

    asyncio.run(story())


def test_each_start_tells_how_long_its_task_could_have_started_already(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path, max_parallel=1) as w:
            third = shell("third", "true", depends_on=("first",))
            await w.submit("r", shell("first", "sleep 1", task_type="slow"), shell("second", "true"), third)
            await w.ended("r")
            waited = {event.task_id: event.data for event in w.told("attempt.starting")}
            assert waited["first"]["queue_seconds"] < 0.9 < waited["second"]["queue_seconds"]
            assert waited["third"]["queue_seconds"] < 0.9  # it could not have started before
            assert waited["first"]["task_type"] == "slow"

    asyncio.run(story())


def task(state: AnyState) -> ManagedTask:
    return ManagedTask("r", "t", state)


@pytest.mark.parametrize(
    ("state", "dependencies", "seconds"),
    [
        (Waiting(100.0), [], 50.0),
        (Waiting(100.0), [120.0, 110.0], 30.0),  # nobody can start before what he needs is there
        (Waiting(130.0), [120.0], 20.0),  # interrupted, and put back
        (RetryWait(100.0, 1, 1, 145.0, 45.0, ErrorClass.TIMEOUT, ""), [90.0], 5.0),  # not before it was due
        (RetryWait(100.0, 1, 1, 155.0, 55.0, ErrorClass.TIMEOUT, ""), [], 0.0),  # the clock was set back
        (Waiting(200.0), [], 0.0),
    ],
)
def test_a_task_is_in_its_queue_from_when_it_could_have_started(
    state: AnyState, dependencies: list[float], seconds: float
) -> None:
    done = [task(Completed(at, 1)) for at in dependencies]
    assert transitions.queue_seconds(task(state), done, at=150.0) == seconds
