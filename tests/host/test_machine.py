"""Whose machine, whose folder, whose output this is."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

from crewd.host import machine
from crewd.host.journal import leads_to_journal
from crewd.host.machine import host_name, is_own_folder, own_pid
from tests.host.limits import no_descriptor_left, ordinary_user


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


def test_without_a_descriptor_left_nothing_can_be_opened() -> None:
    assert machine.can_open()
    with no_descriptor_left():
        assert not machine.can_open()


def test_the_limit_of_descriptors_is_raised_to_what_may_be_had() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 512));"
        "from crewd.host.machine import raise_descriptor_limit as r; print(r(), r(100))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout.split() == ["512", "512"]
