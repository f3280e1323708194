"""The log listener: what a person wants to read in the journal of what happened. Heartbeats never."""

import logging
from collections.abc import Sequence

import structlog

from crewd.model.event import Event, span_id, trace_id
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot

BY_LEVEL = {"dead": "error", "stale": "warning", "unreadable": "warning"}
BY_SEVERITY = {"critical": "error", "warning": "warning", "info": "info"}
BY_TYPE = {
    "run.failed": "warning",
    "run.vanished": "warning",
    "run.discovered": "debug",
    "worker.wedged": "warning",
    "worker.flapping": "warning",
    "worker.protocol_error": "warning",
    "verdict.opened": "warning",
    "verdict.confirmed": "info",
    "verdict.refuted": "warning",  # crewd was wrong
    "incident.resolved": "info",
    "incident.updated": "info",
    "incident.acknowledged": "info",
    "incident.snoozed": "info",
    "deadletter.added": "warning",
    "deadletter.threshold_exceeded": "error",
    "daemon.suspended": "warning",
    "daemon.stalled": "warning",
    "daemon.clock_stepped": "warning",
    "daemon.brake_engaged": "error",
    "daemon.degraded": "error",
    "daemon.reload_failed": "error",
    "daemon.log_level_changed": "warning",
    "task.failed": "info",
    "task.timed_out": "info",
    "task.retry_scheduled": "info",
}
# Whole kinds that are told at info where nothing above says otherwise; the rest is for debugging.
TOLD = ("run.", "daemon.", "recovery.", "circuit.")


class LogListener:
    """Writes one line for each event that deserves it."""

    def __init__(self) -> None:
        self._log = structlog.stdlib.get_logger("crewd.events")
        self._standard = logging.getLogger("crewd.events")

    def on_events(self, events: Sequence[Event]) -> None:
        """Tell what happened, each at its level."""
        for event in events:
            number = NUMBER[level_of(event)]
            if number > logging.DEBUG or self._standard.isEnabledFor(number):  # most are for debugging, which is off
                self._log.log(number, event.type, **_fields(event))

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        """Rounds are told by metrics."""


def level_of(event: Event) -> str:
    """Say how loud an event is: debug, info, warning or error."""
    if event.type == "worker.level_changed":
        return BY_LEVEL.get(str(event.data.get("to_level")), "info")
    if event.type == "incident.opened" and event.data.get("damped") is True:
        return "info"
    if event.type == "incident.opened":
        return BY_SEVERITY.get(str(event.data.get("severity")), "warning")
    if event.type in BY_TYPE:
        return BY_TYPE[event.type]
    return "info" if event.type.startswith(TOLD) else "debug"


NUMBER = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Names that structlog or the standard library give a meaning of their own.
RESERVED = frozenset({"self", "event", "level", "logger", "ts", "exc_info", "stack_info", "positional_args"})


def _fields(event: Event) -> dict[str, object]:
    fields: dict[str, object] = {"seq": event.seq}
    if event.run_id:
        fields |= {"run_id": event.run_id, "trace_id": trace_id(event.run_id)}
    if event.task_id:
        fields |= {"task_id": event.task_id, "span_id": span_id(event.run_id, event.task_id, event.attempt or 1)}
    for name in ("attempt", "runtime", "crew"):
        if value := getattr(event, name):
            fields[name] = value
    for name, value in event.data.items():
        fields[f"data_{name}" if name in fields or name in RESERVED else name] = value
    return fields
