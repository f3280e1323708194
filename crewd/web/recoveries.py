"""Routes on recovery plans: what is proposed for interrupted runs, and a person's word on it."""

from collections.abc import Awaitable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query, Request, Response
from pydantic import Field

from crewd import errors
from crewd.errors import CrewdError
from crewd.model.recovery import RecoveryPlan, portrait
from crewd.telemetry.redact import masked_command
from crewd.web.answers import told
from crewd.web.asked import LINE, Asked, Reason
from crewd.web.guard import CALLER
from crewd.web.managed import CHANGE, ActorName, DecodedRoute
from crewd.web.query import API, SINGLE, Flag, Strict, Whole
from crewd.web.refusal import Detail, Refused, refusal
from crewd.web.state import WebState

RECOVERIES = f"{API}/recoveries"
By = Annotated[str, Field(min_length=1, max_length=128, pattern=LINE, description="Whose word it is.")]
PlanId = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="Id of the plan.")]


class RecoveriesQuery(Strict):
    """Which plans."""

    state: Literal[
        "planned", "approved", "declined", "applied", "verified", "failed", "withdrawn", "all"
    ] = Field("all", description="Only those in this state.")  # fmt: skip
    limit: Whole = Field(100, ge=1, le=1000, description="At most so many, the newest.")


class RecoveryQuery(Strict):
    """What is told of a plan."""

    output: Flag = Field(False, description="Also the end of what its command said.")


class DeclineAsked(Asked):
    """Who declines it."""

    by: By
    reason: Reason = ""


class ApproveAsked(DeclineAsked):
    """Who approves it, and of what."""

    action: Literal["resume", "cancel"] | None = Field(None, description="None: to resume, where that is offered.")


RecoveriesParameters = Annotated[RecoveriesQuery, Query()]
RecoveryParameters = Annotated[RecoveryQuery, Query()]
ApproveBody = Annotated[ApproveAsked, Body()]
DeclineBody = Annotated[DeclineAsked, Body()]


def recovery_routes(state: WebState) -> APIRouter:
    """Lay out the routes."""
    router = APIRouter(route_class=DecodedRoute)

    @router.get(RECOVERIES, tags=["recoveries"], dependencies=SINGLE)
    async def recoveries(query: RecoveriesParameters) -> Response:
        """Tell recovery plans of interrupted runs, the newest first. See docs/recovery.md."""
        wanted = "" if query.state == "all" else query.state
        found = state.recoveries.plans(state=wanted, limit=query.limit)
        return await told(state, lambda: {"recoveries": [_told(state, plan) for plan in found]})

    @router.get(f"{RECOVERIES}/{{plan}}", tags=["recoveries"], dependencies=SINGLE)
    async def recovery(plan: PlanId, query: RecoveryParameters, request: Request) -> Response:
        """Tell one recovery plan, with the exact command of each offered action in `commands`.

        `error` is how its command failed, and nothing of what it said. With `output=true` also the end of that; that
        only through the socket or with the token.
        """
        if query.output and not request.scope["state"][CALLER].trusted:
            raise refusal(
                403,
                "output_not_allowed",
                "output may hold anything, and is told only through the unix socket or with a token",
                "use the unix socket in the state folder, or send the token as Authorization: Bearer",
            )
        found = state.recoveries.plan(plan)
        if found is None:
            detail = Detail("plan_unknown", "path.plan", "there is no such plan", f"see {RECOVERIES}")
            raise Refused(404, "not_found", "no such recovery plan", (detail,))
        return await told(state, lambda: _told(state, found, output=query.output))

    @router.post(f"{RECOVERIES}/{{plan}}/approve", **CHANGE)
    async def approve(plan: PlanId, body: ApproveBody, request: Request, actor: ActorName = None) -> Response:
        """Have a plan applied once its run is found interrupted once more.

        `action` is `resume` (where that is offered, if left out) or `cancel`. 409: it is in no state for that, or no
        command is configured.
        """
        who = request.scope["state"][CALLER].actor
        words = {"action": body.action or "", "by": body.by, "reason": body.reason, "actor": who}
        return await _done(state, "approved", state.recoveries.approve(plan, **words))

    @router.post(f"{RECOVERIES}/{{plan}}/decline", **CHANGE)
    async def decline(plan: PlanId, body: DeclineBody, request: Request, actor: ActorName = None) -> Response:
        """Settle a plan; nothing is done for this interruption."""
        who = request.scope["state"][CALLER].actor
        return await _done(
            state, "declined", state.recoveries.decline(plan, by=body.by, reason=body.reason, actor=who)
        )

    return router


def _told(state: WebState, plan: RecoveryPlan, *, output: bool = False) -> dict[str, Any]:
    """Lay a plan out, with the exact command that each offered action comes to; [] where none is configured."""
    commands = {action: list(masked_command(state.recoveries.command(plan, action))) for action in plan.offers}
    return {**portrait(plan, output=output), "commands": commands}


async def _done(state: WebState, how: str, deciding: Awaitable[RecoveryPlan]) -> Response:
    try:
        plan = await deciding
    except CrewdError as error:
        raise _refusal_of(error, state.redactor.text(str(error))) from error
    what = f"recovery plan {plan.plan_id} of {plan.run_id} is {how}"
    return await told(state, lambda: {"what": what, "ids": [plan.plan_id], "details": portrait(plan)})


def _refusal_of(error: CrewdError, message: str) -> Refused:
    match error:
        case errors.NothingMatched():
            return refusal(404, "not_found", message, f"see what there is: {RECOVERIES}")
        case errors.Refused():
            return refusal(409, "conflict", message, f"see how it stands: {RECOVERIES}/{{plan}}")
        case errors.UsageProblem():
            return refusal(400, "bad_request", message, "correct the request")
    return refusal(503, "unavailable", message, "look at /readyz, and send it again")
