"""How rows of history are told outside: by routes, by exports, by commands without a daemon. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from crewd.model.event import span_id, trace_id
from crewd.model.history import AttemptRow, HistoryPage, HistoryStats, RunRow, SummaryGroup, TaskRow
from crewd.model.moment import rfc3339
from crewd.policy.summary import laid_out, window_seconds

ROWS = ("runs", "tasks", "attempts")  # what pages are asked for
_TIMES = ("started_at", "ended_at", "created_at", "first_at", "last_at")
Redact = Callable[[dict[str, Any]], dict[str, Any]]
_SECONDS = ("queue_seconds", "duration_seconds")
_NONE_WHEN_EMPTY = ("outcome", "error_class")


def row_told(row: AttemptRow | TaskRow | RunRow) -> dict[str, Any]:
    """Lay one row out. `outcome` is null while it is at work, `usage` where none was reported."""
    told = _told(row)
    if isinstance(row, RunRow):
        return told | {"trace_id": trace_id(row.run_id)}
    if isinstance(row, AttemptRow):
        return told | {"trace_id": trace_id(row.run_id), "span_id": span_id(row.run_id, row.task_id, row.attempt)}
    return told


def page_told(name: str, page: HistoryPage[Any]) -> dict[str, Any]:
    """Lay a page out: the rows under their name, and the `cursor` of the next page, null on the last."""
    cursor = None if page.next_before is None else str(page.next_before)
    return {name: [row_told(row) for row in page.rows], "next_cursor": cursor}


def stats_told(stats: HistoryStats) -> dict[str, Any]:
    """Lay the figures of the history out."""
    return _told(stats)


def summary_told(
    groups: Sequence[SummaryGroup], window: str, until: float, level: str, group_by: Sequence[str], redact: Redact
) -> dict[str, Any]:
    """Lay out the summary of a window that ends at the wall time `until`, without secrets."""
    return {
        "window": window,
        "from": rfc3339(until - window_seconds(window)),
        "to": rfc3339(until),
        "level": level,
        "group_by": list(group_by),
        **_without_secrets(laid_out(groups, level, group_by), redact),
    }


def _without_secrets(group: dict[str, Any], redact: Redact) -> dict[str, Any]:
    """Redact group by group: what is too large to be walked is none of them."""
    inner = [_without_secrets(each, redact) for each in group["groups"]]
    return redact({**group, "groups": []}) | {"groups": inner}


def _told(value: Any) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(value)
    for name in _TIMES:
        if name in told:
            told[name] = _moment(told[name])
    for name in _NONE_WHEN_EMPTY:
        if name in told:
            told[name] = told[name] or None
    for name in _SECONDS:
        if told.get(name) is not None:
            told[name] = round(told[name], 4)
    if isinstance(told.get("usage"), Mapping):
        told["usage"] = {name: figure for name, figure in told["usage"].items() if name != "model"}
    return told


def _moment(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)
