"""Control groups: found only where they were handed over, and an attempt that is in one cannot leave it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crewd.host.cgroup import Cgroup, Cgroups
from crewd.host.remains import prove_gone
from tests.fakes.workers import attempt, python, until
from tests.host.limits import ordinary_user

UNIFIED = "30 1 0:26 / {point} rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "31 1 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Cgroups]:
    found = Cgroups.detect(owner=str(tmp_path))
    if found is None:
        pytest.skip("no control group of version 2 was handed over to this user")
    yield found
    for name in found.names():
        left = found.make(name)
        left.kill()
        until(left.empty)
        left.remove()


def tree(root: Path, own: str = "") -> str:
    """A file system that looks like one of control groups, as far as files can."""
    (root / own.strip("/")).mkdir(parents=True, exist_ok=True)
    for place in (root, *(path for path in root.rglob("*") if path.is_dir())):
        (place / "cgroup.procs").touch()
    return UNIFIED.format(point=str(root).replace(" ", "\\040"))


def test_the_top_of_a_tree_that_nobody_manages_is_ours(tmp_path: Path) -> None:
    mounts = V1 + tree(tmp_path / "a b")
    found = Cgroups.detect("4:memory:/other\n0::/\n", mounts)
    assert found is not None and found.folder == str(tmp_path / "a b")
    assert found.names() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="whoever is not root owns what was handed over")
def test_as_root_a_group_below_the_top_is_another_ones_unless_it_says_so(tmp_path: Path) -> None:
    mounts = tree(tmp_path, "/system.slice/crewd.service")
    own = "0::/system.slice/crewd.service\n"
    assert Cgroups.detect(own, mounts) is None
    try:
        os.setxattr(tmp_path / "system.slice/crewd.service", "user.delegate", b"1")
    except OSError:
        pytest.skip("no extended attributes here")
    assert Cgroups.detect(own, mounts) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="whoever is not root owns what was handed over")
def test_put_aside_in_a_subgroup_crewd_divides_the_group_above(tmp_path: Path) -> None:
    unit = tmp_path / "system.slice/crewd.service"
    mounts = tree(tmp_path, "/system.slice/crewd.service/daemon")
    own = "0::/system.slice/crewd.service/daemon\n"
    try:
        os.setxattr(unit / "daemon", "user.delegate", b"1")
    except OSError:
        pytest.skip("no extended attributes here")
    found = Cgroups.detect(own, mounts)
    assert found is not None and (found.folder, found.divided) == (str(unit / "daemon"), False)
    assert "DelegateSubgroup=daemon" in found.enable()[0], "no controllers are asked for beside crewd itself"
    os.setxattr(unit, "user.delegate", b"1")
    found = Cgroups.detect(own, mounts)
    assert found is not None and (found.folder, found.divided) == (str(unit), True)
    assert len(found.enable()) == 2, "files are no controllers"
    (unit / "cgroup.subtree_control").touch()
    assert found.enable() == []
    found.make("run-1")
    assert found.names() == ["run-1"], "crewd's own group is not one of them"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_group_of_another_user_is_not_ours(tmp_path: Path) -> None:
    mounts = tree(tmp_path, "/user.slice")
    with ordinary_user():
        assert Cgroups.detect("0::/user.slice\n", mounts) is None


@pytest.mark.parametrize("own", ["", "4:memory:/x\n", "0::/not/shown\n"])
@pytest.mark.parametrize("mounts", ["", V1, None])
def test_where_there_is_no_place_none_is_found(own: str, mounts: str | None, tmp_path: Path) -> None:
    assert Cgroups.detect(own, tree(tmp_path) if mounts is None else mounts) is None


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", ".hidden", "x" * 250, "a b", "a\n"])
def test_a_name_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    for act in (Cgroups(str(tmp_path)).make, Cgroups(str(tmp_path)).adopt):
        with pytest.raises(ValueError, match="cannot name"):
            act(name)
    assert list(tmp_path.iterdir()) == []


def test_a_group_that_is_not_there_is_empty_and_gone(tmp_path: Path) -> None:
    group = Cgroup(str(tmp_path / "nothing"))
    assert group.empty() and group.kill() and group.remove()
    assert group.processes() == []
    assert Cgroups(str(tmp_path)).adopt("nothing") is None


@pytest.mark.real_time
def test_an_attempt_cannot_leave_its_group_and_ends_with_it(groups: Cgroups, tmp_path: Path) -> None:
    group = groups.make("test-a")
    code = "for _ in range(3):\n if os.fork() == 0:\n  os.setsid()\nos.write(1, b'.')\n"
    code += "os.execve('/bin/sleep', ['s', '30'], {})"
    with attempt(tmp_path / "a", python(code)) as this:
        group.add(this.shim)
        assert group.processes() == [this.shim]
        this.begin()
        until(lambda: len(this.stdout()) == 8)
        assert len(group.processes()) == 9
        assert not group.empty() and not group.remove()
        if not group.kill():
            pytest.skip("this kernel has no cgroup.kill")
        this.end()
        until(group.empty)
        assert group.processes() == []
        assert prove_gone(this.mark, this.shim, since=this.since) == []
        assert group.remove()
        assert groups.adopt("test-a") is None


@pytest.mark.real_time
def test_a_group_is_found_again_by_its_name(groups: Cgroups) -> None:
    groups.make("test-b")
    again = groups.adopt("test-b")
    assert again is not None and again.empty()
    assert "test-b" in groups.names()
    groups.make("test-b")
    os.mkdir(f"{again.folder}/of-the-worker")
    assert again.remove()
    assert "test-b" not in groups.names()


@pytest.mark.real_time
def test_a_limit_without_its_controller_is_told(groups: Cgroups) -> None:
    group = groups.make("test-c")
    complaints = group.limit(1 << 30, 100)
    controllers = Path(f"{group.folder}/cgroup.controllers").read_text().split()
    needed = {"memory.max": "memory", "pids.max": "pids"}
    missing = [name for name, controller in needed.items() if controller not in controllers]
    assert [text.split()[0] for text in complaints] == missing


def test_a_crewd_knows_nothing_of_the_groups_of_another(tmp_path: Path) -> None:
    one, other = Cgroups(str(tmp_path), "/state/one"), Cgroups(str(tmp_path), "/state/other")
    made = one.make("run-1")
    assert (one.names(), other.names()) == (["run-1"], [])
    assert other.adopt("run-1") is None
    assert one.adopt("run-1") is not None and made.remove()
