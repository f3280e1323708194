"""Work beside the loop: what it gives or raises arrives, and the end of the process waits for none of it."""

import asyncio
import subprocess
import sys
import time

import pytest

from crewd.host.aside import aside
from tests.telemetry.notify.world import in_loop

pytestmark = pytest.mark.real_time


@in_loop
async def test_what_the_work_gives_or_raises_arrives() -> None:
    assert await aside(lambda: 7, "x") == 7
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 // 0, "x")


@in_loop
async def test_who_waits_may_be_cancelled_while_the_work_goes_on() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await aside(lambda: time.sleep(0.1), "x")
    await asyncio.sleep(0.2)  # its result finds nobody, and disturbs nobody


def test_the_end_of_the_process_does_not_wait() -> None:
    code = (
        "import asyncio, time\n"
        "from crewd.host.aside import aside\n"
        "async def main():\n"
        "    task = asyncio.create_task(aside(lambda: time.sleep(60), 'x'))\n"
        "    await asyncio.sleep(0.05)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
