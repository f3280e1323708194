"""Silence: only time in which crewd itself was awake, looked, could read, and saw nothing new.

Ages that are made by subtracting a written timestamp from the wall clock declare the living dead whenever a
laptop sleeps, a clock steps or the watcher itself stalls. So each root has an *observed clock*, which advances
once a round by at most one and a half intervals, and a worker's silence is the distance on that clock since
its progress token last changed. By construction it never exceeds crewd's own running time.
"""

import msgspec

from crewd.model.moment import Reading

LATE_FACTOR = 3.0  # a gap beyond so many intervals is crewd's own stall
COUNTED_FACTOR = 1.5  # of one gap, at most so many intervals count as silence
JUMP = 1.0  # seconds by which two clocks must part before it means anything


class Gap(msgspec.Struct, frozen=True):
    """What lay between two rounds."""

    seconds: float  # on the monotonic clock
    counted: float  # how much of it may count as silence
    late: bool  # crewd itself was stopped or starved
    slept: bool  # the machine was suspended
    stepped: bool  # the wall clock was set; logged, counted, used for nothing
    stall: float  # seconds beyond the planned interval, while the machine was awake
    asleep: float  # seconds of suspend
    step: float  # seconds by which the wall clock jumped


def gap_between(before: Reading, now: Reading, interval: float) -> Gap:
    """Measure what lay between two rounds by comparing how far each of the three clocks ran."""
    seconds = max(0.0, now.mono - before.mono)
    asleep = (now.boot - before.boot) - (now.mono - before.mono)
    # The wall clock runs on in suspend as the boot clock does; only what is left over was a step.
    step = (now.wall - before.wall) - (now.boot - before.boot)
    late = seconds > LATE_FACTOR * interval
    return Gap(
        seconds=seconds,
        counted=min(seconds, COUNTED_FACTOR * interval),
        late=late,
        slept=asleep > JUMP,
        stepped=abs(step) > JUMP,
        stall=seconds - interval if late else 0.0,
        asleep=max(0.0, asleep),
        step=step,
    )
