"""Filesystems: told by the kernel's own mount of a path, on whatever machine this is."""

import os
import subprocess
from pathlib import Path

import pytest

from crewd.host.files import filesystem, free_bytes, is_network
from crewd.host.volumes import is_network_type


def mounts() -> list[tuple[str, str]]:
    """Every folder that is the root of its topmost mount, with the type that the mount table gives."""
    table = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        table[before.split()[4].encode().decode("unicode_escape")] = after.split()[0]
    return [(point, kind) for point, kind in table.items() if os.access(point, os.X_OK)]


def test_each_mount_of_this_machine_is_told_by_its_type() -> None:
    assert mounts()
    for point, kind in mounts():
        assert filesystem(point) == kind, point
        assert is_network(point) == is_network_type(kind), point


def test_proc_is_no_network_and_tells_its_name() -> None:
    assert filesystem("/proc/self/status") == "proc"
    assert not is_network("/proc")


def test_a_path_that_is_not_there_yet_lies_where_it_would_be_made(tmp_path: Path) -> None:
    assert filesystem(tmp_path / "not" / "yet") == filesystem(tmp_path) != ""


def test_a_link_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    assert filesystem(tmp_path / "link" / "self") == "proc"


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse", "fuse.sshfs", "ceph"])
def test_what_other_machines_write_to_counts_as_network(kind: str) -> None:
    assert is_network_type(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "ecryptfs", ""])
def test_what_this_machine_alone_writes_to_does_not(kind: str) -> None:
    assert not is_network_type(kind)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    is_network(tmp_path)
    filesystem("/nothing/of/the/kind")
    assert os.listdir("/proc/self/fd") == before


def test_the_room_left_agrees_with_df(tmp_path: Path) -> None:
    told = subprocess.run(["df", "-B1", "--output=avail", tmp_path], capture_output=True, check=True).stdout
    assert free_bytes(tmp_path) == pytest.approx(int(told.split()[-1]), rel=0.2)
    with pytest.raises(FileNotFoundError):
        free_bytes(tmp_path / "nothing")
