"""Listening sockets: any free port, and a taken one is an error that can be told."""

import errno
import socket

import pytest

from crewd.host.listening import address, listen


def test_port_zero_takes_a_free_one_that_can_be_reached() -> None:
    with listen("127.0.0.1", 0) as listening:
        host, port = address(listening)
        assert host == "127.0.0.1" and port > 0
        with socket.create_connection((host, port)):
            pass


def test_a_taken_port_is_an_error() -> None:
    with listen("127.0.0.1", 0) as listening, pytest.raises(OSError) as refused:
        listen(*address(listening))
    assert refused.value.errno == errno.EADDRINUSE


def test_a_port_can_be_had_again_at_once_after_closing() -> None:
    with listen("127.0.0.1", 0) as listening:
        place = address(listening)
        with socket.create_connection(place):
            listening.setblocking(True)
            listening.accept()[0].close()
    listen(*place).close()
