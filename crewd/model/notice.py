"""Notices: what a person outside is told of an incident, in the form that every channel shares."""

from typing import Any, Literal

import msgspec

from crewd.model.event import Event
from crewd.model.incident import is_snoozed
from crewd.model.verdict import Incident

SEVERITIES = ("info", "warning", "critical")  # from the least to the worst
# Events after which an incident is open. Whether it was told already is the channel's to know.
OPENING = frozenset({"incident.opened", "incident.updated"})
RESOLVING = "incident.resolved"
HEARD = (*sorted(OPENING), RESOLVING)


class Notice(msgspec.Struct, frozen=True):
    """One incident that begins or ends, or a test. `seq` is that of its event; 0: it has none."""

    kind: Literal["opened", "resolved", "test"]
    subject: str
    cause: str
    severity: str
    summary: str
    at: float  # wall time
    opened_at: float
    crew: str = ""
    run_id: str = ""
    task_id: str = ""
    seq: int = 0
    silenced: bool = False  # a person snoozed it, or it opens too often

    @property
    def key(self) -> str:
        """One open incident has one key, whatever became of its severity or words."""
        return f"{self.subject}\n{self.cause}"


def notice_of(event: Event) -> Notice | None:
    """Read the event of an incident; None: it is no such event. Any shape of its data makes a notice."""
    if event.type not in HEARD:
        return None
    data = event.data
    severity = _text(data.get("severity"))
    opened_at = data.get("opened_at")
    return Notice(
        kind="resolved" if event.type == RESOLVING else "opened",
        subject=_text(data.get("subject")) or event.run_id or "crewd",
        cause=_text(data.get("cause")) or "unknown",
        severity=severity if severity in SEVERITIES else "warning",
        summary=_text(data.get("summary")),
        at=event.at,
        opened_at=float(opened_at) if isinstance(opened_at, int | float) else event.at,
        crew=event.crew,
        run_id=event.run_id,
        task_id=event.task_id,
        seq=event.seq,
        silenced=any(data.get(name) for name in ("silenced", "snoozed", "damped")),
    )


def notice_about(incident: Incident, wall: float) -> Notice:
    """Tell of an incident that is open, as it is at the wall time `wall`."""
    return Notice(
        "opened",
        incident.subject,
        incident.cause,
        incident.severity if incident.severity in SEVERITIES else "warning",
        incident.summary,
        incident.opened_at,
        incident.opened_at,
        incident.crew,
        incident.run_id,
        incident.task_id,
        silenced=incident.damped or is_snoozed(incident, wall),
    )


def trial_notice(at: float) -> Notice:
    """Make the message that only tries a channel."""
    words = "crewd tries this channel: nothing is wrong"
    return Notice("test", "crewd", "test", "info", words, at, at)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
