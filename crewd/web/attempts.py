"""Attempts of one task, from both places that know of them: the history, and the managed run itself. By number."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from crewd.model.history import AttemptRow
from crewd.web.shapes import time

# Of what a managed attempt notes in its details: that which says how it went about its task.
NOTED = ("code", "rung", "because", "session", "profile", "tools", "saved_tokens")


def attempts_of(rows: Iterable[AttemptRow], managed: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """Lay out every attempt that is known, by its number; `managed`: as a managed run tells them.

    What is unknown is None, which is not 0: of another runtime's attempt crewd knows no end of the output, and of one
    whose events were deleted for their age no usage.
    """
    recorded = {row.attempt: _of_history(row) for row in rows}
    kept = {each["attempt"]: _of_run(each) for each in managed}
    empty = {**_of_history(BLANK), **dict.fromkeys(("exit_code", "signal", "output_bytes", *NOTED, "tail"))}
    return {
        number: {**empty, **recorded.get(number, {}), **_known(kept.get(number, {})), "attempt": number}
        for number in sorted({*recorded, *kept})
    }


BLANK = AttemptRow(run_id="", task_id="", attempt=0, first_seq=0, last_seq=0)


def _of_history(row: AttemptRow) -> dict[str, Any]:
    return {
        "attempt": row.attempt,
        "outcome": row.outcome or None,
        "error_class": row.error_class or None,
        "error": row.error or None,
        "started_at": time(row.started_at),
        "ended_at": time(row.ended_at),
        "queue_seconds": row.queue_seconds,
        "duration_seconds": row.duration_seconds,
        "task_type": row.task_type or None,
        "executor": row.executor or None,
        "model": row.model or None,
        "variants": dict(row.variants),
        "usage": msgspec.to_builtins(row.usage) if row.usage is not None else None,
        "iterations": row.iterations,
    }


def _of_run(record: Mapping[str, Any]) -> dict[str, Any]:
    details, exit = record.get("details") or {}, record.get("exit") or {}
    return {
        "attempt": record["attempt"],
        "outcome": _outcome(record),
        "error_class": record.get("error_class"),
        "error": record.get("error") or None,
        "started_at": record.get("started_at"),
        "ended_at": record.get("ended_at"),
        "model": details.get("model") or None,
        "exit_code": exit.get("code"),
        "signal": exit.get("signal"),
        "output_bytes": record.get("output_bytes"),
        **{name: details.get(name) for name in NOTED},
        "tail": record.get("tail") or None,
    }


def _outcome(record: Mapping[str, Any]) -> str:
    if record.get("interrupted"):
        return "interrupted"
    match record.get("error_class"):
        case None:
            return "completed"
        case "timeout":
            return "timed_out"
        case "cancelled":
            return "cancelled"
    return "failed"


def _known(attempt: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what the run itself does not know: the history may."""
    return {name: value for name, value in attempt.items() if value is not None}
