"""Executors: the named templates of crewd.toml that tasks build on."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crewd.config.group import Group
from crewd.config.run_file.fields import (
    Budget,
    Environment,
    Limits,
    Mode,
    ProfileName,
    Resume,
    Retry,
    Secrets,
    Stop,
    Success,
    TaskHeartbeat,
    Watch,
)
from crewd.config.run_file.layers import tables_of, values_of, wrongs_of
from crewd.config.values import Duration, Line, Texts, VariableNames
from crewd.policy.profiles import profile_of


class Executor(Group):
    """A template that tasks build on: what a task leaves out is as here. `default` is for tasks that name none."""

    command: Texts = Field(
        default=(),
        description="What to run; a task's args follow. Filled in: {model}, {run}, {task}, {type}; {{ is a brace.",
    )
    env_pass: VariableNames = Field(
        default=(), description="Variables taken over from crewd's own environment, besides tasks.env_pass."
    )
    profile: ProfileName | None = Field(
        default=None, description="The agent that the command is; it needs no command then. plain: any other program."
    )
    cwd: str = Field(default="", description="Folder to run in, absolute or with ~; none = the run file's.")
    mode: Mode | None = Field(default=None, description="command or protocol, as in a run file.")
    timeout: Duration | None = Field(default=None, ge=0.1, le=365 * 86400, description="Of one attempt.")
    max_parallel: int | None = Field(
        default=None, ge=1, le=10_000, description="Tasks of this executor at one time, in all runs."
    )
    provider: Line = Field(
        default="",
        description="Names the circuit; none = that of the agent's provider, else the executor's name.",
    )
    account: Line = Field(default="", description="Whose credentials an agent uses: a part of its circuit's name.")
    model: Line = Field(default="", description="The model of tasks that name none.")
    idempotent: bool | None = Field(default=None, description="Its tasks may be carried out twice.")
    env: Environment | None = Field(default=None, description="Variables of the command.")
    secrets: Secrets | None = Field(
        default=None, description="Variables whose values are files of the credentials folder."
    )
    limits: Limits | None = Field(default=None, description="What one attempt may use.")
    stop: Stop | None = Field(default=None, description="How an attempt is ended.")
    heartbeat: TaskHeartbeat | None = Field(default=None, description="How silent a worker may be.")
    retry: Retry | None = Field(default=None, description="When a failed attempt is followed by another.")
    success: Success | None = Field(default=None, description="What must hold before an attempt counts as completed.")
    resume: Resume | None = Field(
        default=None, description="Whether another attempt goes on with the agent's session."
    )
    budget: Budget | None = Field(default=None, description="What all attempts of a task may use together.")
    watch: Watch | None = Field(default=None, description="What is watched in the agent's own words.")

    @model_validator(mode="after")
    def _stands_alone(self) -> Self:
        if self.cwd and not self.cwd.startswith(("/", "~/")) and self.cwd != "~":
            message = "cwd {cwd} is relative, and runs come from many folders"
            raise PydanticCustomError("relative", message, {"cwd": repr(self.cwd), "remedy": "write it from / or ~"})
        if self.mode == "protocol" and profile_of(self.profile or "").program:
            message = "profile {profile} in protocol mode: an agent prints its own lines, and none of crewd-worker/1"
            context = {"profile": str(self.profile), "remedy": "leave mode out, or profile"}
            raise PydanticCustomError("conflict", message, context)
        if both := sorted((self.env or {}).keys() & (self.secrets or {}).keys()):
            remedy = "take it out of one of them"
            raise PydanticCustomError("twice", "{name} is in env and in secrets", {"name": both[0], "remedy": remedy})
        if wrong := next(wrongs_of(tables_of(values_of(self))), None):
            context = {"table": wrong.table, "message": wrong.message, "remedy": wrong.remedy}
            raise PydanticCustomError("together", "{table}: {message}", context)
        return self
