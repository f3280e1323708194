"""Plans: what a person or program asked crewd to run. Frozen from the moment it is accepted.

All times are seconds, all sizes bytes. Names of executors are resolved before a plan is accepted: a plan says
everything that its tasks need, whatever the settings say later.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from crewd.model.failure import ErrorClass


class Jitter(StrEnum):
    """How chance spreads a delay d over time (docs/reference/run-file.md)."""

    NONE = "none"  # d
    FULL = "full"  # [0, d]
    EQUAL = "equal"  # [d/2, d]
    DECORRELATED = "decorrelated"  # [base, 3 x the delay before], at most the cap


class Mode(StrEnum):
    COMMAND = "command"  # any program: stdout is output, the exit status decides
    PROTOCOL = "protocol"  # crewd-worker/1: JSON lines on stdin and stdout


class RetryRule(msgspec.Struct, frozen=True, gc=False):
    """What one class of errors is met with, where it differs from the task's own rule. None: as the task's."""

    retry: bool | None = None
    max_attempts: int | None = None
    base: float | None = None
    factor: float | None = None
    cap: float | None = None


class RetryPolicy(msgspec.Struct, frozen=True, gc=False):
    """When a failed attempt is followed by another."""

    max_attempts: int = 3  # starts, the first included
    base: float = 5.0  # delay after the first failure
    factor: float = 2.0
    cap: float = 300.0  # longest delay before jitter
    jitter: Jitter = Jitter.FULL
    elapsed_max: float | None = None  # from the first start to the start of the last attempt
    classes: Mapping[ErrorClass, RetryRule] = {}


class RequiredFile(msgspec.Struct, frozen=True, gc=False):
    """A file that must be there once a task is done. Relative to the task's cwd, and never outside it."""

    path: str
    bytes_min: int = 1


class Success(msgspec.Struct, frozen=True, gc=False):
    """What must hold before an attempt counts as completed. Exit 0 alone proves nothing."""

    exit_codes: tuple[int, ...] = (0,)
    task_error_codes: tuple[int, ...] = ()  # exits with which the command says "my task failed": task_error
    files: tuple[RequiredFile, ...] = ()
    output_bytes_min: int = 0
    command: tuple[str, ...] = ()  # must exit 0, in the task's cwd and environment
    command_timeout: float = 60.0


class HeartbeatPlan(msgspec.Struct, frozen=True, gc=False):
    """How silent a worker may be, where it differs from the settings. None: as the settings say."""

    warn_after: float | None = None
    stale_after: float | None = None
    dead_after: float | None = None
    hung_after: float | None = None
    activity_is_heartbeat: bool | None = None  # None: in command mode yes, in protocol mode no
    on_hung: str = ""  # "stop" or "report"; "": stop where the worker has a heartbeat contract


class Limits(msgspec.Struct, frozen=True, gc=False):
    """What one attempt may use. None: no limit beyond the system's."""

    cpu_seconds: float | None = None
    memory_bytes: int | None = None
    files: int | None = None  # open descriptors of one process
    processes: int | None = None  # of crewd's user, as the kernel counts them; of the attempt with a cgroup
    output_bytes: int = 256 * 2**20  # of stdout and of stderr, each, kept on disk; older output is given back
    nice: int = 0


class StopStep(msgspec.Struct, frozen=True, gc=False):
    """One rung of the ladder: send it, and wait so long for the end."""

    signal: str  # "TERM", "INT", "HUP", "QUIT", "USR1", "USR2"
    wait: float


class StopPlan(msgspec.Struct, frozen=True, gc=False):
    """How an attempt is ended. SIGKILL to everything that is left follows the last step, always."""

    grace: float = 10.0  # after the cancel message; protocol mode only
    steps: tuple[StopStep, ...] = (StopStep("TERM", 5.0),)
    drain: float = 2.0  # for what an attempt that ended by itself left behind


class ResumePlan(msgspec.Struct, frozen=True, gc=False):
    """Whether another attempt goes on with the session of the one before (docs/agents.md)."""

    mode: str = "auto"  # or "never"
    attempts_max: int = 2  # in a row that go on with one session; the next begins afresh
    tree: str = "same"  # only where the working tree is as the attempt before left it; or "any"


class BudgetPlan(msgspec.Struct, frozen=True, gc=False):
    """What may be used. Tokens are counted in and out, without what came from a cache. None: no limit."""

    tokens: int | None = None
    cost_usd: float | None = None
    warn_ratio: float = 0.8
    on_exceeded: str = "stop"  # or "park": wait until a person or a new day lets it go on; or "warn"


class WatchPlan(msgspec.Struct, frozen=True, gc=False):
    """What is watched in an agent's own words, and what follows. All times are seconds; 0 as a count: never."""

    stream_hang_after: float = 240.0  # silence of its model, with no tool open; the programs themselves react at 300
    on_stream_hang: str = "report"  # or "stop": the attempt ends as provider_error, and the ladder resumes it
    park_after: float = 120.0  # a wait for the provider as long as this frees the slot; 0: never
    same_tool_warn: int = 5  # times that one tool is called with one input, one after the other
    same_tool_max: int = 20
    same_error_warn: int = 5  # times in a row that a tool fails with the same words
    same_error_max: int = 20
    on_loop: str = "stop"  # at `max`; or "park", or "warn"
    burn_tokens_min: int = 200_000  # tokens without anything new below which nothing burns
    burn_factor: float = 8.0  # times the usual amount between two new things
    on_burn: str = "warn"  # or "stop", or "park"
    on_denied: str = "fail"  # a tool that it was not allowed to use spoils success; or "allow"


class TaskPlan(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One task, with every default filled in."""

    task_id: str
    command: tuple[str, ...]
    cwd: str  # absolute
    mode: Mode = Mode.COMMAND
    env: Mapping[str, str] = {}
    env_pass: tuple[str, ...] = ()  # names taken over from crewd's own environment
    secrets: Mapping[str, str] = {}  # environment name -> file name in the credentials folder
    stdin: str | None = None  # text; None: nothing. Command mode only
    payload: Any = None  # JSON; protocol mode sends it in `task`, command mode finds it in $CREWD_PAYLOAD_FILE
    kind: str = "task"  # or "preview": a protocol worker renders and does nothing
    depends_on: tuple[str, ...] = ()
    on_dependency_failure: str = "skip"  # or "block"
    timeout: float | None = None  # of one attempt
    startup_timeout: float = 30.0  # until `ready`; protocol mode only
    stdin_timeout: float = 30.0  # for a message that the worker does not read
    bad_lines_max: int = 10  # of a protocol worker, before it is stopped
    heartbeat: HeartbeatPlan = HeartbeatPlan()
    retry: RetryPolicy = RetryPolicy()
    success: Success = Success()
    stop: StopPlan = StopPlan()
    limits: Limits = Limits()
    priority: int = 0  # higher first
    concurrency_key: str = ""  # tasks of one key, in all runs, share `concurrency_max`
    concurrency_max: int = 1
    task_type: str = ""
    model: str = ""
    executor: str = "default"
    provider: str = ""  # names the circuit; "": the executor's
    variants: Mapping[str, str] = {}
    profile: str = ""  # of an agent command line; "": any command
    prompt: str | None = None  # with a profile: what the agent is asked; it is given as the profile says
    idempotent: bool = True  # may be carried out twice; False: only what provably goes on is tried again
    account: str = ""  # whose credentials it uses: a part of the circuit's name
    resume: ResumePlan = ResumePlan()
    budget: BudgetPlan = BudgetPlan()
    watch: WatchPlan = WatchPlan()


class RunPlan(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One run as accepted. Tasks stand in the order in which they were written; none depends on itself."""

    run_id: str
    crew: str
    name: str = ""
    labels: Mapping[str, str] = {}
    tasks: tuple[TaskPlan, ...]
    max_parallel: int | None = None  # tasks of this run at one time
    source: str = ""  # the file or request it came from, for display
    budget: BudgetPlan = BudgetPlan()  # of all tasks together

    def task(self, task_id: str) -> TaskPlan:
        """Find a task. Raises KeyError."""
        for task in self.tasks:
            if task.task_id == task_id:
                return task
        raise KeyError(task_id)
