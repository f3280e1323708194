"""What `crewd doctor --agent` looks at: program, version, login, and whether its output is understood.

Nothing asks a model, and nothing is sent anywhere: the program is only asked for its version.
"""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crewd.cli.findings import FAIL, OK, WARN, Finding
from crewd.errors import UsageProblem
from crewd.model.agent import Profile

if TYPE_CHECKING:
    from crewd.config.settings import Settings
    from crewd.demo.agent_cases import Case
    from crewd.model.failure import ErrorClass, Failure
    from crewd.model.run import Usage
    from crewd.sources.agents.story import NotUnderstood

VERSION_SECONDS = 20.0
EXIT_SECONDS = 2.0  # from the end of what it says to its own
VERSION_BYTES = 16 * 1024  # of what a program says of its version
EMPTY_LOGIN_BYTES = 2  # {}: pi writes that on its first run, logged in or not

_VERSION = re.compile(r"(?<![\w.])\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?")


@dataclass(frozen=True)
class Wanted:
    """Which agent a person means."""

    profile: str
    executor: str = ""  # with whose command and environment; "": as a task that names none

    @property
    def name(self) -> str:
        """What its findings are called."""
        return f"{self.profile} ({self.executor})" if self.executor else self.profile


@dataclass(frozen=True)
class Asked:
    """One agent that is to be looked at, as a task would run it."""

    profile: Profile
    command: tuple[str, ...]
    env: Mapping[str, str]  # of its worker, without secrets
    secrets: Mapping[str, str]  # variable -> name of the credential
    credentials: str  # their folder
    name: str  # of its findings


def wanted_of(agents: Sequence[str], executors: Sequence[str], settings: "Settings | None") -> list[Wanted]:
    """Find out whom a person means. Raises UsageProblem for an executor that there is not, or that is another's."""
    if not executors:
        return [Wanted(name) for name in dict.fromkeys(agents)]
    if settings is None:
        raise UsageProblem("the settings are not usable, and executors are a part of them; see `crewd config check`")
    wanted = [_wanted_executor(name, agents, settings) for name in dict.fromkeys(executors)]
    if missing := [name for name in agents if name not in {each.profile for each in wanted}]:
        raise UsageProblem(f"none of the executors {', '.join(executors)} is of profile {', '.join(missing)}")
    return wanted


def look(wanted: Wanted, settings: "Settings | None", environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at one agent, with what a task of it would be given."""
    from crewd.config.run_file import RunRefused

    try:
        asked = planned(wanted, settings, environ)
    except RunRefused as refused:
        for problem in refused.problems:
            yield Finding(wanted.name, FAIL, problem.message, problem.next_action)
        return
    yield from of_agent(asked)


def of_agent(asked: Asked) -> Iterator[Finding]:
    """Look at one agent."""
    yield from _program(asked)
    yield _login(asked)
    yield understanding(asked.profile, recorded(asked.profile), asked.name)


def recorded(profile: Profile) -> "list[Case]":
    """The recorded runs of a program that come with crewd."""
    from crewd.demo import agent_cases

    return [agent_cases.load(name) for name in agent_cases.names() if name.startswith(f"{profile.name}/")]


def understanding(profile: Profile, cases: "Sequence[Case]", name: str) -> Finding:
    """Read recorded runs of a program and compare what comes of them with what is known of them."""
    if not cases:
        return Finding(name, WARN, "no recorded run of it is at hand: whether it is understood was not tried")
    wrong = [f"{case.name}: {each}" for case in cases for each in _misread(profile, case)]
    if wrong:
        return Finding(name, FAIL, f"recorded runs are misread: {'; '.join(wrong[:5])}", "install crewd again")
    return Finding(name, OK, f"{len(cases)} recorded runs of {profile.name} are understood as they were")


def _wanted_executor(name: str, agents: Sequence[str], settings: "Settings") -> Wanted:
    executor = settings.executors.get(name)
    if executor is None:
        raise UsageProblem(f"no executor is called {name!r}; name one of [executors.NAME] in crewd.toml")
    if executor.profile in (None, "plain"):
        raise UsageProblem(f'executor {name} is no agent\'s; add profile = "claude", or another, to it')
    if agents and executor.profile not in agents:
        raise UsageProblem(f"executor {name} is of profile {executor.profile}, and not of {', '.join(agents)}")
    return Wanted(str(executor.profile), name)


def planned(wanted: Wanted, settings: "Settings | None", environ: Mapping[str, str]) -> Asked:
    """Plan a task as the daemon would, and take from it what its worker would be given. Raises RunRefused."""
    from crewd.config.run_file import TaskDefaults, plan
    from crewd.policy.profiles import PROFILES

    task: dict[str, Any] = {"id": "doctor", "profile": wanted.profile, "prompt": "-", "cwd": "/"}
    if wanted.executor:
        # What its command fills in need not be known for a version.
        task |= {"executor": wanted.executor, "type": "doctor", "model": "doctor"}
    executors = settings.executors if settings is not None and wanted.executor else {}
    taken = tuple(settings.tasks.env_pass) if settings is not None else ("PATH", "HOME")
    made = plan(
        {"tasks": [task]}, executors=executors, defaults=TaskDefaults(env_pass=taken), base="", run_id="doctor"
    ).tasks[0]
    env = {name: environ[name] for name in made.env_pass if name in environ} | dict(made.env)
    folder = settings.secrets.folder if settings is not None else ""
    credentials = folder or environ.get("CREDENTIALS_DIRECTORY", "")
    return Asked(PROFILES[wanted.profile], made.command, env, dict(made.secrets), credentials, wanted.name)


# The program, and its version.


def _program(asked: Asked) -> Iterator[Finding]:
    from crewd.host.spawning import resolve
    from crewd.policy.command_line import program_of

    front = program_of(asked.profile, asked.command)
    path = resolve(front[0], "/", asked.env.get("PATH", os.defpath))
    if path is None:
        remedy = "install it, name it by its whole path in the executor's command, or set PATH in its env"
        yield Finding(asked.name, FAIL, f"the program {front[0]} was not found, or may not be executed", remedy)
        return
    yield Finding(asked.name, OK, f"{' '.join([path, *front[1:]])}")
    yield _version((path, *front[1:], "--version"), asked)


def _version(command: tuple[str, ...], asked: Asked) -> Finding:
    told, trouble = ask_version(command, asked.env, _moving(asked.profile))
    found = _VERSION.search(told)
    tried = " or ".join(asked.profile.versions)
    if found is None:
        what = f"told no version{f': {trouble}' if trouble else ''}"
        return Finding(asked.name, WARN, what, f"run {' '.join(command)} yourself; crewd was tried with {tried}")
    if found[0] in asked.profile.versions:
        return Finding(asked.name, OK, f"version {found[0]}, with which crewd was tried")
    what = f"version {found[0]}; crewd was tried with {tried}"
    remedy = "if its output is no longer understood it is judged as a plain command, and crewd says so"
    return Finding(asked.name, WARN, what, remedy)


def ask_version(
    command: tuple[str, ...], env: Mapping[str, str], moved: Sequence[str] = (), seconds: float = VERSION_SECONDS
) -> tuple[str, str]:
    """Run a program in an empty folder and return the beginning of what it says, and why that may be nothing.

    The variables `moved` name that folder: Gemini CLI keeps notes of every folder even when it is only asked for its
    version. Nothing is left afterwards of its process group, whatever it is.
    """
    with tempfile.TemporaryDirectory(prefix="crewd-doctor-") as folder:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**env, **dict.fromkeys(moved, folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return "", f"it cannot be started: {error.strerror}"
        try:
            said, in_time = _listen(process, seconds)
        finally:
            code = _end(process)
    trouble = (
        "" if in_time and code == 0 else f"it ended with {code}" if in_time else f"{seconds:g} s were not enough"
    )
    return said.decode("utf-8", "replace"), trouble


def _listen(process: "subprocess.Popen[bytes]", seconds: float) -> tuple[bytes, bool]:
    """Read until the end, or enough of it; False: the time was over before."""
    from crewd.host.clock import SystemClock

    clock, said = SystemClock(), b""
    assert process.stdout is not None
    until = clock.read().mono + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(said) < VERSION_BYTES:
            left = until - clock.read().mono
            if left <= 0 or not selector.select(left):
                return said, False
            piece = os.read(process.stdout.fileno(), VERSION_BYTES)
            if not piece:
                break
            said += piece
    return said[:VERSION_BYTES], True


def _end(process: "subprocess.Popen[bytes]") -> int:
    """End a program with all of its process group, and give its exit status."""
    assert process.stdout is not None
    process.stdout.close()
    handle = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            selector.select(EXIT_SECONDS)
    finally:
        os.close(handle)
    # Our own child, and not yet reaped: the number is its own. Whatever it left in its group ends with it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


# Whether somebody is logged in. What a variable or a file holds is looked at by nobody.


def _login(asked: Asked) -> Finding:
    profile = asked.profile
    for name, credential in asked.secrets.items():
        if name in profile.signed_in_by:
            return _credential(asked, name, credential)
    if name := next((each for each in profile.signed_in_by if asked.env.get(each)), ""):
        return Finding(asked.name, OK, f"logged in by {name}")
    for file in _login_files(asked):
        if _size(file) > EMPTY_LOGIN_BYTES:
            return Finding(asked.name, OK, f"logged in by {file}")
    what = f"nobody seems to be logged in: no file of a login, and not set: {', '.join(profile.signed_in_by)}"
    remedy = (
        "log in as crewd's user, or name a credential in the executor's secrets; other providers may need neither"
    )
    return Finding(asked.name, WARN, what, remedy)


def _credential(asked: Asked, name: str, credential: str) -> Finding:
    if not asked.credentials:
        what = f"{name} wants the credential {credential}, and there is no credentials folder"
        return Finding(asked.name, FAIL, what, "set secrets.folder, or LoadCredential= in the unit")
    file = Path(asked.credentials) / credential
    if not os.access(file, os.R_OK) or _size(file) == 0:
        what = f"{name} wants the credential {credential}, and {file} cannot be read, or is empty"
        return Finding(asked.name, FAIL, what, "put it there, readable by crewd's user")
    return Finding(asked.name, OK, f"logged in by {name}, from the credential {credential}")


def _login_files(asked: Asked) -> Iterator[Path]:
    """Name the files, below the home folder or below the folder that a variable names: $CODEX_HOME/auth.json."""
    for place in asked.profile.login_files:
        first, _, rest = place.partition("/")
        if not first.startswith("$"):
            first, rest = "$HOME", place
        if base := asked.env.get(first[1:]):
            yield Path(base) / rest


def _moving(profile: Profile) -> tuple[str, ...]:
    """Name the variables that move the folder in which a program keeps its things."""
    return tuple({file[1:].partition("/")[0] for file in profile.login_files if file.startswith("$")})


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:
        return 0


# Recorded runs.


def _misread(profile: Profile, case: "Case") -> Iterator[str]:
    """Feed one recorded run to the reader and name what comes out wrong."""
    from crewd.sources.agents.story import Story

    story = Story(profile)
    for line in case.lines:
        for sign in story.hear("stdout" if line.stream == "out" else "stderr", line.text.encode(), line.at, line.at):
            if (permanent := story.is_permanent(sign)) is not None:  # it is ended here
                yield from _class_misread(permanent, case.expected_class)
                return
    view = story.view(case.seconds)
    if case.session and view.session != case.session:
        yield f"session {view.session or 'none'} instead of {case.session}"
    if (wrong := _usage_misread(view.usage, case.expected_usage)) is not None:
        yield wrong
    yield from _class_misread(story.outcome(case.exit), case.expected_class)


def _class_misread(outcome: "Failure | NotUnderstood | None", expected: "ErrorClass | None") -> Iterator[str]:
    from crewd.model.failure import Failure

    if outcome is not None and not isinstance(outcome, Failure):
        yield outcome.why
        return
    found = outcome.error_class if outcome is not None else None
    if found is not expected:
        yield f"{found or 'success'} instead of {expected or 'success'}"


def _usage_misread(found: "Usage | None", expected: "Usage | None") -> str | None:
    if expected is None:
        return None
    names = ("input", "output", "cache_read", "cache_write")
    counted = [getattr(found, name, 0) for name in names]
    wanted = [getattr(expected, name) for name in names]
    return None if counted == wanted else f"usage {counted} instead of {wanted}"
