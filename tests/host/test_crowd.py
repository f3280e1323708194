"""Processes of this user and what their environments say."""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from crewd.host import crowd
from crewd.model.orphan import MARKS, STATE_ROOT, Bystander

pytestmark = pytest.mark.real_time


@contextmanager
def sleeper(environ: Mapping[str, str], *arguments: str) -> Iterator[int]:
    child = subprocess.Popen([*arguments] or ["sleep", "60"], env={"PATH": os.environ["PATH"], **environ})
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


def found(pid: int) -> Bystander | None:
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        each = next((each for each in crowd.crowd(MARKS).processes if each.identity.pid == pid), None)
        if each is None or each.marks or each.run_argument:
            return each
    raise AssertionError(f"process {pid} never showed its environment")


def test_marks_arguments_and_memory_are_told() -> None:
    with sleeper(
        {STATE_ROOT: "/a", "OTHER": STATE_ROOT + "=/b"}, "sh", "-c", "sleep 60; :", "--run-id", "r-1"
    ) as pid:
        each = found(pid)
        assert each is not None
        assert each.marks == ((STATE_ROOT, "/a"),)
        assert (each.run_argument, each.readable) == ("r-1", True)
        assert each.rss > 100_000
        assert abs(each.started_at - time.time()) < 60


def test_a_mark_behind_a_megabyte_of_environment_is_found() -> None:
    bulk = {f"V{number:03}": "x" * 100_000 for number in range(10)}
    with sleeper({**bulk, STATE_ROOT: "/a"}) as pid:
        each = found(pid)
        assert each is not None
        assert each.marks == ((STATE_ROOT, "/a"),)


def test_bytes_that_are_no_text_do_no_harm() -> None:
    with sleeper({STATE_ROOT: "/a\udcff\x1b[31m\n"}) as pid:
        each = found(pid)
        assert each is not None
        assert each.marks == ((STATE_ROOT, "/a\udcff\x1b[31m\n"),)


def test_a_zombie_is_left_out() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert found(child.pid) is None
    child.wait()


def test_a_walk_is_bounded_and_says_so() -> None:
    seen = crowd.crowd(MARKS, most=1)
    assert len(seen.processes) <= 1
    assert seen.cut > 0


def test_above_a_process_is_its_parent_and_process_1() -> None:
    with sleeper({}) as pid:
        assert {1, pid, os.getpid(), os.getppid()} <= crowd.above(pid)
