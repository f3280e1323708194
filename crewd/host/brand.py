"""The brand: a number that every process of an attempt carries, and that neither fork, exec nor setsid takes away.

A process that gave up its environment, its session and its parents would otherwise be nobody's. The soft limit
RLIMIT_RTTIME (getrlimit(2)) is inherited by all children, hardly any program changes it, any process of the same user
may read it, and at this height it limits nothing: 36,000 years of uninterrupted real-time scheduling.
"""

import contextlib
import resource

FLOOR = 1 << 60  # microseconds
PID_BITS = 22  # PID_MAX_LIMIT (linux/threads.h)
TICKS_BITS = 60 - PID_BITS


def brand_of(pid: int, start_ticks: int) -> int:
    """Make the brand of the attempt whose shim is this process: the same for every crewd of this boot."""
    return FLOOR | (start_ticks % (1 << TICKS_BITS)) << PID_BITS | pid % (1 << PID_BITS)


def brand(pid: int, number: int) -> bool:
    """Brand a process that has no children yet; False where the system does not allow it."""
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_RTTIME)
        resource.prlimit(pid, resource.RLIMIT_RTTIME, (number, hard))
        return True
    return False


def read_brand(pid: int) -> int:
    """Read the brand of a process; 0: it has none, is gone, or may not be asked."""
    try:
        soft, _ = resource.prlimit(pid, resource.RLIMIT_RTTIME)
    except OSError:
        return 0
    return soft if soft >= FLOOR else 0
