"""Answers: the ways in which every route answers."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Response

from crewd.telemetry.json_text import encode
from crewd.telemetry.redact import Redactor
from crewd.web.refusal import Detail, Refused
from crewd.web.state import WebState


async def told(
    state: WebState, shape: Callable[[], dict[str, Any]], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Shape, redact and encode in a thread: the size of an answer must not hold up a round."""
    body = await asyncio.to_thread(lambda: encode(_redacted(state.redactor, shape())))
    return Response(body, status, headers, media_type="application/json")


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a small value that holds nothing of a stranger's."""
    return Response(encode(body), status, headers, media_type="application/json")


def unknown(what: str, id: str) -> Any:
    """Refuse an id of the path. Raises always."""
    detail = Detail(f"{what}_unknown", f"path.{what}", f"{id} is not among the runs seen", "see /api/v1/runs")
    raise Refused(404, "not_found", f"no such {what}", (detail,))


def _redacted(redactor: Redactor, body: dict[str, Any]) -> dict[str, Any]:
    """Take secrets out of an answer, row by row: what is too large to be walked is a row, never a page."""
    rows = {name: [redactor.value(row) for row in value] for name, value in body.items() if isinstance(value, list)}
    rest = redactor.value({name: value for name, value in body.items() if name not in rows})
    return {name: rows[name] if name in rows else rest[name] for name in body}
