"""A signal reaches the process meant or nobody."""

import os
import signal
from pathlib import Path

import msgspec
import pytest

from crewd.host.processes import ProcProcesses
from crewd.host.signalling import await_ends, deliver_group, reap, send, send_group
from crewd.model.failure import Exit
from tests.fakes.workers import attempt

pytestmark = pytest.mark.real_time


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "another"}, {"pid_namespace": 1}, {"pid": 1}])
def test_whoever_is_not_provably_meant_is_not_signalled(change: dict[str, object], tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sleep", "30")) as this:
        other = msgspec.structs.replace(this.held.identity, **change)
        for act in (send, send_group):
            assert act(other, signal.SIGKILL, ProcProcesses()) is False
        await_ends([this.held.pidfd], 0.05)
        assert reap(this.shim) is None


def test_a_signal_to_one_is_not_for_the_group(tmp_path: Path) -> None:
    with attempt(
        tmp_path / "a", ("sh", "-c", "trap 'echo hit; exit 3' USR1; echo ready; while :; do sleep .02; done")
    ) as this:
        this.begin().ready()
        (_, command, *_) = this.left()
        assert send(this.held.identity, signal.SIGUSR1, ProcProcesses())
        await_ends([this.held.pidfd], 0.1)
        assert b"hit" not in this.stdout()
        assert send(command.identity, signal.SIGUSR1, ProcProcesses())
        ended = this.end()
        assert ended is not None and ended.exit == Exit(code=3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_leader_that_is_not_reaped_still_leads(number: int, tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sh", "-c", "(sleep 30 & echo ready)")) as this:
        this.begin().ready()
        await_ends([this.held.pidfd], 20)
        (left,) = this.left()
        assert send_group(this.held.identity, number, ProcProcesses())
        handle = os.pidfd_open(left.identity.pid)
        await_ends([handle], 20)
        os.close(handle)
        assert this.left() == []


def test_without_the_newer_call_the_group_is_reached_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attempt(tmp_path / "a", ("sh", "-c", "echo ready; sleep 30; :")) as this:
        this.begin().ready()
        real = signal.pidfd_send_signal

        def before_6_9(handle: int, number: int, info: None = None, flags: int = 0) -> None:
            if flags:
                raise OSError(22, "Invalid argument")
            real(handle, number)

        monkeypatch.setattr(signal, "pidfd_send_signal", before_6_9)
        assert deliver_group(this.held.pidfd, this.shim, signal.SIGTERM)
        ended = this.end()
        assert ended is not None and ended.exit == Exit(signal=15)
        assert not deliver_group(this.held.pidfd, this.shim, signal.SIGTERM), "reaped: the number means nobody"


def test_a_child_is_reaped_once(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sh", "-c", "exit 9")) as this:
        this.begin().end()
        assert this.reaped == Exit(code=9)
        assert reap(this.shim) is None
