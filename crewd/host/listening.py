"""Listening sockets: opened here, so that a taken port is an error to tell and not an exit in a library."""

import socket

LISTEN_BACKLOG = 64

ListeningSocket = socket.socket


def listen(host: str, port: int) -> ListeningSocket:
    """Listen on a TCP address; port 0 takes any free one (`address` tells which).

    Raises OSError: the name does not resolve, the port is taken or not permitted.
    """
    family, kind, protocol, _, place = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        # A restarted daemon must get its port back while old connections still linger.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Otherwise "::" would also mean every IPv4 address, which nobody asked for.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(place)
        listening.listen(LISTEN_BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def address(listening: ListeningSocket) -> tuple[str, int]:
    """Return host and port of a listening socket."""
    host, port = listening.getsockname()[:2]
    return str(host), int(port)
