"""The line of /proc/PID/stat, whatever a process calls itself."""

import os

import pytest

from crewd.host.proc_stat import parse_stat, read_proc, read_stat

TAIL = b" S 7 1 1 0 -1 4194560 99 0 0 0 11 22 0 0 20 0 1 0 4242 1000 10"


@pytest.mark.parametrize(
    "name", [b"sleep", b"a b", b") R 1 (", b"))))", b"((", b"x) Z 1 1", b"line\nbreak", b"\xff\xfe", b""]
)
def test_fields_count_from_the_last_bracket(name: bytes) -> None:
    stat = parse_stat(b"123 (" + name + b")" + TAIL)
    assert stat is not None
    assert (stat.letter, stat.parent, stat.cpu_ticks, stat.start_ticks) == ("S", 7, 33, 4242)
    assert stat.name == name.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "line", [b"", b"123", b"123 (x) S 1", b"123 (x)" + TAIL.replace(b"4242", b"soon"), b"\0" * 99]
)
def test_what_is_no_such_line_is_none(line: bytes) -> None:
    assert parse_stat(line) is None


def test_a_real_line_is_understood() -> None:
    stat = read_stat("/proc", os.getpid())
    assert stat is not None
    assert (stat.letter, stat.parent) == ("R", os.getppid())
    assert read_stat("/proc", 1 << 30) is None


def test_a_file_of_proc_is_read_to_its_end_or_its_limit() -> None:
    whole = read_proc("/proc/self/mountinfo", 1 << 20)
    with open("/proc/self/mountinfo", "rb") as file:
        assert whole == file.read()
    assert read_proc("/proc/self/mountinfo", 10) == whole[:10]
