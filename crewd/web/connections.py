"""Connections: each has a deadline for its request, and there are so many and no more.

uvicorn bounds neither: whoever opens sockets and sends nothing would take every descriptor that the daemon has, and
with them its sight of the crews.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded(connections_max: int, request_seconds: float) -> type[H11Protocol]:
    """Make a protocol that closes what is beyond so many, and whoever does not bring its request in time."""

    class Bounded(H11Protocol):
        """One connection."""

        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
            super().connection_made(transport)
            if len(self.connections) > connections_max:
                transport.abort()
                return
            self._expect()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # Between two requests uvicorn's own keep-alive timer runs, until the first byte of the next one comes.
            if self._is_answering():
                self._rest()
            elif self.deadline is None:
                self._expect()

        def connection_lost(self, exc: Exception | None) -> None:
            self._rest()
            super().connection_lost(exc)

        def _is_answering(self) -> bool:
            cycle: Any = self.cycle
            return cycle is not None and not cycle.response_complete

        def _expect(self) -> None:
            self.deadline = self.loop.call_later(request_seconds, self._late)

        def _rest(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def _late(self) -> None:
            self.deadline = None
            if not self._is_answering():
                self.transport.abort()

    return Bounded
