"""One holder per folder, whose death frees it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crewd.host.files import AlreadyLocked, FolderLock

HOLD = """
import sys
from crewd.host.files import FolderLock
lock = FolderLock.acquire(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_told_who_the_first_is_and_touches_nothing(tmp_path: Path) -> None:
    with FolderLock.acquire(tmp_path):
        before = [(entry.name, entry.read_bytes(), entry.stat().st_mtime_ns) for entry in tmp_path.iterdir()]
        with pytest.raises(AlreadyLocked, match=f"held by process {os.getpid()}") as refused:
            FolderLock.acquire(tmp_path)
        assert refused.value.pid == os.getpid()
        assert [(entry.name, entry.read_bytes(), entry.stat().st_mtime_ns) for entry in tmp_path.iterdir()] == before


def test_a_closed_lock_can_be_taken_again(tmp_path: Path) -> None:
    lock = FolderLock.acquire(str(tmp_path))
    lock.close()
    lock.close()
    FolderLock.acquire(tmp_path).close()


def test_the_death_of_the_holder_frees_the_folder(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyLocked) as refused:
            FolderLock.acquire(tmp_path)
        assert refused.value.pid == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        FolderLock.acquire(tmp_path).close()


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = FolderLock.acquire(tmp_path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):
        lock.close()
        FolderLock.acquire(tmp_path).close()


def test_a_holder_that_left_no_number_is_still_a_holder(tmp_path: Path) -> None:
    with FolderLock.acquire(tmp_path):
        (tmp_path / "lock").write_bytes(b"")
        with pytest.raises(AlreadyLocked, match="another process") as refused:
            FolderLock.acquire(tmp_path)
        assert refused.value.pid == 0


def test_a_missing_folder_is_no_lock(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FolderLock.acquire(tmp_path / "nothing")
