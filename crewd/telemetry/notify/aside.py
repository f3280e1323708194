"""Aside: blocking work in a thread of its own, for which the end of the process does not wait.

The threads of an executor are waited for when the interpreter ends: a name server or an address that never answers
would keep a stopped crewd from ending.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T], name: str) -> T:
    """Do some work beside the loop, and give what it gives or raises. Cancelling the wait does not end the work."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(settle: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            settle(value)

    def run() -> None:
        try:
            told: tuple[Callable[[Any], None], Any] = (future.set_result, work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            told = (future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, *told)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future
