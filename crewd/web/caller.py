"""Callers: who asks, by which door they came, and whether that is enough to change anything."""

import hmac
import os
import pwd
import re
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from crewd.web.refusal import Refused, refusal

ACTOR = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
BEARER = re.compile(rb"bearer +([^ \t]+)", re.IGNORECASE)
CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


class Door(StrEnum):
    SOCKET = "socket"  # the unix socket
    TOKEN = "token"  # noqa: S105 - the name of a door, no secret. TCP, with the right token
    OPEN = "open"  # TCP, and nobody knows who


@dataclass(frozen=True)
class Peer:
    """The user at the other end of the unix socket, as the kernel tells it."""

    uid: int
    name: str


@dataclass(frozen=True)
class Caller:
    """Who asks. Decided before any route is looked for."""

    door: Door
    actor: str  # as events name it; "" where nobody knows

    @property
    def trusted(self) -> bool:
        """Whether this caller may change things, and read what workers wrote."""
        return self.door is not Door.OPEN


def trusted_uids() -> frozenset[int]:
    """Those who may use the unix socket: whom the daemon runs as, and root."""
    return frozenset({os.geteuid(), 0})


def peer_of(connection: socket.socket) -> Peer:
    """Ask the kernel who is at the other end of a unix socket."""
    _, uid, _ = CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return Peer(uid, _user_name(uid))


def identify(peer: Peer | None, headers: Mapping[bytes, Sequence[bytes]], token: Callable[[], str]) -> Caller:
    """Say who sent these headers. Raises Refused where what they claim is not so.

    A wrong token is refused even where none is needed: whoever sends one believes it to be right.
    """
    known = _shows_token(headers.get(b"authorization", ()), token)
    suffix = _actor(headers.get(b"x-crewd-actor", ()))
    if peer is not None:
        return Caller(Door.SOCKET, f"operator:{peer.name}{suffix}")
    if known:
        return Caller(Door.TOKEN, f"operator:token{suffix}")
    return Caller(Door.OPEN, "")


def _shows_token(given: Sequence[bytes], token: Callable[[], str]) -> bool:
    if not given:
        return False
    if len(given) > 1:
        raise refusal(400, "bad_authorization", "several Authorization headers", "send one")
    match = BEARER.fullmatch(given[0].strip())
    if match is None:
        if given[0].strip().lower().startswith(b"bearer"):
            raise _wrong_token()
        # Another scheme is somebody else's: a proxy that asks for passwords passes on what it was given.
        return False
    right = token().encode()
    # Compared in the same time wherever the first difference lies; "" is never right.
    if not hmac.compare_digest(match[1], right) or not right:
        raise _wrong_token()
    return True


def _wrong_token() -> Refused:
    return refusal(
        401, "wrong_token", "this token is not crewd's", "send the one in crewd's settings", www_authenticate="Bearer"
    )


def _actor(given: Sequence[bytes]) -> str:
    if not given:
        return ""
    if len(given) > 1 or not ACTOR.fullmatch(given[0]):
        remedy = "send it once: a letter or digit, then at most 63 of A-Z a-z 0-9 . _ @ -"
        raise refusal(400, "bad_actor", "X-Crewd-Actor is no name", remedy)
    return "/" + given[0].decode("ascii")


@cache
def _user_name(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return re.sub(r"[^A-Za-z0-9._@-]", "_", name)[:64]
