"""The parts of a run file, each read as far as it can be: what is wrong is told and left out, the rest judged on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from crewd.config.run_file.fields import DEPENDENCIES_MAX, TASKS_MAX, RunFile, RunHead, Task, TaskFields
from crewd.config.run_file.graph import Node
from crewd.config.run_file.layers import values_of
from crewd.config.run_file.problems import Code, Finds, shown
from crewd.config.run_file.words import no_table, tell, unknown

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Parts:
    """What stands around the tasks, and the tasks as they were written."""

    head: RunHead
    run_id: str
    defaults: Mapping[str, Any]
    bad_defaults: frozenset[str]  # fields that were told and left out
    tasks: Sequence[Any]


@dataclass(frozen=True)
class GivenTask:
    """What one task says for itself."""

    place: int  # in the list of tasks
    task_id: str
    values: Mapping[str, Any]  # without id and depends_on
    depends_on: tuple[str, ...]
    bad: frozenset[str]  # fields that were told and left out
    is_whole: bool  # nothing is


def read_parts(data: Mapping[str, Any], run_id: str, finds: Finds) -> Parts:
    """Read everything but the tasks."""
    rest = {name: value for name, value in data.items() if name in RunHead.model_fields}
    for name in data.keys() - RunFile.model_fields.keys():
        unknown((name,), (name,), finds, RunFile)
    head, _ = _read(RunHead, rest, (), finds)
    head = head or RunHead()
    chosen = head.run_id or run_id
    if not is_id(chosen):
        finds.add(("run_id",), Code.BAD_ID, f"{shown(chosen)} is no id", "begin with a letter or digit")
    defaults, bad_defaults = _read(TaskFields, data.get("defaults"), ("defaults",), finds)
    values = values_of(defaults) if defaults is not None else {}
    return Parts(head, chosen, values, bad_defaults, _task_list(data, finds))


def read_task(raw: Any, place: int, finds: Finds) -> GivenTask | None:
    """Read one task. None: it is no table."""
    task, bad = _read(Task, raw, ("tasks", place), finds, TaskFields)
    if task is None:
        if raw is None:
            no_table(("tasks", place), raw, finds)
        return None
    values = values_of(task)
    values.pop("id", None)
    depends_on = tuple(dict.fromkeys(values.pop("depends_on", ())))
    return GivenTask(place, str(raw.get("id", "")), values, depends_on, bad, isinstance(task, Task))


def nodes_of(tasks: Sequence[Any]) -> list[Node]:
    """Take from the tasks what is sound of their ids and dependencies, whatever else is wrong with them."""
    nodes = []
    for place, task in enumerate(tasks):
        if isinstance(task, dict) and is_id(task.get("id")):
            links = tuple((number, each) for number, each in enumerate(_dependencies(task)) if is_id(each))
            nodes.append(Node(place, task["id"], links))
    return nodes


def is_id(value: object) -> bool:
    """Whether a value is an id of a run or task."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _task_list(data: Mapping[str, Any], finds: Finds) -> Sequence[Any]:
    if "tasks" not in data:
        finds.add(("tasks",), Code.MISSING_FIELD, "tasks is missing", "add [[tasks]] with id and command")
        return ()
    given = data["tasks"]
    if not isinstance(given, list):
        no_table(("tasks",), given, finds, "list")
        return ()
    if not given:
        finds.add(("tasks",), Code.VALUE_OUT_OF_RANGE, "there are no tasks", "add one at least")
    links = sum(len(_dependencies(each)) for each in given if isinstance(each, dict))
    for number, most, what in ((len(given), TASKS_MAX, "tasks"), (links, DEPENDENCIES_MAX, "dependencies")):
        if number > most:
            message = f"there are {number} {what}, and {most} is the most"
            finds.add(("tasks",), Code.TOO_LARGE, message, "split the run")
            return ()
    return given


def _read(
    model: type[_Model],
    raw: Any,
    location: tuple[object, ...],
    finds: Finds,
    rest: type[BaseModel] | None = None,
) -> tuple[Any, frozenset[str]]:
    """Read a table; where something is wrong with it, what is left of it, as `rest`. None: it is no table."""
    if raw is None:
        return None, frozenset()
    try:
        return model.model_validate(raw, strict=True), frozenset()
    except ValidationError as error:
        tell(error, location, finds, model)
        bad = frozenset(str(each["loc"][0]) for each in error.errors(include_url=False) if each["loc"])
    if not isinstance(raw, dict):
        return None, bad
    rest = rest or model
    sound = {name: value for name, value in raw.items() if name not in bad and name in rest.model_fields}
    return rest.model_validate(sound, strict=True), bad


def _dependencies(task: Mapping[str, Any]) -> Sequence[Any]:
    given = task.get("depends_on")
    return given if isinstance(given, list) else ()
