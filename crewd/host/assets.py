"""What crewd ships besides its code: units, rules, dashboards, examples, runbooks."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import crewd
from crewd.host.writing import write_atomically

_PAGE = Path("docs/runbooks.md")  # in a checkout it is with the other pages
RUNBOOKS = _PAGE.name
# As pyproject.toml names them for the wheel. A checkout has more: what packages and dashboards are made by.
SHIPPED = (
    "systemd",
    "prometheus",
    "alertmanager",
    "grafana/dashboards",
    "grafana/provisioning",
    "container",
    "kubernetes",
    "lnav",
    "logs",
)
_PACKAGE = Path(crewd.__file__).parent
MODE = 0o644  # no program is among them
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def root() -> Path:
    """Find the folder of what is shipped: within the installed package, or `deploy/` of a checkout."""
    installed = _PACKAGE / "deploy"
    return installed if installed.is_dir() else _PACKAGE.parent / "deploy"


def asset(name: str) -> Path:
    """Find one shipped file by its name beneath the root, such as `systemd/crewd.service`.

    Raises FileNotFoundError where the installation is not whole.
    """
    path = root() / name
    if name == RUNBOOKS and not path.exists():
        path = _PACKAGE.parent / _PAGE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing from this installation; install crewd again")
    return path


def names() -> list[str]:
    """Name everything that is shipped, as paths beneath the root, in order. Raises as `asset` does."""
    top = root()
    asset(RUNBOOKS)
    found = [path for folder in SHIPPED for path in (top / folder).rglob("*") if "__pycache__" not in path.parts]
    return sorted([RUNBOOKS, *(path.relative_to(top).as_posix() for path in found if path.is_file())])


class Target:
    """A folder to write into by names beneath it. No link beneath it is followed, whoever makes one meanwhile.

    Every method raises OSError where the disk does not do it; NotADirectoryError where a link or a file stands in
    place of a folder.
    """

    def __init__(self, folder: Path, make: bool) -> None:
        """Open the folder, which is made if `make`; the folder itself may be named through links."""
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        self._top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._top)

    def present(self, name: str, most: int) -> bytes | None:
        """Read what stands there now, at most so many bytes; None: nothing does.

        Raises IsADirectoryError for whatever is neither a file nor a link, and OSError(ELOOP) for a link.
        """
        try:
            with self._parent(name, make=False) as parent:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                handle = os.open(os.path.basename(name), flags, dir_fd=parent)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise IsADirectoryError(name)
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read(most)
        finally:
            os.close(handle)

    def write(self, name: str, data: bytes) -> None:
        """Write one file whole, in place of a file or of a link; the folders above it are made."""
        with self._parent(name, make=True) as parent:
            # The folder as it was opened: its name could lead elsewhere by now.
            write_atomically(f"/proc/self/fd/{parent}/{os.path.basename(name)}", data, MODE, durable=False)

    @contextlib.contextmanager
    def _parent(self, name: str, make: bool) -> Iterator[int]:
        handle = os.dup(self._top)
        try:
            for part in name.split("/")[:-1]:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=handle)
                inner = os.open(part, _FOLDER, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)
