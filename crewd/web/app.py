"""The application: every route of crewd's HTTP side. Read-only; nothing is created by a GET."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from crewd import __version__
from crewd.model.event import Event, as_record
from crewd.telemetry.json_text import encode
from crewd.telemetry.redact import Redactor
from crewd.web import shapes
from crewd.web.guard import App, Guard
from crewd.web.page import page
from crewd.web.query import (
    ID,
    EventsParameters,
    MetricsParameters,
    RunEventsParameters,
    RunEventsQuery,
    RunsParameters,
    complaints,
    no_query,
    single,
)
from crewd.web.refusal import Detail, Refused, internal_error, refusal_body
from crewd.web.state import History, WebState

API = "/api/v1"
RunId = Annotated[str, Path(pattern=ID, description="Id of a run.")]
TaskId = Annotated[str, Path(pattern=ID, description="Id of a task of that run.")]
NO_QUERY = [Depends(no_query)]
SINGLE = [Depends(single)]


def build_app(state: WebState) -> App:
    """Build the application with its guard in front; the guard is the only way in."""
    return Guard(routes(state), state.allowed_hosts, state.http_observed)


def routes(state: WebState) -> FastAPI:
    """Build the application without its guard."""
    app = FastAPI(
        title="crewd",
        version=__version__,
        description="What crewd sees of the crews on this host. Read-only.",
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
    app.add_exception_handler(Exception, _failed)
    _add_probes(app, state)
    _add_runs(app, state)
    _add_events(app, state)
    return app


def _add_probes(app: FastAPI, state: WebState) -> None:
    @app.get("/metrics", tags=["probes"], dependencies=SINGLE, response_class=Response)
    async def metrics(request: Request, query: MetricsParameters) -> Response:
        """Metrics, as text or OpenMetrics."""
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
        """Say that the event loop runs."""
        return _json({"status": "ok"})

    @app.get("/readyz", tags=["probes"], dependencies=NO_QUERY, responses={503: {"description": "Not ready."}})
    async def readyz() -> Response:
        """Say, part by part, whether crewd does its whole work."""
        body = shapes.readiness(state.snapshot().health)
        return _json(state.redactor.value(body), 200 if body["status"] == "ready" else 503)

    @app.get("/openapi.json", include_in_schema=False, dependencies=NO_QUERY)
    async def description() -> Response:
        """Describe these routes."""
        return _json(app.openapi())

    @app.get("/", include_in_schema=False, dependencies=NO_QUERY)
    async def index() -> Response:
        """Show a page for a person."""
        html = await asyncio.to_thread(page, state.snapshot(), state.redactor)
        return Response(html, media_type="text/html")


def _add_runs(app: FastAPI, state: WebState) -> None:
    @app.get(f"{API}/status", tags=["runs"], dependencies=NO_QUERY)
    async def status() -> Response:
        """Tell how crewd is, and how many of everything it sees."""
        return await _told(state, lambda: shapes.status(state.snapshot()))

    @app.get(f"{API}/runs", tags=["runs"], dependencies=SINGLE)
    async def runs(query: RunsParameters) -> Response:
        """List runs by id; `next` is the `after` of the next page, null on the last."""
        return await _told(state, lambda: _run_page(state, query))

    @app.get(f"{API}/runs/{{run}}", tags=["runs"], dependencies=NO_QUERY)
    async def one_run(run: RunId) -> Response:
        """Tell one run with all its tasks."""
        snapshot = state.snapshot()
        view = snapshot.runs.get(run) or _unknown("run", run)
        return await _told(state, lambda: shapes.run_whole(view, snapshot))

    @app.get(f"{API}/runs/{{run}}/tasks/{{task}}", tags=["runs"], dependencies=NO_QUERY)
    async def one_task(run: RunId, task: TaskId) -> Response:
        """Tell one task, with the evidence on its worker in `explain`; null if nobody works on it now."""
        snapshot = state.snapshot()
        view = snapshot.runs.get(run) or _unknown("run", run)
        found = shapes.find_task(view.run, task) or _unknown("task", task)
        worker = next((each for each in view.workers if each.task_id == task), None)
        explained = state.explain(run, task)
        return await _told(
            state,
            lambda: shapes.task_line(found, worker, view, snapshot) | {"run_id": run, "explain": explained},
        )


def _add_events(app: FastAPI, state: WebState) -> None:
    one_at_a_time = asyncio.Lock()  # the history is one connection to the ledger

    async def recorded(query: RunEventsQuery, run_id: str) -> Response:
        async with one_at_a_time:
            events, pruned_to = await asyncio.to_thread(_recorded, state.history, query, run_id)
        last = events[-1].seq if events else query.after
        return await _told(
            state,
            lambda: {"events": [as_record(event) for event in events], "next_after": last, "pruned_to": pruned_to},
        )

    @app.get(f"{API}/events", tags=["events"], dependencies=SINGLE)
    async def events(query: EventsParameters) -> Response:
        """Tell recorded events, oldest first; `next_after` is the `after` of the next page."""
        return await recorded(query, query.run or "")

    @app.get(f"{API}/runs/{{run}}/events", tags=["events"], dependencies=SINGLE)
    async def run_events(run: RunId, query: RunEventsParameters) -> Response:
        """Tell recorded events of one run, also of one that is no longer there."""
        return await recorded(query, run)


def _recorded(history: History, query: RunEventsQuery, run_id: str) -> tuple[list[Event], int]:
    found = history.events(query.after, query.limit, query.type, run_id, newest_first=query.newest)
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


async def _told(state: WebState, shape: Callable[[], dict[str, Any]]) -> Response:
    """Shape, redact and encode in a thread: the size of an answer must not hold up a round."""
    body = await asyncio.to_thread(lambda: encode(_redacted(state.redactor, shape())))
    return Response(body, media_type="application/json")


def _redacted(redactor: Redactor, body: dict[str, Any]) -> dict[str, Any]:
    """Take secrets out of an answer, row by row: what is too large to be walked is a row, never a page."""
    rows = {name: [redactor.value(row) for row in value] for name, value in body.items() if isinstance(value, list)}
    rest = redactor.value({name: value for name, value in body.items() if name not in rows})
    return {name: rows[name] if name in rows else rest[name] for name in body}


def _json(body: Any, status: int = 200) -> Response:
    return Response(encode(body), status, media_type="application/json")


def _unknown(what: str, id: str) -> Any:
    detail = Detail(f"{what}_unknown", f"path.{what}", f"{id} is not among the runs seen", "see /api/v1/runs")
    raise Refused(404, "not_found", f"no such {what}", (detail,))


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _json(refusal_body(error.code, error.message, error.details), error.status)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _refused(request, complaints(error))


async def _failed(_: Request, error: Exception) -> Response:
    # The framework raises it again once this is sent; the guard then counts and logs it.
    return _json(internal_error(), 500)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    detail = Detail(code, "", str(error.detail), "see /openapi.json")
    return _json(refusal_body(code, str(error.detail), (detail,)), error.status_code)
