"""The unix socket, on a real disk."""

import os
import socket
import stat
from pathlib import Path

import pytest

from crewd.host.socket_name import NAME_BYTES_MAX, short_name
from crewd.web.caller import peer_of, trusted_uids
from crewd.web.unix_socket import LAST_BYTES_MAX, CannotOpen, UnixSocket


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    # Paths of sockets are short, and a test's own folder is named after the test.
    return str(tmp_path_factory.mktemp("s") / "crewd.sock")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_its_user_may_connect_whatever_the_umask(path: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        unix = UnixSocket.open(path)
    finally:
        os.umask(before)
    found = os.lstat(path)
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) & ~0o600 == 0
    unix.close()


def test_its_name_goes_with_it_and_closing_twice_is_fine(path: str) -> None:
    unix = UnixSocket.open(path)
    unix.close()
    unix.close()
    assert not os.path.lexists(path)


def test_one_that_nobody_answers_at_is_replaced(path: str) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    unix = UnixSocket.open(path)
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.connect(path)
    unix.close()


@pytest.mark.parametrize("backlog", [0, 5])
def test_one_that_somebody_answers_at_stays(path: str, backlog: int) -> None:
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(path)
        theirs.listen(backlog)
        knocking = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for each in knocking:  # with a backlog of 0 nobody else is let in
            each.setblocking(False)
            each.connect_ex(path)
        with pytest.raises(CannotOpen, match="somebody answers there"):
            UnixSocket.open(path)
        assert os.path.lexists(path)
        for each in knocking:
            each.close()


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_whatever_else_stands_there_stays(path: str, what: str, tmp_path: Path) -> None:
    match what:
        case "file":
            Path(path).write_text("mine")
        case "folder":
            Path(path).mkdir()
        case _:
            Path(path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotOpen, match="no socket"):
        UnixSocket.open(path)
    assert os.path.lexists(path) and not os.path.lexists(tmp_path / "elsewhere")


def test_a_successors_socket_is_not_taken_away(path: str) -> None:
    unix = UnixSocket.open(path)
    os.unlink(path)
    successor = UnixSocket.open(path)
    unix.close()
    assert os.path.lexists(path)
    successor.close()


@pytest.mark.parametrize(
    "bad",
    [
        "/" + "x" * (LAST_BYTES_MAX + 1),
        "/" + "ä" * 54,
        "relative.sock",
        "",
        "/run/a\0b",
        "/\ud800",
        "/no/such/folder/s",
    ],
)
def test_a_path_that_cannot_be_is_a_complaint(bad: str) -> None:
    with pytest.raises(CannotOpen) as caught:
        UnixSocket.open(bad)
    assert ";" in str(caught.value)


def test_a_name_of_one_byte_too_many_is_told_its_bound(path: str) -> None:
    with pytest.raises(CannotOpen, match="at most 80 bytes"):
        UnixSocket.open(f"{path}{'x' * (LAST_BYTES_MAX + 1 - len(os.path.basename(path)))}")


@pytest.mark.parametrize("bytes", [NAME_BYTES_MAX, NAME_BYTES_MAX + 1, 400])
def test_a_socket_may_lie_as_deep_as_any_file(path: str, bytes: int) -> None:
    folder = os.path.dirname(path)
    while len(folder) < bytes - 90:
        folder += "/" + "d" * 50
    os.makedirs(folder, exist_ok=True)
    deep = f"{folder}/{'s' * min(LAST_BYTES_MAX, bytes - len(folder) - 1)}"
    unix = UnixSocket.open(deep)
    with socket.socket(socket.AF_UNIX) as knocking, short_name(deep) as name:
        knocking.connect(name)
    with pytest.raises(CannotOpen, match="somebody answers there"):
        UnixSocket.open(deep)
    assert unix.path == deep
    unix.close()
    assert not os.path.lexists(deep)


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
        assert peer.uid == os.geteuid() and peer.name
        assert trusted_uids() == {peer.uid, 0}
