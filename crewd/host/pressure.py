"""Pressure stall information: how much of the last ten seconds work waited for CPU, memory or disk."""

from pathlib import Path

RESOURCES = ("cpu", "memory", "io")


def pressure(folder: str | Path = "/proc/pressure") -> float:
    """Return the worst `some avg10` of all resources, in per cent (0 to 100); 0.0 where the kernel does not tell."""
    return max(_some(Path(folder) / resource) for resource in RESOURCES)


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
