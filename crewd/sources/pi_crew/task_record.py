"""One entry of `tasks.json`, as far as it is read. A field of a wrong type counts as absent and costs only itself."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from crewd.sources.fields import COUNT_MAX

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
Amount = Annotated[float, Meta(ge=0, le=COUNT_MAX)]
Pid = Annotated[int, Meta(gt=0, lt=1 << 22)]  # PID_MAX_LIMIT of 64-bit Linux
FAULTS_MAX = 128  # steps of mending one entry: twice as many as there are fields to be wrong


class Heartbeat(msgspec.Struct, rename="camel", gc=False):
    last_seen_at: str | None = None
    last_event_at: str | None = None
    last_stdout_at: str | None = None
    pid: Pid | None = None


class Progress(msgspec.Struct, rename="camel"):
    last_activity_at: str | None = None
    tool_count: Count | None = None
    tokens: Count | None = None
    turns: Count | None = None
    current_tool: str | None = None
    current_tool_args: str | None = None
    recent_tools: list[Any] | None = None
    recent_output: list[Any] | None = None


class Checkpoint(msgspec.Struct, rename="camel", gc=False):
    phase: str | None = None
    updated_at: str | None = None
    child_pid: Pid | None = None


class Spent(msgspec.Struct, rename="camel", gc=False):
    input: Count | None = None
    output: Count | None = None
    cache_read: Count | None = None
    cache_write: Count | None = None
    cost: Amount | None = None


class Routing(msgspec.Struct, gc=False):
    resolved: str | None = None


class Asked(msgspec.Struct, rename="camel", gc=False):
    asked_at: str | None = None
    question_id: str | None = None


NO_HEARTBEAT, NO_PROGRESS, NO_CHECKPOINT = Heartbeat(), Progress(), Checkpoint()


class TaskRecord(msgspec.Struct, rename="camel"):
    """The fields that are read. Texts are as they stand, of whatever length."""

    status: str | None = None
    role: str | None = None
    step_id: str | None = None
    agent: str | None = None
    model: str | None = None
    model_routing: Routing | None = None
    display_name: str | None = None
    title: str | None = None
    depends_on: list[Any] | None = None
    started_at: str | None = None
    finished_at: str | None = None
    error: str | None = None
    attempts: list[Any] | None = None
    heartbeat: Heartbeat | None = None
    agent_progress: Progress | None = None
    checkpoint: Checkpoint | None = None
    json_events: Count | None = None
    lifetime_usage: Spent | None = None
    usage: Spent | None = None
    waiting: Asked | None = None


def read_record(entry: Mapping[str, Any]) -> TaskRecord:
    """Read an entry of the list."""
    try:
        return msgspec.convert(entry, TaskRecord)
    except (msgspec.ValidationError, RecursionError) as error:
        return _mended(entry, error)


def _mended(entry: Mapping[str, Any], error: Exception) -> TaskRecord:
    for _ in range(FAULTS_MAX):
        # "Expected `str`, got `int` - at `$.heartbeat.lastSeenAt`": one field at a time.
        path = str(error).rpartition("`$.")[2].rstrip("`")
        if not path:
            break
        entry = _without(entry, path.split("."))
        try:
            return msgspec.convert(entry, TaskRecord)
        except (msgspec.ValidationError, RecursionError) as another:
            error = another
    return TaskRecord()


def _without(value: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Copy an object without one field. 3.0 becomes 3 first: if that is wrong too, it goes the next time."""
    name, *deeper = names
    kept = dict(value)
    found = kept.pop(name, None)
    if deeper and isinstance(found, dict):
        kept[name] = _without(found, deeper)
    elif isinstance(found, float) and found.is_integer():
        kept[name] = int(found)
    return kept
