"""Connections: each has a deadline for its request, there are so many and no more, and it is known whose they are.

uvicorn bounds neither: whoever opens sockets and sends nothing would take every descriptor that the daemon has, and
with them its sight of the crews.
"""

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from crewd.web.caller import peer_of
from crewd.web.guard import LINE, PEER

UNREAD_BYTES = 128 * 1024  # that the kernel keeps for one who reads a stream; it doubles it (socket(7))
UNHEARD_MILLISECONDS = 30_000  # a stream whose reader's machine is silent for so long is over (tcp(7))


def bounded(connections_max: int, request_seconds: float, uids: frozenset[int]) -> type[H11Protocol]:
    """Make a protocol that closes what is beyond so many, and whoever does not bring its request in time.

    A request is whole with the last byte of its body. Of those who come through the unix socket only `uids` stay.
    """
    bounds = {"connections_max": connections_max, "request_seconds": request_seconds, "uids": uids}
    return type("BoundedHere", (Bounded,), bounds)


class Bounded(H11Protocol):
    """One connection. uvicorn makes each by calling its class, so that the bounds stand on that: see `bounded`."""

    connections_max: int
    request_seconds: float
    uids: frozenset[int]
    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        super().connection_made(transport)
        if len(self.connections) > self.connections_max or not self._is_welcome():
            transport.abort()
            return
        # uvicorn hands a copy of this to every request as its state: no header can write there.
        self.app_state = {**self.app_state, LINE: self}
        self._expect()

    def narrow(self) -> None:
        """Let the kernel hold little that is not read, and notice an end that is gone."""
        connection = self.transport.get_extra_info("socket")
        if connection is None:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MILLISECONDS)

    def finish(self, last: bytes, seconds: float) -> None:
        """End the answer under way behind whatever waits to be read, and close within so long."""
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle
        cycle.response_complete = True
        events = (h11.Data(data=last), h11.EndOfMessage()) if last else (h11.EndOfMessage(),)
        for event in events:
            # Past uvicorn, which would wait for room.
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self.loop.call_later(seconds, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Between two requests uvicorn's own keep-alive timer runs, until the first byte of the next one comes.
        if self._has_request():
            self._rest()
        elif self.deadline is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def _is_welcome(self) -> bool:
        connection = self.transport.get_extra_info("socket")
        if connection is None or connection.family != socket.AF_UNIX:
            return True
        try:
            peer = peer_of(connection)
        except OSError:
            return False
        self.app_state = {**self.app_state, PEER: peer}
        return peer.uid in self.uids

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _has_request(self) -> bool:
        return self._is_answering() and self.conn.their_state is not h11.SEND_BODY

    def _expect(self) -> None:
        self.deadline = self.loop.call_later(self.request_seconds, self._late)

    def _rest(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _late(self) -> None:
        self.deadline = None
        if self._has_request():
            return
        if self._is_answering() and not self.cycle.response_started:
            self._refuse_late()
        else:
            self.transport.abort()

    def _refuse_late(self) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        late = b"The body did not arrive in time."
        for event in (
            h11.Response(status_code=408, headers=headers, reason=b"Request Timeout"),
            h11.Data(data=late),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
