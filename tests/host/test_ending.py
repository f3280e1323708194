"""Processes end when asked, or are killed, and nobody else is touched."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from crewd.host.ending import Ended, end
from crewd.host.processes import ProcProcesses
from crewd.model.process import Identity

pytestmark = pytest.mark.real_time


@contextmanager
def shell(script: str) -> Iterator[tuple["subprocess.Popen[bytes]", Identity]]:
    child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        facts = ProcProcesses().facts(child.pid)
        assert facts is not None
        yield child, facts.identity
    finally:
        child.kill()
        child.communicate()


def test_one_that_listens_ends_by_itself() -> None:
    with shell("trap 'exit 3' TERM; echo ready; while :; do sleep .02; done") as (child, identity):
        assert dict(end([identity], ProcProcesses(), 20.0)) == {identity: Ended.ENDED}
        assert child.wait() == 3


def test_one_that_ignores_the_question_is_killed() -> None:
    with shell("trap '' TERM; echo ready; while :; do sleep .02; done") as (child, identity):
        assert dict(end([identity], ProcProcesses(), 0.1)) == {identity: Ended.KILLED}
        assert child.wait() == -signal.SIGKILL


def test_one_that_is_stopped_hears_the_question() -> None:
    with shell("trap 'exit 4' TERM; echo ready; while :; do sleep .02; done") as (child, identity):
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert dict(end([identity], ProcProcesses(), 20.0)) == {identity: Ended.ENDED}
        assert child.wait() == 4


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot_id": "former"}, {"pid_namespace": 1}])
def test_a_reused_pid_is_not_signalled(change: dict[str, object]) -> None:
    with shell("echo ready; exec sleep 60") as (child, identity):
        other = msgspec.structs.replace(identity, **change)
        assert dict(end([other], ProcProcesses(), 0.1)) == {other: Ended.GONE}
        assert child.poll() is None


def test_another_users_process_is_refused_or_not_there() -> None:
    facts = ProcProcesses().facts(1)
    if facts is None or os.geteuid() == 0:
        pytest.skip("process 1 is ours to signal")
    assert dict(end([facts.identity], ProcProcesses(), 0.1))[facts.identity] in (Ended.REFUSED, Ended.GONE)
