"""A cancel that comes at the moment in which an attempt ends by itself is a cancel all the same."""

import asyncio
from pathlib import Path

import pytest

from crewd.model.failure import ErrorClass
from crewd.model.plan import RetryPolicy, RetryRule
from tests.engine.managed.workshop import opened, shell

pytestmark = pytest.mark.real_time

AGAIN = RetryRule(retry=True, max_attempts=50)


@pytest.mark.parametrize("delay", [0.0, 30.0], ids=["again at once", "again later"])
def test_what_had_just_failed_is_not_tried_again(tmp_path: Path, delay: float) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            retry = RetryPolicy(max_attempts=50, base=delay, cap=max(delay, 1.0), classes={ErrorClass.UNKNOWN: AGAIN})
            await w.submit(
                "run-1", shell("a", "sleep 0.3; exit 1", retry=retry), shell("b", "true", depends_on=("a",))
            )
            await w.until(lambda: w.state_of("run-1", "a") == "running")
            attempt = w.conductor.attempts["run-1", "a"]
            await attempt.changed.wait()  # its exit was seen a moment ago, and is not settled yet
            assert attempt.over is not None and attempt.over.exited
            done = await w.actions.cancel("run-1", "", reason="", actor="operator:test")
            assert w.states("run-1") == {"a": "cancelled", "b": "cancelled"}
            assert set(done.ids) == {"a", "b"}
            await asyncio.sleep(0.5)
            assert w.states("run-1") == {"a": "cancelled", "b": "cancelled"}
            assert not w.told("deadletter.added")

    asyncio.run(asyncio.wait_for(story(), 60))
