"""The lookout: lets every source look at its root, each in a thread, and waits for none of them too long."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from crewd.host.aside import aside, begin
from crewd.host.machine import can_open
from crewd.model.look import Look
from crewd.model.moment import Reading
from crewd.sources.source import Source

AT_ONCE = 4  # looks that a round waits for: more would only wait for each other's interpreter
FULL = 256 * 1024  # bytes; with less, an agent cannot write its next heartbeat


@dataclass(slots=True, eq=False)
class Lookout:
    """The sources, and the looks that have not come back: a root on a hung disk delays nobody else.

    What hangs in the kernel cannot be called off. Its thread is left to itself, and nothing waits for it any more:
    neither the next round, nor the roots that are looked at after it, nor the end of crewd.
    """

    discover: Callable[[Sequence[Source]], list[Source]]  # the sources there are, given those there were; in time
    timeout: float  # seconds for all looks of a round
    free_bytes: Callable[[str], int]  # on the filesystem of a folder; called in the thread that looks there
    sources: list[Source] = field(default_factory=list)
    disk_full: bool = False  # on some root, as of its latest look
    _pending: dict[str, tuple[Source, Future[tuple[Look, int]]]] = field(default_factory=dict)
    _free: dict[str, int] = field(default_factory=dict)
    _passed_over: set[str] = field(default_factory=set)  # keys of roots that a round had no time left for
    _finding: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def find(self, discover: Callable[[Sequence[Source]], list[Source]] | None = None) -> None:
        """Search for roots again: new projects appear, others go. `discover`: in that way from now on.

        Where the search fails, all stays as it was.
        """
        # One after the other: a search of the former kind that ends late must not undo this one.
        async with self._finding:
            await self._find(discover or self.discover)

    async def _find(self, discover: Callable[[Sequence[Source]], list[Source]]) -> None:
        found = await aside(partial(discover, tuple(self.sources)), "crewd-find")
        self.discover = discover
        kept = {source.key for source in found}
        for source in self.sources:
            if source.key not in kept:
                self._free.pop(source.key, None)
                if source.key not in self._pending:
                    source.close()
        self.sources = found

    async def look(self, now: Reading) -> list[tuple[Source, Look]]:
        """One look at every root. A root whose look does not come back in time is left out of this round, and of
        each following one until it does: then its look, which tells only differences, is taken in as it is."""
        await self._begin(now)
        looks = []
        for key, (source, future) in list(self._pending.items()):
            if not future.done():
                continue
            del self._pending[key]
            if source in self.sources:
                look, self._free[key] = future.result()
                looks.append((source, look))
            else:  # its root went while it looked
                source.close()
        self.disk_full = any(free < FULL for free in self._free.values())
        return looks

    async def _begin(self, now: Reading) -> None:
        """Begin the looks of a round, those first that the last one passed over, and wait for them, but not for ever.

        Those of earlier rounds that have not come back are waited for no more.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.timeout
        due = [source for source in self.sources if source.key not in self._pending]
        due.sort(key=lambda source: source.key not in self._passed_over)
        self._passed_over = {source.key for source in due}
        under_way: set[asyncio.Future[tuple[Look, int]]] = set()
        for source in due:
            if len(under_way) == AT_ONCE:
                left = max(0.0, ends - loop.time())
                _, under_way = await asyncio.wait(under_way, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if len(under_way) == AT_ONCE:
                    return
            self._passed_over.discard(source.key)
            look = begin(partial(self._look_at, source, now), "crewd-look")
            self._pending[source.key] = source, look
            under_way.add(asyncio.wrap_future(look))
        if under_way:
            await asyncio.wait(under_way, timeout=max(0.0, ends - loop.time()))

    @property
    def answering(self) -> list[Source]:
        """The sources whose roots the latest round looked at."""
        return [source for source in self.sources if self._answers(source)]

    @property
    def stuck(self) -> tuple[str, ...]:
        """The roots that the latest round did without."""
        return tuple(source.folder for source in self.sources if not self._answers(source))

    def _answers(self, source: Source) -> bool:
        return source.key not in self._pending and source.key not in self._passed_over

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
        for source in self.sources:
            if source.key not in self._pending:
                source.close()
