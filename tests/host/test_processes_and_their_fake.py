"""What life and death look like: told alike by real processes and by the fake that stands in for them."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from typing import Protocol

import pytest

from crewd.host.processes import Processes, ProcProcesses
from crewd.model.process import Activity, Identity
from tests.fakes.clock import FakeClock
from tests.fakes.processes import FakeProcesses


class Host(Protocol):
    """A host on which a test can start, stop and end one process."""

    processes: Processes

    def start(self) -> int: ...
    def stop(self, pid: int) -> None: ...
    def resume(self, pid: int) -> None: ...
    def kill(self, pid: int) -> None:
        """End it and leave a zombie."""
        ...

    def reap(self, pid: int) -> None: ...


class RealHost:
    def __init__(self) -> None:
        self.processes: Processes = ProcProcesses()
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> int:
        environ = os.environ | {"MARK": "run-1"}
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ)
        self._children[child.pid] = child
        # Popen returns inside execve(2), when there is neither argv nor environment: wait for an answer.
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"hello\n")
        child.stdin.flush()
        child.stdout.readline()
        return child.pid

    def stop(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)

    def resume(self, pid: int) -> None:
        os.kill(pid, signal.SIGCONT)
        os.waitid(os.P_PID, pid, os.WCONTINUED)

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    def reap(self, pid: int) -> None:
        self._children[pid].wait()

    def close(self) -> None:
        for child in self._children.values():
            child.kill()
            child.communicate()


class FakeHost:
    def __init__(self) -> None:
        self.fake = FakeProcesses(FakeClock())
        self.processes: Processes = self.fake

    def start(self) -> int:
        return self.fake.add(4242, marks=("run-1",)).pid

    def stop(self, pid: int) -> None:
        self.fake.stop(pid)

    def resume(self, pid: int) -> None:
        self.fake.resume(pid)

    def kill(self, pid: int) -> None:
        self.fake.kill(pid, reaped=False)

    def reap(self, pid: int) -> None:
        self.fake.reap(pid)

    def close(self) -> None:
        self.fake.close()


@pytest.fixture(params=[RealHost, FakeHost])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with contextlib.closing(request.param()) as made:
        yield made


def identity_of(host: Host, pid: int) -> Identity:
    facts = host.processes.facts(pid)
    assert facts is not None
    return facts.identity


def has_exited(handle: int) -> bool:
    return bool(select.select([handle], [], [], 0)[0])


def test_a_process_lives_stops_goes_on_dies_and_is_reaped(host: Host) -> None:
    pid = host.start()
    letters = []
    for happens in (None, host.stop, host.resume, host.kill):
        if happens:
            happens(pid)
        facts = host.processes.facts(pid)
        assert facts is not None
        letters.append("S" if facts.letter in "RD" else facts.letter)
    assert letters == ["S", "T", "S", "Z"]
    host.reap(pid)
    assert host.processes.facts(pid) is None


def test_an_identity_is_the_same_at_every_look(host: Host) -> None:
    pid = host.start()
    first = identity_of(host, pid)
    assert first == identity_of(host, pid)
    assert first.boot_id == host.processes.boot_id()
    assert first.pid_namespace == host.processes.namespace()
    host.kill(pid)
    zombie = identity_of(host, pid)
    assert (zombie.pid, zombie.start_ticks, zombie.boot_id) == (first.pid, first.start_ticks, first.boot_id)


def test_marks_are_found_while_it_lives_and_gone_with_it(host: Host) -> None:
    pid = host.start()
    facts = host.processes.facts(pid, ["run-1", "run-2"])
    assert facts is not None and facts.marks_found == ("run-1",)
    host.kill(pid)
    facts = host.processes.facts(pid, ["run-1", "run-2"])
    assert facts is not None and facts.marks_found == ()


def test_a_handle_tells_the_exit_and_not_a_stop(host: Host) -> None:
    pid = host.start()
    handle = host.processes.pidfd(identity_of(host, pid))
    assert handle is not None
    try:
        host.stop(pid)
        assert not has_exited(handle)
        host.resume(pid)
        host.kill(pid)
        assert has_exited(handle)
        host.reap(pid)
        assert has_exited(handle)
    finally:
        os.close(handle)


def test_no_handle_is_given_for_another_start_or_another_boot(host: Host) -> None:
    pid = host.start()
    meant = identity_of(host, pid)
    for other in (
        Identity(pid, meant.start_ticks - 1, meant.boot_id, meant.pid_namespace),
        Identity(pid, meant.start_ticks, "another-boot", meant.pid_namespace),
        Identity(pid, meant.start_ticks, meant.boot_id, meant.pid_namespace + 1),
    ):
        assert host.processes.pidfd(other) is None
    host.kill(pid)
    host.reap(pid)
    assert host.processes.pidfd(meant) is None


def test_a_process_that_is_not_the_one_meant_shows_no_activity(host: Host) -> None:
    pid = host.start()
    meant = identity_of(host, pid)
    other = Identity(pid, meant.start_ticks - 1, meant.boot_id, meant.pid_namespace)
    activity, sample = host.processes.activity(other, None)
    assert activity == Activity()
    assert sample.identity == other
    host.kill(pid)
    host.reap(pid)
    assert host.processes.activity(meant, None)[0] == Activity()
