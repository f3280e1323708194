"""File-change notification, as a hint: it makes a round come early, and nothing depends on it.

The kernel drops notifications when its queue overflows, and tells no one who listens through `watchfiles`; watches
run out (`fs.inotify.max_user_watches`); changes made on another machine are never told. So whatever happens here,
the round that comes anyway finds the truth by signature.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

import msgspec
from watchfiles import awatch

from crewd.host.aside import aside
from crewd.host.files import is_network, signature


class Hint(msgspec.Struct, frozen=True):
    """Why a wait ended."""

    changed: bool  # False: the time was up
    overflows: int = 0  # times that notifications may have been lost since the last hint
    problems: tuple[str, ...] = ()  # new since the last hint, for the log; polling goes on regardless


@dataclass(frozen=True)
class WatchOptions:
    """Times are seconds."""

    enabled: bool = True
    debounce: float = 0.2  # changes that follow each other so closely are one
    paths_max: int = 512  # folders watched at once, each costs one inotify watch
    retry_after: float = 60.0  # after a failure, with fewer folders

    def __post_init__(self) -> None:
        if not 0.05 <= self.debounce <= 10:
            raise ValueError(f"debounce must lie between 0.05 and 10 s: got {self.debounce:g}; the default is 0.2")
        if self.paths_max < 1:
            raise ValueError(f"paths_max must be at least 1: got {self.paths_max}")
        if self.retry_after <= 0:
            raise ValueError(f"retry_after must be above 0 s: got {self.retry_after:g}")


class Watch:
    """Watches folders, not what is below them, while its `async with` block lasts. Never raises."""

    def __init__(self, paths: Iterable[str] = (), options: WatchOptions | None = None) -> None:
        self._options = options or WatchOptions()
        self._limit = self._options.paths_max
        self._networks: dict[str, bool] = {}  # folder -> whether what is in it lies on a network filesystem
        self._asked: tuple[str, ...] = ()
        self._wanted = self._choose(paths)
        self._changed = asyncio.Event()
        self._aimed = asyncio.Event()
        self._stop = asyncio.Event()
        self._overflows = 0
        self._problems: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._options.enabled:
            self._task = asyncio.create_task(self._run(), name="watch folders")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def aim(self, paths: Iterable[str]) -> None:
        """Watch these folders from now on, the first ones first where there are too many.

        Cancelled while it asks the disk, it watches what it watched.
        """
        asked = tuple(paths)
        if asked == self._asked:
            return
        wanted = await self._chosen(asked)
        self._asked = asked
        if set(wanted) != set(self._wanted):
            self._wanted = wanted
            self._aimed.set()
            self._stop.set()

    def wake(self) -> None:
        """End the wait early, for a reason of the caller's own."""
        self._changed.set()

    async def changed(self, timeout: float) -> Hint:  # noqa: ASYNC109 - to wait is what it does
        """Wait for a change, or for `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):  # not `wait_for`, which in Python 3.11 can lose a cancellation
                await self._changed.wait()
            seen = True
        except TimeoutError:
            seen = False
        self._changed.clear()
        hint = Hint(seen, self._overflows, tuple(self._problems))
        self._overflows = 0
        self._problems.clear()
        return hint

    async def _chosen(self, paths: Iterable[str]) -> tuple[str, ...]:
        return await aside(partial(self._choose, paths), "crewd-watch")

    def _choose(self, paths: Iterable[str]) -> tuple[str, ...]:
        chosen: list[str] = []
        for path in dict.fromkeys(paths):
            if len(chosen) >= self._limit:
                break
            try:
                if signature(path) is not None and not self._is_network(path):
                    chosen.append(path)
            except OSError:
                continue
        return tuple(chosen)

    def _is_network(self, path: str) -> bool:
        # Asked once for the folders of one folder: run folders come by the thousand, and mounts do not.
        above = path.rpartition("/")[0]
        if above not in self._networks:
            self._networks[above] = is_network(path)
        return self._networks[above]

    async def _run(self) -> None:
        while True:
            self._aimed.clear()
            self._stop = asyncio.Event()
            if not self._wanted:
                await self._aimed.wait()
                continue
            try:
                await self._listen(self._wanted)
            except FileNotFoundError:
                # One of them went since it was chosen: nothing is wrong.
                self._wanted = await self._chosen(self._wanted)
            except Exception as error:  # noqa: BLE001 - a hint may fail in any way, and is counted and told
                await self._rest(error)

    async def _listen(self, paths: tuple[str, ...]) -> None:
        step = max(10, int(self._options.debounce * 500))
        async for _ in awatch(
            *paths,
            watch_filter=None,
            debounce=int(self._options.debounce * 1000),
            step=step,
            stop_event=self._stop,
            recursive=False,
            ignore_permission_denied=True,
        ):
            self._changed.set()

    async def _rest(self, error: Exception) -> None:
        """After a failure, most often for want of watches, try again later with half as many."""
        self._overflows += 1
        self._limit = max(1, len(self._wanted) // 2)
        self._problems.append(
            f"folders cannot be watched ({str(error)[:200]}); rounds go on by polling. "
            f"Raise fs.inotify.max_user_watches, or lower watch.paths_max; next try with {self._limit} folders"
        )
        self._wanted = await self._chosen(self._wanted)
        self._changed.set()
        try:
            async with asyncio.timeout(self._options.retry_after):
                await self._aimed.wait()
        except TimeoutError:
            return
