"""The operator's side of systemd: whether it runs here, its version, its commands, and where its units lie."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BOOTED = Path("/run/systemd/system")  # sd_booted(3)
PACKAGED = ("/usr/lib/systemd", "/lib/systemd", "/usr/local/lib/systemd")  # systemd.unit(5), below those of operators
SYSTEM_UNITS = Path("/etc/systemd/system")
SECONDS = 60.0  # a stop may take longer, and goes on
COULD_NOT = 127


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said to either stream."""

    code: int
    words: str


def run(command: Sequence[str], seconds: float = SECONDS, **environ: str) -> Said:
    """Run a command to its end; 127 where it cannot be started or does not end in time."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            env={**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8", **environ},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Said(COULD_NOT, f"{command[0]} is not done after {seconds:g} s")
    except (OSError, ValueError) as error:
        return Said(COULD_NOT, f"{command[0]}: {getattr(error, 'strerror', None) or error}")
    return Said(done.returncode, done.stdout.decode("utf-8", "replace").strip())


def is_here() -> bool:
    """Whether there is a systemctl to ask."""
    return shutil.which("systemctl") is not None


def is_booted() -> bool:
    """Whether systemd manages this machine."""
    return BOOTED.is_dir()


def version() -> int:
    """Which systemd; 0: unknown."""
    found = re.match(r"systemd (\d+)", run(["systemctl", "--version"]).words)
    return int(found[1]) if found else 0


def is_root() -> bool:
    """Whether this process may do everything."""
    return os.geteuid() == 0


def is_account(name: str) -> bool:
    """Whether this machine knows the account."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def own_name() -> str:
    """Name the account we run as; its number where it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def runtime_folder() -> str:
    """Where this person's service manager listens: as told, else where logind makes it."""
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"


def packaged(scope: str, name: str) -> str | None:
    """Find a unit that a package of the distribution brought; `scope` is user or system."""
    places = (f"{root}/{scope}/{name}" for root in PACKAGED)
    return next((place for place in places if os.path.exists(place)), None)
