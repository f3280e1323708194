"""Pressure: how much of the last ten seconds work waited for CPU, memory or disk, and who died of want of memory."""

from pathlib import Path

RESOURCES = ("cpu", "memory", "io")


def pressure(folder: str | Path = "/proc/pressure") -> float:
    """Return the worst `some avg10` of all resources, in per cent (0 to 100); 0.0 where the kernel does not tell."""
    return max(_some(Path(folder) / resource) for resource in RESOURCES)


def oom_kills(path: str | Path = "/proc/vmstat") -> int | None:
    """Count the processes that the kernel has ended for want of memory since it started; None: it does not tell.

    Linux counts them since 4.13, those of every control group included (mm/oom_kill.c).
    """
    try:
        text = Path(path).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.isdigit():
            return int(number)
    return None


def _some(path: Path) -> float:
    try:
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return 0.0
    for line in text.splitlines():
        kind, *pairs = line.split()
        if kind == "some":
            fields = dict(pair.partition("=")[::2] for pair in pairs)
            try:
                return min(100.0, max(0.0, float(fields["avg10"])))
            except (KeyError, ValueError):
                return 0.0
    return 0.0
