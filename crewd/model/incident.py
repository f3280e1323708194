"""Incidents laid out: the state that a person gave one, and its portrait as JSON. Pure."""

from enum import StrEnum
from typing import Any

from crewd.model.moment import rfc3339
from crewd.model.verdict import Incident


class IncidentState(StrEnum):
    """What has become of an incident. While it is open: what a person said of it."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"  # it may be acknowledged as well
    RESOLVED = "resolved"


ABOUT_ALL = "crewd"  # the subject of what concerns no single run
OPEN_STATES = (IncidentState.OPEN, IncidentState.ACKNOWLEDGED, IncidentState.SNOOZED)
SEVERITIES = ("critical", "warning", "info")  # the gravest first


def subject_of(run_id: str, task_id: str = "") -> str:
    """Name what an incident is about: RUN/TASK, or RUN.

    No run shares the subject of crewd itself: the run that is called so is `crewd/`, a run without a task.
    """
    if task_id or run_id == ABOUT_ALL:
        return f"{run_id}/{task_id}"
    return run_id


def is_acknowledged(incident: Incident) -> bool:
    return incident.acknowledged_at is not None


def is_snoozed(incident: Incident, now: float) -> bool:
    """Whether nobody wants to hear of it just now. `now` is wall time."""
    return incident.snoozed_until is not None and now < incident.snoozed_until


def state_of(incident: Incident, now: float) -> IncidentState:
    """Say what has become of it at the wall time `now`."""
    if incident.resolved_at is not None:
        return IncidentState.RESOLVED
    if is_snoozed(incident, now):
        return IncidentState.SNOOZED
    return IncidentState.ACKNOWLEDGED if is_acknowledged(incident) else IncidentState.OPEN


def portrait(incident: Incident, now: float) -> dict[str, Any]:
    """Lay one out: times are RFC 3339, what is unknown is null."""
    return {
        "subject": incident.subject,
        "cause": incident.cause,
        "kind": incident.kind or None,
        "severity": incident.severity,
        "state": state_of(incident, now).value,
        "summary": incident.summary,
        "opened_at": rfc3339(incident.opened_at),
        "updated_at": _time(incident.updated_at),
        "resolved_at": _time(incident.resolved_at),
        "openings": incident.openings,
        "damped": incident.damped,
        "acknowledged_by": incident.acknowledged_by or None,
        "acknowledged_at": _time(incident.acknowledged_at),
        "snoozed_by": incident.snoozed_by or None,
        "snoozed_until": _time(incident.snoozed_until),
        "note": incident.note or None,
        "crew": incident.crew or None,
        "run_id": incident.run_id or None,
        "task_id": incident.task_id or None,
    }


def _time(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)
