"""One beat: what a worker says of itself, as written and as read (docs/reference/beat-format.md)."""

from typing import Any, Literal

import msgspec

from crewd.model.look import ReadResult
from crewd.model.moment import parse_rfc3339, rfc3339
from crewd.model.run import TaskStatus
from crewd.sources.document import parse
from crewd.sources.fields import NO_EXTRA, unknown
from crewd.sources.names import ID_RULE, shown, valid_id

VERSION = 1
SUFFIX = ".json"
Status = Literal["queued", "running", "waiting", "completed", "failed", "cancelled", "skipped"]
Reason = Literal["human", "throttled", "parked"]
WAIT_REASONS: tuple[Reason, ...] = ("human", "throttled", "parked")
STATUSES: tuple[Status, ...] = ("queued", "running", "waiting", "completed", "failed", "cancelled", "skipped")


class BeatUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens and cost so far."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost_usd: float | None = None
    model: str = ""


class Beat(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The fields of one beat. Times are RFC 3339; seconds are the writer's own."""

    v: int
    run: str
    task: str
    seq: int  # grows by one with each beat of a worker
    at: str
    status: Status = "running"
    # Anything that changes when the work moves: a number, a text, a list.
    progress: Any = None
    busy_seconds: float | None = None  # a lease: "silent for so long from `at` on, and well"
    tool: str = ""
    waiting: Reason | None = None
    attempt: int = 1
    crew: str = ""
    task_type: str = ""
    error: str = ""
    usage: BeatUsage | None = None
    pid: int | None = None
    start_ticks: int | None = None  # field 22 of /proc/PID/stat
    boot_id: str | None = None
    pid_namespace: int | None = None
    host: str | None = None


class Decoded(msgspec.Struct, frozen=True):
    """A beat as read, or why there is none. `extra` holds the fields that this version does not know."""

    result: ReadResult
    why: str = ""
    beat: Beat | None = None
    at: float = 0.0  # wall time
    extra: dict[str, str] = NO_EXTRA


FIELDS = frozenset(Beat.__struct_fields__)


def beat_path(root: str, run: str, task: str) -> str:
    """Name the file of a worker's beats. Raises ValueError for an id that is none: no id reaches out of `root`."""
    for name, value in (("run", run), ("task", task)):
        if not valid_id(value):
            raise ValueError(f"{name} must be {ID_RULE}: got {shown(value)}")
    return f"{root.rstrip('/')}/{run}/{task}{SUFFIX}"


def encode_beat(
    *,
    run: str,
    task: str,
    seq: int,
    at: float,
    status: str = "running",
    progress: object = None,
    busy_until: float | None = None,
    tool: str = "",
    waiting: str = "",
    attempt: int = 1,
    crew: str = "",
    task_type: str = "",
    error: str = "",
    usage: BeatUsage | None = None,
    pid: int | None = None,
    start_ticks: int | None = None,
    boot_id: str | None = None,
    pid_namespace: int | None = None,
    host: str | None = None,
) -> bytes:
    """Write one beat. `at` and `busy_until` are wall times. Raises ValueError for what a reader would refuse."""
    beat_path("", run, task)
    given: dict[str, object] = {
        "v": VERSION,
        "run": run,
        "task": task,
        "seq": seq,
        "at": rfc3339(at),
        "status": status,
        "progress": progress,
        "busy_seconds": round(max(0.0, busy_until - at), 3) if busy_until is not None else None,
        "tool": tool,
        "waiting": waiting or None,
        "attempt": attempt,
        "crew": crew,
        "task_type": task_type,
        "error": error,
        "usage": usage,
        "pid": pid,
        "start_ticks": start_ticks,
        "boot_id": boot_id,
        "pid_namespace": pid_namespace,
        "host": host,
    }
    try:
        beat = msgspec.convert(given, Beat)
        data = msgspec.json.encode(beat) + b"\n"
    except (msgspec.MsgspecError, TypeError, RecursionError) as error_found:
        raise ValueError(f"no beat can be made of this: {error_found}") from error_found
    decoded = decode_beat(data)
    if decoded.beat is None:
        raise ValueError(f"no beat can be made of this: {decoded.why}")
    return data


def decode_beat(data: bytes) -> Decoded:
    """Read one beat, strictly: a field of a wrong type makes it no beat; an unknown field is kept."""
    document = parse(data)
    if document.result is not ReadResult.OK:
        return Decoded(document.result, document.why)
    try:
        beat = msgspec.convert(document.value, Beat)
    except (msgspec.ValidationError, RecursionError) as error:
        return Decoded(ReadResult.INVALID, str(error)[:200])
    at = parse_rfc3339(beat.at)
    if why := _objection(beat, at):
        return Decoded(ReadResult.INVALID, why)
    return Decoded(ReadResult.OK, "", beat, at or 0.0, unknown(document.value, FIELDS))


def _objection(beat: Beat, at: float | None) -> str:
    """Say what is wrong with a beat whose fields have the right types; "" = nothing."""
    if beat.v != VERSION:
        return f"v is {beat.v}; this crewd reads {VERSION}"
    if not valid_id(beat.run) or not valid_id(beat.task):
        return f"run and task must be {ID_RULE}"
    if at is None:
        return "at is no RFC 3339 time"
    for name in ("seq", "pid_namespace", "start_ticks", "busy_seconds"):
        value = getattr(beat, name)
        if value is not None and not 0 <= value < 1 << 63:
            return f"{name} must be 0 or more"
    if not 1 <= beat.attempt < 1 << 31:
        return "attempt must be 1 or more"
    if beat.pid is not None and not 0 < beat.pid < 1 << 22:
        return "pid is no process id"
    usage = beat.usage
    if usage is not None and (
        min(usage.input, usage.output, usage.cache_read, usage.cache_write) < 0 or (usage.cost_usd or 0.0) < 0
    ):
        return "usage must not be below 0"
    return ""


def task_status(status: Status) -> TaskStatus:
    """Give the word its meaning; every status of a beat is one of a task."""
    return TaskStatus(status)
