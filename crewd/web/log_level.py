"""Routes on what the daemon logs: shown to everybody, changed by whoever may change things."""

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Request, Response
from pydantic import Field

from crewd.web.answers import as_json
from crewd.web.asked import Asked
from crewd.web.guard import CALLER
from crewd.web.managed import CHANGE, ActorName, DecodedRoute
from crewd.web.query import NO_QUERY
from crewd.web.state import WebState

LOG_LEVEL = "/-/log-level"


class LevelAsked(Asked):
    """From which level on lines are logged."""

    level: Literal["debug", "info", "warning", "error"] = Field(description="The least that is logged.")


LevelBody = Annotated[LevelAsked, Body()]


def log_level_routes(state: WebState) -> APIRouter:
    """Lay out the routes."""
    router = APIRouter(route_class=DecodedRoute)

    @router.get(LOG_LEVEL, tags=["probes"], dependencies=NO_QUERY)
    async def shown() -> Response:
        """Tell the least that is logged now, and what the settings say: `{"level", "configured"}`."""
        level, configured = state.log_level()
        return as_json({"level": level, "configured": configured})

    @router.post(LOG_LEVEL, **CHANGE)
    async def changed(body: LevelBody, request: Request, actor: ActorName = None) -> Response:
        """Log from another level on, until the settings are read again: a reload puts the configured level back.

        The event `daemon.log_level_changed` names who asked.
        """
        await state.set_log_level(body.level, actor=request.scope["state"][CALLER].actor)
        level, configured = state.log_level()
        until = f" until the settings, which say {configured}, are read again" if level != configured else ""
        details = {"level": level, "configured": configured}
        return as_json({"what": f"crewd logs from {level} on{until}", "ids": [], "details": details})

    return router
