"""What an installation consists of: checked as a whole first, then done. Every obstacle is told at once."""

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crewd.cli import unit
from crewd.cli.refusals import Problem
from crewd.config.folders import config_home
from crewd.errors import CrewdError, Refused, UsageProblem
from crewd.host import assets, service_manager
from crewd.host.files import write_atomically

ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}")
STOP_SECONDS = 600.0  # a stop waits for what runs
ENVIRONMENT = """\
# Variables of crewd and of the agents that it starts, one NAME=value a line. A unit does not read ~/.profile.
# Secrets do not belong here: see the credentials of docs/systemd.md.
"""


class NotInstalled(Refused):
    """Something is in the way, all of it told; nothing was done."""

    def __init__(self, what: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([what, *map(str, problems)]))


@dataclass(frozen=True)
class Service:
    """For whom crewd is a service, and how one talks to whoever manages it."""

    scope: str  # "user" or "system"
    account: str  # whose agents they are

    @classmethod
    def of(cls, scope: str, account: str | None) -> "Service":
        """Raises UsageProblem where nobody said whose agents they are."""
        if scope == "user":
            return cls(scope, service_manager.own_name())
        name = account or os.environ.get("SUDO_USER", "")
        if not name:
            raise UsageProblem("say whose agents they are: crewd install --system --user-name NAME")
        if not ACCOUNT.fullmatch(name):
            raise UsageProblem(f"--user-name {name!r} cannot be the name of an account")
        return cls(scope, name)

    @property
    def file(self) -> str:
        return "crewd.service" if self.scope == "user" else "crewd@.service"

    @property
    def name(self) -> str:
        """What is started and stopped."""
        return "crewd" if self.scope == "user" else f"crewd@{self.account}"

    @property
    def systemctl(self) -> tuple[str, ...]:
        return ("systemctl", "--user") if self.scope == "user" else ("systemctl",)

    @property
    def unit_path(self) -> Path:
        if self.scope == "system":
            return service_manager.SYSTEM_UNITS / self.file
        return config_home(os.environ) / "systemd" / "user" / self.file

    @property
    def config_folder(self) -> Path:
        return Path("/etc/crewd") if self.scope == "system" else config_home(os.environ) / "crewd"

    def run(self, command: Sequence[str], seconds: float = service_manager.SECONDS) -> service_manager.Said:
        told = {"XDG_RUNTIME_DIR": service_manager.runtime_folder()} if self.scope == "user" else {}
        return service_manager.run(command, seconds, **told)


@dataclass(frozen=True)
class File:
    """A file as it is to be."""

    path: Path
    text: str
    needed: bool = True  # False: it is there, and stays as it is
    shown: bool = True  # whole, where only shown what would be done
    mode: int = 0o644


@dataclass
class Plan:
    """Everything that is to be done, in order: files, removals, commands; and what the person does after it."""

    service: Service
    files: list[File] = field(default_factory=list)
    before: list[tuple[str, ...]] = field(default_factory=list)  # commands that come before all
    removed: list[Path] = field(default_factory=list)
    last: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    after: list[tuple[str, str]] = field(default_factory=list)  # a command line, and why

    @property
    def commands(self) -> list[tuple[str, ...]]:
        return [*self.before, *self.last]

    def laid_out(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "scope": self.service.scope,
            "unit": str(self.service.unit_path),
            "service": self.service.name,
            "written": [str(file.path) for file in self.files if file.needed],
            "kept": [str(file.path) for file in self.files if not file.needed],
            "removed": [str(path) for path in self.removed],
            "commands": [list(command) for command in self.commands],
            "notes": list(self.notes),
            "next": [line for line, _ in self.after],
            "text": next((file.text for file in self.files if file.path == self.service.unit_path), ""),
        }


def plan_install(service: Service, dry_run: bool) -> Plan:
    """Check all that can be checked, and say what is to be done. Raises NotInstalled."""
    problems: list[Problem] = []
    notes: list[str] = []
    obstacles = [*_manager(service), *_place(service)]
    # What is shown need not be possible here: on a machine without systemd too one may look.
    (notes.extend(map(_as_note, obstacles)) if dry_run else problems.extend(obstacles))
    text = _unit_text(service, problems)
    if service.scope == "system" and service_manager.is_root():
        problems.extend(_runnable(service))
    there = _read(service.unit_path)
    if not problems and there != text and service_manager.is_here():
        problems.extend(_verify(service, text))
    if problems:
        raise NotInstalled(f"{service.name} is not installed", problems)
    plan = Plan(service, notes=notes)
    plan.files.append(File(service.unit_path, text, needed=there != text))
    plan.files.extend(_settings(service))
    plan.last.append((*service.systemctl, "daemon-reload"))
    plan.after = list(_next(service))
    return plan


def plan_remove(service: Service, dry_run: bool) -> Plan:
    """Say what is to be undone. Raises NotInstalled."""
    there = _read(service.unit_path)
    if there is None:
        raise NotInstalled(f"{service.name} is not removed", [Problem(str(service.unit_path), "is not there")])
    problems = [*_manager(service)]
    if not unit.is_ours(there):
        words = "was changed since `crewd install` wrote it" if unit.is_changed(there) else "was not written by crewd"
        problems.append(
            Problem(str(service.unit_path), words, f"remove it by hand, then {_line(service)} daemon-reload")
        )
    problems.extend(_others(service))
    plan = Plan(service)
    if problems and not dry_run:
        raise NotInstalled(f"{service.name} is not removed", problems)
    plan.notes.extend(map(_as_note, problems))
    plan.before = [
        (*service.systemctl, "stop", f"{service.name}.service"),
        (*service.systemctl, "disable", service.file),
    ]
    plan.removed = [service.unit_path]
    plan.last = [(*service.systemctl, "daemon-reload")]
    plan.notes.append(f"settings ({service.config_folder}), drop-ins, ledger and logs stay")
    return plan


def do(plan: Plan) -> None:
    """Do all of it. Raises CrewdError with what failed; what was done until then is told by the files."""
    for command in plan.before:
        _succeed(plan.service, command, STOP_SECONDS)
    for file in plan.files:
        if file.needed:
            try:
                file.path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file.path, file.text.encode(), file.mode)
            except OSError as error:
                raise CrewdError(f"{file.path}: cannot be written: {error.strerror}") from error
    for path in plan.removed:
        path.unlink(missing_ok=True)
    for command in plan.last:
        _succeed(plan.service, command)


def this_crewd() -> list[str]:
    """How this very crewd is called, from anywhere. A link that a package manager renews is kept as it is."""
    called = Path(sys.argv[0])
    if called.name == "crewd" and (found := shutil.which(str(called))):
        return [os.path.abspath(found)]
    beside = Path(sys.executable).parent / "crewd"
    return [str(beside)] if os.access(beside, os.X_OK) else [sys.executable, "-m", "crewd"]


def _manager(service: Service) -> Iterator[Problem]:
    """What keeps us from talking to the service manager."""
    if not service_manager.is_here():
        yield Problem("systemctl", "not found: this machine has no systemd", "start `crewd serve` by other means")
        return
    if not service_manager.is_booted():
        yield Problem(
            str(service_manager.BOOTED),
            "not there: systemd does not manage this machine",
            "start `crewd serve` by other means, as a container does",
        )
        return
    if service.scope == "system":
        if not service_manager.is_root():
            again = f"sudo {shlex.join(this_crewd())} install --system --user-name {service.account}"
            yield Problem("--system", "only root may do this", again)
        return
    if service_manager.is_root() and os.environ.get("SUDO_USER"):
        yield Problem("--user", "this would be root's own service", "call it without sudo")
        return
    said = service.run([*service.systemctl, "show", "--property=UnitPath", "--value"])
    if said.code != 0:
        yield Problem(
            "systemctl --user",
            f"your service manager cannot be asked: {said.words}",
            f"sudo loginctl enable-linger {service.account}, or log in anew and not by su, and try again",
        )
    elif os.path.realpath(service.unit_path.parent) not in map(os.path.realpath, shlex.split(said.words)):
        # A shell may have another XDG_CONFIG_HOME than the service manager, which then reads none of these files.
        yield Problem(
            str(service.unit_path.parent),
            "your service manager does not look there: it was started with another HOME or XDG_CONFIG_HOME",
            f"env --unset=XDG_CONFIG_HOME {shlex.join(this_crewd())} install --user",
        )


def _place(service: Service) -> Iterator[Problem]:
    """What is in the unit's place already."""
    packaged = service_manager.packaged(service.scope, service.file)
    if packaged is not None:
        enable = f"{_line(service)} enable --now {service.name}"
        yield Problem(packaged, "a package brought this unit already", f"use it: {enable}")
    there = _read(service.unit_path)
    if there is None or unit.is_ours(there):
        return
    edit = f"{_line(service)} edit {service.name}"
    if unit.is_changed(there):
        yield Problem(
            str(service.unit_path), "was changed by hand", f"take your changes to a drop-in ({edit}), then remove it"
        )
    else:
        yield Problem(str(service.unit_path), "was not written by `crewd install`", "move it away")


def _others(service: Service) -> Iterator[Problem]:
    """Who else is served by the unit: one file is that of every account."""
    if service.scope == "user" or not service_manager.is_booted():
        return
    listing = ("list-units", "--plain", "--no-legend", "--state=active,activating,reloading,deactivating")
    said = service.run([*service.systemctl, *listing, "crewd@*.service"])
    for name in (line.split()[0].removesuffix(".service") for line in said.words.splitlines() if said.code == 0):
        if name != service.name:
            yield Problem(name, "runs by the same unit", f"{_line(service)} disable --now {name}")


def _unit_text(service: Service, problems: list[Problem]) -> str:
    try:
        shipped = assets.asset(f"systemd/{service.file}").read_text("utf-8")
        version = service_manager.version() if service_manager.is_here() else 0
        edit = f"{'--user ' if service.scope == 'user' else ''}edit {service.name}"
        return unit.fitted(shipped, this_crewd(), version, edit)
    except FileNotFoundError as error:
        problems.append(Problem("", str(error)))
    except ValueError as error:
        problems.append(Problem("", str(error), "install crewd in a folder with a plain name"))
    return ""


def _verify(service: Service, text: str) -> Iterator[Problem]:
    """Have systemd itself read the unit, in a folder of its own."""
    if shutil.which("systemd-analyze") is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / service.file
        path.write_text(text, encoding="utf-8")
        command = [
            "systemd-analyze",
            "verify",
            "--man=no",
            *(["--user"] if service.scope == "user" else []),
            str(path),
        ]
        # A user's unit can be verified without that user's manager, but not without a place for it.
        place = service_manager.runtime_folder()
        said = service_manager.run(command, XDG_RUNTIME_DIR=place if os.path.isdir(place) else folder)
        # Of other units, which are loaded with it, nothing is our business.
        told = [line.replace(str(path), service.file) for line in said.words.splitlines() if service.file in line]
    for line in told:
        yield Problem("systemd-analyze verify", line)
    if said.code != 0 and not told:
        yield Problem("systemd-analyze verify", said.words or f"ended with {said.code}")


def _runnable(service: Service) -> Iterator[Problem]:
    """Whether the account is there, and can run this crewd, which may lie in a home that it cannot enter."""
    if not service_manager.is_account(service.account):
        yield Problem(
            "--user-name", f"{service.account}: no such account", f"useradd --create-home {service.account}"
        )
        return
    said = service_manager.run(["runuser", "-u", service.account, "--", *this_crewd(), "--version"])
    if said.code != 0:
        words = said.words.splitlines()[-1] if said.words else f"ended with {said.code}"
        yield Problem(
            " ".join(this_crewd()),
            f"{service.account} cannot run it: {words}",
            "install crewd where every account may read it, such as in an environment of its own in /opt/crewd",
        )


def _settings(service: Service) -> Iterator[File]:
    """The files that a person edits; never renewed."""
    from crewd.config.pages import as_toml

    config = service.config_folder / "crewd.toml"
    yield File(config, as_toml(), needed=not _is_there(config), shown=False)
    variables = service.config_folder / "environment"
    text = ENVIRONMENT + (
        f"PATH={_search_path()}\n" if service.scope == "user" else "# PATH=/usr/local/bin:/usr/bin:/bin\n"
    )
    yield File(variables, text, needed=not _is_there(variables), mode=0o600)


def _search_path() -> str:
    """Where this person's programs are found, agents among them: of PATH, the folders that are there."""
    folders = dict.fromkeys(os.environ.get("PATH", os.defpath).split(":"))
    plain = (
        folder for folder in folders if folder.startswith("/") and folder.isprintable() and Path(folder).is_dir()
    )
    return '"' + ":".join(plain).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _next(service: Service) -> Iterator[tuple[str, str]]:
    yield f"{_line(service)} enable --now {service.name}", "start it, now and at every boot"
    if service_manager.is_booted() and service.run([*service.systemctl, "is-active", service.name]).code == 0:
        as_them = "" if service.scope == "user" else f"runuser -u {service.account} -- env {_state(service)} "
        again = f"{as_them}crewd handover && {_line(service)} restart {service.name}"
        yield again, "it runs already: this changes over to what was written, and its workers go on"
    if service.scope == "user":
        again = f"if refused: sudo loginctl enable-linger {service.account}"
        yield "loginctl enable-linger", f"else it ends at your last logout, with every worker; {again}"
        yield "journalctl --user -u crewd -f", "its log"
        yield "crewd status", ""
        return
    yield f"journalctl -u {service.name} -f", "its log"
    yield f"export {_state(service)}", f"as {service.account}; then: crewd status"


def _state(service: Service) -> str:
    return f"CREWD_STATE_DIR=/var/lib/crewd/{service.account}"


def _line(service: Service) -> str:
    return " ".join(service.systemctl)


def _as_note(problem: Problem) -> str:
    return str(problem).strip()


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _read(path: Path) -> str | None:
    """Read a unit; None: there is none. One that cannot be read is somebody else's."""
    if not _is_there(path):
        return None
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _succeed(service: Service, command: Sequence[str], seconds: float = service_manager.SECONDS) -> None:
    said = service.run(command, seconds)
    if said.code != 0:
        raise CrewdError(f"{' '.join(command)}: {said.words or f'ended with {said.code}'}")
