"""Turns: of many requests at once a few are begun at a time, so that the loop looks after its timers between."""

import asyncio
from collections import deque

AT_ONCE = 4  # requests begun in one pass of the loop; each takes it some 200 us


class Turns:
    """A gate that lets a few through in one pass of the event loop, first come, first served.

    It bounds how long a pass takes and not how many requests are under way: whoever waits for a cancel to be done, or
    listens to a stream, keeps nobody out.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._begun = 0  # in this pass
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a turn; it comes at once where few ask."""
        loop = asyncio.get_running_loop()
        if not self._begun and not self._waiting:
            loop.call_soon(self._next_pass)
        if self._begun < self._at_once and not self._waiting:
            self._begun += 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next_pass(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < self._at_once:
            turn = self._waiting.popleft()
            if not turn.done():  # whoever was cancelled waits no more
                turn.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._next_pass)
