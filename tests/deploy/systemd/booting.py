"""Boots the installed systemd in a container over an overlay of this machine's root, with this checkout in it.

Nothing of the machine changes: what is written goes to a folder of the test, and every mount is in a mount namespace
that ends with the container.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crewd

BOOT_SECONDS = 240.0
ACCOUNT, UID = "ann", 4242
CHECKOUT = Path(crewd.__file__).parent.parent
PROBE = Path(__file__).parent / "probe.py"
NEEDED = {
    "systemd-nspawn": "apt-get install systemd-container",
    "dbus-daemon": "apt-get install dbus dbus-user-session",
    "unshare": "apt-get install util-linux",
    "runuser": "apt-get install util-linux",
}
TARGET = """\
[Unit]
Requires=basic.target
Wants=dbus.socket systemd-logind.service probe.service
After=basic.target
AllowIsolate=yes
"""
SERVICE = """\
[Unit]
After=systemd-logind.service
[Service]
Type=oneshot
Environment=LD_LIBRARY_PATH={prefix}/lib
StandardOutput=file:/out/probe.log
StandardError=inherit
ExecStart={python} /opt/probe.py
ExecStopPost=/usr/bin/systemctl --no-block exit 0
"""
# An interpreter that was built for a folder which an ordinary account cannot enter looks for its library there.
SCRIPT = """\
#!/bin/sh
LD_LIBRARY_PATH={prefix}/lib exec {python} -B /opt/main.py "$@"
"""
MAIN = """\
import sys
sys.path[:0] = ["/opt/checkout", "/opt/site-packages"]
sys.argv[0] = "/usr/local/bin/crewd"
from crewd.__main__ import main
main()
"""


@dataclass(frozen=True)
class Boot:
    """What the probe found inside."""

    found: dict[str, Any]
    seconds: float
    log: str

    def __getitem__(self, part: str) -> Any:
        assert part in self.found, f"the probe did not come to {part!r}:\n{self.log}"
        told = self.found[part]
        assert "failed" not in told, f"{part}: {told['failed']}\n{self.log}"
        return told


@functools.cache
def why_not() -> str:
    """Say what is missing here, and the remedy; "": a systemd can be booted."""
    if os.geteuid() != 0:
        return "only root can boot a container: run the tests as root"
    for program, remedy in NEEDED.items():
        if shutil.which(program) is None:
            return f"{program} is missing: {remedy}"
    if not Path("/usr/lib/systemd/systemd").exists() and not Path("/lib/systemd/systemd").exists():
        return "systemd is missing: apt-get install systemd"
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    )
    return "" if tried.returncode == 0 else "nothing can be mounted here: run the tests on a whole machine"


def boot(folder: Path, tree: Path = Path("/"), **environ: str) -> Boot:
    """Boot, let the probe do its work, and return what it found. Raises RuntimeError where there was no boot."""
    upper, out = folder / "upper", folder / "out"
    out.mkdir(parents=True)
    python = _prepare(upper, tree)
    binds = [f"--bind-ro={source}:{place}" for source, place in _binds()]
    command = [
        "systemd-nspawn", "-q", "--register=no", "--keep-unit", "--private-network", f"--machine=crewd{os.getpid()}",
        "-D", str(folder / "root"), f"--bind={out}:/out", *binds, "-b", "systemd.unit=crewd-test.target",
    ]  # fmt: skip
    script = (
        'set -e; mount -t tmpfs tmpfs "$1"; mkdir "$1/up" "$1/work"; cp -a "$2/." "$1/up"; '
        'mount -t overlay overlay -o "lowerdir=$3,upperdir=$1/up,workdir=$1/work" "$4"; shift 4; exec "$@"'
    )
    for name in ("mnt", "root"):
        (folder / name).mkdir()
    started = time.monotonic()
    arguments = [str(folder / "mnt"), str(upper), str(tree), str(folder / "root"), *command]
    with (folder / "boot.log").open("wb") as log:
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=BOOT_SECONDS,
            env={**os.environ, **environ},
            check=False,
        )
    text = (folder / "boot.log").read_text(errors="replace")[-3000:]
    try:
        found = json.loads((out / "found.json").read_bytes())
    except OSError:
        raise RuntimeError(f"no boot (exit {done.returncode}, {python}):\n{text}") from None
    return Boot(found, time.monotonic() - started, _log(out) + text)


def _log(out: Path) -> str:
    path = out / "probe.log"
    return path.read_text(errors="replace")[-3000:] if path.exists() else ""


def _binds() -> list[tuple[str, str]]:
    """What of this machine is needed inside, where an ordinary account may read it."""
    pairs = [
        (str(CHECKOUT), "/opt/checkout"),
        (str(Path(sys.prefix) / f"lib/python3.{sys.version_info.minor}/site-packages"), "/opt/site-packages"),
    ]
    if not _is_ordinary():
        pairs.append((sys.base_prefix, "/opt/python"))
    return pairs


def _is_ordinary() -> bool:
    return sys.base_prefix in ("/usr", "/usr/local")


def _prepare(upper: Path, tree: Path) -> str:
    """Lay what is to differ from this machine into the upper folder of the overlay; returns the interpreter."""
    prefix = sys.base_prefix if _is_ordinary() else "/opt/python"
    python = f"{prefix}/bin/python3.{sys.version_info.minor}"
    units = upper / "etc/systemd/system"
    home = upper / f"home/{ACCOUNT}"
    for place in (units, upper / "opt", upper / "usr/local/bin", home):
        place.mkdir(parents=True)
    os.chmod(upper, 0o755)
    os.chmod(home, 0o700)
    os.chown(home, UID, UID)
    (units / "crewd-test.target").write_text(TARGET)
    (units / "probe.service").write_text(SERVICE.format(prefix=prefix, python=python))
    shutil.copy(PROBE, upper / "opt/probe.py")
    script = upper / "usr/local/bin/crewd"
    script.write_text(SCRIPT.format(prefix=prefix, python=python))
    (upper / "opt/main.py").write_text(MAIN)
    script.chmod(0o755)
    for name, line in {
        "passwd": f"{ACCOUNT}:x:{UID}:{UID}::/home/{ACCOUNT}:/bin/sh\n",
        "group": f"{ACCOUNT}:x:{UID}:\n",
        "shadow": f"{ACCOUNT}:*:19000:0:99999:7:::\n",
    }.items():
        path = upper / "etc" / name
        text = (tree / "etc" / name).read_text()
        path.write_text(text + ("" if text.endswith("\n") else "\n") + line)
        path.chmod(0o640 if name == "shadow" else 0o644)
    return python
