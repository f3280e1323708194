"""A protocol worker that says more than anybody can hear holds its slot no longer than it may."""

import asyncio
import time
from pathlib import Path

import pytest

from crewd.model.plan import Limits, RetryPolicy
from tests.engine.managed.workshop import opened, protocol

pytestmark = pytest.mark.real_time

FLOOD = """
import os, sys, time
def say(text): os.write(1, text.encode())
say('{"type":"ready","protocol":"crewd-worker/1"}\\n')
sys.stdin.readline()
beat = '{"type":"heartbeat","id":"run-1/a/1","seq":%d}\\n'
flood = ''.join(beat % n for n in range(20000)).encode()
for _ in range(120):
    os.write(1, flood)
"""


@pytest.mark.parametrize("after", ["time.sleep(60)", 'say(\'{"type":"result","id":"run-1/a/1","output":1}\\\\n\')'])
def test_more_than_it_may_say_ends_it_although_not_all_of_it_was_heard(tmp_path: Path, after: str) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            limits, once = Limits(output_bytes=2 * 2**20), RetryPolicy(max_attempts=1)
            await w.submit("run-1", protocol("a", FLOOD + after, limits=limits, retry=once))
            began = time.monotonic()
            await w.ended("run-1")
            assert time.monotonic() - began < 10, "100 MB were heard to their end"
            attempt = w.task("run-1", "a").attempts[0]
            assert (attempt.error_class, attempt.details) == ("protocol_error", {"code": "output_limit"})

    asyncio.run(asyncio.wait_for(story(), 60))
