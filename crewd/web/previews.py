"""Routes on what a managed run is about to do and what its tasks did before: its plan, and attempts compared."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from crewd.ledger.errors import LedgerError
from crewd.model.history import LIMIT_MAX, HistoryQuery
from crewd.policy.comparing import differences, line_differences
from crewd.web.answers import told
from crewd.web.attempts import attempts_of
from crewd.web.guard import CALLER
from crewd.web.query import NO_QUERY, RUNS, SINGLE, RunId, Strict, TaskId, Whole
from crewd.web.refusal import Detail, Refused, refusal
from crewd.web.state import WebState

ATTEMPTS = f"{RUNS}/{{run}}/tasks/{{task}}/attempts"
NOT_COMPARED = ("attempt", "tail")  # the one always differs; the other is compared line by line
ATTEMPT_MAX = 2**31 - 1


class AttemptsQuery(Strict):
    """How many attempts, and which two of them are compared."""

    limit: Whole = Field(20, ge=1, le=100, description="At most so many, the newest.")
    base: Whole | None = Field(None, ge=1, le=ATTEMPT_MAX, description="Number of the attempt to compare with.")
    other: Whole | None = Field(None, ge=1, le=ATTEMPT_MAX, description="Number of the attempt that is compared.")


AttemptsParameters = Annotated[AttemptsQuery, Query()]


def preview_routes(state: WebState) -> APIRouter:
    """Lay out the routes."""
    router = APIRouter()

    @router.get(f"{RUNS}/{{run}}/plan", tags=["managed"], dependencies=NO_QUERY)
    async def plan(run: RunId, request: Request) -> Response:
        """Tell of a managed run what will run or ran.

        Per task the resolved command, folder, environment, how it is ended, timeout, retries, success contract,
        budget, concurrency, `depends_on`. Values of the environment are null, and `values` false, for whoever comes
        neither through the socket nor with the token; a secret of the credentials folder is named by its file, and
        its value told to nobody.
        """
        found = await state.actions.plan(run) if state.actions is not None else None
        if found is None:
            detail = Detail("run_unknown", "path.run", f"{run} is no managed run", f"see {RUNS}/{run}")
            raise Refused(404, "not_found", "no such managed run", (detail,))
        trusted = _trusted(request)
        return await told(state, lambda: {**(found if trusted else _without_values(found)), "values": trusted})

    @router.get(ATTEMPTS, tags=["runs"], dependencies=SINGLE)
    async def attempts(run: RunId, task: TaskId, query: AttemptsParameters, request: Request) -> Response:
        """Tell the recent attempts of a task, the newest first, and in `difference` how two of them differ.

        `base` and `other` are their numbers (the newest two by default); then come the fields that are not the same,
        and what they last wrote line by line. What they wrote is null for whoever comes neither through the socket
        nor with the token.
        """
        trusted = _trusted(request)
        wanted = HistoryQuery(run_id=run, task_id=task, limit=LIMIT_MAX)
        try:
            rows = (await asyncio.to_thread(state.history.attempts, wanted)).rows
        except LedgerError as error:
            # Never an empty answer: nobody must take a history that cannot be read for one that is empty.
            message = state.redactor.text(str(error))
            raise refusal(503, "history_unreadable", message, "look at /readyz and at crewd's log") from error
        known = attempts_of(rows, _managed(state, run, task))
        if not known:
            detail = Detail("attempts_unknown", "path.task", "no attempt of it is recorded", f"see {RUNS}/{run}")
            raise Refused(404, "not_found", "no such attempts", (detail,))
        compared = _compared(known, query, trusted)
        shown = [known[number] for number in sorted(known, reverse=True)[: query.limit]]
        return await told(
            state,
            lambda: {
                "run_id": run,
                "task_id": task,
                "attempts": [each if trusted else _without_tail(each) for each in shown],
                "difference": compared,
            },
        )

    return router


def _managed(state: WebState, run_id: str, task_id: str) -> list[Mapping[str, Any]]:
    """What a managed run tells of its task's attempts; none where it is no managed run."""
    found = state.actions.managed(run_id) if state.actions is not None else None
    tasks = found["tasks"] if found is not None else []
    return next((list(each["attempts"]) for each in tasks if each.get("task_id") == task_id), [])


def _compared(known: Mapping[int, Mapping[str, Any]], query: AttemptsQuery, trusted: bool) -> dict[str, Any] | None:
    """Compare the two that are asked for, or the newest two; None: there is nothing to compare."""
    asked = {"base": query.base, "other": query.other}
    unknown = [name for name, number in asked.items() if number is not None and number not in known]
    if unknown:
        numbers = ", ".join(str(number) for number in sorted(known)[-20:])
        details = tuple(
            Detail("attempt_unknown", f"query.{name}", f"there is no attempt {asked[name]}", f"there are {numbers}")
            for name in unknown
        )
        raise Refused(404, "not_found", "no such attempt", details)
    other = query.other or max(known)
    base = query.base or max((number for number in known if number < other), default=None)
    if base is None:
        return None
    one, two = known[base], known[other]
    fields = [{name: each[name] for name in each if name not in NOT_COMPARED} for each in (one, two)]
    tails = [str(each.get("tail") or "") for each in (one, two)]
    return {
        "base": base,
        "other": other,
        "fields": list(differences(*fields)),
        "tail": line_differences(*tails) if trusted else None,
    }


def _without_values(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the values of the environment: who may not change a run learns the names alone."""
    return {**plan, "tasks": [{**task, "env": dict.fromkeys(task["env"])} for task in plan["tasks"]]}


def _without_tail(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a worker wrote: it may hold anything, and is for its owner alone."""
    return {**attempt, "tail": None}


def _trusted(request: Request) -> bool:
    return bool(request.scope["state"][CALLER].trusted)
