"""What a crew may spend on retries in an hour: whoever comes later waits, and is told why."""

import asyncio
from pathlib import Path

import pytest

from crewd.model.managed import RetryWait
from crewd.model.plan import RetryPolicy
from tests.engine.managed.workshop import opened, shell

pytestmark = pytest.mark.real_time


def test_a_crew_that_has_spent_its_retries_waits_until_one_is_free(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s", retries_per_hour=1) as w:
            often = RetryPolicy(max_attempts=3, base=0.05, cap=0.1)
            await w.submit("run-1", shell("a", "test $CREWD_ATTEMPT_NUMBER = 2", retry=often))
            await w.ended("run-1")
            await w.submit("run-2", shell("a", "exit 1", retry=often))
            await w.until(lambda: w.state_of("run-2", "a") == "retry_wait")
            state = w.task("run-2", "a").state
            assert isinstance(state, RetryWait)
            assert 3500 < state.delay <= 3600
            assert "shop has spent its 1 retries" in state.reason
            assert w.violated == []

    asyncio.run(asyncio.wait_for(story(), 60))
