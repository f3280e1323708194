"""Routes on the past: attempts, tasks and runs by page, their summary, one run as an export or as a trace.

Each question has a connection to the ledger of its own, and a thread; so many at once and no more, since each may
read through everything there is.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from typing import Annotated, Any, Literal, Self

import structlog
from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from crewd.errors import UsageProblem
from crewd.ledger.errors import LedgerError
from crewd.model.history import LIMIT_MAX, HistoryPage, HistoryQuery, RunRow
from crewd.model.moment import rfc3339
from crewd.policy.summary import group_names, window_seconds
from crewd.telemetry.json_text import encode
from crewd.web.asgi import Message, Receive, Scope, Send
from crewd.web.asked import Asked
from crewd.web.export import FORMATS, file_name, pieces
from crewd.web.guard import CALLER
from crewd.web.history_shapes import Redact, page_told, stats_told, summary_told
from crewd.web.managed import CHANGE, ActorName, DecodedRoute
from crewd.web.query import API, ID, NO_QUERY, RUNS, SINGLE, RunId, Strict, Whole, single_but
from crewd.web.refusal import Detail, Refused, refusal
from crewd.web.state import Past, WebState
from crewd.web.trace import trace

QUESTIONS_MAX = 2  # at once: each may keep a core busy
WAITING_MAX = 32  # questions that are put or wait: whoever left before its answer is still answered
EXPORTS_MAX = 16  # at once: each has files open until its reader has taken it
STALLED_SECONDS = 30.0  # to take one piece of an export
RETRY_SECONDS = 5
TIME = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?[Zz]$"
PAIR = r"^[^=\x00-\x1f]{1,64}=[^\x00-\x1f]{1,256}$"
NAME = r"^[^\x00-\x1f\x7f]*$"
_SEVERAL = [Depends(single_but("state"))]


def _moment(value: Any) -> Any:
    """Read RFC 3339 in UTC: a time without its zone could be meant either way."""
    if not isinstance(value, str) or not re.fullmatch(TIME, value):
        raise ValueError("no time of RFC 3339 in UTC: write 2026-01-31T12:00:00Z")
    try:
        # No more than microseconds: what datetime knows.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value.upper())).timestamp()
    except ValueError:
        raise ValueError("no such day or time: write 2026-01-31T12:00:00Z") from None


def _window(value: str) -> str:
    window_seconds(value)
    return value


def _names(value: str) -> str:
    group_names(value)
    return value


Moment = Annotated[float, BeforeValidator(_moment), WithJsonSchema({"type": "string", "pattern": TIME})]
Outcome = Literal["completed", "failed", "timed_out", "cancelled", "skipped", "interrupted", "at_work"]
Status = Literal["queued", "planning", "running", "blocked", "completed", "failed", "cancelled", "unknown", "at_work"]


class _PastQuery(Strict):
    """Which rows: everything that is given must hold."""

    crew: str = Field("", max_length=256, pattern=NAME, description="Only of this crew.")
    runtime: str = Field("", max_length=256, pattern=NAME, description="Only of this runtime.")
    executor: str = Field("", max_length=256, pattern=NAME, description="Only of this executor.")
    model: str = Field("", max_length=256, pattern=NAME, description="Only of this model.")
    task_type: str = Field("", max_length=256, pattern=NAME, description="Only of tasks of this type.")
    run: str | None = Field(None, pattern=ID, description="Only of this run.")
    task: str | None = Field(None, pattern=ID, description="Only of this task.")
    since: Moment | None = Field(
        None, description="RFC 3339 with `Z`. Ended at or after this time, or is at work and began then."
    )
    until: Moment | None = Field(
        None, description="RFC 3339 with `Z`. Ended before this time, or is at work and began before."
    )
    variant: str | None = Field(None, pattern=PAIR, description="NAME=VALUE of a variant.")
    label: str | None = Field(None, pattern=PAIR, description="NAME=VALUE of a label of the run.")
    cursor: Whole | None = Field(None, ge=1, le=2**63 - 1, description="`next_cursor` of the page before.")
    limit: Whole = Field(100, ge=1, le=LIMIT_MAX, description="At most so many.")

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise PydanticCustomError("backwards", "since must be before until")
        return self

    def asked(self, states: tuple[str, ...]) -> HistoryQuery:
        return HistoryQuery(
            states=states,
            crew=self.crew,
            runtime=self.runtime,
            executor=self.executor,
            model=self.model,
            task_type=self.task_type,
            run_id=self.run or "",
            task_id=self.task or "",
            since=self.since,
            until=self.until,
            variant=_pair(self.variant),
            label=_pair(self.label),
            before_seq=self.cursor,
            limit=self.limit,
        )


class PastRunsQuery(_PastQuery):
    """Which runs. What a run has not itself must hold for one of its tasks."""

    state: list[Status] = Field([], max_length=9, description="Status of the run; may be repeated.")


class PastTasksQuery(_PastQuery):
    """Which tasks or attempts."""

    state: list[Outcome] = Field([], max_length=7, description="What became of it; may be repeated.")


class SummaryQuery(Strict):
    """What is summed up."""

    window: Annotated[str, AfterValidator(_window)] = Field(
        "24h", max_length=8, description="What ended in the last so many hours or days: 1h to 90d."
    )
    level: Literal["task", "attempt"] = Field("attempt", description="What is counted.")
    group_by: Annotated[str, AfterValidator(_names)] = Field(
        "",
        max_length=100,
        description="At most 4 of task_type, executor, model, crew, runtime, error_class, variant; commas between.",
    )
    crew: str = Field("", max_length=256, pattern=NAME, description="Only of this crew.")
    runtime: str = Field("", max_length=256, pattern=NAME, description="Only of this runtime.")
    executor: str = Field("", max_length=256, pattern=NAME, description="Only of this executor.")
    model: str = Field("", max_length=256, pattern=NAME, description="Only of this model.")
    task_type: str = Field("", max_length=256, pattern=NAME, description="Only of tasks of this type.")


class ExportQuery(Strict):
    """How a run is written."""

    format: Literal["json", "jsonl", "csv", "md"] = Field("json", description="Kind of the file.")


class PruneAsked(Asked):
    """What is to be forgotten."""

    before: Annotated[str, Field(pattern=TIME, description="RFC 3339 with `Z`: what is older, and settled.")]
    dry_run: bool = Field(False, description="Only tell how much.")


def history_routes(state: WebState) -> APIRouter:
    """Lay out the routes."""
    router = APIRouter(route_class=DecodedRoute)
    asking = _Asking(state)
    _add_pages(router, asking)
    _add_one_run(router, asking)
    _add_prune(router, state, asking)
    return router


class _Asking:
    """Puts questions to the ledger, a few at a time."""

    def __init__(self, state: WebState) -> None:
        self.state = state
        self._turns = asyncio.Semaphore(QUESTIONS_MAX)
        self._waiting = 0
        self.exports = 0  # under way

    async def told(self, question: Callable[[Past], dict[str, Any]]) -> Response:
        """Answer with what a question comes to, as JSON. It takes the secrets out itself, row by row.

        Raises Refused where too many ask.
        """
        if self._waiting >= WAITING_MAX:
            raise _busy(f"{self._waiting} questions about the past wait for their answers")
        self._waiting += 1
        try:
            async with self._turns:
                body = await asyncio.to_thread(self._answer, question)
        finally:
            self._waiting -= 1
        return Response(body, media_type="application/json")

    def page(self, name: str, page: HistoryPage[Any]) -> dict[str, Any]:
        told = page_told(name, page)
        return told | {name: [self.redacted(row) for row in told[name]]}

    def redacted(self, value: dict[str, Any]) -> dict[str, Any]:
        redacted: dict[str, Any] = self.state.redactor.value(value)
        return redacted

    def open(self) -> Past:
        """Open the ledger. Raises Refused."""
        try:
            return self.state.look_back()
        except LedgerError as error:
            raise self.unreadable(error) from error

    def unreadable(self, error: LedgerError) -> Refused:
        # Never an empty answer: nobody must take a history that cannot be read for one that is empty.
        message = self.state.redactor.text(str(error))
        return refusal(503, "history_unreadable", message, "look at /readyz and at crewd's log")

    def _answer(self, question: Callable[[Past], dict[str, Any]]) -> bytes:
        with closing(self.open()) as past:
            try:
                return encode(question(past))
            except LedgerError as error:
                raise self.unreadable(error) from error
            except UsageProblem as error:
                raise refusal(400, "too_many_groups", str(error), "narrow the question down") from error


def _add_pages(router: APIRouter, asking: _Asking) -> None:
    @router.get(f"{API}/history/runs", tags=["history"], dependencies=_SEVERAL)
    async def past_runs(query: Annotated[PastRunsQuery, Query()]) -> Response:
        """Tell what became of runs, also of those no longer there, newest first. See docs/history.md.

        What a run has not itself must hold for one of its tasks. `next_cursor` is the `cursor` of the next page, null
        on the last.
        """
        asked = query.asked(tuple(query.state))
        return await asking.told(lambda past: asking.page("runs", past.past_runs(asked)))

    @router.get(f"{API}/history/tasks", tags=["history"], dependencies=_SEVERAL)
    async def past_tasks(query: Annotated[PastTasksQuery, Query()]) -> Response:
        """Tell what became of tasks, newest first."""
        asked = query.asked(tuple(query.state))
        return await asking.told(lambda past: asking.page("tasks", past.tasks(asked)))

    @router.get(f"{API}/history/attempts", tags=["history"], dependencies=_SEVERAL)
    async def past_attempts(query: Annotated[PastTasksQuery, Query()]) -> Response:
        """Tell what became of attempts, newest first."""
        asked = query.asked(tuple(query.state))
        return await asking.told(lambda past: asking.page("attempts", past.attempts(asked)))

    @router.get(f"{API}/history/stats", tags=["history"], dependencies=NO_QUERY)
    async def stats() -> Response:
        """Tell how much history there is, and whether every row of it is what was written.

        Its size (`files`, `bytes`, `events`, `first_seq`, `last_seq`, `pruned_to`, rows), how many rows are
        `corrupt`, and how many events were `dropped` while the ledger could not be written.
        """
        return await asking.told(lambda past: stats_told(past.history_stats()))

    @router.get(f"{API}/metrics/summary", tags=["history"], dependencies=SINGLE)
    async def summary(query: Annotated[SummaryQuery, Query()]) -> Response:
        """Sum up what ended in a window: outcomes, success rate, durations, usage, all together and by group.

        See docs/history.md#summaries.
        """
        until = asking.state.now()
        return await asking.told(lambda past: _summed_up(past, query, until, asking.redacted))


def _summed_up(past: Past, query: SummaryQuery, until: float, redact: Redact) -> dict[str, Any]:
    since, names = until - window_seconds(query.window), group_names(query.group_by)
    which = HistoryQuery(
        crew=query.crew,
        runtime=query.runtime,
        executor=query.executor,
        model=query.model,
        task_type=query.task_type,
    )
    groups = past.summary(since, until, query.level, names, which)
    return summary_told(groups, query.window, until, query.level, names, redact)


def _add_one_run(router: APIRouter, asking: _Asking) -> None:
    @router.get(f"{RUNS}/{{run}}/trace", tags=["history"], dependencies=NO_QUERY)
    async def run_trace(run: RunId) -> Response:
        """Tell one run as a tree of spans: its tasks, their attempts, what happened in each.

        See docs/history.md#traces.
        """
        return await asking.told(lambda past: trace(past, _run(past, run), asking.redacted))

    @router.get(
        f"{RUNS}/{{run}}/export",
        tags=["history"],
        dependencies=SINGLE,
        response_class=StreamingResponse,
        responses={200: {"description": "The file.", "content": {kind: {} for kind in FORMATS.values()}}},
    )
    async def export(run: RunId, query: Annotated[ExportQuery, Query()]) -> Response:
        """Write one run with all that is recorded of it, as a file.

        Sent in pieces as it is read; an answer that breaks off is not whole.
        """
        if asking.exports >= EXPORTS_MAX:
            raise _busy(f"{asking.exports} exports are under way")
        past = await asyncio.to_thread(asking.open)
        try:
            found = await asyncio.to_thread(_found, asking, past, run)
        except BaseException:
            past.close()
            raise
        made = pieces(past, found, query.format, asking.redacted)
        disposition = f'attachment; filename="{file_name(run, query.format)}"'
        headers = {"content-disposition": disposition, "content-type": FORMATS[query.format]}
        return _Export(asking, past, _streamed(made), headers)


def _found(asking: _Asking, past: Past, run_id: str) -> RunRow:
    try:
        return _run(past, run_id)
    except LedgerError as error:
        raise asking.unreadable(error) from error


def _run(past: Past, run_id: str) -> RunRow:
    """Find a run. Raises Refused where none of that id was ever recorded."""
    rows = past.past_runs(HistoryQuery(run_id=run_id, limit=1)).rows
    if not rows:
        detail = Detail("run_unknown", "path.run", f"{run_id} is not in the history", f"see {API}/history/runs")
        raise Refused(404, "not_found", "no such run", (detail,))
    return rows[0]


class _Export(StreamingResponse):
    """A file on its way out. A reader that takes nothing is cut off, and the ledger let go in any case."""

    def __init__(self, asking: _Asking, past: Past, made: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(made, headers=headers)
        self._asking = asking
        self._past = past

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patient(message: Message) -> None:
            async with asyncio.timeout(STALLED_SECONDS):
                await send(message)

        self._asking.exports += 1
        try:
            await super().__call__(scope, receive, patient)
        except TimeoutError:
            structlog.get_logger("crewd.web").warning("export.stalled", path=scope.get("path"))
        finally:
            self._asking.exports -= 1
            await asyncio.to_thread(self._past.close)  # it waits for a question that is still under way


async def _streamed(made: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Write a piece at a time, each in a thread, and none before the last was taken."""
    while (piece := await asyncio.to_thread(next, made, None)) is not None:
        yield piece


def _busy(what: str) -> Refused:
    return refusal(503, "too_many_questions", what, "ask again in a few seconds", retry_after=str(RETRY_SECONDS))


def _add_prune(router: APIRouter, state: WebState, asking: _Asking) -> None:
    @router.post(f"{API}/history/prune", **CHANGE)
    async def prune(body: Annotated[PruneAsked, Body()], request: Request, actor: ActorName = None) -> Response:
        """Forget what is older than a time, and settled: nothing that is open, and no dead letter.

        With `dry_run` it only tells in `details` how much that is.
        """
        before, who = _moment_of(body.before), request.scope["state"][CALLER].actor
        if body.dry_run:
            return await asking.told(lambda past: _would(past.would_forget(before), before))
        try:
            rows = await state.prune(before, actor=who)
        except LedgerError as error:
            raise asking.unreadable(error) from error
        what = f"{rows} rows from before {rfc3339(before)} are forgotten"
        return Response(encode({"what": what, "ids": [], "details": {"rows": rows}}), media_type="application/json")


def _would(counts: dict[str, int], before: float) -> dict[str, Any]:
    rows = sum(counts.values())
    return {"what": f"{rows} rows from before {rfc3339(before)} would be forgotten", "ids": [], "details": counts}


def _moment_of(text: str) -> float:
    try:
        moment: float = _moment(text)
    except ValueError as error:
        detail = Detail("value_error", "/before", str(error), "correct the value")
        raise Refused(400, "bad_request", "the request is not understood", (detail,)) from None
    return moment


def _pair(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    name, _, value = text.partition("=")
    return name, value
