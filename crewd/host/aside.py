"""Aside: blocking work in a thread of its own, for which the end of the process does not wait.

The threads of an executor are waited for when the interpreter ends: a name server that never answers, or a network
filesystem whose server is gone, would keep a stopped crewd from ending.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn, TypeVar

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


class Pool(ThreadPoolExecutor):
    """An executor whose end waits for nobody: what its threads do by then was given up, or hangs."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)


def leave(code: int, grace: float = 1.0) -> NoReturn:
    """End this process, and wait for no thread that hangs in the kernel, as the interpreter would, for ever."""
    ends = time.monotonic() + grace
    others = [each for each in threading.enumerate() if each is not threading.current_thread() and not each.daemon]
    for each in others:
        each.join(max(0.0, ends - time.monotonic()))
    if any(each.is_alive() for each in others):
        logging.shutdown()
        os._exit(code)
    raise SystemExit(code)
