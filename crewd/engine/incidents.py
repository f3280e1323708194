"""Incidents: one open incident per (subject, cause); opened when it begins to be true, resolved when it ends.

One that comes back soon after its end is the same one, opened once more; one that does so again and again is damped.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from crewd.detection.liveness import NOTHING_MOVES
from crewd.detection.wedge import REMEDIES
from crewd.engine.book import Book, Entry, Worker
from crewd.engine.options import PatrolOptions
from crewd.model.event import Event
from crewd.model.incident import ABOUT_ALL, SEVERITIES, is_acknowledged, is_snoozed, subject_of
from crewd.model.run import RUN_ENDED
from crewd.model.verdict import Incident, Level, Reason, Wedge
from crewd.policy.damping import Damping, Penalty, eased, opened

UNKILLABLE = "unkillable"
# Causes that others tell of, whatever a worker's standing says.
STUCK = frozenset({UNKILLABLE})  # the engine of managed runs
SPENT = frozenset({"burn", "loop"})  # the book of what observed agents use
RECOVERY = frozenset({"interrupted", "recovery_failed"})  # what is made of interrupted runs (recovering.py)
APART = STUCK | SPENT | RECOVERY
STANDING: frozenset[str] = frozenset()  # all but those

CLOSED_MAX = 2000  # incidents that are over and may come back
CLOCK_NOISE = 1.0  # seconds by which a wall clock that is kept right may differ from the time that passed
KIND_EVERY = 300.0  # seconds between two tellings that an open incident means something else now
DEFAULTS = PatrolOptions()
MASS_DEATH = "mass_death"  # many died together (mass_deaths.py)
WAITS = {
    Reason.HUMAN: "waits for a person",
    Reason.THROTTLED: "is kept waiting by the rate limit of its provider",
}


class News(NamedTuple):
    """What became of one incident, and why it is told."""

    type: str  # of the event
    incident: Incident
    # Of an update: severity, kind, more, crews, snooze_over, snooze_shortened, unsnoozed, damping_over; of an end:
    # damping_over.
    change: str = ""
    actor: str = "daemon"


@dataclass(slots=True, eq=False)
class Incidents:
    """What a person should know, while it lasts. All times are wall times: they outlive crewd."""

    open: dict[str, dict[str, Incident]] = field(default_factory=dict)  # subject -> cause -> incident
    closed: dict[tuple[str, str], Incident] = field(default_factory=dict)  # that may come back, oldest end first
    # (subject, cause) -> wall time at which its snooze is to end, and the running time by which it must have.
    _snoozes: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def recall(self, incident: Incident) -> None:
        """Take over an incident of a former crewd, open or resolved."""
        if incident.resolved_at is None:
            self.open.setdefault(incident.subject, {})[incident.cause] = incident
        else:
            self._close(incident)

    def set(
        self,
        subject: str,
        wanted: Iterable[Incident],
        wall: float,
        of: frozenset[str] = STANDING,
        options: PatrolOptions = DEFAULTS,
    ) -> list[News]:
        """Make the open incidents of one subject those that are wanted; returns what changed by it.

        `of`: the causes that are meant, STUCK or SPENT; without it, all that are not in APART.
        """
        known = self.open.get(subject, {})
        before = {cause: each for cause, each in known.items() if (cause in of if of else cause not in APART)}
        others = {cause: incident for cause, incident in known.items() if cause not in before}
        after: dict[str, Incident] = {}
        news: list[News] = []
        for incident in wanted:
            cause = incident.cause
            if cause in before:
                change = _changed(before[cause], incident, wall)
            else:
                change = News("incident.opened", self._opened(incident, wall, options))
            after[cause] = change.incident
            if change.type:
                news.append(change)
        for cause, incident in before.items():
            if cause not in after:
                over = msgspec.structs.replace(incident, resolved_at=wall, updated_at=wall)
                self._close(over)
                news.append(News("incident.resolved", over))
        if others or after:
            self.open[subject] = others | after
        else:
            self.open.pop(subject, None)
        return news

    def pass_time(self, wall: float, options: PatrolOptions, running: float | None = None) -> list[News]:
        """Follow the time: snoozes end, damped ones that were quiet are told again, old ones are forgotten.

        `running`: seconds for which crewd has run, whatever the wall clock says; None: as the wall clock says.
        """
        news = []
        for incident in [each for of_one in self.open.values() for each in of_one.values()]:
            if incident.snoozed_until is not None:
                ends_at = self._snooze_end(incident, wall, wall if running is None else running)
                if wall >= ends_at:
                    news.append(self._put(_news_again(_unsnoozed(incident, wall)), "snooze_over"))
                elif ends_at < incident.snoozed_until:
                    shorter = msgspec.structs.replace(incident, snoozed_until=ends_at, updated_at=wall)
                    news.append(self._put(shorter, "snooze_shortened"))
            elif incident.damped:
                before = _penalty(_counted_from(incident, wall))
                now = eased(before, wall, damping(options))
                if now is not before:
                    news.append(self._put(_with_penalty(incident, now, wall), "damping_over"))
                elif incident.penalty_at > wall:
                    self.open[incident.subject][incident.cause] = _counted_from(incident, wall)
        for key in self._snoozes.keys() - {(each.subject, each.cause) for each in self.all_open()}:
            del self._snoozes[key]
        return news + self._pass_closed(wall, options)

    def _pass_closed(self, wall: float, options: PatrolOptions) -> list[News]:
        """Those that ended. Who was told that one opens again and again is told that it does so no more."""
        news = []
        for key, incident in list(self.closed.items()):
            if incident.damped:
                incident = self.closed[key] = _counted_from(incident, wall)
                if not _still_damped(incident, wall, options):
                    quiet = eased(_penalty(incident), wall, damping(options))
                    incident = self.closed[key] = _with_penalty(incident, quiet, wall)
                    news.append(News("incident.resolved", incident, "damping_over"))
            if not incident.damped and not _may_come_back(incident, wall, options):
                del self.closed[key]
        return news

    def _snooze_end(self, incident: Incident, wall: float, running: float) -> float:
        """When a snooze ends, as wall time: never later than it was asked for, though the wall clock was set back.

        Across a restart there is the wall clock alone, and that it never was earlier than the latest change.
        """
        key, until = (incident.subject, incident.cause), incident.snoozed_until or wall
        told, ends_running = self._snoozes.get(key, (None, 0.0))
        if told != until:
            left = until - max(wall, incident.updated_at or wall)
            ends_running = running + left
        ends_at = wall + max(0.0, ends_running - running)
        if ends_at >= until - CLOCK_NOISE:  # as it should be, or the machine slept, or the clock was set forward
            ends_at = until
        self._snoozes[key] = (ends_at, ends_running)
        return ends_at

    def named(self, subject: str, cause: str) -> list[Incident]:
        """The open incidents of a subject; with a cause that one alone."""
        found = self.open.get(subject, {})
        return [each for each in found.values() if not cause or each.cause == cause]

    def acknowledge(self, incident: Incident, by: str, note: str, actor: str, wall: float) -> list[News]:
        """A person has seen it. The same said twice is told once."""
        note = note or incident.note
        if (incident.acknowledged_by, incident.note) == (by, note) and is_acknowledged(incident):
            return []
        seen = msgspec.structs.replace(incident, acknowledged_by=by, acknowledged_at=wall, note=note, updated_at=wall)
        return [self._put(seen, actor=actor, type="incident.acknowledged")]

    def snooze(self, incident: Incident, by: str, note: str, until: float, actor: str, wall: float) -> list[News]:
        """A person wants to hear nothing of it until then."""
        note = note or incident.note
        quiet = msgspec.structs.replace(incident, snoozed_by=by, snoozed_until=until, note=note, updated_at=wall)
        return [self._put(quiet, actor=actor, type="incident.snoozed")]

    def unsnooze(self, incident: Incident, actor: str, wall: float) -> list[News]:
        """A person wants to hear of it again."""
        if incident.snoozed_until is None:
            return []
        return [self._put(_unsnoozed(incident, wall), "unsnoozed", actor)]

    def subjects(self, of: frozenset[str]) -> list[str]:
        """Subjects with an open incident of one of these causes."""
        return [subject for subject, open in self.open.items() if not of.isdisjoint(open)]

    def all_open(self) -> tuple[Incident, ...]:
        """Every open incident, the gravest first, then the oldest."""
        rank = {severity: number for number, severity in enumerate(SEVERITIES)}
        found = [each for of_one in self.open.values() for each in of_one.values()]
        return tuple(sorted(found, key=lambda each: (rank.get(each.severity, len(rank)), each.opened_at)))

    def _opened(self, incident: Incident, wall: float, options: PatrolOptions) -> Incident:
        """Open it: the former one again, if that ended only just now."""
        former = self.closed.pop((incident.subject, incident.cause), None)
        if former is None:
            return _with_penalty(_first(incident), opened(Penalty(), wall, damping(options)), None)
        penalty = opened(_penalty(former), wall, damping(options))
        if not _may_come_back(former, wall, options):
            return _with_penalty(_first(incident), penalty, None)
        again = msgspec.structs.replace(
            former,
            severity=incident.severity,
            summary=incident.summary,
            kind=incident.kind,
            crew=incident.crew,
            crews=incident.crews,
            run_id=incident.run_id,
            task_id=incident.task_id,
            resolved_at=None,
            openings=former.openings + 1,
        )
        if _is_graver(incident, former):
            again = _heard_anew(again)
        if incident.cause == MASS_DEATH:
            again = _news_again(_heard_anew(again))  # they are others than those that somebody has seen
        return _with_penalty(again, penalty, wall)

    def _put(
        self, incident: Incident, change: str = "", actor: str = "daemon", type: str = "incident.updated"
    ) -> News:
        self.open[incident.subject][incident.cause] = incident
        return News(type, incident, change, actor)

    def _close(self, incident: Incident) -> None:
        key = incident.subject, incident.cause
        self.closed.pop(key, None)
        self.closed[key] = incident
        while len(self.closed) > CLOSED_MAX:
            del self.closed[next(iter(self.closed))]


def damping(options: PatrolOptions) -> Damping:
    return Damping(options.damp_above, options.damp_half_life)


def over_now(incidents: Incidents, book: Book) -> list[tuple[str, frozenset[str]]]:
    """Subjects whose run has ended or is gone, or whose task is at work no more, and the causes that end with it.

    What a former crewd left open is met here: nobody at work asks for it to be resolved. A run that is not met yet
    may still be there.
    """
    over = []
    for subject in incidents.open:
        run_id, _, task_id = subject.partition("/")
        entry = book.entries.get(run_id)
        if subject == ABOUT_ALL:
            over += [(subject, SPENT), (subject, RECOVERY)]  # of a former crewd, of a run that is called crewd
            continue
        if entry is None and run_id in book.recalled:
            continue
        if entry is None or entry.run.status in RUN_ENDED:
            over += [(subject, STANDING), (subject, SPENT), (subject, RECOVERY)]
        elif task_id and task_id not in entry.workers:
            over.append((subject, STANDING))
    return over


def has_ended(subject: str, book: Book) -> bool:
    """Whether the run of a subject has ended: of such a one nobody is told anything."""
    entry = book.entries.get(subject.partition("/")[0])
    return entry is not None and entry.run.status in RUN_ENDED


def _changed(known: Incident, wanted: Incident, wall: float) -> News:
    """Compare an open incident with what is said of it now. Figures and words alone are no news."""
    severity = known.severity != wanted.severity
    kind = known.kind != wanted.kind
    since = known.opened_at if known.updated_at is None else known.updated_at
    if known.cause == MASS_DEATH and wanted.summary:
        return _grown(known, wanted, wall)
    if not severity and (not kind or (known.kind and 0 <= wall - since < KIND_EVERY)):
        return News("", known)
    now = msgspec.structs.replace(
        known, severity=wanted.severity, summary=wanted.summary, kind=wanted.kind, updated_at=wall
    )
    if _is_graver(wanted, known):
        now = _heard_anew(now)
    if not severity and not known.kind:
        return News("", now)  # a former crewd that knew no kinds wrote it: it says nothing new
    return News("incident.updated", now, "severity" if severity else "kind")


def _grown(known: Incident, wanted: Incident, wall: float) -> News:
    """Follow a mass: who was told of it has not been told of those who died later, nor have crews that join it."""
    # The crew and the run of its beginning stay: an Alertmanager knows it by them.
    crews = tuple(sorted({*_crews_of(known), *_crews_of(wanted)}))
    more = wanted.anew > 0
    joined = len(crews) > len(_crews_of(known))
    now = msgspec.structs.replace(known, summary=wanted.summary, crews=crews if joined else known.crews)
    if more:
        now = _news_again(_heard_anew(msgspec.structs.replace(now, kind=wanted.kind)))
    if not (more or joined):
        return News("", now)
    return News("incident.updated", msgspec.structs.replace(now, updated_at=wall), "more" if more else "crews")


def _crews_of(incident: Incident) -> tuple[str, ...]:
    return incident.crews or (incident.crew,)


def _first(incident: Incident) -> Incident:
    """The same as one that is told for the first time."""
    return msgspec.structs.replace(incident, anew=0) if incident.anew else incident


def _news_again(incident: Incident) -> Incident:
    return msgspec.structs.replace(incident, anew=incident.anew + 1)


def _is_graver(now: Incident, before: Incident) -> bool:
    known = [each for each in SEVERITIES if each in (now.severity, before.severity)]
    return len(known) == 2 and known[0] == now.severity


def _counted_from(incident: Incident, wall: float) -> Incident:
    """The same; where the clock was set back, its quiet is counted from here."""
    return incident if incident.penalty_at <= wall else msgspec.structs.replace(incident, penalty_at=wall)


def _heard_anew(incident: Incident) -> Incident:
    """Whoever was told of something less grave has not been told of this."""
    return msgspec.structs.replace(
        incident, acknowledged_by="", acknowledged_at=None, snoozed_by="", snoozed_until=None
    )


def _unsnoozed(incident: Incident, wall: float) -> Incident:
    return msgspec.structs.replace(incident, snoozed_by="", snoozed_until=None, updated_at=wall)


def _may_come_back(incident: Incident, wall: float, options: PatrolOptions) -> bool:
    return incident.resolved_at is not None and wall - incident.resolved_at <= options.reopen_window


def _still_damped(incident: Incident, wall: float, options: PatrolOptions) -> bool:
    return eased(_penalty(incident), wall, damping(options)).damped


def _penalty(incident: Incident) -> Penalty:
    return Penalty(incident.penalty, incident.penalty_at, incident.damped)


def _with_penalty(incident: Incident, penalty: Penalty, updated_at: float | None) -> Incident:
    return msgspec.structs.replace(
        incident, penalty=penalty.value, penalty_at=penalty.at, damped=penalty.damped, updated_at=updated_at
    )


def worker_incidents(entry: Entry, worker: Worker, wall: float, options: PatrolOptions) -> list[Incident]:
    """Which incidents one worker's standing calls for."""
    standing, run, task = worker.standing, entry.run, worker.task

    def incident(cause: str, severity: str, summary: str, kind: str = "") -> list[Incident]:
        subject = subject_of(run.run_id, task.task_id)
        return [Incident(subject, cause, severity, summary, wall, run.crew, run.run_id, task.task_id, kind=kind)]

    match standing.level:
        case Level.DEAD:
            return incident(
                "dead",
                "critical",
                f"{task.task_id} is dead ({standing.reason.value}): {standing.because}",
                standing.reason.value,
            )
        case Level.STALE if standing.reason is Reason.STOPPED:
            return incident("stopped", "warning", f"{task.task_id} is stopped: {standing.because}")
        case Level.STALE if standing.reason is Reason.SILENT and (
            worker.verdict.row in NOTHING_MOVES or (task.streams and standing.wedge is Wedge.API_STREAM_HANG)
        ):
            remedy = REMEDIES[standing.wedge] if standing.wedge is not None else ""
            said = f"{task.task_id} is alive and silent: {standing.because}. {remedy}"
            return incident("silent", "warning", said, standing.wedge.value if standing.wedge is not None else "")
        case Level.WAITING if worker.waiting_since is not None:
            if worker.waited >= options.waiting_alert_after:
                how = WAITS.get(standing.reason, f"waits ({standing.reason.value})")
                said = f"{task.task_id} {how}: {standing.because}"
                return incident("waiting", "warning", said, standing.reason.value)
    return []


def run_incidents(entry: Entry, wall: float, options: PatrolOptions) -> list[Incident]:
    """Which incidents a run's own state calls for, whatever its workers do."""
    if entry.unread is None or entry.unread_rounds < options.unreadable_after:
        return []
    run = entry.run
    summary = f"{run.folder}: unread for {options.unreadable_after} rounds ({entry.unread.value}); look at its files"
    return [
        Incident(
            subject_of(run.run_id),
            "unreadable",
            "warning",
            summary,
            wall,
            run.crew,
            run.run_id,
            kind=entry.unread.value,
        )
    ]


def stranger_incident(run_id: str, root: str, why: str, wall: float) -> Incident:
    """A run of which nothing could ever be read: nobody would miss it."""
    summary = f"{run_id} under {root}: nothing of it could ever be read ({why}); the log names the file"
    return Incident(ABOUT_ALL, f"unreadable:{run_id}", "warning", summary, wall, run_id=run_id)


def incident_event(news: News, at: float) -> Event:
    """Tell what became of an incident. Whoever wakes people looks at `acknowledged`, `snoozed` and `damped`."""
    incident = news.incident
    data: dict[str, object] = {
        "subject": incident.subject,
        "cause": incident.cause,
        "kind": incident.kind,
        "severity": incident.severity,
        "summary": incident.summary,
        "opened_at": incident.opened_at,
        "openings": incident.openings,
        "acknowledged": is_acknowledged(incident),
        "snoozed": is_snoozed(incident, at),
        "damped": incident.damped,
    }
    if incident.crews:
        data["crews"] = list(incident.crews)
    if incident.anew:
        data["anew"] = incident.anew
    match news.type:
        case "incident.updated" | "incident.resolved" if news.change:
            data["change"] = news.change
        case "incident.acknowledged":
            data |= {"by": incident.acknowledged_by, "note": incident.note}
        case "incident.snoozed":
            data |= {"by": incident.snoozed_by, "note": incident.note, "until": incident.snoozed_until}
    return Event(news.type, at, data, incident.run_id, incident.task_id, crew=incident.crew, actor=news.actor)
