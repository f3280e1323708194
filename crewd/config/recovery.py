"""The settings of recovery: what is done for interrupted runs of other runtimes."""

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

from crewd.config.group import Group
from crewd.config.values import Duration, Fixed, Name, Texts
from crewd.policy.recovery import PLACEHOLDERS

Mode = Literal["ask", "auto", "off"]


class RecoveryOverride(Group):
    """Other commands for the runs of some sources. The first override whose matchers all fit counts."""

    runtime: str = Field(default="", description="Fits runs of this runtime.")
    root: str = Field(default="", description="Fits runs found under this folder, as sources.roots names it.")
    mode: Mode | None = Field(default=None, description="Instead of recovery.mode.")
    command: Texts | None = Field(default=None, description="Instead of recovery.command.")
    cancel_command: Texts | None = Field(default=None, description="Instead of recovery.cancel_command.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not (self.runtime or self.root):
            raise PydanticCustomError("matches_all", "fits every run", {"remedy": "name runtime or root"})
        _check((("command", self.command or ()), ("cancel_command", self.cancel_command or ())))
        return self


class Recovery(Group):
    """What is done for interrupted runs of other runtimes: crewd runs a command, and never writes their files."""

    mode: Mode = Field(
        default="ask",
        description="ask: a person approves each plan; auto: crewd approves those that can resume; off: no plans.",
    )
    command: Texts = Field(
        default=(),
        description="Program and arguments that resume a run; {run} {folder} {project} {task} are filled in. "
        "None = only plans.",
    )
    cancel_command: Texts = Field(
        default=(), description="Program and arguments that end a run for good; never run without a person's word."
    )
    deadline: Duration = Field(
        default=120.0,
        ge=1,
        le=86400,
        description="How long after the command a run may take to move before the recovery has failed.",
    )
    command_timeout: Duration = Field(
        default=60.0, ge=1, le=3600, description="A command that is not done by then is ended."
    )
    max_attempts: int = Field(default=2, ge=1, le=10, description="Tries of a command that fails.")
    overrides: Annotated[Mapping[Name, RecoveryOverride], Fixed, PlainSerializer(dict)] = Field(
        default={},
        validate_default=True,
        description="Other commands for some sources, each under a name of its own.",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        _check((("command", self.command), ("cancel_command", self.cancel_command)))
        return self


def _check(commands: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    for name, command in commands:
        for unknown in _unknown(command):
            raise PydanticCustomError(
                "placeholder",
                "{name}: {{{unknown}}} is no placeholder",
                {
                    "name": name,
                    "unknown": unknown,
                    "remedy": f"use {', '.join('{' + each + '}' for each in PLACEHOLDERS)}",
                },
            )


def _unknown(command: tuple[str, ...]) -> Iterator[str]:
    for word in command:
        try:
            named = [name for _, name, _, _ in Formatter().parse(word) if name is not None]
        except ValueError:
            continue  # a brace that names nothing is a brace
        yield from (name for name in named if name.isidentifier() and name not in PLACEHOLDERS)
