"""Run files in short."""

from collections.abc import Mapping
from typing import Any

import pytest

from crewd.config.run_file import Executor, RunRefused, TaskDefaults, plan
from crewd.model.plan import RunPlan, TaskPlan

BASE = "/srv/project"
DEFAULTS = TaskDefaults(env_pass=("PATH", "HOME"), home="/home/ann")


def run_plan(data: Any, executors: Mapping[str, Executor] | None = None, base: str = BASE) -> RunPlan:
    """Make a plan of a whole file."""
    return plan(data, executors=executors or {}, defaults=DEFAULTS, base=base, run_id="run-1", source="crew.toml")


def task_plan(executor: Executor | None = None, defaults: Mapping[str, Any] | None = None, **fields: Any) -> TaskPlan:
    """Make the plan of one task, of executor `x` where one is given."""
    named = {"executor": "x"} if executor is not None else {"command": ["true"]}
    data = {"defaults": dict(defaults or {}), "tasks": [{"id": "t", **named, **fields}]}
    return run_plan(data, {} if executor is None else {"x": executor}).tasks[0]


def problems(data: Any, executors: Mapping[str, Executor] | None = None, base: str = BASE) -> list[tuple[str, str]]:
    """What is wrong with a whole file: (pointer, code), in the order in which it is told."""
    with pytest.raises(RunRefused) as caught:
        run_plan(data, executors, base)
    return [(each.pointer, each.code.value) for each in caught.value.problems]


def task_problems(**fields: Any) -> list[tuple[str, str]]:
    """What is wrong with one task, with pointers below it."""
    found = problems({"tasks": [{"id": "t", "command": ["true"], **fields}]})
    return [(pointer.removeprefix("/tasks/0"), code) for pointer, code in found]


def told(data: Any, executors: Mapping[str, Executor] | None = None) -> str:
    """What is wrong with a whole file, as a person reads it."""
    with pytest.raises(RunRefused) as caught:
        run_plan(data, executors)
    return str(caught.value)
