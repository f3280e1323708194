"""Output is followed by offset, whatever was given back in front of it or cut off behind."""

import os
from pathlib import Path

import pytest

from crewd.host.holes import BLOCK, give_back
from crewd.host.tails import Follow, size, tail
from tests.fakes.workers import attempt, until

MIB = 1 << 20


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "stdout").write_bytes(b"")
    return tmp_path / "stdout"


def add(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


def holes_or_skip(path: Path, up_to: int) -> None:
    if not give_back(str(path), up_to):
        pytest.skip("this filesystem cannot punch holes")


def test_what_was_added_is_read_once_and_in_pieces(output: Path) -> None:
    with Follow.open(str(output)) as follow:
        assert follow.read(10) == b""
        add(output, b"0123456789abc")
        assert [follow.read(10), follow.read(10), follow.read(10)] == [b"0123456789", b"abc", b""]
        assert (follow.offset, follow.size()) == (13, 13)
    with Follow.open(str(output), 10) as later:
        assert later.read(10) == b"abc"


def test_zeros_that_were_written_are_read(output: Path) -> None:
    add(output, bytes(3 * BLOCK) + b"end")
    with Follow.open(str(output)) as follow:
        assert follow.read(MIB) == bytes(3 * BLOCK) + b"end"
        assert follow.skipped == 0


def test_a_hole_is_passed_over_and_counted(output: Path) -> None:
    add(output, b"x" * 10 * BLOCK + b"end")
    holes_or_skip(output, 10 * BLOCK)
    with Follow.open(str(output), 5) as follow:
        assert follow.read(MIB) == b"end"
        assert follow.skipped == 10 * BLOCK - 5
        assert follow.offset == 10 * BLOCK + 3


def test_what_is_all_hole_is_nothing(output: Path) -> None:
    add(output, b"x" * 10 * BLOCK)
    holes_or_skip(output, 10 * BLOCK)
    with Follow.open(str(output)) as follow:
        assert follow.read(MIB) == b""
        add(output, b"more")
        assert follow.read(MIB) == b"more"


def test_a_file_that_was_cut_is_read_anew(output: Path) -> None:
    add(output, b"first")
    with Follow.open(str(output)) as follow:
        assert follow.read(MIB) == b"first"
        os.truncate(output, 0)
        add(output, b"2nd")
        assert follow.read(MIB) == b"2nd"
        assert follow.cuts == 1
        add(output, b"3rd")
        assert follow.read(MIB) == b"3rd"


def test_giving_back_changes_no_offset(output: Path) -> None:
    add(output, bytes(range(256)) * 64 * 16)
    whole = output.read_bytes()
    holes_or_skip(output, 100_000)
    kept = 100_000 - 100_000 % BLOCK
    assert output.read_bytes() == bytes(kept) + whole[kept:]
    assert output.stat().st_blocks * 512 <= len(whole) - kept + BLOCK


@pytest.mark.parametrize("limit", [0, 1, 5, BLOCK, MIB])
def test_a_tail_is_the_end(limit: int, output: Path) -> None:
    data = os.urandom(3 * BLOCK)
    add(output, data)
    assert tail(str(output), limit) == (data[-limit:] if limit else b"")


def test_a_tail_holds_nothing_that_was_given_back(output: Path) -> None:
    add(output, b"x" * 10 * BLOCK + b"end")
    holes_or_skip(output, 10 * BLOCK)
    assert tail(str(output), MIB) == b"end"


def test_only_plain_files_are_read_or_emptied(tmp_path: Path, output: Path) -> None:
    (tmp_path / "link").symlink_to(output)
    os.mkfifo(tmp_path / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("link", "fifo", "nothing"):
        with pytest.raises(OSError):
            tail(str(tmp_path / name), 10)
        with pytest.raises(OSError):
            Follow.open(str(tmp_path / name))
        with pytest.raises(OSError):
            give_back(str(tmp_path / name), MIB)
    assert len(os.listdir("/proc/self/fd")) == before
    assert size(str(tmp_path / "nothing")) == 0
    assert size(str(output)) == 0


@pytest.mark.real_time
def test_a_flood_of_300_mb_takes_the_room_of_what_is_kept(tmp_path: Path) -> None:
    kept = 16 * MIB
    with attempt(tmp_path / "a", ("head", "-c", "300000000", "/dev/zero")) as this:
        path = this.folder / "stdout"
        holes_or_skip(path, 0)
        this.begin()
        most = 0

        def all_read() -> bool:
            nonlocal most
            while follow.read(MIB):
                give_back(str(path), follow.offset - kept)
                most = max(most, path.stat().st_blocks * 512)
            return follow.offset >= 300_000_000

        with Follow.open(str(path)) as follow:
            until(all_read)
        give_back(str(path), follow.offset - kept)
        assert path.stat().st_size == 300_000_000
        assert path.stat().st_blocks * 512 <= 32 * MIB
