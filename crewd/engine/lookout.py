"""The lookout: lets every source look at its root, each in a thread, and waits for none of them too long."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from crewd.host.machine import can_open
from crewd.model.look import Look
from crewd.model.moment import Reading
from crewd.sources.source import Source

THREADS = 4
FULL = 256 * 1024  # bytes; with less, an agent cannot write its next heartbeat


@dataclass(slots=True, eq=False)
class Lookout:
    """The sources, and the looks that have not come back: a root on a hung disk delays nobody else."""

    discover: Callable[[Sequence[Source]], list[Source]]  # the sources there are now, given those there were
    timeout: float
    free_bytes: Callable[[str], int]  # on the filesystem of a folder; called in the thread that looks there
    sources: list[Source] = field(default_factory=list)
    disk_full: bool = False  # on some root, as of its latest look
    _pending: dict[str, Future[tuple[Look, int]]] = field(default_factory=dict)
    _free: dict[str, int] = field(default_factory=dict)
    _finding: asyncio.Lock = field(default_factory=asyncio.Lock)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="crewd-look")
    )

    async def find(self, discover: Callable[[Sequence[Source]], list[Source]] | None = None) -> None:
        """Search for roots again: new projects appear, others go. `discover`: in that way from now on.

        Where the search fails, all stays as it was.
        """
        # One after the other: a search of the former kind that ends late must not undo this one.
        async with self._finding:
            await self._find(discover or self.discover)

    async def _find(self, discover: Callable[[Sequence[Source]], list[Source]]) -> None:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, discover, tuple(self.sources))
        self.discover = discover
        kept = {source.key for source in found}
        for source in self.sources:
            if source.key not in kept and source.key not in self._pending:
                source.close()
        self.sources = found

    async def look(self, now: Reading) -> list[tuple[Source, Look]]:
        """One look at every root. A root whose look does not come back in time is left out of this round, and of
        each following one until it does: then its look, which tells only differences, is taken in as it is."""
        for source in self.sources:
            if source.key not in self._pending:
                self._pending[source.key] = self._threads.submit(self._look_at, source, now)
        waiting = [asyncio.wrap_future(future) for future in self._pending.values() if not future.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=self.timeout)
        looks = []
        for source in self.sources:
            future = self._pending.get(source.key)
            if future is not None and future.done():
                look, free = self._pending.pop(source.key).result()
                self._free[source.key] = free
                looks.append((source, look))
        self.disk_full = any(free < FULL for free in self._free.values())
        return looks

    @property
    def stuck(self) -> int:
        return len(self._pending)

    def _look_at(self, source: Source, now: Reading) -> tuple[Look, int]:
        if not can_open():
            # What we cannot open says nothing of whoever wrote it: this round nothing is known of this root.
            words = "no descriptor is left to read with; raise the limit (ulimit -n, LimitNOFILE=)"
            return Look(complete=False, complaints=(f"{source.folder}: {words}",)), FULL
        look = source.look(now)
        try:
            return look, self.free_bytes(source.folder)
        except OSError:
            return look, FULL  # not known to be full

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for source in self.sources:
            if source.key not in self._pending:
                source.close()
