"""Aside: blocking work in a thread of its own, for which the end of the process does not wait.

The threads of an executor are waited for when the interpreter ends: a name server that never answers, or a network
filesystem whose server is gone, would keep a stopped crewd from ending.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def begin(work: Callable[[], T], name: str) -> Future[T]:
    """Begin some work in a thread of that name. What it gives or raises is the future's; it cannot be cancelled."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


async def aside(work: Callable[[], T], name: str) -> T:
    """Do some work beside the loop, and give what it gives or raises. Cancelling the wait does not end the work."""
    return await asyncio.wrap_future(begin(work, name))


def within(seconds: float, work: Callable[[], T], name: str) -> T:
    """Do some work where there is no loop, and wait no longer than this. Raises TimeoutError; the work goes on."""
    return begin(work, name).result(seconds)
