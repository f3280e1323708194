"""The messages of crewd-worker/1: bytes of one line in, a typed message or a named fault out, and back again.

No bytes make it raise. The names are those of docs/reference/worker-protocol.md.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn

import msgspec

from crewd.sources.fields import COUNT_MAX, cut
from crewd.sources.managed.framing import TooLong

PROTOCOL = "crewd-worker/1"
VERSION = 1  # of `task`
DEPTH_MAX = 64
# Of a line, those within texts included. Building a million tiny objects holds everyone else up.
BRACKETS_MAX = 1 << 16
HEARTBEAT_INTERVAL_MAX = 3600.0
PATH_MAX = 4096  # PATH_MAX of limits.h
DETAILS_BYTES_MAX = 16 * 1024

Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=COUNT_MAX)]
Interval = Annotated[float, msgspec.Meta(gt=0, le=HEARTBEAT_INTERVAL_MAX)]
FilePath = Annotated[str, msgspec.Meta(min_length=1, max_length=PATH_MAX, pattern=r"\A[^\x00]+\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")]


class Message(msgspec.Struct, frozen=True, tag_field="type"):
    """One line. The field `type` names the message; null in an optional field says the same as leaving it out."""


# --- worker to crewd


class Ready(Message, frozen=True, tag="ready"):
    """The first message of a worker."""

    protocol: str
    heartbeat_interval_s: Interval | None = None


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """The worker lives. One that says the same as the one before is no news."""

    id: str
    seq: Count
    step: str = ""
    progress: Any = None  # any JSON; what changes when the work moves


class Busy(Message, frozen=True, tag="busy"):
    """A lease: the worker will be silent for so long, and well. 0 takes it back."""

    id: str
    until_s: Amount  # seconds from now
    tool: str = ""


class Chunk(Message, frozen=True, tag="chunk"):
    """A piece of output."""

    id: str
    text: str
    stream: str = "stdout"


class Log(Message, frozen=True, tag="log"):
    """A word for whoever reads the log. The only message that may come before `ready`."""

    msg: str
    level: str = "info"


class ArtifactMade(Message, frozen=True, tag="artifact"):
    """A file was made."""

    id: str
    path: FilePath
    sha256: Digest = ""
    bytes: Count | None = None


class UsageTold(Message, frozen=True, tag="usage"):
    """What was used since the message of usage before this one."""

    id: str
    model: str = ""
    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    cost_usd: Amount | None = None


class Result(Message, frozen=True, tag="result"):
    """The task is done. Terminal."""

    id: str
    output: Any = None


class Error(Message, frozen=True, tag="error"):
    """The task is not done. Terminal."""

    id: str
    error_class: str = msgspec.field(name="class")
    message: str = ""
    retryable: bool | None = None
    retry_after_s: float | None = None
    guidance: str = ""
    details: Mapping[str, Any] = {}


class Pong(Message, frozen=True, tag="pong"):
    """The answer to `ping`."""


# --- crewd to worker


class TaskMessage(Message, frozen=True, kw_only=True, tag="task"):
    """The work. Sent once, after `ready`."""

    id: str  # RUN/TASK/ATTEMPT: every message about this attempt carries it
    v: int = VERSION
    run_id: str
    task_id: str
    attempt: int
    fence: int
    kind: str = "task"
    payload: Any = None
    deadline_s: float | None = None  # seconds from now until crewd ends the attempt; None: never
    variants: Mapping[str, str] = {}
    traceparent: str = ""
    resume: Any | msgspec.UnsetType = msgspec.UNSET  # what an earlier attempt left to go on from


class Cancel(Message, frozen=True, tag="cancel"):
    """Stop, and say so with a terminal message within the grace."""

    id: str
    reason: str = ""
    grace_s: float = 10.0


class Ping(Message, frozen=True, tag="ping"):
    """Answer with `pong`."""


class Shutdown(Message, frozen=True, tag="shutdown"):
    """Nothing more will come. A worker at work treats it as a cancel."""


FromWorker = Ready | Heartbeat | Busy | Chunk | Log | ArtifactMade | UsageTold | Result | Error | Pong
ToWorker = TaskMessage | Cancel | Ping | Shutdown


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """A sound message of a type that this version does not know. Ignored and counted."""

    type: str


class Bad(msgspec.Struct, frozen=True, gc=False):
    """A line that is no message. Ignored and counted; too many of them end the attempt."""

    kind: str  # one of BAD_KINDS
    words: str  # for a person; may quote the line, and so must be redacted like it


# The last three are no faults of a line by itself, but of its place in the conversation.
BAD_KINDS = (
    "bad_utf8",
    "bad_json",
    "not_object",
    "duplicate_key",
    "too_deep",
    "nan",
    "bad_field",
    "line_too_long",
    "wrong_id",
    "before_ready",
    "ready_again",
)
LINE_TOO_LONG = Bad("line_too_long", "a line over 1 MiB; write large output to a file and tell it as an artifact")

TYPES: Mapping[str, type[FromWorker]] = {
    str(each.__struct_config__.tag): each
    for each in (Ready, Heartbeat, Busy, Chunk, Log, ArtifactMade, UsageTold, Result, Error, Pong)
}
# Characters. What is longer is cut, and no fault; other texts are bounded by the line.
TEXT_MAX: Mapping[str, Mapping[str, int]] = {
    "ready": {"protocol": 64},
    "heartbeat": {"step": 1024},
    "busy": {"tool": 128},
    "chunk": {"stream": 32},
    "log": {"msg": 4096, "level": 16},
    "usage": {"model": 128},
    "error": {"class": 64, "message": 4096, "guidance": 4096},
}

_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))


def decode(line: bytes | TooLong) -> FromWorker | Unknown | Bad:
    """Read what a worker wrote."""
    if isinstance(line, TooLong):
        return LINE_TOO_LONG
    value = _object(line)
    if isinstance(value, Bad):
        return value
    name = value.get("type")
    if not isinstance(name, str):
        return Bad("bad_field", f"no text in the field `type`: {_excerpt(line)}")
    kind = TYPES.get(name)
    if kind is None:
        return Unknown(name[:64])
    _cut_texts(value, TEXT_MAX.get(name, {}))
    return _convert(value, kind)


def encode(message: FromWorker | ToWorker) -> bytes:
    """Write a message as one line. It is compact and begins with `type` and `id`, so that a shell can match it."""
    return _ENCODER.encode(message) + b"\n"


def output_bytes(output: Any) -> bytes:
    """Lay out the output of a result for keeping: a text as it is, nothing as nothing, everything else as JSON."""
    if output is None:
        return b""
    return output.encode() if isinstance(output, str) else _ENCODER.encode(output)


def capped(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keep details that fit, and of larger ones the fields that do."""
    if len(_ENCODER.encode(details)) <= DETAILS_BYTES_MAX:
        return details
    kept: dict[str, Any] = {}
    left = DETAILS_BYTES_MAX
    for name, value in details.items():
        size = len(_ENCODER.encode({name: value}))
        if size <= left:
            kept[name] = value
            left -= size
    return {**kept, "cut": True}


class _Refused(Exception):
    """How a hook of the strict reader names a fault."""


def _object(line: bytes) -> dict[str, Any] | Bad:
    brackets = line.count(b"{") + line.count(b"[")
    if brackets > BRACKETS_MAX:
        return Bad("too_deep", f"more than {BRACKETS_MAX} opening brackets")
    try:
        value = _DECODER.decode(line)
    except UnicodeDecodeError:
        return Bad("bad_utf8", f"not UTF-8: {_excerpt(line)}")
    except RecursionError:
        return _too_deep()
    except msgspec.DecodeError as error:
        return _diagnose(line, str(error))
    if not isinstance(value, dict):
        return Bad("not_object", f"JSON, but no object: {_excerpt(line)}")
    # A key has one colon, and one that stands twice adds a colon but no entry. A flat object whose colons are as many
    # as its entries is therefore strict; a heartbeat is, and needs no second reading.
    if brackets == 1 and line.count(b":") == len(value):
        return value
    if brackets > DEPTH_MAX and _is_too_deep(line):
        return _too_deep()
    # What was lost to a later key of the same name does not come back when the value is written.
    if _ENCODER.encode(value) == msgspec.json.format(line, indent=-1):
        return value
    strict = _read_strictly(line)
    return strict if isinstance(strict, Bad) else value


def _read_strictly(line: bytes) -> Any | Bad:
    """Read slowly, and refuse what a quick reader lets pass: a key that stands twice, numbers that are none."""
    try:
        return json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
    except _Refused as refused:
        kind, words = refused.args
        return Bad(kind, words)
    except UnicodeDecodeError:
        return Bad("bad_utf8", f"not UTF-8: {_excerpt(line)}")
    except RecursionError:
        return _too_deep()
    except ValueError:
        return Bad("bad_json", f"not JSON: {_excerpt(line)}")


def _diagnose(line: bytes, why: str) -> dict[str, Any] | Bad:
    """Name the fault of a line that could not be decoded; mend the one that costs nothing to mend."""
    value = _read_strictly(line)
    if isinstance(value, Bad):
        return value
    if not isinstance(value, dict):
        return Bad("not_object", f"JSON, but no object: {_excerpt(line)}")
    if _is_too_deep(line):
        return _too_deep()
    # JSON.stringify writes a text that was cut within a surrogate pair as it is. A result is not lost for that.
    text = json.dumps(value, ensure_ascii=False).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    try:
        mended: dict[str, Any] = _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return Bad("bad_json", f"{why}: {_excerpt(line)}")
    return mended


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused("duplicate_key", f"the key {twice[:80]!r} stands twice in one object")
    return value


def _no_number(text: str) -> NoReturn:
    raise _Refused("nan", f"{text} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Refused("nan", f"the number {text[:40]} is out of range")
    return value


def _is_too_deep(line: bytes) -> bool:
    """Take the innermost brackets away as often as is allowed. `line` is sound JSON."""
    brackets = _STRINGS.sub(b"", line).translate(_BRACKETS, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def _too_deep() -> Bad:
    return Bad("too_deep", f"nested deeper than {DEPTH_MAX} levels")


def _cut_texts(value: dict[str, Any], limits: Mapping[str, int]) -> None:
    for name, limit in limits.items():
        text = value.get(name)
        if isinstance(text, str) and len(text) > limit:
            value[name] = cut(text, limit)


def _convert(value: dict[str, Any], kind: type[FromWorker]) -> FromWorker | Bad:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        pass
    try:
        return msgspec.convert({name: each for name, each in value.items() if each is not None}, kind)
    except msgspec.ValidationError as error:
        return Bad("bad_field", f"{value['type']}: {str(error)[:200]}")


def _excerpt(line: bytes, limit: int = 80) -> str:
    text = cut(line[: limit * 4].decode(errors="replace"), limit)
    return ascii(text) if text else f"{len(line)} bytes"
