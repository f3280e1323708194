"""The application: every route that reads, and those of managed runs. Nothing is created by a GET."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from crewd import __version__
from crewd.ledger.errors import LedgerError
from crewd.model.event import Event, as_record
from crewd.web import shapes
from crewd.web.answers import Remembered, as_json, told, unknown
from crewd.web.asgi import App
from crewd.web.assets import add_assets, read_assets
from crewd.web.body import Bodies
from crewd.web.broadcast import Wanted
from crewd.web.guard import Guard
from crewd.web.history import history_routes
from crewd.web.incidents import incident_routes
from crewd.web.log_level import log_level_routes
from crewd.web.managed import LARGE, managed_routes
from crewd.web.page import page
from crewd.web.previews import preview_routes
from crewd.web.query import (
    API,
    NO_QUERY,
    RUNS,
    SINGLE,
    EventsParameters,
    MetricsParameters,
    RunEventsParameters,
    RunEventsQuery,
    RunId,
    RunsParameters,
    TaskId,
    complaints,
)
from crewd.web.recoveries import recovery_routes
from crewd.web.refusal import Detail, Refused, internal_error, refusal_body
from crewd.web.runbooks import add_runbooks
from crewd.web.state import History, WebState
from crewd.web.stream import EventStream, resumed_from, wants_stream
from crewd.web.why import add_why


def build_app(state: WebState) -> App:
    """Build the application with its guard in front; the guard is the only way in."""
    return Guard(Bodies(routes(state), LARGE), state.allowed_hosts, state.http_observed, token=lambda: state.token)


def routes(state: WebState) -> FastAPI:
    """Build the application without its guard."""
    app = FastAPI(
        title="crewd",
        version=__version__,
        description=(
            "What crewd sees of the crews on this host, and what may be done to those that it runs itself. "
            "Every POST comes through the unix socket in the state folder, or carries the token; "
            "and Content-Type: application/json."
        ),
        # The interactive pages load their scripts from elsewhere; the description itself is served.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # served below, as strict about its query as every other route
        responses={"4XX": {"description": "Refused; `error.details` names everything that is wrong."}},
        redirect_slashes=False,
    )
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(LedgerError, _unreadable(state))
    app.add_exception_handler(Exception, _failed)
    _add_probes(app, state)
    add_assets(app, read_assets())
    add_runbooks(app)
    _add_runs(app, state)
    add_why(app, state)
    _add_events(app, state)
    app.include_router(managed_routes(state))
    app.include_router(preview_routes(state))
    app.include_router(recovery_routes(state))
    app.include_router(incident_routes(state))
    app.include_router(history_routes(state))
    app.include_router(log_level_routes(state))
    return app


def _add_probes(app: FastAPI, state: WebState) -> None:
    @app.get("/metrics", tags=["probes"], dependencies=SINGLE, response_class=Response)
    async def metrics(request: Request, query: MetricsParameters) -> Response:
        """Tell metrics, as text or OpenMetrics; `name[]` chooses families. See docs/reference/metrics.md."""
        headers = request.headers
        answer = await state.exposition.answer(
            ", ".join(headers.getlist("accept")), ", ".join(headers.getlist("accept-encoding")), query.names
        )
        response = Response(answer.body, media_type=None, headers={"content-type": answer.content_type})
        response.headers["vary"] = "Accept, Accept-Encoding"
        if answer.gzipped:
            response.headers["content-encoding"] = "gzip"
        return response

    @app.get("/healthz", tags=["probes"], dependencies=NO_QUERY)
    async def healthz() -> Response:
        """Say that the event loop runs: `{"status":"ok"}`."""
        return as_json({"status": "ok"})

    @app.get("/readyz", tags=["probes"], dependencies=NO_QUERY, responses={503: {"description": "Not ready."}})
    async def readyz() -> Response:
        """Say, part by part, whether crewd does its whole work: 200, or 503 when a part is not ready or degraded.

        `listeners` names whoever of those that hear what was recorded (metrics, sinks, notifications) failed since
        the round before; the others and the rounds go on. `stopping`: crewd ends, and waits for what runs.
        """
        body = shapes.readiness(state.snapshot().health)
        return as_json(state.redactor.value(body), 200 if body["status"] == "ready" else 503)

    @app.get("/openapi.json", include_in_schema=False, dependencies=NO_QUERY)
    async def description() -> Response:
        """Describe this API.

        No interactive pages: they would load their scripts from elsewhere.
        """
        return as_json(app.openapi())

    @app.get("/plain", include_in_schema=False, dependencies=NO_QUERY)
    async def plain() -> Response:
        """Show the same at a glance without JavaScript: crews, runs and workers, those in trouble first."""
        html = await asyncio.to_thread(page, state.snapshot(), state.redactor)
        return Response(html, media_type="text/html")


def _add_runs(app: FastAPI, state: WebState) -> None:
    remembered = Remembered(state)

    @app.get(f"{API}/status", tags=["runs"], dependencies=NO_QUERY)
    async def status() -> Response:
        """Tell how crewd is, and how many of everything it sees.

        How many incidents are open (`incidents_open`) and recovery plans by state (`recoveries`), and per crew how
        many runs, workers by level, and dead letters.
        """
        return await remembered.told("status", lambda: shapes.status(state.snapshot()))

    @app.get(f"{API}/crews", tags=["runs"], dependencies=NO_QUERY)
    async def crews() -> Response:
        """Tell where the workers of each crew stood in the last hour.

        `points` of `seconds` each, the oldest first, each with the worst moment in it as workers by level. A point
        without a round is left out. Kept in memory, of 500 crews at most; `left_off` counts the others.
        """
        return await told(state, lambda: shapes.crews(state.hour))

    @app.get(RUNS, tags=["runs"], dependencies=SINGLE)
    async def runs(query: RunsParameters) -> Response:
        """List runs by id; `next` is the `after` of the next page, null on the last.

        With `workers=true` each run carries in `workers` those of its tasks that somebody works on, as
        `/api/v1/runs/{run}` tells them.
        """
        return await remembered.told(f"runs {query!r}", lambda: _run_page(state, query))

    @app.get(f"{RUNS}/{{run}}", tags=["runs"], dependencies=NO_QUERY)
    async def one_run(run: RunId) -> Response:
        """Tell one run with all its tasks and where their workers stand."""
        snapshot = state.snapshot()
        view = snapshot.runs.get(run) or unknown("run", run)
        return await told(state, lambda: shapes.run_whole(view, snapshot))

    @app.get(f"{RUNS}/{{run}}/tasks/{{task}}", tags=["runs"], dependencies=NO_QUERY)
    async def one_task(run: RunId, task: TaskId) -> Response:
        """Tell one task, with the evidence behind the present verdict in `explain`, and in `table` the rules.

        The first rule that fits counts. Both are null if nobody works on the task now.
        """
        snapshot = state.snapshot()
        view = snapshot.runs.get(run) or unknown("run", run)
        found = shapes.find_task(view.run, task) or unknown("task", task)
        worker = next((each for each in view.workers if each.task_id == task), None)
        explained = state.explain(run, task)
        return await told(
            state,
            lambda: (
                shapes.task_line(found, worker, view, snapshot)
                | {"run_id": run, "explain": explained, "table": shapes.rules() if explained else None}
            ),
        )


def _add_events(app: FastAPI, state: WebState) -> None:
    one_at_a_time = asyncio.Lock()  # the history is one connection to the ledger

    async def recorded(query: RunEventsQuery, run_id: str) -> Response:
        async with one_at_a_time:
            events, pruned_to = await asyncio.to_thread(_recorded, state.history, query, run_id)
        last = events[-1].seq if events else query.after
        return await told(
            state,
            lambda: {"events": [as_record(event) for event in events], "next_after": last, "pruned_to": pruned_to},
        )

    def streamed(request: Request, query: RunEventsQuery, run_id: str, exists: bool) -> Response:
        after = resumed_from(request)
        if after is None and "after" in query.model_fields_set:
            after = query.after
        wanted = Wanted(frozenset(query.type), run_id, query.crew, query.task, query.rounds)
        return EventStream(state.broadcast, wanted, after, query.limit if query.newest else 0, exists)

    @app.get(f"{API}/events", tags=["events"], dependencies=SINGLE, responses=STREAMED)
    async def events(request: Request, query: EventsParameters) -> Response:
        """Tell recorded events, oldest first; `next_after` is the `after` of the next page.

        With `newest=true` the newest `limit` of them instead of the oldest, still told oldest first. Events up to
        `pruned_to` were deleted for their age. Also as a docs/reference/http.md#stream.
        """
        if wants_stream(request):
            return streamed(request, query, query.run or "", exists=True)
        return await recorded(query, query.run or "")

    @app.get(f"{RUNS}/{{run}}/events", tags=["events"], dependencies=SINGLE, responses=STREAMED)
    async def run_events(request: Request, run: RunId, query: RunEventsParameters) -> Response:
        """Tell recorded events of one run, also of one that is no longer there.

        Also as a docs/reference/http.md#stream.
        """
        if wants_stream(request):
            return streamed(request, query, run, exists=run in state.snapshot().runs)
        return await recorded(query, run)


STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON, or with Accept: text/event-stream what happens from now on.",
        "content": {"application/json": {}, "text/event-stream": {}},
    },
    503: {"description": "Too many streams."},
}


def _recorded(history: History, query: RunEventsQuery, run_id: str) -> tuple[list[Event], int]:
    found = history.events(query.after, query.limit, query.type, run_id, query.newest, query.crew, query.task)
    # Told oldest first in any case, so that `next_after` is always the last one's.
    return (found[::-1] if query.newest else found), history.pruned_to()


def _run_page(state: WebState, query: RunsParameters) -> dict[str, Any]:
    snapshot = state.snapshot()
    views = snapshot.runs
    chosen = sorted(
        run_id
        for run_id, view in views.items()
        if (query.after is None or run_id > query.after)
        and (not query.status or view.run.status.value in query.status)
        and (query.runtime is None or view.run.runtime == query.runtime)
        and (query.crew is None or view.run.crew == query.crew)
    )
    shown = chosen[: query.limit]
    return {
        "runs": [
            shapes.run_working(views[run_id], snapshot) if query.workers else shapes.run_line(views[run_id])
            for run_id in shown
        ],
        "next": shown[-1] if len(chosen) > len(shown) else None,
    }


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return as_json(refusal_body(error.code, error.message, error.details), error.status, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _refused(request, complaints(error))


def _unreadable(state: WebState) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def unreadable(_: Request, error: Exception) -> Response:
        # Never an empty answer: nobody must take a history that cannot be read for one that is empty.
        message = state.redactor.text(str(error))
        detail = Detail("history_unreadable", "", message, "look at /readyz and at crewd's log")
        return as_json(refusal_body("history_unreadable", message, (detail,)), 503)

    return unreadable


async def _failed(_: Request, error: Exception) -> Response:
    # The framework raises it again once this is sent; the guard then counts and logs it.
    return as_json(internal_error(), 500)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    detail = Detail(code, "", str(error.detail), "see /openapi.json")
    return as_json(refusal_body(code, str(error.detail), (detail,)), error.status_code, error.headers)
