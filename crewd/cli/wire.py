"""The two doors of the daemon: TCP, and the unix socket in its state folder, by which it may be changed."""

import http.client
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from crewd.host.socket_name import short_name

TIMEOUT_SECONDS = 3.0
BODY_BYTES_MAX = 256 * 2**20
PIECE_BYTES = 64 * 1024


class NoDoor(Exception):
    """No door let us in: nothing was asked. The message says why, door by door."""


class Lost(Exception):
    """The conversation broke off: what was asked may have been done."""


@dataclass(frozen=True)
class Reply:
    """What was answered, and at which address."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    address: str


class Door:
    """One way to the daemon. A connection is kept from one question to the next."""

    def __init__(self, address: str, connection: http.client.HTTPConnection, token: str = "") -> None:
        self.address = address
        self._connection = connection
        self._token = token

    @classmethod
    def tcp(cls, url: str, token: str = "") -> "Door":
        """The address that the daemon wrote down. Raises NoDoor for one that is none."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or 80
            return cls(url, http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS), token)
        except (ValueError, http.client.InvalidURL) as error:
            raise NoDoor(f"at {url}: {error}") from None

    @classmethod
    def unix(cls, path: Path) -> "Door":
        """The socket of a state folder."""
        return cls(f"unix:{path}", _UnixConnection(path))

    def open(self) -> None:
        """Connect. Raises NoDoor."""
        if self._connection.sock is not None:
            return
        try:
            self._connection.connect()
        except (OSError, ValueError) as error:
            self.close()
            raise NoDoor(f"at {self.address}: {_why(error)}") from None

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float) -> Reply:
        """Ask once, waiting so long for each part of the answer. Raises Lost."""
        sent = dict(headers) | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        if self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)
        try:
            self._connection.request(method, target, body, sent)
            response = self._connection.getresponse()
            content = response.read(BODY_BYTES_MAX)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.close()
            raise Lost(f"at {self.address}: {_why(error)}") from None
        return Reply(
            response.status, {name.lower(): value for name, value in response.getheaders()}, content, self.address
        )

    def stream(self, target: str, headers: Mapping[str, str], seconds: float) -> tuple[Reply, Iterator[bytes]]:
        """Ask for what may be large: what comes behind the headers comes in pieces. Raises Lost, also half-way.

        Of a refusal the body is in the reply, and no piece follows.
        """
        sent = dict(headers) | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        if self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)
        try:
            self._connection.request("GET", target, None, sent)
            response = self._connection.getresponse()
            refused = b"" if response.status == 200 else response.read(BODY_BYTES_MAX)
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.close()
            raise Lost(f"at {self.address}: {_why(error)}") from None
        told = {name.lower(): value for name, value in response.getheaders()}
        reply = Reply(response.status, told, refused, self.address)
        return reply, self._pieces(response) if response.status == 200 else iter(())

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while piece := response.read1(PIECE_BYTES):
                yield piece
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.close()
            raise Lost(f"at {self.address}: {_why(error)}") from None

    def close(self) -> None:
        self._connection.close()


def first_open(doors: Sequence[Door]) -> Door:
    """Choose the first door that opens. Raises NoDoor that says why none did."""
    why = []
    for door in doors:
        try:
            door.open()
        except NoDoor as error:
            why.append(str(error))
        else:
            return door
    raise NoDoor("; ".join(why))


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket. The Host it names is the one that the daemon lets in."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(TIMEOUT_SECONDS)
            with short_name(str(self._path)) as name:
                sock.connect(name)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
