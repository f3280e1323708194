"""Answers: the ways in which every route answers."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Response

from crewd.model.snapshot import Snapshot
from crewd.telemetry.json_text import encode
from crewd.telemetry.redact import Redactor
from crewd.web.refusal import Detail, Refused
from crewd.web.state import WebState

REMEMBERED_MAX = 32  # answers, of one snapshot


class Remembered:
    """Answers that follow from the snapshot alone: the same question to the same one is worked out once.

    A snapshot never changes, and many readers ask between two rounds. What is being worked out is waited for.
    """

    def __init__(self, state: WebState) -> None:
        self._state = state
        self._of: tuple[Snapshot | None, int] = (None, 0)
        self._bodies: dict[str, asyncio.Task[bytes]] = {}

    async def told(self, question: str, shape: Callable[[], dict[str, Any]]) -> Response:
        """Answer with what `shape` makes of the present snapshot, redacted and encoded."""
        # Whoever teaches the redactor a secret makes every answer from before it untrue.
        now = (self._state.snapshot(), self._state.redactor.lessons)
        if now[0] is not self._of[0] or now[1] != self._of[1] or len(self._bodies) >= REMEMBERED_MAX:
            self._of, self._bodies = now, {}
        task = self._bodies.get(question)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._bodies[question] = asyncio.create_task(
                asyncio.to_thread(_encoded, self._state.redactor, shape), name="answer"
            )
        # One who goes away does not take the answer from the others.
        return Response(await asyncio.shield(task), media_type="application/json")


async def told(
    state: WebState, shape: Callable[[], dict[str, Any]], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Shape, redact and encode in a thread: the size of an answer must not hold up a round."""
    body = await asyncio.to_thread(_encoded, state.redactor, shape)
    return Response(body, status, headers, media_type="application/json")


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a small value that holds nothing of a stranger's."""
    return Response(encode(body), status, headers, media_type="application/json")


def unknown(what: str, id: str) -> Any:
    """Refuse an id of the path. Raises always."""
    detail = Detail(f"{what}_unknown", f"path.{what}", f"{id} is not among the runs seen", "see /api/v1/runs")
    raise Refused(404, "not_found", f"no such {what}", (detail,))


def _encoded(redactor: Redactor, shape: Callable[[], dict[str, Any]]) -> bytes:
    return encode(_redacted(redactor, shape()))


def _redacted(redactor: Redactor, body: dict[str, Any]) -> dict[str, Any]:
    """Take secrets out of an answer, row by row: what is too large to be walked is a row, never a page."""
    rows = {name: [redactor.value(row) for row in value] for name, value in body.items() if isinstance(value, list)}
    rest = redactor.value({name: value for name, value in body.items() if name not in rows})
    return {name: rows[name] if name in rows else rest[name] for name in body}
