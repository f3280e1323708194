"""What hangs on a process, also where the kernel lists no children and where there are too many."""

from pathlib import Path

from crewd.host import descent


def add(proc: Path, pid: int, name: str, parent: int, letter: str = "S") -> None:
    (proc / str(pid) / "task" / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {letter} {parent} " + "0 " * 48)


def test_without_lists_of_children_they_are_found_by_their_parent(tmp_path: Path) -> None:
    add(tmp_path, 10, "agent", 1)
    add(tmp_path, 11, "bash", 10)
    add(tmp_path, 12, "make (all)", 11)
    add(tmp_path, 13, "gone", 10, "Z")
    add(tmp_path, 14, "stranger", 1)
    (tmp_path / "self").mkdir()
    assert descent.living_below(str(tmp_path), 10) == ("bash", "make (all)")


def test_nothing_is_below_what_is_not_there(tmp_path: Path) -> None:
    assert descent.living_below(str(tmp_path), 10) == ()
    assert descent.established(str(tmp_path), 10) is None


def test_a_bomb_of_forks_costs_no_more_than_the_caps(tmp_path: Path) -> None:
    (tmp_path / "thread-self").mkdir()
    (tmp_path / "thread-self" / "children").touch()
    add(tmp_path, 10, "agent", 1)
    below = range(100, 100 + descent.BELOW_MAX + 20)
    (tmp_path / "10" / "task" / "10" / "children").write_text(" ".join(map(str, below)))
    for pid in below:
        add(tmp_path, pid, f"bomb-{pid}", 10)
    names = descent.living_below(str(tmp_path), 10)
    assert names == tuple(f"bomb-{pid}" for pid in below[: descent.BELOW_MAX])


def test_only_established_connections_of_this_process_are_counted(tmp_path: Path) -> None:
    descriptors, net = tmp_path / "10" / "fd", tmp_path / "10" / "net"
    descriptors.mkdir(parents=True)
    net.mkdir()
    for number, target in enumerate(("socket:[501]", "socket:[502]", "socket:[503]", "/dev/null", "pipe:[501]")):
        (descriptors / str(number)).symlink_to(target)
    rows = [("01", 501), ("0A", 502), ("06", 503), ("01", 999)]  # established, listening, closing, a stranger's
    lines = [f" 0: 0100007F:0050 0100007F:C350 {state} 0:0 00:0 0 0 0 {inode} 1 x" for state, inode in rows]
    (net / "tcp").write_text("\n".join(["  sl  local_address rem_address   st ...", *lines, ""]))
    assert descent.established(str(tmp_path), 10) == 1
