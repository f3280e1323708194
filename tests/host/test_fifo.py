"""A talk never waits, whatever the reader does."""

import os
from pathlib import Path

import pytest

from crewd.host.fifo import RESUME, Talk


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "stdin", 0o600)
    return str(tmp_path / "stdin")


def test_nobody_reads_is_told_at_once(fifo: str) -> None:
    with pytest.raises(OSError, match="No such device"):
        Talk.open(fifo)


def test_what_does_not_fit_is_not_taken_and_nothing_waits(fifo: str) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with Talk.open(fifo) as talk:
        data = b"x" * (5 << 20)
        taken = talk.write(data)
        assert 0 < taken < len(data)
        assert talk.write(data) == 0
        assert len(os.read(reader, 1 << 20)) > 0
        assert talk.write(memoryview(data)[:100]) == 100
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            talk.write(b"x")
    assert talk.fileno() == -1


def test_a_line_torn_by_a_crash_ends_where_the_next_one_begins(fifo: str) -> None:
    reader = os.open(fifo, os.O_RDWR)
    with Talk.open(fifo) as first:
        first.write(b'{"type":"ta')
    with Talk.open(fifo) as second:
        second.write(RESUME + b'{"type":"ping"}\n')
    assert os.read(reader, 100).split(b"\n")[1] == b'{"type":"ping"}'
    os.close(reader)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_only_a_fifo_is_talked_to(kind: str, tmp_path: Path, fifo: str) -> None:
    place = tmp_path / "other"
    place.write_text("kept") if kind == "file" else place.symlink_to(fifo)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError):
        Talk.open(str(place))
    assert len(os.listdir("/proc/self/fd")) == before
