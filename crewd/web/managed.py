"""Routes on managed runs: what may be asked of them, and what may be done to them.

Every change is a POST. The guard has let it through and knows who asks; its body is decoded.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Header, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from crewd import errors
from crewd.errors import CrewdError
from crewd.model.asking import Actions, Done
from crewd.telemetry.redact import Redactor
from crewd.web import asked
from crewd.web.answers import as_json, told
from crewd.web.body import PARSED
from crewd.web.caller import Caller, Door
from crewd.web.guard import CALLER
from crewd.web.output import redacted, ripe
from crewd.web.query import (
    API,
    NO_QUERY,
    RUNS,
    SINGLE,
    LetterParameters,
    LettersParameters,
    OutputParameters,
    RunId,
    TaskId,
)
from crewd.web.refusal import Detail, Refused, refusal
from crewd.web.state import WebState

Outcome = TypeVar("Outcome")

RUN_BYTES_MAX = 4 * 2**20
LARGE = {RUNS: RUN_BYTES_MAX}

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", pattern=asked.KEY, description="The same key again: the same run, begun once."),
]
ActorName = Annotated[str | None, Header(alias="X-Crewd-Actor", description="Who asks, for the record.")]
WITH_TOKEN = Security(
    HTTPBearer(
        scheme_name="token",
        description="Needed over TCP. Through the unix socket in the state folder no token is needed.",
        auto_error=False,  # the guard has looked at it before any route
    )
)
CHANGE: dict[str, Any] = {"tags": ["changes"], "dependencies": [*NO_QUERY, WITH_TOKEN]}


class Decoded(Request):
    """A request whose body was decoded before it came here."""

    async def body(self) -> bytes:
        return b"{}" if PARSED in self.scope["state"] else b""

    async def json(self) -> Any:
        return self.scope["state"][PARSED]


class DecodedRoute(APIRoute):
    """A route that takes such a request."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # a coroutine is one
        handle = super().get_route_handler()

        async def decoded(request: Request) -> Response:
            return await handle(Decoded(request.scope, request.receive))

        return decoded


def managed_routes(state: WebState) -> APIRouter:
    """Lay out the routes."""
    router = APIRouter(route_class=DecodedRoute)
    _add_reads(router, state)
    _add_output(router, state)
    _add_runs(router, state)
    _add_pauses(router, state)
    _add_letters(router, state)
    _add_daemon(router, state)
    return router


def _add_reads(router: APIRouter, state: WebState) -> None:
    @router.get(f"{RUNS}/{{run}}/managed", tags=["managed"], dependencies=NO_QUERY)
    async def managed(run: RunId, request: Request) -> Response:
        """Tell of a run that crewd itself runs where each task stands, its attempts, and why it waits.

        Of an agent also what it shows of itself.
        """
        found = state.actions.managed(run) if state.actions is not None else None
        if found is None:
            detail = Detail("run_unknown", "path.run", f"{run} is no managed run", f"see {RUNS}/{run}")
            raise Refused(404, "not_found", "no such managed run", (detail,))
        trusted = _caller(request).trusted
        return await told(state, lambda: _plain(found) if trusted else _without_output(_plain(found)))

    @router.get(f"{API}/deadletters", tags=["managed"], dependencies=SINGLE)
    async def letters(query: LettersParameters, request: Request) -> Response:
        """Tell dead letters, the open ones unless others are asked for."""
        which = "" if query.state == "all" else query.state
        found = _actions(state).letters(state=which, crew=query.crew, limit=query.limit)
        trusted = _caller(request).trusted
        plain = list(found)
        return await told(
            state, lambda: {"deadletters": _plain(plain) if trusted else _without_output(_plain(plain))}
        )

    @router.get(f"{API}/deadletter", tags=["managed"], dependencies=SINGLE)
    async def letter(query: LetterParameters, request: Request) -> Response:
        """Tell one dead letter with every attempt.

        `key` names it. Keys hold slashes and colons, so they stand in the query.
        """
        found = _actions(state).letter(query.key)
        if found is None:
            detail = Detail("letter_unknown", "query.key", "no dead letter has this key", f"see {API}/deadletters")
            raise Refused(404, "not_found", "no such dead letter", (detail,))
        trusted = _caller(request).trusted
        return await told(state, lambda: _plain(found) if trusted else _without_output(_plain(found)))

    @router.get(f"{API}/circuits", tags=["managed"], dependencies=NO_QUERY)
    async def circuits() -> Response:
        """Tell which providers and executors are left alone for a while, and why."""
        found = _actions(state).circuits()
        return await told(state, lambda: {"circuits": _plain(list(found))})

    @router.get(f"{API}/pauses", tags=["managed"], dependencies=NO_QUERY)
    async def pauses() -> Response:
        """Tell what a person paused."""
        found = _actions(state).pauses()
        return await told(state, lambda: {"pauses": _plain(list(found))})


def _without_output(value: Any) -> Any:
    """Leave out what workers wrote: it may hold anything, and is for its owner alone."""
    match value:
        case dict():
            return {key: _without_output(each) for key, each in value.items() if key != "tail"}
        case list() | tuple():
            return [_without_output(each) for each in value]
    return value


def _add_output(router: APIRouter, state: WebState) -> None:
    @router.get(
        f"{RUNS}/{{run}}/tasks/{{task}}/output",
        tags=["managed"],
        dependencies=[*SINGLE, WITH_TOKEN],
        response_class=Response,
    )
    async def output(run: RunId, task: TaskId, query: OutputParameters, request: Request) -> Response:
        """Tell what an attempt wrote; only through the socket or with the token.

        See docs/reference/http.md#output.
        """
        if not _caller(request).trusted:
            raise refusal(
                403,
                "output_not_allowed",
                "output may hold anything, and is told only through the unix socket or with a token",
                "use the unix socket in the state folder, or send the token as Authorization: Bearer",
            )
        piece = await asyncio.to_thread(
            state.output, run, task, query.attempt, query.stream, query.offset, query.limit
        )
        if piece is None:
            detail = Detail("output_unknown", "path.task", "no such attempt is kept", f"see {RUNS}/{run}/managed")
            raise Refused(404, "not_found", "no such output", (detail,))
        data = piece.data[: query.limit]
        ended = piece.ended and len(data) == len(piece.data)
        size = ripe(data, full=len(data) == query.limit, ended=ended)
        shown = data if query.unfinished else data[:size]
        return Response(
            await asyncio.to_thread(redacted, shown, state.redactor, ended or not query.unfinished),
            headers={
                "X-Crewd-Attempt": str(piece.attempt),
                "X-Crewd-Offset": str(piece.offset),
                "X-Crewd-Next-Offset": str(piece.offset + size),
                "X-Crewd-Ended": "true" if ended else "false",
            },
            media_type="application/octet-stream",
        )


def _add_runs(router: APIRouter, state: WebState) -> None:
    @router.post(RUNS, **CHANGE, status_code=201, responses={200: {"description": "Accepted before; begun once."}})
    async def submit(
        body: asked.RunBody, request: Request, header: IdempotencyKey = None, actor: ActorName = None
    ) -> Response:
        """Accept a run: 201, or 200 if the same key brought it before. `Location` is its address.

        Once this is answered, the run survives a crash of anything. `key`, or the header `Idempotency-Key`: 1 to 128
        printable characters of ASCII without blanks.
        """
        caller, key = _caller(request), _key(request, header, body.key)
        through = "the unix socket" if caller.door is Door.SOCKET else "TCP with a token"
        submitted = await _tried(
            state,
            lambda actions: actions.submit(
                body.run, base=body.base, key=key, actor=caller.actor, source=f"a request through {through}"
            ),
        )
        headers = {"location": f"{RUNS}/{quote(submitted.run_id, safe='')}"}
        return await told(state, lambda: _plain(submitted), 200 if submitted.duplicate else 201, headers)

    @router.post(f"{RUNS}/{{run}}/cancel", **CHANGE)
    async def cancel_run(run: RunId, body: asked.CancelBody, request: Request, actor: ActorName = None) -> Response:
        """Cancel a run; answered when nothing of it is left."""
        who = _caller(request).actor
        return await _done(state, lambda actions: actions.cancel(run, "", reason=body.reason, actor=who))

    @router.post(f"{RUNS}/{{run}}/tasks/{{task}}/cancel", **CHANGE)
    async def cancel_task(
        run: RunId, task: TaskId, body: asked.CancelBody, request: Request, actor: ActorName = None
    ) -> Response:
        """Cancel one task; answered when nothing of it is left."""
        who = _caller(request).actor
        return await _done(state, lambda actions: actions.cancel(run, task, reason=body.reason, actor=who))

    @router.post(f"{RUNS}/{{run}}/tasks/{{task}}/retry", **CHANGE)
    async def retry(
        run: RunId, task: TaskId, body: asked.NothingBody, request: Request, actor: ActorName = None
    ) -> Response:
        """Start a waiting retry now; redrive a dead letter."""
        who = _caller(request).actor
        return await _done(state, lambda actions: actions.retry(run, task, actor=who))

    @router.post(f"{RUNS}/{{run}}/tasks/{{task}}/bury", **CHANGE)
    async def bury(
        run: RunId, task: TaskId, body: asked.BuryBody, request: Request, actor: ActorName = None
    ) -> Response:
        """Give a task up: it becomes a dead letter."""
        who = _caller(request).actor
        return await _done(state, lambda actions: actions.bury(run, task, reason=body.reason, actor=who))


def _add_pauses(router: APIRouter, state: WebState) -> None:
    @router.post(f"{API}/pause", **CHANGE)
    async def pause(body: asked.PauseBody, request: Request, actor: ActorName = None) -> Response:
        """Start nothing more in a scope: `daemon`, `crew:NAME`, `executor:NAME`. With `drain` no retries either."""
        who = _caller(request).actor
        return await _done(
            state, lambda actions: actions.pause(body.scope, drain=body.drain, reason=body.reason, actor=who)
        )

    @router.post(f"{API}/resume", **CHANGE)
    async def resume(body: asked.ResumeBody, request: Request, actor: ActorName = None) -> Response:
        """Open what was paused."""
        who = _caller(request).actor
        return await _done(state, lambda actions: actions.resume(body.scope, actor=who))


def _add_letters(router: APIRouter, state: WebState) -> None:
    @router.post(f"{API}/deadletters/redrive", **CHANGE)
    async def redrive(body: asked.RedriveBody, request: Request, actor: ActorName = None) -> Response:
        """Give tasks a new budget of attempts.

        Those of these dead letters (at most 1000), or all open ones of one cause.
        """
        who = _caller(request).actor
        return await _done(
            state,
            lambda actions: actions.redrive(
                body.keys, body.fingerprint, dry_run=body.dry_run, limit=body.limit, actor=who
            ),
        )

    @router.post(f"{API}/deadletters/discard", **CHANGE)
    async def discard(body: asked.DiscardBody, request: Request, actor: ActorName = None) -> Response:
        """Settle dead letters without trying again."""
        who = _caller(request).actor
        return await _done(
            state,
            lambda actions: actions.discard(
                body.keys, body.fingerprint, reason=body.reason, dry_run=body.dry_run, actor=who
            ),
        )


def _add_daemon(router: APIRouter, state: WebState) -> None:
    @router.post("/-/handover", **CHANGE)
    async def handover(body: asked.NothingBody, request: Request, actor: ActorName = None) -> Response:
        """End the daemon; its workers go on, and the next crewd takes them over."""
        who = _caller(request).actor
        return await _done(state, lambda actions: actions.handover(actor=who))

    @router.post("/-/reload", **CHANGE)
    async def reload(body: asked.NothingBody, actor: ActorName = None) -> Response:
        """Read the settings again. 409: they cannot be used, each complaint is told, and the old ones stay."""
        done = await state.reload()
        if not done.ok:
            told = state.redactor.text
            complaints = tuple(
                Detail("reload_failed", f"{each.file}: {each.key}" if each.key else each.file,
                       told(each.message), told(each.remedy) or "run `crewd config check`")
                for each in done.complaints
            )  # fmt: skip
            raise Refused(409, "reload_failed", "the settings cannot be used, and the old ones stay", complaints)
        what = "the settings were read again" + ("" if done.changed else "; nothing has changed")
        details = {"changed": list(done.changed), "need_restart": list(done.need_restart)}
        return as_json({"what": what, "ids": [], "details": details})


async def _done(state: WebState, act: Callable[[Actions], Awaitable[Done]]) -> Response:
    done = await _tried(state, act)
    return await told(state, lambda: _plain(done))


async def _tried(state: WebState, act: Callable[[Actions], Awaitable[Outcome]]) -> Outcome:
    """Act, and turn what went wrong into a refusal that names everything."""
    actions = _actions(state)
    try:
        return await act(actions)
    except CrewdError as error:
        raise _refusal_of(error, state.redactor) from error


def _refusal_of(error: CrewdError, redactor: Redactor) -> Refused:
    message = redactor.text(str(error))
    problems: Sequence[Any] = getattr(error, "problems", ())
    if problems:
        details = tuple(
            Detail(
                str(each.code), f"/run{each.pointer}", redactor.text(each.message), redactor.text(each.next_action)
            )
            for each in problems
        )
        return Refused(400, "run_refused", "the run is not accepted", details)
    match error:
        case errors.NothingMatched():
            return refusal(404, "not_found", message, "see what there is: /api/v1/runs, /api/v1/deadletters")
        case errors.Refused():
            return refusal(409, "conflict", message, "see how it stands: /api/v1/runs/{run}/managed")
        case errors.UsageProblem():
            return refusal(400, "bad_request", message, "correct the request")
        case _:
            return refusal(503, "unavailable", message, "look at /readyz, and send it again")


def _actions(state: WebState) -> Actions:
    if state.actions is None:
        raise refusal(
            503,
            "tasks_disabled",
            "this crewd only watches: it runs no tasks",
            "set tasks.enabled = true, and restart",
        )
    return state.actions


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["state"][CALLER]
    return caller


def _key(request: Request, header: str | None, body: str | None) -> str:
    """Find the one idempotency key. Raises Refused where two are given."""
    if len(request.headers.getlist("idempotency-key")) > 1 or (header and body and header != body):
        detail = Detail("two_keys", "/key", "two idempotency keys are given", "give one, in the header or the body")
        raise Refused(400, "bad_request", "the request is not understood", (detail,))
    return header or body or ""


def _plain(value: Any) -> Any:
    """Lay out as JSON values what may still hold structs, so that every text in it is looked at for secrets."""
    return msgspec.to_builtins(value)
