"""What `crewd doctor` looks at: each question gives findings, and none of them changes anything."""

import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from crewd.cli.text import span
from crewd.errors import CrewdError, DaemonUnreachable, SettingsError

if TYPE_CHECKING:
    from crewd.config.settings import Settings

OK, WARN, FAIL = "ok", "warn", "FAIL"

# The WAL-reset bug of SQLite loses committed transactions; mended in 3.51.3 (sqlite.org/wal.html#walresetbug).
SQLITE_SOUND = (3, 51, 3)
FREE_BYTES_LEAST = 100 * 2**20
WATCHES_ENOUGH = 8192
INSTANCES_ENOUGH = 64
ROOT_PATIENCE = 5.0  # seconds
LINGERS = Path("/var/lib/systemd/linger")  # a file for each account whose services stay
OPEN_FILES_ENOUGH = 1024
YEAR_2024, YEAR_2100 = 1_704_067_200, 4_102_444_800


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    what: str
    remedy: str = ""


def settings(config_file: Path | None, environ: Mapping[str, str]) -> tuple["Settings | None", list[Finding]]:
    """Load the settings as `crewd serve` would."""
    from crewd.config.load import load

    try:
        loaded = load(config_file, environ)
    except SettingsError as error:
        remedy = "`crewd config check` says the same"
        return None, [Finding("settings", FAIL, str(each), remedy) for each in error.complaints]
    found = [Finding("settings", OK, str(loaded.path or "built-in defaults"))]
    if loaded.path is not None and loaded.settings.redact.secrets and loaded.origin("redact.secrets").kind == "file":
        mode = loaded.path.stat().st_mode
        if mode & 0o077:
            what = f"{loaded.path} holds secrets, and others may read it (mode {mode & 0o777:o})"
            found.append(Finding("settings", WARN, what, "chmod 600, or use the credentials folder"))
    return loaded.settings, found


def state_of(settings: "Settings | None", environ: Mapping[str, str]) -> Path:
    """Name the state folder that these settings mean."""
    from crewd.config.folders import state_folder as default

    return default(environ, settings.ledger.folder if settings is not None else "")


def python() -> Iterator[Finding]:
    yield Finding("python", OK, f"{platform.python_version()} at {sys.executable}")


def sqlite() -> Iterator[Finding]:
    try:
        import apsw
    except ImportError as error:
        yield Finding("sqlite", FAIL, f"apsw cannot be imported: {error}", "install crewd again")
        return
    version = apsw.sqlite_lib_version()
    what = f"{version} (apsw {apsw.apsw_version()})"
    if tuple(int(part) for part in version.split(".")[:3]) >= SQLITE_SOUND:
        yield Finding("sqlite", OK, what)
    else:
        yield Finding("sqlite", WARN, f"{what} carries the WAL-reset bug", "upgrade apsw")


def state_folder(folder: Path) -> Iterator[Finding]:
    """Look at the folder of the ledger, or at the place where it would be made."""
    from crewd.host.files import filesystem, free_bytes, is_network

    if is_network(folder):
        what = f"{folder} is on {filesystem(folder)}: SQLite's write-ahead log needs a local disk"
        yield Finding("state folder", FAIL, what, "set ledger.folder to a local folder")
    if not folder.exists():
        above = next(parent for parent in folder.parents if parent.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield Finding("state folder", OK, f"{folder} will be made")
        else:
            yield Finding("state folder", FAIL, f"{folder} cannot be made: {above} may not be written", _NAME_STATE)
        folder = above
    else:
        yield _folder_rights(folder)
    free = free_bytes(folder)
    if free < FREE_BYTES_LEAST:
        yield Finding("disk", FAIL, f"{free // 2**20} MiB free at {folder}", "make room")
    else:
        yield Finding("disk", OK, f"{free // 2**20} MiB free at {folder}")


def roots(texts: Iterable[str]) -> Iterator[Finding]:
    """Look at every configured root: readable, and on what filesystem."""
    from crewd.host.aside import within

    any_root = False
    for text in dict.fromkeys(texts):
        any_root = True
        try:
            yield from within(ROOT_PATIENCE, partial(_root, text), "root")
        except TimeoutError:
            yield Finding(
                "root",
                FAIL,
                f"{text} does not answer within {ROOT_PATIENCE:g} s: crewd does without it, and blames nobody",
                "see whether the server of this filesystem is there, or unmount it (umount -f -l)",
            )
    if not any_root:
        yield Finding("root", OK, "none is configured: only what the runtimes' own indexes name is watched")


def _root(text: str) -> list[Finding]:
    from crewd.host.files import filesystem, is_network

    found = []
    for path in _expanded(text):
        if not path.is_dir():
            words = "check the path, or wait until a run makes it"
            found.append(Finding("root", WARN, f"{path} is no folder yet", words))
        elif not os.access(path, os.R_OK | os.X_OK):
            found.append(Finding("root", FAIL, f"{path} may not be read", "run crewd as the user who owns it"))
        elif is_network(path):
            words = f"{path} is on {filesystem(path)}: polled, and its pids prove nothing"
            found.append(Finding("root", WARN, words))
        else:
            found.append(Finding("root", OK, f"{path} on {filesystem(path) or 'an unknown filesystem'}"))
    return found


def lingering(unit: Path, account: str, lingers: Path = LINGERS) -> Iterator[Finding]:
    """Look, where crewd is a user's service, whether that user's services outlive the last logout (loginctl(1))."""
    if not unit.exists():
        return
    if (lingers / account).exists():
        yield Finding("lingering", OK, f"services of {account} go on after a logout")
    else:
        what = f"at the last logout of {account} crewd ends, and every worker with it"
        yield Finding("lingering", WARN, what, f"loginctl enable-linger {account}")


def watching() -> Iterator[Finding]:
    """Look at the limits under which the kernel reports file changes, and at that on open files."""
    import resource

    for name, enough in (("max_user_watches", WATCHES_ENOUGH), ("max_user_instances", INSTANCES_ENOUGH)):
        number = _number(Path("/proc/sys/fs/inotify") / name)
        if number is None:
            yield Finding("inotify", WARN, f"{name} cannot be read: changes may be seen a round later")
        elif number < enough:
            what = f"{name} is {number}: some changes are seen a round later"
            yield Finding("inotify", WARN, what, f"sysctl fs.inotify.{name}={enough}")
        else:
            yield Finding("inotify", OK, f"{name} is {number}")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES_ENOUGH:
        yield Finding("open files", WARN, f"at most {soft}", f"ulimit -n {OPEN_FILES_ENOUGH}, or LimitNOFILE=")
    else:
        yield Finding("open files", OK, "unlimited" if soft == resource.RLIM_INFINITY else f"at most {soft}")


def clocks() -> Iterator[Finding]:
    """Look whether the three clocks make sense together."""
    from crewd.host.clock import SystemClock
    from crewd.model.moment import rfc3339

    now = SystemClock().read()
    if not YEAR_2024 < now.wall < YEAR_2100:
        yield Finding(
            "clock", WARN, f"the wall clock says {rfc3339(now.wall)}", "set it; verdicts do not depend on it"
        )
    elif now.boot < now.mono - 1.0:
        yield Finding(
            "clock", FAIL, "the boot clock is behind the monotonic one", "suspends cannot be told apart here"
        )
    else:
        asleep = now.boot - now.mono
        since = f", {span(asleep)} of it asleep" if asleep > 1.0 else ""
        yield Finding("clock", OK, f"{rfc3339(now.wall)}, up for {span(now.boot)}{since}")


def process_handles() -> Iterator[Finding]:
    """Look whether the kernel gives handles that mean one process and no other."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError) as error:
        yield Finding("pidfd", WARN, f"not to be had: {error}", "use Linux 5.3 or later, or let the sandbox allow it")
    else:
        yield Finding("pidfd", OK, "works")


def process_visibility() -> Iterator[Finding]:
    """Look whether /proc shows the processes of others."""
    from crewd.host.clock import SystemClock
    from crewd.host.processes import ProcProcesses

    first = ProcProcesses(SystemClock()).facts(1)
    if first is None or not first.visible:
        what = "/proc hides the processes of others: their workers are judged by silence alone"
        yield Finding("/proc", WARN, what, "mount it without hidepid, or run crewd as the user who owns the workers")
    else:
        yield Finding("/proc", OK, "shows every process")


def pressure() -> Iterator[Finding]:
    """Look whether the kernel tells how much work waits."""
    from crewd.host.pressure import pressure as measured

    if Path("/proc/pressure/cpu").exists():
        yield Finding("pressure", OK, f"{measured():.1f} % of the last 10 s waited")
    else:
        what = "the kernel does not tell it: crewd notices its own slowness a little later"
        yield Finding("pressure", WARN, what, "boot with psi=1")


def daemon(config_file: Path | None, state_dir: Path | None) -> Iterator[Finding]:
    """Ask the daemon, if one should be there."""
    from crewd.cli.client import find

    try:
        place = find(state_dir, config_file)
        url = place.url()
        with place.daemon() as connection:
            health = connection.json("/api/v1/status")["health"]
    except DaemonUnreachable as error:
        yield Finding("daemon", WARN, str(error), "start it with `crewd serve`")
    except SettingsError:
        yield Finding("daemon", WARN, "not looked for: the settings are not usable")
    except (CrewdError, KeyError, TypeError) as error:
        yield Finding("daemon", FAIL, f"{url}: {error}", "is another program on that port?")
    else:
        state = OK if health["ready"] else WARN
        broken = "; ".join(f"{part}: {why}" for part, why in health["degraded"].items())
        what = f"{url}, round {health['rounds']}, {'ready' if health['ready'] else 'not ready'}"
        yield Finding("daemon", state, f"{what} {broken}".rstrip(), "" if state == OK else "look at its log")


_NAME_STATE = "name another with --state-dir or ledger.folder"


def _folder_rights(folder: Path) -> Finding:
    if not folder.is_dir():
        return Finding("state folder", FAIL, f"{folder} is no folder", _NAME_STATE)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding("state folder", FAIL, f"{folder} may not be written", "run crewd as the user who owns it")
    mode = folder.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("state folder", WARN, f"{folder} is open to others (mode {mode:o})", f"chmod 700 {folder}")
    return Finding("state folder", OK, f"{folder}")


def _expanded(text: str) -> list[Path]:
    from glob import glob, has_magic

    path = Path(text).expanduser()
    return sorted(map(Path, glob(str(path)))) if has_magic(text) else [path]  # noqa: PTH207 - an absolute pattern


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None
