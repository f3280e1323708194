"""Orphans come to crewd, are told from its own children, and are buried."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from crewd.host.proc_stat import read_stat
from crewd.host.subreaper import children, orphans, reap_orphans
from tests.fakes.workers import attempt, python, subreaper, until

pytestmark = pytest.mark.real_time

LEAVES_ONE = "if os.fork() == 0:\n say(); wait()\nos._exit(0)"


def test_what_an_attempt_leaves_behind_becomes_ours(tmp_path: Path) -> None:
    with subreaper() as known, attempt(tmp_path / "a", python(LEAVES_ONE)) as this:
        known.add(this.shim)
        this.begin().ready().end()
        (orphan,) = orphans(known)
        assert orphan in children()
        assert this.kill(known) == []
        assert orphans(known) == []


def test_an_orphan_that_died_is_buried_and_no_longer_named(tmp_path: Path) -> None:
    with subreaper() as known, attempt(tmp_path / "a", python(LEAVES_ONE)) as this:
        known.add(this.shim)
        this.begin().ready().end()
        (orphan,) = orphans(known)
        os.kill(orphan, signal.SIGKILL)
        until(lambda: is_dead(orphan))
        assert orphans(known) == []
        assert orphan not in children()


def test_a_known_shim_is_no_orphan(tmp_path: Path) -> None:
    with subreaper() as known, attempt(tmp_path / "a", ("sleep", "30")) as this:
        assert orphans(known) == [this.shim]
        assert orphans(known | {this.shim}) == []


def test_a_child_that_crewd_started_for_itself_is_no_orphan_and_keeps_its_end() -> None:
    with subreaper() as known, subprocess.Popen(["sh", "-c", "exit 3"]) as own:
        until(lambda: is_dead(own.pid))
        assert own.pid in children()
        assert orphans(known) == []
        assert reap_orphans(known) == 0
        assert own.wait() == 3


def test_the_dead_are_buried_and_the_known_are_not(tmp_path: Path) -> None:
    one = "if os.fork() == 0:\n  os.fork()\n  os._exit(0)\n"
    with (
        subreaper() as known,
        attempt(tmp_path / "a", python(f"for _ in range(5):\n {one}say(); os._exit(0)")) as this,
    ):
        this.begin().ready()
        until(lambda: sum(1 for pid in children() if pid not in known and is_dead(pid)) == 11)
        known.add(this.shim)
        assert reap_orphans(known) == 10
        assert orphans(known) == []
        assert os.path.exists(f"/proc/{this.shim}"), "the end of a shim is for him who knows it"


def is_dead(pid: int) -> bool:
    stat = read_stat("/proc", pid)
    return stat is not None and stat.is_over
