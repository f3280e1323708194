"""Events: what happened, once, in order. The ledger gives `seq`; nothing is told before it is durable."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from crewd.model.moment import rfc3339

VERSION = 1


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened. `type` is dotted and in the past tense; `data` holds JSON values only."""

    type: str
    at: float  # wall time, epoch seconds
    data: Mapping[str, Any] = {}
    run_id: str = ""
    task_id: str = ""
    attempt: int = 0
    runtime: str = ""
    crew: str = ""
    actor: str = "daemon"
    seq: int = 0  # 0 until the ledger has it


def trace_id(run_id: str) -> str:
    """Derive the 32 hex digits that name a run's trace: the same after every restart."""
    return hashlib.sha256(f"crewd:trace:{run_id}".encode()).hexdigest()[:32]


def span_id(run_id: str, task_id: str, attempt: int) -> str:
    """Derive the 16 hex digits that name one attempt's span."""
    return hashlib.sha256(f"crewd:span:{run_id}:{task_id}:{attempt}".encode()).hexdigest()[:16]


def as_record(event: Event) -> dict[str, Any]:
    """Lay an event out as every reader outside sees it (ledger, sinks, API, command line)."""
    record: dict[str, Any] = {"v": VERSION, "seq": event.seq, "ts": rfc3339(event.at), "type": event.type}
    if event.run_id:
        record["run_id"] = event.run_id
        if event.task_id:
            record["task_id"] = event.task_id
        if event.attempt:
            record["attempt"] = event.attempt
        if event.runtime:
            record["runtime"] = event.runtime
        if event.crew:
            record["crew"] = event.crew
        record["trace_id"] = trace_id(event.run_id)
        if event.task_id:
            record["span_id"] = span_id(event.run_id, event.task_id, event.attempt or 1)
    record["actor"] = event.actor
    record["data"] = event.data
    return record
