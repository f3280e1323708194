"""What the service manager hears, on a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from crewd.host.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """The manager's end, and what NOTIFY_SOCKET says."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(path if request.param == "path" else "\0" + path)
        door.settimeout(5)
        yield door, path if request.param == "path" else "@" + path


def test_every_message_is_said_as_sd_notify_says_it(manager: tuple[socket.socket, str]) -> None:
    door, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"})
    assert notifier.active
    heard = []
    for say in (
        notifier.ready,
        lambda: notifier.status("round 3: 5 runs"),
        lambda: notifier.reloading(1_234_567),
        notifier.stopping,
        notifier.watchdog,
        lambda: notifier.extend_timeout(1.5),
    ):
        say()
        heard.append(door.recv(4096).decode())
    assert heard == [
        "READY=1",
        "STATUS=round 3: 5 runs",
        "RELOADING=1\nMONOTONIC_USEC=1234567",
        "STOPPING=1",
        "WATCHDOG=1",
        "EXTEND_TIMEOUT_USEC=1500000",
    ]
    assert notifier.failures == 0


def test_a_status_is_one_line_whatever_it_holds(manager: tuple[socket.socket, str]) -> None:
    door, name = manager
    Notifier({"NOTIFY_SOCKET": name}).status("run evil\nMAINPID=1\r\n \ud800 é")
    assert door.recv(4096).decode() == "STATUS=run evil MAINPID=1 ? é"


def test_outside_a_service_nothing_is_said() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.watchdog()
    assert (notifier.active, notifier.failures, notifier.watchdog_interval) == (False, 0, None)


@pytest.mark.parametrize("address", ["relative", "vsock:2:1234", ""])
def test_an_address_of_another_kind_is_left_alone(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready()
    assert (notifier.active, notifier.failures) == (False, 0)


def test_a_manager_that_went_away_is_counted_and_harms_nobody(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.ready()
    notifier.status("still here")
    assert notifier.failures == 2
    too_long = Notifier({"NOTIFY_SOCKET": "/" + "n" * 200})
    too_long.ready()
    assert too_long.failures == 1


def test_a_manager_that_does_not_listen_cannot_hold_a_round_up(manager: tuple[socket.socket, str]) -> None:
    _, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(100_000):
        notifier.status("x" * 1000)
        if notifier.failures:
            break
    assert notifier.failures == 1


OWN = os.getpid()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(OWN)}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(OWN + 1)}, None),
        ({"WATCHDOG_PID": str(OWN)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "me"}, None),
    ],
)
def test_the_watchdog_watches_only_the_process_it_names(environ: dict[str, str], interval: float | None) -> None:
    assert Notifier(environ).watchdog_interval == interval


def test_without_a_watchdog_no_ping_is_sent(manager: tuple[socket.socket, str]) -> None:
    door, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.watchdog()
    notifier.stopping()
    assert door.recv(4096) == b"STOPPING=1"


def test_what_takes_long_to_start_asks_for_time_until_it_is_done_and_not_without_end(
    manager: tuple[socket.socket, str],
) -> None:
    door, name = manager
    door.settimeout(5)
    notifier = Notifier({"NOTIFY_SOCKET": name})
    with notifier.starting(seconds=0.1):
        assert [door.recv(4096) for _ in range(3)] == [b"EXTEND_TIMEOUT_USEC=100000"] * 3
    door.setblocking(False)
    while True:  # what it said last
        try:
            door.recv(4096)
        except BlockingIOError:
            break
    with notifier.starting(seconds=0.02, at_most=0.03):
        door.settimeout(0.2)
        heard = 0
        with pytest.raises(TimeoutError):
            while door.recv(4096):
                heard += 1
    assert heard == 3


def test_patience_is_widened_where_rounds_need_more_and_goes_back(manager: tuple[socket.socket, str]) -> None:
    door, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"})
    assert not notifier.widen_watchdog(15), "the unit allows more than that"
    assert notifier.widen_watchdog(90)
    assert not notifier.widen_watchdog(90), "it is told once"
    assert not notifier.widen_watchdog(15)
    assert [door.recv(4096).decode() for _ in range(2)] == ["WATCHDOG_USEC=90000000", "WATCHDOG_USEC=30000000"]
    assert not Notifier({"NOTIFY_SOCKET": name}).widen_watchdog(90), "no watchdog watches"
