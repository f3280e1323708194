"""The system's clocks, and that the fake moves as they do."""

import itertools
import re

from crewd.host.clock import SystemClock, boot_id
from tests.fakes.clock import FakeClock


def test_the_three_clocks_go_forward_together() -> None:
    clock = SystemClock()
    readings = [clock.read() for _ in range(100)]
    for earlier, later in itertools.pairwise(readings):
        assert later.mono >= earlier.mono
        assert later.boot >= earlier.boot
    assert readings[-1].boot >= readings[-1].mono - 0.01  # boot counts suspends as well
    assert readings[-1].wall > 1.7e9


def test_a_boot_has_one_name() -> None:
    assert boot_id() == boot_id()
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot_id())


def test_a_suspend_moves_boot_and_wall_and_leaves_mono() -> None:
    clock = FakeClock(wall=100.0, mono=10.0, boot=10.0)
    clock.suspend(3600.0)
    assert (clock.wall, clock.mono, clock.boot) == (3700.0, 10.0, 3610.0)


def test_a_step_moves_the_wall_alone() -> None:
    clock = FakeClock(wall=100.0, mono=10.0, boot=10.0)
    clock.step(-50.0)
    clock.advance(1.0)
    assert (clock.wall, clock.mono, clock.boot) == (51.0, 11.0, 11.0)
