"""Every field of a run file: name, kind, bounds and one line of explanation.

The schema, the reference page and the validation all come from here. A field that is None was left out: what counts
then is decided in layers.py. Within a class plain values stand before tables, as TOML wants them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, PlainSerializer, Tag
from pydantic_core import PydanticCustomError

from crewd.config.group import Group
from crewd.config.values import Duration, Fixed, Kind, Line, Name, Size, VariableName, no_nul

TASKS_MAX = 10_000
DEPENDENCIES_MAX = 200_000  # of all tasks together
ARGUMENT_MAX = 131_071  # bytes of one argument: MAX_ARG_STRLEN of Linux, less its NUL
PROMPT_MAX = 2**20  # bytes
TEXT_FORM, LIST_FORM = "as a text", "as a list"  # tags of the two forms of `command`


def _inside(path: str) -> str:
    parts = no_nul(path).split("/")
    if path.startswith("/") or ".." in parts or not any(part not in ("", ".") for part in parts):
        remedy = "write it relative to the task's cwd, without .."
        message = "{path} does not stay inside the task's cwd"
        raise PydanticCustomError("bad_path", message, {"path": repr(path), "remedy": remedy})
    return path


def _says_something(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("bad_text", "says nothing", {"remedy": "write what the agent is to do"})
    return no_nul(text)


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _file(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _form(value: object) -> str | None:
    match value:
        case str():
            return TEXT_FORM
        case list() | tuple():
            return LIST_FORM
        case _:
            return None


_LISTED = BeforeValidator(_listed)
_AS_DICT = PlainSerializer(dict)

Text = Annotated[str, Field(max_length=ARGUMENT_MAX), AfterValidator(no_nul), Kind("text", '"text"')]
Path = Annotated[str, Field(min_length=1, max_length=4095), AfterValidator(no_nul), Kind("path", '"path/of/it"')]
Id = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"),
    Kind("id", "1 to 128 letters, digits, . _ and -, beginning with a letter or digit"),
]
CredentialName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"),
    Kind("file name", "the name of a file in the credentials folder, without a path"),
]
LabelName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$"), Kind("name", "letters, digits, . _ / and -")
]
ExitCode = Annotated[int, Field(ge=0, le=255), Kind("exit code", "0 to 255")]
Signal = Literal["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"]
Class = Literal[  # of crewd.model.failure.ErrorClass, all of them
    "spawn_failed", "config_invalid", "input_invalid", "output_invalid", "output_empty", "protocol_error", "timeout",
    "heartbeat_lost", "worker_crash", "worker_killed", "rate_limited", "provider_error", "auth_error",
    "budget_exceeded", "disk_full", "context_exhausted", "task_error", "gate_failed", "dependency_failed",
    "cancelled", "unknown",
]  # fmt: skip

Arguments = Annotated[
    tuple[Text, ...], Field(max_length=1000), _LISTED, Kind("list of texts", '["one", "two"]', item="text")
]
Command = Annotated[
    Annotated[Text, Field(min_length=1), Tag(TEXT_FORM)]
    | Annotated[tuple[Text, ...], Field(min_length=1, max_length=1000), _LISTED, Tag(LIST_FORM)],
    Discriminator(_form),
    Kind("list of texts, or text", '["program", "argument"]', item="text"),
]
VariableNames = Annotated[
    tuple[VariableName, ...],
    Field(max_length=256),
    _LISTED,
    Kind("list of variables", '["ONE", "TWO"]', item="variable name"),
]
ExitCodes = Annotated[
    tuple[ExitCode, ...],
    Field(max_length=256),
    _LISTED,
    Kind("list of exit codes", "[0, 3], each from 0 to 255", item="exit code"),
]
Ids = Annotated[
    tuple[Id, ...], Field(max_length=TASKS_MAX), _LISTED, Kind("list of ids", '["one", "two"]', item="id")
]
Environment = Annotated[
    Mapping[VariableName, Text],
    Field(max_length=256),
    Fixed,
    _AS_DICT,
    Kind("table of texts", '{ NAME = "text" }', item="text", key="variable name"),
]
Secrets = Annotated[
    Mapping[VariableName, CredentialName],
    Field(max_length=64),
    Fixed,
    _AS_DICT,
    Kind("table of file names", '{ API_KEY = "api-key" }', item="file name", key="variable name"),
]
Labels = Annotated[
    Mapping[LabelName, Line],
    Field(max_length=64),
    Fixed,
    _AS_DICT,
    Kind("table of texts", '{ team = "blue" }', item="line of text", key="name"),
]
Mode = Literal["command", "protocol"]
ProfileName = Literal["claude", "codex", "gemini", "pi", "plain"]  # of crewd.policy.profiles.PROFILES, all of them
OnAlarm = Literal["stop", "park", "warn"]
Prompt = Annotated[str, Field(max_length=PROMPT_MAX), AfterValidator(_says_something), Kind("text", '"text"')]


class TaskHeartbeat(Group):
    """How silent a worker may be, where it differs from the settings."""

    warn_after: Duration | None = Field(default=None, ge=1, le=86400, description="Instead of heartbeat.warn_after.")
    stale_after: Duration | None = Field(
        default=None, ge=1, le=86400, description="Instead of heartbeat.stale_after."
    )
    dead_after: Duration | None = Field(default=None, ge=1, le=86400, description="Instead of heartbeat.dead_after.")
    hung_after: Duration | None = Field(
        default=None, ge=1, le=7 * 86400, description="Instead of heartbeat.hung_after."
    )
    activity_is_heartbeat: bool | None = Field(
        default=None,
        description="Whether output counts as a sign of life; unless said: in command mode yes, in protocol mode no.",
    )
    on_hung: Literal["stop", "report"] | None = Field(
        default=None,
        description="What follows when it hangs; unless said: stop where the worker has a heartbeat contract.",
    )


class RetryRule(Group):
    """What one class of errors is met with, where it differs from the task's own rule."""

    retry: bool | None = Field(default=None, description="Whether such an error is tried again at all.")
    max_attempts: int | None = Field(default=None, ge=1, le=100, description="Instead of retry.max_attempts.")
    base: Duration | None = Field(default=None, ge=0, le=86400, description="Instead of retry.base.")
    factor: float | None = Field(default=None, ge=1, le=100, description="Instead of retry.factor.")
    cap: Duration | None = Field(default=None, ge=0, le=7 * 86400, description="Instead of retry.cap.")


class Retry(Group):
    """When a failed attempt is followed by another."""

    max_attempts: int | None = Field(default=None, ge=1, le=100, description="Starts, the first included.")
    base: Duration | None = Field(default=None, ge=0, le=86400, description="Delay after the first failure.")
    factor: float | None = Field(
        default=None, ge=1, le=100, description="Each further delay is so many times the one before."
    )
    cap: Duration | None = Field(default=None, ge=0, le=7 * 86400, description="The longest delay before jitter.")
    jitter: Literal["none", "full", "equal", "decorrelated"] | None = Field(
        default=None, description="How chance spreads the delay."
    )
    elapsed_max: Duration | None = Field(
        default=None,
        ge=1,
        le=365 * 86400,
        description="From the first start to the start of the last attempt; unless said: no limit.",
    )
    classes: (
        Annotated[
            Mapping[Class, RetryRule],
            Fixed,
            _AS_DICT,
            Kind(
                "table of retry rules",
                '{ rate_limited = { base = "1m", max_attempts = 10 } }',
                item="table",
                key="class of errors",
            ),
        ]
        | None
    ) = Field(default=None, description="Other rules for some classes of errors, each under the name of its class.")


class RequiredFile(Group):
    """A file that must be there once a task is done."""

    path: Annotated[str, Field(min_length=1, max_length=4095), AfterValidator(_inside), Kind("path", '"out/x"')] = (
        Field(description="Relative to the task's cwd, and never outside it.")
    )
    bytes_min: Size | None = Field(default=None, ge=0, le=2**50, description="The least it must hold.")


class Success(Group):
    """What must hold before an attempt counts as completed. Exit 0 alone proves nothing."""

    exit_codes: ExitCodes | None = Field(default=None, description="Exits that count as success.")
    task_error_codes: ExitCodes | None = Field(
        default=None, description="Exits with which the command says that its task failed: class task_error."
    )
    files: (
        Annotated[
            tuple[Annotated[RequiredFile, BeforeValidator(_file, json_schema_input_type=str | RequiredFile)], ...],
            Field(max_length=256),
            _LISTED,
            Kind(
                "list of paths or tables",
                '["out/report.txt", { path = "out/log", bytes_min = "1KiB" }]',
                item="path or table",
            ),
        ]
        | None
    ) = Field(default=None, description="Files that must be there, of one byte at least unless they say otherwise.")
    output_bytes_min: Size | None = Field(default=None, ge=0, le=2**50, description="The least on stdout.")
    command: Arguments | None = Field(
        default=None, description="A command that must exit 0, in the task's cwd and environment."
    )
    command_timeout: Duration | None = Field(
        default=None, ge=0.1, le=86400, description="How long that command may take."
    )


class StopStep(Group):
    """One rung of the ladder: send it, and wait so long for the end."""

    signal: Signal = Field(description="The signal, without SIG.")
    wait: Duration = Field(ge=0, le=3600, description="How long it has, before the next step.")


class Stop(Group):
    """How an attempt is ended. SIGKILL to everything that is left follows the last step, always."""

    grace: Duration | None = Field(
        default=None, ge=0, le=3600, description="After the cancel message; protocol mode only."
    )
    steps: (
        Annotated[
            tuple[StopStep, ...],
            Field(max_length=10),
            _LISTED,
            Kind(
                "list of steps", '[{ signal = "INT", wait = "5s" }, { signal = "TERM", wait = "5s" }]', item="table"
            ),
        ]
        | None
    ) = Field(default=None, description="Signals to all processes of the attempt, in order.")
    drain: Duration | None = Field(
        default=None, ge=0, le=600, description="For what an attempt that ended by itself left behind."
    )


class Limits(Group):
    """What one attempt may use."""

    cpu_seconds: Duration | None = Field(
        default=None, ge=1, le=365 * 86400, description="CPU time of one process; unless said: no limit."
    )
    memory_bytes: Size | None = Field(default=None, ge=2**20, le=2**50, description="Memory; unless said: no limit.")
    files: int | None = Field(
        default=None, ge=16, le=2**20, description="Open files of one process; unless said: as the system."
    )
    processes: int | None = Field(
        default=None,
        ge=1,
        le=2**22,
        description="Processes: of the attempt with a cgroup, of crewd's user without; unless said: no limit.",
    )
    output_bytes: Size | None = Field(
        default=None,
        ge=2**16,
        le=2**44,
        description="Of stdout and of stderr, each, kept on disk; older output is given back.",
    )
    nice: int | None = Field(default=None, ge=-20, le=19, description="Higher is nicer to others.")


class Resume(Group):
    """Whether another attempt goes on with the session of the one before, instead of beginning afresh."""

    mode: Literal["auto", "never"] | None = Field(
        default=None, description="auto: where the profile can, and the session and its working tree are there."
    )
    attempts_max: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Attempts in a row that go on with one session; the next begins afresh.",
    )
    tree: Literal["same", "any"] | None = Field(
        default=None, description="same: only where the working tree is as the attempt before left it."
    )


class Budget(Group):
    """What may be used. Tokens are counted in and out, without what came from a cache."""

    tokens: int | None = Field(default=None, ge=1, le=10**12, description="Unless said: no limit.")
    cost_usd: float | None = Field(default=None, ge=0.001, le=10**6, description="Unless said: no limit.")
    warn_ratio: float | None = Field(default=None, ge=0.01, le=1, description="The part of it at which crewd warns.")
    on_exceeded: OnAlarm | None = Field(
        default=None, description="stop: give the task up; park: let it wait until it may go on; warn: say so."
    )


class Watch(Group):
    """What is watched in an agent's own words, and what follows. A count of 0 is never reached."""

    stream_hang_after: Duration | None = Field(
        default=None, ge=1, le=86400, description="Silence of its model, with no tool open, that is a hang."
    )
    on_stream_hang: Literal["report", "stop"] | None = Field(
        default=None, description="stop: the attempt ends as provider_error, and the next one resumes it."
    )
    park_after: Duration | None = Field(
        default=None,
        ge=0,
        le=7 * 86400,
        description="A wait for the provider as long as this frees the slot; 0 = never.",
    )
    same_tool_warn: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Times that one tool is called with one input, one after the other, before crewd warns.",
    )
    same_tool_max: int | None = Field(default=None, ge=0, le=100_000, description="Times at which on_loop follows.")
    same_error_warn: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Times in a row that a tool fails with the same words, before crewd warns.",
    )
    same_error_max: int | None = Field(default=None, ge=0, le=100_000, description="Times at which on_loop follows.")
    on_loop: OnAlarm | None = Field(default=None, description="What follows when an agent goes in circles.")
    burn_tokens_min: int | None = Field(
        default=None, ge=0, le=10**12, description="Tokens without anything new below which nothing burns."
    )
    burn_factor: float | None = Field(
        default=None, ge=1, le=10_000, description="Burning is so many times the usual tokens between two new things."
    )
    on_burn: OnAlarm | None = Field(default=None, description="What follows when an agent burns tokens.")
    on_denied: Literal["fail", "allow"] | None = Field(
        default=None, description="fail: a tool that it was not allowed to use spoils success; allow: it does not."
    )


class TaskFields(Group):
    """What a task says, and what `defaults` may say for all of them."""

    model_config = ConfigDict(defer_build=True)  # most commands read settings, and no run file

    command: Command | None = Field(
        default=None,
        description="What to run: program and arguments. A text only with shell = true. Unless said: the executor's.",
    )
    shell: bool | None = Field(default=None, description="The command is a text for /bin/sh.")
    args: Arguments | None = Field(default=None, description="Appended to the command; with shell, its $1, $2 ...")
    profile: ProfileName | None = Field(
        default=None,
        description="The agent that the command is: it is run, understood and resumed so. plain: any other program.",
    )
    prompt: Prompt | None = Field(
        default=None, description="What the agent is asked, given to it as its profile says. Needs a profile."
    )
    idempotent: bool | None = Field(
        default=None, description="It may be carried out twice. false: only what provably goes on is tried again."
    )
    cwd: Path | None = Field(
        default=None,
        description="Folder to run in; a relative one begins at the file's own folder. Unless said: that folder.",
    )
    env_pass: VariableNames | None = Field(
        default=None, description="Variables taken over from crewd's own environment, besides tasks.env_pass."
    )
    stdin: Annotated[str, Field(max_length=2**20), Kind("text", '"text"')] | None = Field(
        default=None, description="Text for the command's stdin; unless said: nothing. Command mode only."
    )
    kind: Literal["task", "preview"] | None = Field(
        default=None, description="preview: a protocol worker shows what it would do, and does nothing."
    )
    on_dependency_failure: Literal["skip", "block"] | None = Field(
        default=None, description="What becomes of the task when one that it depends on fails."
    )
    mode: Mode | None = Field(
        default=None,
        description="command: any program, the exit status decides; protocol: crewd-worker/1 on stdin and stdout.",
    )
    timeout: Duration | None = Field(
        default=None, ge=0.1, le=365 * 86400, description="Of one attempt; unless said: no limit."
    )
    startup_timeout: Duration | None = Field(
        default=None, ge=0.1, le=86400, description="Until `ready`; protocol mode only."
    )
    stdin_timeout: Duration | None = Field(
        default=None, ge=0.1, le=86400, description="For a message that the worker does not read."
    )
    bad_lines_max: int | None = Field(
        default=None, ge=1, le=100_000, description="Bad lines of a protocol worker before it is stopped."
    )
    priority: int | None = Field(default=None, ge=-1000, le=1000, description="Higher first; unless said: the run's.")
    concurrency_key: Line | None = Field(
        default=None, description="Tasks of one key, in all runs, share concurrency_max."
    )
    concurrency_max: int | None = Field(
        default=None, ge=1, le=10_000, description="Tasks of its concurrency_key at one time."
    )
    type: Line | None = Field(default=None, description="What kind of work it is, for heartbeat overrides.")
    model: Line | None = Field(default=None, description="The model that does it; unless said: the executor's.")
    executor: Name | None = Field(default=None, description="The template of crewd.toml that the task builds on.")
    provider: Line | None = Field(
        default=None,
        description="Names the circuit; unless said: the executor's, else that of the agent's provider, account and"
        " model, else the executor's name (default has none).",
    )
    account: Line | None = Field(
        default=None, description="Whose credentials an agent uses: a part of its circuit's name."
    )
    payload: Any = Field(
        default=None,
        description="Any value: in the `task` message in protocol mode, else in the file $CREWD_PAYLOAD_FILE.",
    )
    env: Environment | None = Field(default=None, description="Variables of the command.")
    secrets: Secrets | None = Field(
        default=None, description="Variables whose values are files of the credentials folder."
    )
    variants: Labels | None = Field(default=None, description="Which variants of an experiment it runs under.")
    heartbeat: TaskHeartbeat | None = Field(default=None, description="How silent it may be.")
    retry: Retry | None = Field(default=None, description="When a failed attempt is followed by another.")
    success: Success | None = Field(default=None, description="What must hold before an attempt counts as completed.")
    stop: Stop | None = Field(default=None, description="How an attempt is ended.")
    limits: Limits | None = Field(default=None, description="What one attempt may use.")
    resume: Resume | None = Field(
        default=None, description="Whether another attempt goes on with the agent's session."
    )
    budget: Budget | None = Field(default=None, description="What all attempts of the task may use together.")
    watch: Watch | None = Field(default=None, description="What is watched in the agent's own words.")


class Task(TaskFields):
    """One task."""

    id: Id = Field(description="Its name within the run.")
    depends_on: Ids | None = Field(default=None, description="Ids of the tasks that must be completed before it.")


class RunHead(Group):
    """What a run says of itself."""

    model_config = ConfigDict(defer_build=True)

    name: Line | None = Field(default=None, description="What it is called, for people.")
    crew: Annotated[Line, Field(min_length=1)] | None = Field(
        default=None,
        description="Whose run it is: metrics, retry budgets and pauses are kept by crew. Unless said: default.",
    )
    run_id: Id | None = Field(default=None, description="Its id; unless said: crewd makes one.")
    priority: int | None = Field(default=None, ge=-1000, le=1000, description="Of every task without one of its own.")
    max_parallel: int | None = Field(default=None, ge=1, le=TASKS_MAX, description="Tasks of the run at one time.")
    labels: Labels | None = Field(default=None, description="Words of your own.")
    budget: Budget | None = Field(default=None, description="What all tasks of the run may use together.")


class RunFile(RunHead):
    """One run: what it is called, and its tasks."""

    defaults: TaskFields | None = Field(default=None, description="Fields of every task that leaves them out.")
    tasks: Annotated[
        tuple[Task, ...],
        Field(min_length=1, max_length=TASKS_MAX),
        _LISTED,
        Kind("list of tasks", '[[tasks]] and id = "name" below', item="table"),
    ] = Field(description="The tasks, in the order in which they are preferred.")
