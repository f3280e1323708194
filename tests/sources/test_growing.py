"""Whatever becomes of a growing file, every whole line of it comes once."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.host.files import Root, signature
from crewd.model.look import ReadResult
from crewd.sources.growing import STRETCH, Growing


class Log:
    """A file and the one who follows it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log"
        self.path.touch()
        self.root = Root(str(folder))
        self.growing = Growing()

    def read(self) -> list[bytes]:
        seen = signature(str(self.path))
        assert seen is not None
        if self.growing.is_settled(seen):
            return []
        return [line.data for line in self.growing.read(self.root, "log", seen).lines]

    def drain(self) -> list[bytes]:
        lines: list[bytes] = []
        for _ in range(20):
            lines += self.read()
        return lines

    def append(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


LINES = st.lists(st.binary(min_size=1, max_size=12).filter(lambda line: b"\n" not in line and line.strip()))


@given(lines=LINES, data=st.data())
@settings(deadline=None, max_examples=60)
def test_appends_cut_at_any_byte_bring_each_line_once(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    with tempfile.TemporaryDirectory() as folder:
        log = Log(Path(folder))
        got: list[bytes] = []
        position = 0
        while position < len(whole):
            step = data.draw(st.integers(1, len(whole) - position))
            log.append(whole[position : position + step])
            position += step
            got += log.read()
        assert got + log.read() == lines
        log.root.close()


def test_a_torn_last_line_waits_for_its_newline(log: Log) -> None:
    log.append(b"one\ntw")
    assert log.drain() == [b"one"]
    log.append(b"o\n")
    assert log.drain() == [b"two"]


def test_more_than_one_stretch_is_read_in_several_looks(log: Log) -> None:
    line = b"x" * 999
    count = 3 * STRETCH // 1000
    log.append((line + b"\n") * count)
    first = log.read()
    assert 0 < len(first) <= STRETCH // 1000
    assert len(first) + len(log.drain()) == count


def test_a_line_that_is_too_long_is_dropped_and_counted_and_the_next_one_read(log: Log) -> None:
    log.append(b"before\n" + b"x" * (2 * STRETCH + 5) + b"\nafter\n")
    too_long = 0
    lines: list[bytes] = []
    for _ in range(10):
        seen = signature(str(log.path))
        assert seen is not None
        brought = log.growing.read(log.root, "log", seen)
        too_long += brought.too_long
        lines += [line.data for line in brought.lines]
    assert (lines, too_long) == ([b"before", b"after"], 1)


def test_a_line_of_exactly_one_stretch_is_not_lost_with_its_newline(log: Log) -> None:
    log.append(b"y" * (STRETCH - 1) + b"\nz\n")
    assert [len(line) for line in log.drain()] == [STRETCH - 1, 1]


def test_a_replaced_file_is_read_again_and_its_lines_say_so(log: Log) -> None:
    log.append(b"one\ntwo\n")
    log.drain()
    other = log.path.with_name("other")
    other.write_bytes(b"two\nthree\n")
    other.replace(log.path)
    seen = signature(str(log.path))
    assert seen is not None and log.growing.was_replaced(seen)
    lines = log.growing.read(log.root, "log", seen).lines
    assert [(line.data, line.repeated) for line in lines] == [(b"two", True), (b"three", True)]
    log.append(b"four\n")
    seen = signature(str(log.path))
    assert seen is not None
    assert [(line.data, line.repeated) for line in log.growing.read(log.root, "log", seen).lines] == [
        (b"four", False)
    ]


def test_a_file_cut_in_place_is_read_from_its_beginning(log: Log) -> None:
    log.append(b"one\ntwo\n")
    log.drain()
    log.path.write_bytes(b"new\n")
    assert log.drain() == [b"new"]


@pytest.mark.parametrize(("there", "appended"), [(b"old\n", b"new\n"), (b"old\nha", b"lf\nnew\n"), (b"", b"new\n")])
def test_after_skipping_to_the_end_only_later_lines_come(log: Log, there: bytes, appended: bytes) -> None:
    log.append(there)
    seen = signature(str(log.path))
    assert seen is not None
    log.growing.skip_to_end(seen)
    assert log.drain() == []
    log.append(appended)
    assert log.drain() == [b"new"]


def test_a_link_in_place_of_the_file_is_refused(log: Log) -> None:
    log.append(b"one\n")
    log.drain()
    log.path.rename(log.path.with_name("real"))
    log.path.symlink_to("real")
    seen = signature(str(log.path))
    assert seen is not None
    assert log.growing.read(log.root, "log", seen).result is ReadResult.REFUSED
