"""Outgoing requests: one HTTP request to somebody outside, bounded in time and in what is read of the answer."""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

BODY_MAX = 64 * 1024  # of an answer, read and thrown away; whoever sends more is hung up on
PIECE = 16 * 1024
PORTS = {"http": 80, "https": 443}


class NoAnswer(Exception):
    """Nobody answered in time, or not in HTTP. The message names no part of the address but its host."""


@dataclass(frozen=True)
class Answered:
    """The status of an answer, and how long the receiver wishes to be left alone."""

    status: int
    retry_after: float | None = None  # seconds


class Outgoing:
    """One door out, for one thread at a time. Certificates are verified; redirects are not followed.

    An address may hold a secret: it is in no message of any error.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._context: ssl.SSLContext | None = None
        self._cut = ""  # why the request at hand was cut off

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> Answered:
        """Send one request and wait for the answer, for so long in all. Raises NoAnswer, ValueError (bad address)."""
        parts = address(url)
        host = parts.hostname or ""
        connection = self._connect(parts, seconds)
        with self._turn:
            self._connection, self._cut = connection, ""
        # Every wait on the socket is bounded by itself: only this bounds one that drips.
        deadline = threading.Timer(seconds, self._cut_off, [f"{host} did not answer within {seconds:g} s"])
        deadline.daemon = True
        deadline.start()
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.connect()
            self._go_on()
            connection.request(method, path, body, {"Connection": "close", **headers})
            answer = connection.getresponse()
            found = Answered(answer.status, _retry_after(answer.getheader("Retry-After")))
            read = 0
            while read < BODY_MAX and (piece := answer.read(PIECE)):
                read += len(piece)
            return found
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(self._cut or f"{host}: {_words(error)}") from None
        finally:
            deadline.cancel()
            with self._turn:
                self._connection = None
            connection.close()

    def _go_on(self) -> None:
        """Stop where the time ran out before there was a socket to cut. Raises TimeoutError."""
        with self._turn:
            if self._cut:
                raise TimeoutError

    def abort(self) -> None:
        """Cut off the request at hand, from another thread; without one, nothing happens."""
        self._cut_off("crewd stops")

    def _cut_off(self, why: str) -> None:
        with self._turn:
            if self._connection is None:
                return
            self._cut = why
            sock = self._connection.sock
            if sock is not None:
                with contextlib.suppress(OSError):  # it was over anyway
                    sock.shutdown(socket.SHUT_RDWR)

    def _connect(self, parts: SplitResult, seconds: float) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=seconds)
        if self._context is None:
            self._context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=self._context)


def address(url: str) -> SplitResult:
    """Take an address apart. Raises ValueError, which does not show it: it may hold a secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is no address; write https://HOST/PATH") from None
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise ValueError("is no address; write https://HOST/PATH")
    if parts.username is not None:
        raise ValueError("holds a login; give it as a header: Authorization: Basic ...")
    if any(char <= " " or char == "\x7f" for char in url):
        raise ValueError("holds a blank or a control character")
    return parts


def is_open(url: str) -> bool:
    """Say whether what is sent to an address can be read on the way: http to another machine."""
    parts = address(url)
    if parts.scheme != "http" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True


def _retry_after(value: str | None) -> float | None:
    """Read Retry-After: seconds, or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"no answer in HTTP ({type(error).__name__})"
