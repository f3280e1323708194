"""What only the fake can do at will: reuse a pid, reboot, hide."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.processes import FakeProcesses


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def processes(clock: FakeClock) -> Iterator[FakeProcesses]:
    with contextlib.closing(FakeProcesses(clock)) as made:
        yield made


def test_a_reused_pid_has_another_start(processes: FakeProcesses) -> None:
    first = processes.add(7)
    handle = processes.pidfd(first)
    assert handle is not None
    second = processes.reuse(7)
    assert second.pid == first.pid and second.start_ticks != first.start_ticks
    assert os.read(handle, 1) == b""  # its own process has exited
    os.close(handle)
    assert processes.pidfd(first) is None


def test_a_taken_pid_cannot_be_given_away(processes: FakeProcesses) -> None:
    processes.add(7)
    processes.kill(7, reaped=False)
    with pytest.raises(ValueError, match="taken"):
        processes.add(7)
    processes.reap(7)
    processes.add(7)


def test_a_reboot_ends_everything(processes: FakeProcesses) -> None:
    before = processes.add(7, start_ticks=5)
    processes.reboot("boot-2")
    assert processes.facts(7) is None
    assert processes.add(7, start_ticks=5) != before


def test_a_hidden_process_shows_only_that_it_exists(processes: FakeProcesses) -> None:
    identity = processes.add(7, marks=("run-1",))
    processes.hide(7)
    facts = processes.facts(7, ["run-1"])
    assert facts is not None
    assert (facts.visible, facts.letter, facts.marks_found, facts.identity.start_ticks) == (False, "?", (), 0)
    assert processes.pidfd(identity) is None


def test_the_start_moves_with_a_step_of_the_wall_clock_and_not_with_a_suspend(
    processes: FakeProcesses, clock: FakeClock
) -> None:
    processes.add(7)
    started = clock.wall
    clock.suspend(100.0)
    facts = processes.facts(7)
    assert facts is not None and facts.started_at == pytest.approx(started)
    clock.step(60.0)
    facts = processes.facts(7)
    assert facts is not None and facts.started_at == pytest.approx(started + 60.0)


def test_work_makes_rates_and_a_stopped_process_does_none(processes: FakeProcesses, clock: FakeClock) -> None:
    identity = processes.add(7, tools=("bash",))
    _, before = processes.activity(identity, None)
    clock.advance(10.0)
    processes.work(7, cpu_ticks=50, io_chars=1000)
    activity, _ = processes.activity(identity, before)
    assert (activity.cpu_ticks_per_second, activity.io_chars_per_second, activity.tools) == (5.0, 100.0, ("bash",))
    processes.stop(7)
    with pytest.raises(ValueError, match="stopped"):
        processes.work(7, cpu_ticks=1)
