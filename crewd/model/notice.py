"""Notices: what a person outside is told of an incident, in the form that every channel shares."""

from typing import Any, Literal

import msgspec

from crewd.model.event import Event
from crewd.model.incident import ABOUT_ALL, is_acknowledged, is_snoozed, subject_of
from crewd.model.verdict import Incident

SEVERITIES = ("info", "warning", "critical")  # from the least to the worst
# Events after which an incident is open. Whether it was told already is the channel's to know.
OPENING = frozenset({"incident.opened", "incident.updated"})
RESOLVING = "incident.resolved"
HEARD = (*sorted(OPENING), RESOLVING)


# "": it is new. damped: it opens again and again. graver: it was told as something less. anew: its snooze is over, or
# more of it happened. reminder: it is still open.
NoticeState = Literal["", "damped", "graver", "anew", "reminder"]


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
    silenced: bool = False  # a person snoozed it
    damped: bool = False  # it opens so often that a channel tells that once, and then waits until it has been quiet
    acknowledged: bool = False  # a person has seen it
    crews: tuple[str, ...] = ()  # of one that concerns several: whose it is
    state: NoticeState = ""  # of one that opened: why it is told
    former: str = ""  # of one that became graver: the severity that was told before
    anew: int = 0  # how often it was news again while it was open

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
    opened_at, anew = data.get("opened_at"), data.get("anew")
    return Notice(
        kind="resolved" if event.type == RESOLVING else "opened",
        subject=_text(data.get("subject")) or (subject_of(event.run_id) if event.run_id else ABOUT_ALL),
        cause=_text(data.get("cause")) or "unknown",
        severity=severity if severity in SEVERITIES else "warning",
        summary=_text(data.get("summary")),
        at=event.at,
        opened_at=float(opened_at) if isinstance(opened_at, int | float) else event.at,
        crew=event.crew,
        run_id=event.run_id,
        task_id=event.task_id,
        seq=event.seq,
        silenced=any(data.get(name) for name in ("silenced", "snoozed")),
        damped=bool(data.get("damped")),
        acknowledged=bool(data.get("acknowledged")),
        crews=_texts(data.get("crews")),
        anew=anew if isinstance(anew, int) else 0,
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
        silenced=is_snoozed(incident, wall),
        damped=incident.damped,
        acknowledged=is_acknowledged(incident),
        crews=incident.crews,
        anew=incident.anew,
    )


def is_graver(severity: str, than: str) -> bool:
    """Whether one severity is worse than another; false where one of them is none."""
    known = SEVERITIES.index(severity) if severity in SEVERITIES else -1
    return than in SEVERITIES and known > SEVERITIES.index(than)


def trial_notice(at: float) -> Notice:
    """Make the message that only tries a channel."""
    words = "crewd tries this channel: nothing is wrong"
    return Notice("test", ABOUT_ALL, "test", "info", words, at, at)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list | tuple) else ()
