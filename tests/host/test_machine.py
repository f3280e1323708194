"""Whose machine, whose folder, whose output this is."""

import io
import os
import socket
from pathlib import Path

from crewd.host.journal import leads_to_journal
from crewd.host.machine import host_name, is_own_folder, own_pid
from tests.host.limits import ordinary_user


def test_this_process_knows_its_names() -> None:
    assert own_pid() == os.getpid()
    assert host_name() == socket.gethostname() != ""


def test_only_a_real_folder_of_ones_own_counts_as_own(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert is_own_folder(str(tmp_path))
    for name in ("file", "link", "nothing"):
        assert not is_own_folder(str(tmp_path / name))
    with ordinary_user():
        assert not is_own_folder("/proc/1")


def test_the_journal_is_known_by_its_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream:
        seen = os.fstat(stream.fileno())
        assert leads_to_journal(stream, f"{seen.st_dev}:{seen.st_ino}")
        assert not leads_to_journal(stream, f"{seen.st_dev}:{seen.st_ino + 1}")
        assert not leads_to_journal(stream, "")
    assert not leads_to_journal(io.StringIO(), "1:2")
