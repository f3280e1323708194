"""Processes of this machine: real children, really stopped, killed and hidden."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from crewd.host.processes import MARKS_READ_MAX, UNSEEN, ProcProcesses
from crewd.model.process import Identity
from tests.fakes.clock import FakeClock
from tests.host.limits import no_descriptor_left, ordinary_user


@contextlib.contextmanager
def child(*command: str | Path, **environ: str) -> Iterator[int]:
    """A process that waits for the end of its input; it has been exec'ed, and has answered, when this yields."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | environ
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello\n"
        try:
            yield process.pid
        finally:
            process.stdin.close()


@pytest.fixture
def processes() -> ProcProcesses:
    return ProcProcesses()


def test_a_living_child_is_told_as_it_is(processes: ProcProcesses) -> None:
    before = time.time()
    with child("cat") as pid:
        facts = processes.facts(pid)
        assert facts is not None
        assert facts.identity == Identity(pid, facts.identity.start_ticks, processes.boot_id(), processes.namespace())
        assert facts.letter in "RS"
        assert facts.parent == os.getpid()
        assert facts.mine and facts.visible
        assert facts.io_chars is not None and facts.io_chars >= 12
        # Start times are kept in ticks of 10 ms, rounded down.
        assert before - 0.05 <= facts.started_at <= time.time() + 0.05


def test_the_start_is_told_on_the_wall_clock_as_it_stands_now() -> None:
    clock = FakeClock(wall=1_000_000.0, mono=50.0, boot=500.0)
    facts = ProcProcesses(clock).facts(os.getpid())
    assert facts is not None
    ticks = facts.identity.start_ticks / os.sysconf("SC_CLK_TCK")
    assert facts.started_at == pytest.approx(1_000_000.0 - 500.0 + ticks)


@pytest.mark.parametrize("pid", [0, -1, 1 << 31, 1 << 70])
def test_a_number_that_can_be_no_pid_is_nobody(pid: int, processes: ProcProcesses) -> None:
    assert processes.facts(pid) is None
    assert processes.pidfd(Identity(pid, 1, processes.boot_id(), 0)) is None


def test_the_number_of_a_thread_is_no_process(processes: ProcProcesses) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert thread.native_id is not None and Path(f"/proc/{thread.native_id}/stat").exists()
        assert processes.facts(thread.native_id) is None
        assert processes.pidfd(Identity(thread.native_id, 1, processes.boot_id(), 0)) is None
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("name", ["two words", "a) S 1 (b", ")", "(("])
def test_a_process_may_call_itself_as_it_likes(name: str, tmp_path: Path, processes: ProcProcesses) -> None:
    script = tmp_path / name
    script.write_text('#!/bin/sh\nread line; echo "$line"; read line\n')
    script.chmod(0o755)
    others = below_us(processes)
    with child(script) as pid:
        assert Path(f"/proc/{pid}/comm").read_text() == f"{name}\n"
        facts = processes.facts(pid)
        assert facts is not None
        assert facts.letter in "RS" and facts.parent == os.getpid()
        assert below_us(processes) - others == Counter([name])


def below_us(processes: ProcProcesses) -> "Counter[str]":
    """Who lives below the tests: whatever outlives its crewd in a test before may still be among them."""
    identity = Identity(os.getpid(), own_start(processes), processes.boot_id(), 0)
    return Counter(processes.activity(identity, None)[0].tools)


def own_start(processes: ProcProcesses) -> int:
    facts = processes.facts(os.getpid())
    assert facts is not None
    return facts.identity.start_ticks


def test_marks_are_found_in_argv_and_in_the_environment(processes: ProcProcesses) -> None:
    with child("cat", "-", "--", "/dev/null", PI_CREW_TASK_ID="01_agent", EDGE="run-10") as pid:
        marks = ("/dev/null", "PI_CREW_TASK_ID=01_agent", "01_agent", "PI_CREW_", "run-1", "elsewhere", "")
        facts = processes.facts(pid, marks)
        assert facts is not None
        assert facts.marks_found == ("/dev/null", "PI_CREW_TASK_ID=01_agent", "01_agent", "PI_CREW_")
        assert facts.mine


def test_a_mark_is_found_behind_a_neighbour_that_begins_alike(processes: ProcProcesses) -> None:
    with child("cat", NEAR="run-10 run-1") as pid:
        facts = processes.facts(pid, ["run-1"])
        assert facts is not None and facts.marks_found == ("run-1",)


def test_an_environment_too_large_to_be_read_whole_proves_no_absence(processes: ProcProcesses) -> None:
    padding = {f"PADDING_{number}": "x" * 60_000 for number in range(3)}
    assert sum(map(len, padding.values())) > MARKS_READ_MAX
    with child("cat", **padding, ZZZ="last-mark") as pid:
        facts = processes.facts(pid, ["never-there"])
        assert facts is not None and facts.marks_found == () and not facts.mine
        facts = processes.facts(pid, ["PADDING_0"])
        assert facts is not None and facts.marks_found == ("PADDING_0",) and facts.mine


def test_a_process_in_the_middle_of_its_exec_proves_no_absence(tmp_path: Path) -> None:
    own = tmp_path / str(os.getpid())
    own.mkdir()
    (own / "stat").write_bytes(Path("/proc/self/stat").read_bytes())
    (own / "cmdline").touch()
    (own / "environ").touch()
    processes = ProcProcesses(proc=str(tmp_path))
    facts = processes.facts(os.getpid(), ["run-1"])
    assert facts is not None and facts.visible and not facts.mine
    (own / "cmdline").write_bytes(b"cat\0")
    facts = processes.facts(os.getpid(), ["run-1"])
    assert facts is not None and facts.mine


def test_a_thread_of_the_kernel_is_nobodys_worker(tmp_path: Path) -> None:
    own = tmp_path / str(os.getpid())
    own.mkdir()
    (own / "stat").write_bytes(b"%d (kworker/0:1) I 2 0 0 0 -1 2097216 " % os.getpid() + b"0 " * 40)
    facts = ProcProcesses(proc=str(tmp_path)).facts(os.getpid(), ["run-1"])
    assert facts is not None and facts.mine and facts.marks_found == ()


def test_a_process_of_another_user_exists_and_keeps_its_secrets(processes: ProcProcesses) -> None:
    with ordinary_user():
        facts = processes.facts(1)
        with no_descriptor_left():
            unreachable = processes.facts(1)
    assert unreachable is not None and not unreachable.visible
    assert facts is not None
    assert facts.identity.start_ticks >= 0 and facts.letter in "SRD"
    assert (facts.mine, facts.identity.pid_namespace, facts.io_chars) == (False, 0, None)


def test_a_proc_of_another_pid_namespace_proves_nothing_and_gives_no_handle(tmp_path: Path) -> None:
    """As after `nsenter -p` or `unshare -p` without a /proc of its own: its numbers are those of others."""
    own = tmp_path / str(os.getpid())
    own.mkdir()
    (own / "stat").write_bytes(Path("/proc/self/stat").read_bytes())
    (tmp_path / "self").symlink_to("1234567")
    processes = ProcProcesses(proc=str(tmp_path))
    facts = processes.facts(os.getpid())
    assert facts is not None and not facts.visible
    assert processes.pidfd(Identity(os.getpid(), own_start(ProcProcesses()), processes.boot_id(), 0)) is None
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    assert processes.facts(ended.pid) is None, "that a pid is gone is said by the kernel, not by /proc"


def test_a_process_that_proc_hides_still_exists(tmp_path: Path) -> None:
    # An empty /proc: what hidepid=2 and ProtectProc=invisible make of other users' processes.
    hidden = ProcProcesses(proc=str(tmp_path))
    facts = hidden.facts(os.getpid(), ["x"])
    assert facts is not None
    assert (facts.visible, facts.letter, facts.mine) == (False, UNSEEN, False)
    assert hidden.pidfd(Identity(os.getpid(), own_start(ProcProcesses()), hidden.boot_id(), 0)) is None
    assert hidden.facts((1 << 22) + 1) is None


def test_having_no_descriptor_left_proves_no_death(processes: ProcProcesses) -> None:
    identity = Identity(os.getpid(), own_start(processes), processes.boot_id(), processes.namespace())
    with no_descriptor_left():
        facts = processes.facts(os.getpid())
        gone = processes.facts((1 << 22) + 1)
        with pytest.raises(OSError, match="Too many open files"):
            processes.pidfd(identity)
    assert facts is not None and not facts.visible
    assert gone is None


def test_asking_leaves_no_descriptor_open(processes: ProcProcesses) -> None:
    identity = Identity(os.getpid(), own_start(processes), processes.boot_id(), 0)
    before = os.listdir("/proc/self/fd")
    processes.facts(os.getpid(), ["x"])
    processes.activity(identity, None)
    processes.pidfd(Identity(identity.pid, 1, identity.boot_id, 0))
    processes.facts(1 << 30)
    assert os.listdir("/proc/self/fd") == before


def test_work_shows_as_rates_between_two_samples() -> None:
    clock = FakeClock()
    processes = ProcProcesses(clock)
    identity = Identity(os.getpid(), own_start(processes), processes.boot_id(), 0)
    activity, before = processes.activity(identity, None)
    assert (activity.cpu_ticks_per_second, activity.io_chars_per_second) == (0.0, 0.0)
    busy_until = time.process_time() + 0.1
    while time.process_time() < busy_until:
        pass
    with open("/dev/null", "wb", buffering=0) as sink:
        sink.write(b"x" * 100_000)
    clock.advance(10.0)
    activity, after = processes.activity(identity, before)
    ticks = os.sysconf("SC_CLK_TCK")
    assert activity.cpu_ticks_per_second >= 0.05 * ticks / 10
    assert activity.io_chars_per_second is not None and activity.io_chars_per_second >= 10_000
    assert after.at - before.at == 10.0


def test_a_silent_child_waits_somewhere_and_uses_nothing() -> None:
    clock = FakeClock()
    processes = ProcProcesses(clock)
    with child("cat") as pid:
        facts = processes.facts(pid)
        assert facts is not None
        _, before = processes.activity(facts.identity, None)
        clock.advance(5.0)
        activity, _ = processes.activity(facts.identity, before)
        assert activity.cpu_ticks_per_second <= 0.4
        assert (activity.io_chars_per_second, activity.tools, activity.sockets) == (0.0, (), 0)
        assert "\n" not in activity.wait_channel


def test_every_living_descendant_is_named_and_zombies_are_not(processes: ProcProcesses) -> None:
    # The innermost answers, so all of them run; the shells wait, being told to do something afterwards.
    nested = "sh -c 'cat; true'; true"
    with child("sh", "-c", nested) as pid:
        facts = processes.facts(pid)
        assert facts is not None
        assert processes.activity(facts.identity, None)[0].tools == ("sh", "cat")
    others = below_us(processes)
    zombie = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        assert below_us(processes) - others == Counter()
    finally:
        zombie.wait()


def test_established_connections_are_counted_and_listening_ones_are_not(processes: ProcProcesses) -> None:
    identity = Identity(os.getpid(), own_start(processes), processes.boot_id(), 0)
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        before = processes.activity(identity, None)[0].sockets
        assert before is not None
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(socket.socket(family))
            try:
                server.bind((host, 0))
            except OSError:
                continue  # a machine without IPv6
            server.listen()
            assert processes.activity(identity, None)[0].sockets == before
            client = stack.enter_context(socket.create_connection(server.getsockname()[:2]))
            assert processes.activity(identity, None)[0].sockets == before + 1
            accepted, _ = server.accept()
            stack.enter_context(accepted)
            assert processes.activity(identity, None)[0].sockets == before + 2
            assert client.fileno() >= 0


def test_the_connections_of_another_user_are_unknown_and_not_none(processes: ProcProcesses) -> None:
    with ordinary_user():
        facts = processes.facts(1)
        assert facts is not None
        assert processes.activity(facts.identity, None)[0].sockets is None


def test_a_tool_that_a_thread_started_is_seen(processes: ProcProcesses) -> None:
    """A thread's own children count: each thread lists only those that it started itself."""
    program = (
        "import subprocess, threading\n"
        "tool = lambda: subprocess.run(['cat'])\n"
        "thread = threading.Thread(target=tool); thread.start(); thread.join()\n"
    )
    with child(sys.executable, "-c", program) as pid:
        facts = processes.facts(pid)
        assert facts is not None
        assert processes.activity(facts.identity, None)[0].tools == ("cat",)
