"""Incidents: one open incident per (subject, cause); opened when it begins to be true, resolved when it ends."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from crewd.detection.liveness import NOTHING_MOVES
from crewd.detection.wedge import REMEDIES
from crewd.engine.book import Entry, Worker
from crewd.engine.options import PatrolOptions
from crewd.model.event import Event
from crewd.model.verdict import Incident, Level, Reason, Wedge

UNKILLABLE = "unkillable"
# Causes that others tell of, whatever a worker's standing says.
STUCK = frozenset({UNKILLABLE})  # the engine of managed runs
SPENT = frozenset({"burn", "loop"})  # the book of what observed agents use
APART = STUCK | SPENT
STANDING: frozenset[str] = frozenset()  # all but those


@dataclass(slots=True, eq=False)
class Incidents:
    """What a person should know, while it lasts."""

    open: dict[str, dict[str, Incident]] = field(default_factory=dict)  # subject -> cause -> incident

    def recall(self, incident: Incident) -> None:
        self.open.setdefault(incident.subject, {})[incident.cause] = incident

    def set(
        self, subject: str, wanted: Iterable[Incident], wall: float, of: frozenset[str] = STANDING
    ) -> list[Incident]:
        """Make the open incidents of one subject those that are wanted; returns the ones that changed.

        `of`: the causes that are meant, STUCK or SPENT; without it, all that are not in APART.
        """
        known = self.open.get(subject, {})
        before = {cause: each for cause, each in known.items() if (cause in of if of else cause not in APART)}
        others = {cause: incident for cause, incident in known.items() if cause not in before}
        after = {incident.cause: before.get(incident.cause, incident) for incident in wanted}
        changed = [incident for cause, incident in after.items() if cause not in before]
        changed += [
            msgspec.structs.replace(incident, resolved_at=wall)
            for cause, incident in before.items()
            if cause not in after
        ]
        if others or after:
            self.open[subject] = others | after
        else:
            self.open.pop(subject, None)
        return changed

    def subjects(self, of: frozenset[str]) -> list[str]:
        """Subjects with an open incident of one of these causes."""
        return [subject for subject, open in self.open.items() if not of.isdisjoint(open)]


def subject_of(run_id: str, task_id: str = "") -> str:
    return f"{run_id}/{task_id}" if task_id else run_id


def worker_incidents(entry: Entry, worker: Worker, wall: float, options: PatrolOptions) -> list[Incident]:
    """Which incidents one worker's standing calls for."""
    standing, run, task = worker.standing, entry.run, worker.task

    def incident(cause: str, severity: str, summary: str) -> list[Incident]:
        subject = subject_of(run.run_id, task.task_id)
        return [Incident(subject, cause, severity, summary, wall, run.crew, run.run_id, task.task_id)]

    match standing.level:
        case Level.DEAD:
            return incident(
                "dead", "critical", f"{task.task_id} is dead ({standing.reason.value}): {standing.because}"
            )
        case Level.STALE if standing.reason is Reason.STOPPED:
            return incident("stopped", "warning", f"{task.task_id} is stopped: {standing.because}")
        case Level.STALE if standing.reason is Reason.SILENT and (
            worker.verdict.row in NOTHING_MOVES or (task.streams and standing.wedge is Wedge.API_STREAM_HANG)
        ):
            remedy = REMEDIES[standing.wedge] if standing.wedge is not None else ""
            return incident("silent", "warning", f"{task.task_id} is alive and silent: {standing.because}. {remedy}")
        case Level.WAITING if worker.waiting_since is not None:
            if worker.waited >= options.waiting_alert_after:
                return incident(
                    "waiting", "warning", f"{task.task_id} waits ({standing.reason.value}): {standing.because}"
                )
    return []


def run_incidents(entry: Entry, wall: float, options: PatrolOptions) -> list[Incident]:
    """Which incidents a run's own state calls for, whatever its workers do."""
    if entry.unread is None or entry.unread_rounds < options.unreadable_after:
        return []
    run = entry.run
    summary = f"{run.folder}: unread for {options.unreadable_after} rounds ({entry.unread.value}); look at its files"
    return [Incident(run.run_id, "unreadable", "warning", summary, wall, run.crew, run.run_id)]


def stranger_incident(run_id: str, root: str, why: str, wall: float) -> Incident:
    """A run of which nothing could ever be read: nobody would miss it."""
    summary = f"{run_id} under {root}: nothing of it could ever be read ({why}); the log names the file"
    return Incident("crewd", f"unreadable:{run_id}", "warning", summary, wall, run_id=run_id)


def incident_event(incident: Incident, at: float) -> Event:
    """Tell that an incident opened or was resolved."""
    resolved = incident.resolved_at is not None
    return Event(
        "incident.resolved" if resolved else "incident.opened",
        at,
        {
            "subject": incident.subject,
            "cause": incident.cause,
            "severity": incident.severity,
            "summary": incident.summary,
        },
        incident.run_id,
        incident.task_id,
        crew=incident.crew,
    )
