"""An event loop in which waiting costs nothing: its selector moves the fake clock instead of sleeping.

Only for code whose waiting is timers. Work in threads is waited for in real time, with the clock standing still:
`run_in_executor` and `asyncio.to_thread` by themselves, any other thread inside `with loop.outside():`.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from tests.fakes.clock import FakeClock

Result = TypeVar("Result")
THREAD_PATIENCE = 10.0


class Deadlock(Exception):
    """Every task waits, and nothing is due: in real time this would hang for ever."""


class VirtualSelector(selectors.DefaultSelector):  # type: ignore[misc, valid-type, unused-ignore]
    """Advances the clock by as long as it was asked to wait."""

    def __init__(self, clock: FakeClock, patience: float, thread_patience: float) -> None:
        super().__init__()
        self.clock = clock
        self.patience = patience
        self.thread_patience = thread_patience
        self.outside = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.outside or timeout is None:
            ready = super().select(self.thread_patience if self.outside else self.patience)
        if ready:
            return ready
        if timeout is None:
            raise Deadlock("every task waits, no timer is set and no thread answers")
        self.clock.advance(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose time is the fake clock's `mono`."""

    def __init__(self, clock: FakeClock, patience: float = 1.0, thread_patience: float = THREAD_PATIENCE) -> None:
        self._virtual = VirtualSelector(clock, patience, thread_patience)
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.clock.mono

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Hold the clock while a thread that the loop does not know of is at work for it."""
        self._virtual.outside += 1
        try:
            yield
        finally:
            self._virtual.outside -= 1

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        self._virtual.outside += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._came_back)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        with self.outside():
            await super().shutdown_default_executor()

    def _came_back(self, future: asyncio.Future[Any]) -> None:
        self._virtual.outside -= 1


def run(
    main: Coroutine[Any, Any, Result],
    clock: FakeClock,
    patience: float = 1.0,
    thread_patience: float = THREAD_PATIENCE,
) -> Result:
    """Run a coroutine to its end in virtual time.

    `patience`: real seconds to wait for something unforeseen before Deadlock is raised. `thread_patience`: real
    seconds to wait for a busy thread before time moves on without it; small where the thread is meant to be stuck.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock, patience, thread_patience)) as runner:
        return runner.run(main)
