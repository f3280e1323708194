"""Where crewd keeps its things when nobody says otherwise: the folders of systemd first, then those of XDG."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONFIG_VARIABLE = "CREWD_CONFIG"
PREFIX = "CREWD_"

# Variables that carry the prefix and are no settings: where to look, and what a worker is told about itself.
NOT_SETTINGS = frozenset(
    {
        CONFIG_VARIABLE,
        "CREWD_STATE_DIR",
        "CREWD_RUN",
        "CREWD_TASK",
        "CREWD_BEAT_ROOT",
        "CREWD_ATTEMPT",
        "CREWD_ATTEMPT_DIR",
        "CREWD_ATTEMPT_NUMBER",
        "CREWD_BEAT",
        "CREWD_FENCE",
        "CREWD_PAYLOAD_FILE",
        "CREWD_RUN_ID",
        "CREWD_TASK_ID",
    }
)


@dataclass(frozen=True)
class ConfigPlace:
    """The configuration file that counts; None: there is none, and the built-in defaults count."""

    path: Path | None
    demanded: bool = False  # someone named it, so that it must be there


def state_folder(environ: Mapping[str, str], configured: str = "") -> Path:
    """Name the folder of ledger.sqlite3 and daemon.json."""
    if configured:
        return Path(configured).expanduser()
    # systemd joins several folders with ":"; the first is ours (systemd.exec(5)).
    if given := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given)
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "crewd"


def logs_folder(environ: Mapping[str, str], state: Path, configured: str = "") -> Path:
    """Name the folder of the daily JSONL files."""
    if configured:
        return Path(configured).expanduser()
    if given := environ.get("LOGS_DIRECTORY", "").split(":")[0]:
        return Path(given)
    return state / "logs"


def config_place(environ: Mapping[str, str], named: Path | None = None) -> ConfigPlace:
    """Find the configuration file: as named, else $CREWD_CONFIG, else systemd's folder, else the person's own."""
    if named is not None:
        return ConfigPlace(named, demanded=True)
    if variable := environ.get(CONFIG_VARIABLE, ""):
        return ConfigPlace(Path(variable).expanduser(), demanded=True)
    folders = []
    if given := environ.get("CONFIGURATION_DIRECTORY", "").split(":")[0]:
        folders.append(Path(given))
    folders.append(config_home(environ) / "crewd")
    for folder in folders:
        path = folder / "crewd.toml"
        if _may_be_there(path):
            return ConfigPlace(path)
    return ConfigPlace(None)


def config_home(environ: Mapping[str, str]) -> Path:
    """Name the folder of this person's configuration of all programs."""
    return _xdg(environ, "XDG_CONFIG_HOME", ".config")


def is_configured(environ: Mapping[str, str]) -> bool:
    """Say whether anybody may have said anything other than the defaults. Where not, no settings need be read."""
    return (
        config_place(environ).path is not None
        or bool(environ.get("CREDENTIALS_DIRECTORY"))
        or any(name.upper().startswith(PREFIX) and name not in NOT_SETTINGS for name in environ)
    )


def _may_be_there(path: Path) -> bool:
    """Whether there is such a file. In a folder that may not be entered there may be: its reader says why not."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _xdg(environ: Mapping[str, str], variable: str, otherwise: str) -> Path:
    given = environ.get(variable, "")
    # A relative path in these variables is to be ignored (XDG Base Directory Specification).
    if given.startswith("/"):
        return Path(given)
    home = environ.get("HOME", "")
    if home.startswith("/"):
        return Path(home) / otherwise
    try:
        return Path.home() / otherwise
    except RuntimeError:  # an account without a home, such as one that systemd makes for a service
        return Path("/") / otherwise
