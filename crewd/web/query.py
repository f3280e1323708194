"""Addresses: what may stand in a path and behind the question mark, and how a person is told what may not."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from crewd.web.body import pointer
from crewd.web.refusal import Detail, Refused

API = "/api/v1"
RUNS = f"{API}/runs"
ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
EVENT_TYPE = r"^[a-z_]{1,40}(\.[a-z_]{1,40}){1,3}$"
SEQ_MAX = 2**63 - 1
OUTPUT_BYTES_MAX = 256 * 1024  # what the redactor looks at in one go


def _decimal(value: Any) -> Any:
    """Take plain digits only: "1_000", " 7" and "+7" are typing errors, not numbers."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 19):
        raise ValueError("not a whole number in plain digits")
    return value


def _yes_or_no(value: Any) -> Any:
    """Take the words of JSON only: "1", "on" and "yes" could mean a number."""
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("neither true nor false")
    return value


Flag = Annotated[bool, BeforeValidator(_yes_or_no)]
Whole = Annotated[int, BeforeValidator(_decimal)]
EventType = Annotated[str, Field(pattern=EVENT_TYPE)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RunEventsQuery(Strict):
    """Which events of one run: those after a position. Told oldest first in any case."""

    after: Whole = Field(0, ge=0, le=SEQ_MAX, description="Only events with a larger seq.")
    limit: Whole = Field(100, ge=1, le=1000, description="At most so many.")
    newest: Flag = Field(False, description="Of those with a larger seq the newest, not the oldest.")
    type: list[EventType] = Field([], max_length=50, description="Only these types; may be repeated.")
    crew: str = Field("", max_length=256, description="Only events of this crew.")
    task: str = Field("", max_length=256, description="Only events of tasks of this id.")
    rounds: Flag = Field(False, description="In a stream also the figures of every round. Without effect elsewhere.")


class EventsQuery(RunEventsQuery):
    """Which events, of all runs or of one."""

    run: str | None = Field(None, pattern=ID, description="Only events of this run.")


class RunsQuery(Strict):
    """Which runs, by id."""

    after: str | None = Field(None, pattern=ID, description="Only runs whose id sorts after this one.")
    limit: Whole = Field(100, ge=1, le=1000, description="At most so many.")
    status: list[Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]] = Field(
        [], max_length=20, description="Only runs of this status; may be repeated."
    )
    runtime: str | None = Field(None, max_length=64, description="Only of this runtime.")
    crew: str | None = Field(None, max_length=256, description="Only of this crew.")
    workers: Flag = Field(False, description="Tell in `workers` the tasks of each run that somebody works on.")


class LettersQuery(Strict):
    """Which dead letters."""

    state: Literal["open", "redriven", "discarded", "all"] = Field("open", description="Only those in this state.")
    crew: str = Field("", max_length=256, description="Only those of this crew.")
    limit: Whole = Field(100, ge=1, le=1000, description="At most so many.")


class LetterQuery(Strict):
    """Which dead letter. Keys hold slashes and colons, so they stand in the query and not in the path."""

    key: str = Field(min_length=1, max_length=512, description="Key of the dead letter.")


class OutputQuery(Strict):
    """Which piece of which output."""

    stream: Literal["stdout", "stderr"] = Field("stdout", description="Which of the two.")
    attempt: Whole = Field(0, ge=0, le=SEQ_MAX, description="Number of the attempt; 0: the newest.")
    offset: Whole = Field(0, ge=0, le=SEQ_MAX, description="First byte: 0, or as the piece before it told.")
    limit: Whole = Field(64 * 1024, ge=1, le=OUTPUT_BYTES_MAX, description="At most so many bytes, unredacted.")
    unfinished: Flag = Field(
        False, description="Also an unfinished last line. The next offset stays before it: it will come again, whole."
    )


class MetricsQuery(Strict):
    """Which families."""

    names: list[Annotated[str, Field(pattern=r"^[A-Za-z_:][A-Za-z0-9_:]{0,127}$")]] = Field(
        [], alias="name[]", max_length=100, description="Only these families or samples; may be repeated."
    )


async def no_query(request: Request) -> None:
    """Refuse every query parameter: this route knows none."""
    unknown = sorted(set(request.query_params.keys()))
    if unknown:
        raise Refused(400, "bad_request", "the request is not understood", tuple(map(_unknown, unknown)))


async def single(request: Request) -> None:
    """Refuse a parameter that is given twice where one value counts: which one is meant?"""
    _refuse_repeated(request, {"type", "status", "name[]"})


def single_but(*lists: str) -> Callable[[Request], None]:
    """Make what refuses every parameter that is given twice, but for these."""

    def refuse(request: Request) -> None:
        _refuse_repeated(request, set(lists))

    return refuse


def _refuse_repeated(request: Request, lists: set[str]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    twice = sorted({name for name in names if names.count(name) > 1} - lists) if len(names) < 1000 else ["..."]
    if twice:
        details = tuple(
            Detail("repeated", f"query.{name}"[:128], "is given more than once", "give it once") for name in twice
        )
        raise Refused(400, "bad_request", "the request is not understood", details)


def complaints(error: RequestValidationError) -> Refused:
    """Put everything that validation found into one refusal."""
    details = tuple(_detail(each) for each in error.errors()[:100])
    return Refused(400, "bad_request", "the request is not understood", details)


def _detail(error: dict[str, Any]) -> Detail:
    where, *path = error["loc"]
    if where == "body":
        place = pointer(path)[:256]
        if error["type"] == "extra_forbidden":
            return Detail("unknown_field", place, "is not known here", "leave it out; see /openapi.json")
    else:
        place = ".".join(str(part) for part in error["loc"])[:128]
        if error["type"] == "extra_forbidden":
            return _unknown(place.partition(".")[2])
    message = str(error["msg"]).removeprefix("Value error, ")[:256]
    return Detail(error["type"], place, message, "correct the value or leave it out")


def _unknown(name: str) -> Detail:
    return Detail("unknown_parameter", f"query.{name}"[:128], "is not known here", "leave it out; see /openapi.json")


RunId = Annotated[str, Path(pattern=ID, description="Id of a run.")]
TaskId = Annotated[str, Path(pattern=ID, description="Id of a task of that run.")]
NO_QUERY = [Depends(no_query)]
SINGLE = [Depends(single)]
EventsParameters = Annotated[EventsQuery, Query()]
RunEventsParameters = Annotated[RunEventsQuery, Query()]
RunsParameters = Annotated[RunsQuery, Query()]
MetricsParameters = Annotated[MetricsQuery, Query()]
LettersParameters = Annotated[LettersQuery, Query()]
LetterParameters = Annotated[LetterQuery, Query()]
OutputParameters = Annotated[OutputQuery, Query()]
