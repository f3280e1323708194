"""Finding the file of a session: by patterns level by level, the newest first, and never through a link."""

import os
import stat
import tempfile
from pathlib import Path

import pytest

from crewd.host.session_file import exists, find
from tests.host.limits import no_descriptor_left, ordinary_user

ID = "01a1fbb2-14f0-7ac0-afdb-6fd5fb222d37"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def put(home: Path, name: str, age: int = 0) -> str:
    """Make a file so many seconds old, with the folders above it; returns its path."""
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}\n")
    os.utime(path, (1e9 - age, 1e9 - age))
    return str(path)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (f"projects/-srv-project/{ID}.jsonl", ("projects", "*", f"{ID}.jsonl")),
        (
            f"sessions/2026/11/21/rollout-2026-11-21T01-21-54-{ID}.jsonl",
            ("sessions", "*", "*", "*", f"rollout-*-{ID}.jsonl"),
        ),
        ("tmp/project/chats/session-2026-01a1fbb2.jsonl", ("tmp", "*", "chats", "session-*-01a1fbb2.jsonl")),
        (f"sessions/--srv-project--/2026_{ID}.jsonl", ("sessions", "--srv-project--", f"*_{ID}.jsonl")),
        ("one.jsonl", ("one.jsonl",)),
    ],
)
def test_each_program_keeps_it_elsewhere(home: Path, name: str, parts: tuple[str, ...]) -> None:
    assert (find(str(home), parts), exists(str(home), parts)) == ([], False)
    path = put(home, name)
    put(home, f"{name}.bak")
    put(home, f"other/{name}")
    assert (find(str(home), parts), exists(str(home), parts)) == ([path], True)
    assert find(f"{home}/", parts) == [path]


def test_of_several_the_newest_comes_first(home: Path) -> None:
    old, newest, older = put(home, "p/a/s.jsonl", 50), put(home, "p/b/s.jsonl", 1), put(home, "p/c/s.jsonl", 99)
    assert find(str(home), ("p", "*", "s.jsonl")) == [newest, old, older]


def test_only_plain_files_count(home: Path) -> None:
    put(home, "p/real.jsonl")
    (home / "p/folder.jsonl").mkdir()
    os.mkfifo(home / "p/fifo.jsonl")
    (home / "p/link.jsonl").symlink_to(home / "p/real.jsonl")
    os.mknod(home / "p/sock.jsonl", 0o600 | stat.S_IFSOCK)
    assert find(str(home), ("p", "*.jsonl")) == [str(home / "p/real.jsonl")]
    for name in ("folder", "fifo", "link", "sock"):
        assert not exists(str(home), ("p", f"{name}.jsonl"))


def test_a_link_is_followed_to_the_root_and_never_beneath_it(home: Path, tmp_path: Path) -> None:
    put(tmp_path, "outside/project/s.jsonl")
    (home / "p").mkdir()
    (home / "p/link").symlink_to(tmp_path / "outside/project")
    (home / "linked").symlink_to(tmp_path / "outside")
    for parts in (("p", "*", "s.jsonl"), ("p", "link", "s.jsonl"), ("linked", "project", "s.jsonl")):
        assert (find(str(home), parts), exists(str(home), parts)) == ([], False)
    (tmp_path / "way").symlink_to(home)
    path = put(home, "p/own/s.jsonl")
    assert find(str(tmp_path / "way"), ("p", "*", "s.jsonl")) == [path.replace("/home/", "/way/")]


@pytest.mark.parametrize(
    "parts", [(), ("",), ("..", "secret"), (".", "secret"), ("p", "..", "..", "secret"), ("../secret",), ("a\0b",)]
)
def test_no_pattern_leads_out_of_the_root(home: Path, tmp_path: Path, parts: tuple[str, ...]) -> None:
    put(tmp_path, "secret")
    put(home, "p/x")
    put(home, "secret")
    assert (find(str(home), parts), exists(str(home), parts)) == ([], False)


@pytest.mark.parametrize("root", ["/nothing/there", "", "a\0b", "/proc/self/environ"])
def test_a_root_that_is_not_there_holds_nothing(root: str) -> None:
    assert (find(root, ("*",)), exists(root, ("*",))) == ([], False)


def test_it_looks_at_no_more_names_than_it_may_and_at_the_newest_days_first(home: Path) -> None:
    for day in range(1, 31):
        for number in range(10):
            put(home, f"sessions/2026/11/{day:02}/rollout-{number}.jsonl", age=3600 * (30 - day))
    parts = ("sessions", "*", "*", "*", "rollout-*.jsonl")
    assert len(find(str(home), parts)) == 300
    assert len(find(str(home), parts, 1 + 1 + 1 + 30 + 300)) == 300
    few = find(str(home), parts, 1 + 1 + 1 + 30 + 25)
    assert len(few) == 25
    assert {Path(path).parent.name for path in few} == {"30", "29", "28"}
    assert find(str(home), parts, 2) == find(str(home), parts, 0) == []
    put(home, "one.jsonl")
    assert len(find(str(home), ("one.jsonl",), 1)) == 1
    assert find(str(home), ("one.jsonl",), 0) == []


def test_what_may_not_be_read_is_passed_over() -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)
        put(home, "p/closed/s.jsonl")
        path = put(home, "p/open/s.jsonl")
        (home / "p/closed").chmod(0)
        with ordinary_user():
            assert find(name, ("p", "*", "s.jsonl")) == [path]
            assert not exists(name, ("p", "closed", "*"))
        (home / "p/closed").chmod(0o755)


def test_no_descriptor_is_kept_and_none_is_needed_to_answer(home: Path) -> None:
    put(home, "a/b/c/s.jsonl")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert exists(str(home), ("a", "*", "*", "*.jsonl"))
        assert find(str(home), ("a", "*", "*", "*.jsonl"))
    with no_descriptor_left():
        assert (find(str(home), ("a", "*")), exists(str(home), ("a", "*"))) == ([], False)
    held = os.open("/dev/null", os.O_RDONLY)
    with no_descriptor_left():
        os.close(held)  # one is left, for the root and not for its listing
        assert (find(str(home), ("*",)), exists(str(home), ("*",))) == ([], False)
    assert len(os.listdir("/proc/self/fd")) == before


def test_names_of_any_bytes_are_found(home: Path) -> None:
    path = os.fsencode(home) + b"/\xff\n.jsonl"
    Path(os.fsdecode(path)).touch()
    assert find(str(home), ("*.jsonl",)) == [os.fsdecode(path)]
