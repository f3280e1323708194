"""Who belongs to an attempt, and who does not."""

import os
import subprocess
from pathlib import Path

import pytest

from crewd.host.brand import brand, brand_of, read_brand
from crewd.host.remains import below, kill_all, prove_gone, scan, signal_all
from crewd.model.failure import Exit
from crewd.model.process import Identity
from tests.fakes.workers import attempt, python, subreaper, until

pytestmark = pytest.mark.real_time

PAIR = ("sh", "-c", "sleep 30 & echo ready; wait")


def test_the_shim_and_all_below_it_are_found(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", PAIR) as this:
        this.begin().ready()
        until(lambda: [each.name for each in this.left()] == ["sh", "sh", "sleep"])
        left = this.left()
        assert left[0].identity == this.held.identity
        assert {each.session for each in left} == {each.group for each in left} == {this.shim}
        assert all(each.marked and each.readable for each in left)
        assert sorted(below([this.shim])) == sorted(each.identity.pid for each in left)


def test_an_attempt_that_is_over_has_nothing_left(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("true",)) as this:
        this.begin().end()
        assert this.left() == []
        assert prove_gone(this.mark, this.shim, since=this.since) == []


def test_each_tie_finds_by_itself(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", PAIR) as this:
        this.begin().ready()
        pids = {each.identity.pid for each in this.left()}
        by_mark = scan(this.mark, 0)
        by_brand = scan("another/mark/1", this.shim, since=this.since)
        by_descent = scan("another/mark/1", 0, [this.shim])
        assert {each.identity.pid for each in by_mark} == pids
        assert {each.identity.pid for each in by_brand} == pids
        assert {each.identity.pid for each in by_descent} == pids - {this.shim}, "a root is the caller's business"
        brand(this.shim, 1 << 59)
        assert scan("another/mark/1", this.shim, since=this.since)[0].marked is False, "by its session"


def test_a_mark_that_only_begins_alike_is_another_ones(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", PAIR) as this:
        this.begin().ready()
        assert scan(this.mark[:-1], 0) == []
        assert scan(this.mark + "0", 0) == []
        assert scan("", 0) == []


def test_a_mark_that_stands_alone_in_an_environment_is_found() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={"CREWD_ATTEMPT_DIR": "run/x/1"}) as process:
        assert process.stdin is not None
        until(lambda: [each.identity.pid for each in scan("run/x/1", 0)] == [process.pid])
        process.stdin.close()


def test_a_shim_that_was_stopped_still_records_the_end_of_its_command(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sh", "-c", "echo ready; kill -STOP 0")) as this:
        this.begin().ready()
        until(lambda: {each.letter for each in this.left()} == {"T"})
        assert this.kill() == []
        this.end()
        assert this.reaped == Exit(code=137)


def test_a_session_that_took_over_the_number_is_a_strangers(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", PAIR, {"CREWD_ATTEMPT_DIR": "stranger/x/1"}) as this:
        this.begin().ready()
        assert scan("run/a/1", this.shim, since=this.since - 1) == [], "another start: not our shim"
        assert scan("run/a/1", this.shim) == [], "no start is known, and the leader carries another mark"


def test_what_is_older_than_the_shim_is_not_the_attempts(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", PAIR) as this:
        this.begin().ready()
        assert scan(this.mark, 0, since=this.since) != []
        assert scan(this.mark, 0, since=this.since + 1000) == []


def test_crewd_and_what_is_above_it_are_spared(tmp_path: Path) -> None:
    own = {os.getpid(), os.getppid(), 1}
    assert own.isdisjoint(each.identity.pid for each in scan("none", os.getsid(0), [1]))
    with attempt(tmp_path / "a", PAIR):
        assert scan("none", 0, [os.getpid()]) == [], "whose child is crewd's is told by other ties"


def test_a_process_that_is_another_by_now_is_not_signalled(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", PAIR) as this:
        (first, *_) = this.begin().ready().left()
        other = Identity(first.identity.pid, first.identity.start_ticks + 1, first.identity.boot_id, 0)
        assert signal_all([type(first)(other, "sh", "S", 0, 0, 0, True, True)], 9) == 0
        assert len(this.left()) == 3
        assert signal_all([first], 0) == 1


def test_a_process_of_a_stranger_outlives_the_end_of_an_attempt(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", PAIR) as this, attempt(tmp_path / "ab", PAIR) as other:
        this.begin().ready()
        other.begin().ready()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={"CREWD_ATTEMPT_DIR": f"{this.mark}0"}) as stranger:
            assert this.kill() == []
            assert len(other.left()) == 3
            assert stranger.poll() is None
            assert stranger.stdin is not None
            stranger.stdin.close()


def test_patience_has_an_end(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", PAIR) as this:
        this.begin().ready()
        assert len(kill_all(this.mark, this.shim, since=this.since, patience=0.0)) == 3


def test_what_a_shim_at_its_gate_would_have_run_never_runs(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("touch", "began")) as this:
        assert this.kill() == []
        assert not (tmp_path / "a" / "began").exists()


def test_a_brand_is_inherited_whatever_else_is_given_up(tmp_path: Path) -> None:
    code = (
        "os.setsid() if os.fork() == 0 else wait()\nos.execve('/bin/sh', ['sh', '-c', 'echo ready; sleep 30; :'], {})"
    )
    with subreaper(), attempt(tmp_path / "a", python(code)) as this:
        this.begin().ready()
        until(lambda: len(this.left()) == 4)
        assert {read_brand(each.identity.pid) for each in this.left()} == {brand_of(this.shim, this.since)}
    assert read_brand(os.getpid()) == 0


@pytest.mark.parametrize(("pid", "ticks"), [(1, 0), (1, 1), (2, 0), ((1 << 22) - 1, 1 << 37), (7, (1 << 38) - 1)])
def test_a_brand_is_a_number_that_a_limit_can_be(pid: int, ticks: int) -> None:
    assert 1 << 60 <= brand_of(pid, ticks) < 1 << 61
    assert brand_of(pid, ticks) not in (brand_of(pid + 1, ticks), brand_of(pid, ticks + 1))
