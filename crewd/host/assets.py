"""What crewd ships besides its code: units, rules, dashboards, examples, runbooks."""

from pathlib import Path

import crewd

RUNBOOKS = "runbooks.md"
_PACKAGE = Path(crewd.__file__).parent


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
        path = _PACKAGE.parent / "docs" / RUNBOOKS  # a checkout keeps it with the other pages
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing from this installation; install crewd again")
    return path
