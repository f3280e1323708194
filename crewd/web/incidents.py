"""Routes on incidents: what is open, what was, and what a person says of it. They need no managed runs."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import Field

from crewd import errors
from crewd.errors import CrewdError
from crewd.model.asking import Done
from crewd.model.incident import portrait
from crewd.model.verdict import Incident
from crewd.web.answers import told
from crewd.web.asked import LINE, Asked, Reason
from crewd.web.guard import CALLER
from crewd.web.managed import CHANGE, ActorName, DecodedRoute
from crewd.web.query import API, ID, SINGLE, Strict, Whole
from crewd.web.refusal import Refused, refusal
from crewd.web.state import WebState

INCIDENTS = f"{API}/incidents"
SNOOZE_MAX = 30 * 86_400  # seconds

Subject = Annotated[
    str, Field(min_length=1, max_length=512, pattern=LINE, description="RUN, RUN/TASK or crewd, as it is told.")
]
Cause = Annotated[str, Field(max_length=512, pattern=LINE, description="Empty: every open one of the subject.")]
By = Annotated[
    str,
    Field(max_length=128, pattern=LINE, description="Whose word it is; empty: whoever asks, as events name them."),
]


class IncidentsQuery(Strict):
    """Which incidents."""

    state: Literal["open", "resolved", "all"] = Field("open", description="Only those in this state.")
    crew: str = Field("", max_length=256, description="Only those of this crew.")
    run: str | None = Field(None, pattern=ID, description="Only those of this run and its tasks.")
    limit: Whole = Field(100, ge=1, le=1000, description="At most so many.")


class WhichAsked(Asked):
    """Which open incidents are meant."""

    subject: Subject
    cause: Cause = ""


class AcknowledgeAsked(WhichAsked):
    """Who has seen them."""

    by: By = ""
    note: Reason = ""


class SnoozeAsked(AcknowledgeAsked):
    """For how long nobody is to hear of them."""

    for_seconds: float = Field(ge=1, le=SNOOZE_MAX, strict=False, allow_inf_nan=False, description="Seconds.")


IncidentsParameters = Annotated[IncidentsQuery, Query()]
AcknowledgeBody = Annotated[AcknowledgeAsked, Body()]
SnoozeBody = Annotated[SnoozeAsked, Body()]
WhichBody = Annotated[WhichAsked, Body()]


def incident_routes(state: WebState) -> APIRouter:
    """Lay out the routes."""
    router = APIRouter(route_class=DecodedRoute)

    @router.get(INCIDENTS, tags=["incidents"], dependencies=SINGLE)
    async def incidents(query: IncidentsParameters) -> Response:
        """Tell incidents, the gravest open ones first. See docs/incidents.md.

        Resolved ones come from the ledger, the newest first.
        """
        snapshot = state.snapshot()
        found = list(snapshot.incidents)
        if query.state != "open":
            resolved = await asyncio.to_thread(_resolved, state)
            found = resolved if query.state == "resolved" else [*found, *resolved]
        chosen = [each for each in found if _fits(each, query)][: query.limit]
        return await told(state, lambda: {"incidents": [portrait(each, snapshot.taken_at) for each in chosen]})

    @router.post(f"{INCIDENTS}/ack", **CHANGE)
    async def acknowledge(body: AcknowledgeBody, request: Request, actor: ActorName = None) -> Response:
        """Note that somebody has seen open incidents.

        Those of a subject (`RUN/TASK`, `RUN` or `crewd`), or the one of a cause. `by` is whoever asks, where it is
        left out.
        """
        who = _actor(request)
        return await _done(
            state,
            state.incidents.acknowledge(body.subject, body.cause, by=body.by, note=body.note, actor=who),
        )

    @router.post(f"{INCIDENTS}/snooze", **CHANGE)
    async def snooze(body: SnoozeBody, request: Request, actor: ActorName = None) -> Response:
        """Let nobody be woken by open incidents for so long."""
        who, seconds = _actor(request), body.for_seconds
        return await _done(
            state,
            state.incidents.snooze(
                body.subject, body.cause, by=body.by, note=body.note, for_seconds=seconds, actor=who
            ),
        )

    @router.post(f"{INCIDENTS}/unsnooze", **CHANGE)
    async def unsnooze(body: WhichBody, request: Request, actor: ActorName = None) -> Response:
        """Let people be woken by them again."""
        who = _actor(request)
        return await _done(state, state.incidents.unsnooze(body.subject, body.cause, actor=who))

    return router


def _resolved(state: WebState) -> list[Incident]:
    found = [each for each in state.history.incidents() if each.resolved_at is not None]
    return sorted(found, key=lambda each: each.resolved_at or 0.0, reverse=True)


def _fits(incident: Incident, query: IncidentsQuery) -> bool:
    return (not query.crew or incident.crew == query.crew) and (query.run is None or incident.run_id == query.run)


async def _done(state: WebState, asked: Awaitable[Done]) -> Response:
    try:
        done = await asked
    except CrewdError as error:
        raise _refusal_of(error, state) from error
    body: dict[str, Any] = {"what": done.what, "ids": list(done.ids), "details": dict(done.details)}
    return await told(state, lambda: body)


def _refusal_of(error: CrewdError, state: WebState) -> Refused:
    message = state.redactor.text(str(error))
    match error:
        case errors.NothingMatched():
            return refusal(404, "not_found", message, f"see what is open: {INCIDENTS}")
        case errors.UsageProblem():
            return refusal(400, "bad_request", message, "correct the request")
        case _:
            return refusal(503, "unavailable", message, "look at /readyz, and send it again")


def _actor(request: Request) -> str:
    actor: str = request.scope["state"][CALLER].actor
    return actor
