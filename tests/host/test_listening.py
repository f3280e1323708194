import socket

import pytest

from crewd.host.listening import address, listen


def test_any_free_port_is_taken_and_told() -> None:
    with listen("127.0.0.1", 0) as listening:
        host, port = address(listening)
        assert host == "127.0.0.1" and port > 0
        socket.create_connection((host, port), timeout=5).close()


def test_a_taken_port_is_told() -> None:
    with listen("127.0.0.1", 0) as listening, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", address(listening)[1])


def test_a_name_that_does_not_resolve_is_told() -> None:
    with pytest.raises(OSError):
        listen("no such name", 0)
