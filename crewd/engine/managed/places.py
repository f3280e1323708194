"""Places: the folder of one attempt, what lies in it, and the environment in which its command runs."""

import errno
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from crewd.engine.managed.options import TaskOptions
from crewd.host import attempt_folder
from crewd.host.files import Root, is_network
from crewd.host.spawning import Spawn, resolve
from crewd.model.event import span_id, trace_id
from crewd.model.failure import ErrorClass, Failure
from crewd.model.managed import Starting
from crewd.model.plan import Mode, RunPlan, TaskPlan
from crewd.model.run import Usage
from crewd.policy import command_line
from crewd.policy.handling import handling_of
from crewd.policy.profiles import PROFILES

SECRET_MAX = attempt_folder.SECRET_MAX
OPENING_MAX = 64 * 1024
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
NEAR_SECONDS = 60.0  # for which a disk is known to be one of this machine: something else may be mounted there later
NEAR_MAX = 1_000  # folders
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a start needs, made ready."""

    spawn: Spawn
    opening: "Opening | None" = None


class Opening(msgspec.Struct, frozen=True):
    """How an attempt of an agent began. Kept in its folder: a successor must know."""

    rung: Literal["fresh", "resume"] = "fresh"
    session: str = ""  # that it goes on with
    reason: str = ""
    saved_tokens: Amount = 0
    base: Usage | None = None  # what the session had used before
    base_cost: float | None = None
    file: str = ""  # of the session, as it was then
    file_bytes: Amount = 0


class CannotStart(Exception):
    """The attempt ends before it began. Carries the failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def name_of(run_id: str, task_id: str, attempt: int) -> str:
    """The name of an attempt, for people and for its worker. Another crewd may have one of the same name."""
    return f"{run_id}/{task_id}/{attempt}"


def find_command(plan: TaskPlan, env: Mapping[str, str]) -> str:
    """Find its program, from its folder. Raises CannotStart. Both may lie on a disk that does not answer."""
    if not attempt_folder.is_folder(plan.cwd):
        raise cannot(
            ErrorClass.SPAWN_FAILED, f"the folder {plan.cwd} is not there; make it, or change the task's cwd"
        )
    command = resolve(plan.command[0], plan.cwd, env.get("PATH", PATH))
    if command is None:
        raise cannot(
            ErrorClass.SPAWN_FAILED,
            f"the command {plan.command[0]} was not found, or may not be executed",
            guidance=f"install {plan.command[0]}, name it by its whole path, or set PATH in the task's env",
        )
    return command


@dataclass(eq=False)
class Programs:
    """Finds programs, and knows for a while where every folder to look in is on a disk of this machine.

    A network filesystem may never answer: there, and where nothing is known, whoever looks must not be the loop. A
    thread for each start would cost the others a sixth of their speed.
    """

    _near: dict[tuple[str, str], float] = field(default_factory=dict)  # (folder, PATH) -> monotonic time

    def near(self, plan: TaskPlan, env: Mapping[str, str], now: float) -> bool:
        return now - self._near.get(_looked_in(plan, env), -math.inf) < NEAR_SECONDS

    def find(self, plan: TaskPlan, env: Mapping[str, str], now: float) -> str:
        """Find a program as `find_command` does, in a thread, and learn whether the next may do without."""
        command = find_command(plan, env)
        cwd, path = key = _looked_in(plan, env)
        if not any(map(is_network, {cwd, *filter(None, path.split(":")), str(Path(command).parent)})):
            if len(self._near) >= NEAR_MAX:
                self._near.clear()
            self._near[key] = now
        return command


def _looked_in(plan: TaskPlan, env: Mapping[str, str]) -> tuple[str, str]:
    return plan.cwd, env.get("PATH", PATH)


def prepare(plan: TaskPlan, command: str, folder: str, env: dict[str, str], opening: Opening | None) -> Prepared:
    """Make the attempt's folder, in which its shim will find what it needs. Raises OSError where the disk refuses.

    `command`: its program; `opening`: how an agent begins, None: it is any command.
    """
    words, text = plan.command, plan.stdin
    if opening is not None:
        words, prompt = command_line.argv(PROFILES[plan.profile], plan.command, plan.prompt, opening.session)
        text = prompt if prompt is not None else text
    attempt_folder.make_folder(folder)
    if opening is not None:
        attempt_folder.write_new(f"{folder}/{attempt_folder.OPENING}", msgspec.json.encode(opening))
    if plan.payload is not None:  # every file that is made costs as much as the rest of a start
        attempt_folder.write_new(f"{folder}/{attempt_folder.PAYLOAD}", msgspec.json.encode(plan.payload))
    stdin: Literal["none", "file", "fifo"] = "none"
    if plan.mode is Mode.PROTOCOL:
        stdin = "fifo"
    elif text is not None:
        attempt_folder.write_new(f"{folder}/{attempt_folder.STDIN}", text.encode())
        stdin = "file"
    return Prepared(Spawn(argv=(command, *words[1:]), env=env, cwd=plan.cwd, folder=folder, stdin=stdin), opening)


def read_opening(folder: str) -> Opening | None:
    """How an agent's attempt began, as a predecessor wrote it; None: its worker took the file away."""
    try:
        with Root(folder) as root:
            return msgspec.json.decode(root.read(attempt_folder.OPENING, OPENING_MAX).data, type=Opening)
    except (OSError, msgspec.MsgspecError):
        return None


def environment(
    run: RunPlan, plan: TaskPlan, state: Starting, folder: str, environ: Mapping[str, str], options: TaskOptions
) -> dict[str, str]:
    """Build a worker's environment: what was named, and nothing else. Raises CannotStart for a missing secret."""
    env = {name: environ[name] for name in (*options.env_pass, *plan.env_pass) if name in environ}
    env |= plan.env
    env |= {name: _secret(plan, name, file, options.secrets_folder) for name, file in plan.secrets.items()}
    if plan.payload is not None:
        env["CREWD_PAYLOAD_FILE"] = f"{folder}/{attempt_folder.PAYLOAD}"
    return env | {
        "CREWD_ATTEMPT": name_of(run.run_id, plan.task_id, state.attempt),
        "CREWD_RUN_ID": run.run_id,
        "CREWD_TASK_ID": plan.task_id,
        "CREWD_ATTEMPT_NUMBER": str(state.attempt),
        "CREWD_FENCE": str(state.fence),
        "CREWD_ATTEMPT_DIR": folder,
        "CREWD_BEAT": f"{folder}/{attempt_folder.BEAT}",
        "TRACEPARENT": f"00-{trace_id(run.run_id)}-{span_id(run.run_id, plan.task_id, state.attempt)}-01",
    }


def _secret(plan: TaskPlan, name: str, file: str, folder: str) -> str:
    if not folder:
        raise cannot(
            ErrorClass.CONFIG_INVALID,
            f"{name} wants the credential {file}, and there is no credentials folder",
            guidance="set secrets.folder, or LoadCredential= in the unit",
        )
    try:
        return attempt_folder.read_secret(folder, file, SECRET_MAX)
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise  # crewd is short of something, and the credential may be in order
        why = getattr(error, "strerror", None) or str(error)
        raise cannot(
            ErrorClass.CONFIG_INVALID,
            f"the credential {file} for {name} cannot be read: {why}",
            guidance=f"put a file named {file} into the credentials folder, readable by crewd's user",
        ) from None


def cannot(error_class: ErrorClass, message: str, guidance: str = "", code: str = "") -> CannotStart:
    return CannotStart(
        Failure(error_class, message, code=code, guidance=guidance or handling_of(error_class).guidance)
    )
