"""The digest of a working tree: one text as long as nothing is changed, another as soon as anything is."""

import hashlib
import os
import random
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.host.tree import digest
from tests.host.limits import no_descriptor_left, ordinary_user

LONG_AGO = 1_000_000_000_000_000_000  # ns


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    build(folder, ["README.md", "src/app.py", "src/deep/er/still.py", "src/__pycache__/app.pyc", "a/b", "empty/"])
    (folder / "link").symlink_to("README.md")
    build(folder, [".git/index", ".git/objects/aa/bb", ".git/refs/heads/main", ".git/refs/heads/other"])
    (folder / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (folder / ".git/refs/heads/main").write_text("1" * 40 + "\n")
    still(folder)
    return folder


def build(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def still(folder: Path) -> None:
    """Give everything one age, so that only what a test changes differs."""
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.utime(Path(above, name), ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)


def digested(folder: Path, **more: object) -> str:
    found = digest(str(folder), **more)  # type: ignore[arg-type]  # one of several fields, by name
    assert found is not None
    return found


def test_a_tree_that_nobody_touches_looks_the_same(tree: Path) -> None:
    found = digested(tree)
    assert digested(tree) == found
    assert len(found) < 100 and found.isascii() and " " not in found


def test_the_next_crewd_makes_the_same_text_of_the_same_tree(tmp_path: Path) -> None:
    build(tmp_path, ["b/c", "b/d", "a/e", "f/g", ".git/HEAD", "node_modules/x"])
    for path in tmp_path.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    still(tmp_path)
    folder, file = "\x0040700 0 0\n", f"\x00100600 3 {LONG_AGO}\n"
    form = f"/.git{folder}//head 9 0\0.git/HEADa{folder}b{folder}f{folder}/e{file}/c{file}d{file}/g{file}"
    assert digested(tmp_path) == f"1:{hashlib.sha256(form.encode()).hexdigest()}"


def test_a_copy_looks_the_same(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "copied", symlinks=True)
    assert digested(tmp_path / "copied") == digested(tree)


def test_the_order_in_which_the_disk_lists_it_does_not_matter(tmp_path: Path) -> None:
    """Of a tmpfs it is the order in which the files were made; other filesystems have one of their own."""
    names = [f"{folder}/{number}/x" for folder in ("x", "y", "x/z", ".") for number in range(20)]
    found = set[str]()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else tmp_path) as top:
        for seed in range(3):
            copy = Path(top, str(seed))
            random.Random(seed).shuffle(names)
            for name in names:
                build(copy, [name, f"{name}.1", f"{name}.2"][:: random.Random(f"{seed}{name}").choice([1, -1])])
            still(copy)
            found.add(digested(copy))
    assert len(found) == 1


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file is touched": lambda tree: os.utime(tree / "src/app.py", ns=(LONG_AGO, LONG_AGO + 1)),
    "a deep file is touched": lambda tree: (tree / "src/deep/er/still.py").touch(),
    "a file grows": lambda tree: grow(tree / "README.md"),
    "a file is added": lambda tree: (tree / "empty/new").touch(),
    "a hidden file is added": lambda tree: (tree / ".env").touch(),
    "a folder is added": lambda tree: (tree / "empty/new").mkdir(),
    "a file is removed": lambda tree: (tree / "a/b").unlink(),
    "a folder is removed": lambda tree: (tree / "empty").rmdir(),
    "a file is renamed": lambda tree: (tree / "a/b").rename(tree / "a/c"),
    "a file is moved": lambda tree: (tree / "a/b").rename(tree / "empty/b"),
    "a folder is renamed": lambda tree: (tree / "a").rename(tree / "b"),
    "a file may be executed": lambda tree: (tree / "src/app.py").chmod(0o755),
    "a folder may not be entered by others": lambda tree: (tree / "a").chmod(0o700),
    "a link leads elsewhere": lambda tree: relink(tree / "link", "src/app.py"),
    "a file becomes a link": lambda tree: relink(tree / "a/b", "c"),
    "a file bears the name of what is left out": lambda tree: (tree / "node_modules").touch(),
    "a FIFO is added": lambda tree: os.mkfifo(tree / "fifo"),
    "a commit": lambda tree: (tree / ".git/refs/heads/main").write_text("2" * 40 + "\n"),
    "a branch is checked out": lambda tree: (tree / ".git/HEAD").write_text("ref: refs/heads/other\n"),
    "a commit is checked out": lambda tree: (tree / ".git/HEAD").write_text("3" * 40 + "\n"),
    "the store is taken away": lambda tree: shutil.rmtree(tree / ".git"),
    "HEAD is taken away": lambda tree: (tree / ".git/HEAD").unlink(),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "a file is read": lambda tree: (tree / "README.md").read_bytes(),
    "something was compiled": lambda tree: (tree / "src/__pycache__/new.pyc").touch(),
    "something was compiled for the first time": lambda tree: build(tree, ["src/deep/__pycache__/new.pyc"]),
    "packages are installed": lambda tree: build(tree, ["node_modules/x/index.js", ".venv/bin/python"]),
    "git looks at its index": lambda tree: (tree / ".git/index").write_bytes(b"newer"),
    "git keeps another branch": lambda tree: (tree / ".git/refs/heads/other").write_text("4" * 40),
    "git packs its refs": lambda tree: pack(tree / ".git"),
    "a file came and went": lambda tree: come_and_go(tree / "a/new"),
}


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(LONG_AGO, LONG_AGO))


def come_and_go(path: Path) -> None:
    path.touch()
    path.unlink()


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def pack(store: Path) -> None:
    commit = (store / "refs/heads/main").read_text().strip()
    lines = [
        "# pack-refs with: peeled fully-peeled sorted",
        f"{'9' * 40} refs/heads/main2",
        f"{commit} refs/heads/main",
    ]
    (store / "packed-refs").write_text("\n".join([*lines, f"^{'8' * 40}"]) + "\n")
    (store / "refs/heads/main").unlink()


@pytest.mark.parametrize("change", CHANGES)
def test_it_looks_different_after(tree: Path, change: str) -> None:
    before = digested(tree)
    CHANGES[change](tree)
    assert digested(tree) != before


@pytest.mark.parametrize("change", NO_CHANGES)
def test_it_looks_the_same_although(tree: Path, change: str) -> None:
    before = digested(tree)
    NO_CHANGES[change](tree)
    assert digested(tree) == before


def test_a_commit_on_a_packed_branch_is_seen(tree: Path) -> None:
    pack(tree / ".git")
    before = digested(tree)
    packed = tree / ".git/packed-refs"
    packed.write_text(packed.read_text().replace("1" * 40, "5" * 40))
    assert digested(tree) != before


def test_a_repository_within_counts_as_well(tree: Path) -> None:
    shutil.copytree(tree / ".git", tree / "a/.git")
    before = digested(tree)
    (tree / "a/.git/index").write_bytes(b"newer")
    assert digested(tree) == before
    (tree / "a/.git/HEAD").write_text("6" * 40)
    assert digested(tree) != before


@pytest.mark.parametrize(
    "head",
    ["ref: refs/heads/link", "ref: refs/heads/away/secret", "ref: ../../secret", "ref: /secret", "ref: ", "", "\0"],
)
def test_no_head_leads_out_of_its_store(tree: Path, tmp_path: Path, head: str) -> None:
    (tmp_path / "secret").write_text("1")
    (tree / ".git/refs/heads/away").symlink_to(tmp_path)
    (tree / ".git/refs/heads/link").symlink_to(tmp_path / "secret")
    (tree / ".git/HEAD").write_text(head)
    before = digested(tree)
    (tmp_path / "secret").write_text("2")
    assert digested(tree) == before


def test_a_store_that_is_a_file_or_a_link_is_a_file_or_a_link(tree: Path, tmp_path: Path) -> None:
    (tree / ".git").rename(tmp_path / "store")
    (tree / ".git").symlink_to(tmp_path / "store")
    before = digested(tree)
    (tmp_path / "store/HEAD").write_text("7" * 40)
    assert digested(tree) == before
    relink(tree / ".git", "nowhere")
    assert digested(tree) != before


def test_neither_a_head_nor_a_file_that_is_none_keeps_anybody_waiting(tree: Path) -> None:
    (tree / ".git/HEAD").unlink()
    os.mkfifo(tree / ".git/HEAD")
    os.mknod(tree / "socket", 0o600 | stat.S_IFSOCK)
    assert digested(tree)
    # What somebody wrote into it for another reader is still there afterwards.
    handle = os.open(tree / ".git/HEAD", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(handle, b"for somebody else")
        assert digested(tree)
        assert os.read(handle, 100) == b"for somebody else"
    finally:
        os.close(handle)


def test_folders_of_crewd_itself_are_skipped_however_they_are_spelled(tree: Path, tmp_path: Path) -> None:
    before = digested(tree)
    build(tree, ["src/state/runs/a", "src/state/ledger"])
    (tmp_path / "way").symlink_to(tree)
    for spelled in (tree / "src/state", tmp_path / "way/src/state", tree / "a/../src/state"):
        assert digested(tree, skipped=[str(tmp_path / "not there"), str(spelled), "\0"]) == before
    assert digested(tree) != before
    # What else bears that name counts.
    build(tree, ["a/state/new"])
    assert digested(tree, skipped=[str(tree / "src/state")]) != before


def test_no_link_is_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tree / "out").symlink_to(tmp_path / "outside")
    before = digested(tree)
    (tmp_path / "outside/new").touch()
    assert digested(tree) == before
    # That is the operator's word, and may be a link.
    (tmp_path / "way").symlink_to(tree)
    assert digested(tmp_path / "way") == before


def test_as_many_files_as_allowed_are_looked_at_and_not_one_more(tmp_path: Path) -> None:
    build(tmp_path, ["a/b", "a/c", "d", "node_modules/e"])  # four that count: a, a/b, a/c, d
    assert digest(str(tmp_path), 4) is not None
    assert digest(str(tmp_path), 3) is None
    assert digest(str(tmp_path), 0) is None


def test_it_takes_no_longer_than_it_may(tree: Path) -> None:
    ticks = iter(range(1000))
    assert digest(str(tree), 1000, 2.0, lambda: float(next(ticks))) is None
    assert next(ticks) < 10
    assert digest(str(tree), 1000, 2.0, lambda: 0.0) is not None


def test_one_folder_with_very_many_names_is_left_in_time(tmp_path: Path) -> None:
    build(tmp_path, [f"many/{number}" for number in range(2000)])
    ticks = iter(range(1000))
    assert digest(str(tmp_path), 10_000, 4.0, lambda: float(next(ticks))) is None
    assert next(ticks) < 10


@pytest.mark.parametrize("name", ["nothing", "README.md", "a\0b"])
def test_what_is_no_folder_has_no_digest(tree: Path, name: str) -> None:
    assert digest(f"{tree}/{name}") is None


def test_what_cannot_be_read_has_no_digest() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        build(folder, ["a/b", "closed/c", ".git/HEAD"])
        with ordinary_user():
            assert digest(name) is not None
        for closed in ("closed", ".git/HEAD", ".git"):
            (folder / closed).chmod(0)
            with ordinary_user():
                assert digest(name) is None
            (folder / closed).chmod(0o755)


def test_without_a_descriptor_there_is_no_digest_and_none_is_kept(tree: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with no_descriptor_left():
        assert digest(str(tree)) is None
    assert digest(str(tree), 3) is None
    assert digest(str(tree)) is not None
    assert len(os.listdir("/proc/self/fd")) == before


def test_names_of_any_bytes_are_told_apart(tmp_path: Path) -> None:
    found = set[str]()
    for name in (b"\xff\xfe", b"new\nline", b"new", b" ", b"folder", "ä".encode(), "a\u0308".encode()):
        folder = os.fsencode(tmp_path / "in")
        os.mkdir(folder)
        Path(os.fsdecode(folder + b"/" + name)).touch()
        still(tmp_path / "in")
        found.add(digested(tmp_path / "in"))
        shutil.rmtree(folder)
    assert len(found) == 7


def test_a_very_deep_tree_is_walked_with_few_descriptors(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=handle)
        deeper = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    try:
        found = digest(str(tmp_path), seconds_max=60.0)
        assert found is not None
        assert digest(str(tmp_path), files_max=599, seconds_max=60.0) is None
    finally:
        shorten(tmp_path)


def shorten(folder: Path) -> None:
    """Take a deep chain away, which is deeper than a path may be long."""
    while (folder / "d/d").exists():
        (folder / "d/d").rename(folder / "next")
        (folder / "d").rmdir()
        (folder / "next").rename(folder / "d")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("large")
    for number in range(1000):
        inner = folder / f"{number % 10}/{number % 100}/{number}"
        inner.mkdir(parents=True)
        for name in range(10):
            os.mknod(inner / str(name))
    yield folder
    shutil.rmtree(folder)


def test_ten_thousand_files_are_no_burden(large: Path) -> None:
    """Some 50 ms; the bound is wide, for a busy machine, and counts the time of this process alone."""
    began = time.process_time()
    assert digest(str(large), seconds_max=60.0) is not None
    assert time.process_time() - began < 1.0


paths = st.lists(
    st.lists(st.sampled_from(["a", "b", "c d", ".e"]), min_size=1, max_size=3).map("/".join), max_size=6, unique=True
)


@given(paths, paths)
def test_two_trees_look_the_same_exactly_if_they_hold_the_same_names(
    tmp_path_factory: pytest.TempPathFactory, first: list[str], second: list[str]
) -> None:
    top = tmp_path_factory.mktemp("two")
    looks: list[tuple[frozenset[str], str]] = []
    for number, names in enumerate((first, second)):
        folder = top / str(number)
        for name in names:
            (folder / name).mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        there = frozenset(str(path.relative_to(folder)) for path in folder.rglob("*"))
        looks.append((there, digested(folder)))
    shutil.rmtree(top)
    (names_one, one), (names_two, two) = looks
    assert (names_one == names_two) == (one == two)
