"""podman, as far as the tests need it: without a registry, without systemd, without a network.

The base image is `CREWD_CONTAINER_BASE` where that is set, else a Debian made by debootstrap (once; it is kept as
localhost/crewd-test-base). `--isolation=chroot`, runc and the limits are what podman wants on a machine without
systemd and with mixed control groups; an ordinary one does not mind them.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

ROOT = Path(__file__).parents[3]
BASE = "localhost/crewd-test-base"
IMAGE = "localhost/crewd-test"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # lent to the build, which fetches what the locks name
SWITCH = "CREWD_CONTAINER"
# As deploy/container/compose.yml has it.
NARROW = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
HERE = ("--runtime=runc", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
PATIENCE = 40.0  # seconds


def missing() -> str:
    """Say why containers cannot be tested here; "": they can."""
    if not os.environ.get(SWITCH):
        return f"images are built and run by `make container` (which sets {SWITCH}=1)"
    wanted = ["podman", "runc", *([] if os.environ.get("CREWD_CONTAINER_BASE") else ["debootstrap"])]
    absent = [name for name in wanted if shutil.which(name) is None]
    return f"no {', no '.join(absent)} here (Debian: apt install podman runc debootstrap)" if absent else ""


def podman(*arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(("podman", *arguments), capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"podman {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def base() -> str:
    """Name an image with Python to build upon, and make it where there is none."""
    if given := os.environ.get("CREWD_CONTAINER_BASE"):
        return given
    if podman("image", "exists", BASE, check=False).returncode != 0:
        script = (
            "set -e; folder=$(mktemp -d); trap 'rm -rf \"$folder\"' EXIT\n"
            'debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder" >&2\n'
            'rm -rf "$folder"/var/cache/apt/archives/*.deb; tar -C "$folder" -c . | podman import - "$0"'
        )
        subprocess.run(["sh", "-c", script, BASE], check=True, capture_output=True, timeout=900)
    return BASE


def build(image: str = IMAGE) -> str:
    """Build the image as the Containerfile says at its top."""
    lent = ("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro") if Path(CERTIFICATES).exists() else ()
    podman(
        "build", "--isolation=chroot", "--format=docker", *lent, f"--build-arg=BASE={base()}",
        "--file=deploy/container/Containerfile", f"--tag={image}", str(ROOT),
        timeout=900,
    )  # fmt: skip
    return image


class Container:
    """One container, from its start to its removal."""

    def __init__(self, name: str) -> None:
        self.name = name

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(podman("inspect", self.name).stdout)[0]
        return found

    def logs(self) -> str:
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return podman("exec", self.name, *command, check=check)

    def read(self, *command: str) -> Any:
        return json.loads(self.run(*command).stdout)

    def is_healthy(self) -> bool:
        return podman("healthcheck", "run", self.name, check=False).returncode == 0

    def wait_healthy(self) -> None:
        self.until(self.is_healthy)

    def until(self, holds: Callable[[], Any], patience: float = PATIENCE) -> Any:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if found := holds():
                return found
            time.sleep(0.3)
        raise AssertionError(
            f"it did not come to that within {patience:.0f} s; the log of {self.name}:\n{self.logs()}"
        )


@contextlib.contextmanager
def running(
    image: str,
    *options: str,
    command: Sequence[str] = (),
    environ: dict[str, str] | None = None,
    narrow: Sequence[str] = NARROW,
    network: str = "none",
) -> Iterator[Container]:
    """Run a container in the background; it is removed with its unnamed volumes."""
    name = f"crewd-test-{uuid4().hex[:12]}"
    variables = [f"--env={key}={value}" for key, value in (environ or {}).items()]
    podman(
        "run",
        "--detach",
        f"--name={name}",
        f"--network={network}",
        *HERE,
        *narrow,
        *variables,
        *options,
        image,
        *command,
    )
    try:
        yield Container(name)
    finally:
        podman("rm", "--force", "--volumes", "--time=0", name, check=False)
