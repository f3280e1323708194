"""Work beside the loop: what it gives or raises arrives, and the end of the process waits for none of it."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from crewd.host.aside import aside, within
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


def test_work_is_waited_for_no_longer_than_wanted() -> None:
    let = threading.Event()
    assert within(20.0, lambda: 7, "x") == 7
    with pytest.raises(ZeroDivisionError):
        within(20.0, lambda: 1 // 0, "x")
    with pytest.raises(TimeoutError):
        within(0.05, lambda: let.wait(20), "x")
    let.set()


@pytest.mark.parametrize(("seconds", "code"), [("60", 3), ("0.2", 4)], ids=["one hangs", "all end in time"])
def test_a_process_leaves_although_threads_of_its_pool_hang(seconds: str, code: int) -> None:
    script = (
        "import asyncio, atexit, sys, time\n"
        "from crewd.host.aside import Pool, leave\n"
        "async def main():\n"
        "    asyncio.get_running_loop().set_default_executor(Pool(2))\n"
        "    asyncio.get_running_loop().run_in_executor(None, time.sleep, float(sys.argv[1]))\n"
        "    return int(sys.argv[2])\n"
        "code = asyncio.run(main())\n"
        "atexit.register(print, 'in order')\n"
        "leave(code)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, seconds, str(code)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert (ended.stdout == "in order\n") is (seconds == "0.2")
