"""Telling: which events a worker's new standing calls for."""

from crewd.detection.gradient import is_flapping
from crewd.detection.liveness import NOTHING_MOVES
from crewd.detection.wedge import REMEDIES
from crewd.engine.book import Entry, Worker
from crewd.engine.changes import task_event
from crewd.engine.tidings import Tidings
from crewd.engine.verdicts import Verdicts
from crewd.model.event import Event
from crewd.model.moment import Reading
from crewd.model.verdict import DeadVerdict, Level, Outcome, Reason, Wedge


def tell_standing(
    entry: Entry,
    worker: Worker,
    was_flapping: bool,
    observed: float,
    verdicts: Verdicts,
    tidings: Tidings,
    now: Reading,
) -> bool:
    """Tell a change of level, a diagnosis, a beginning flapping. True: the level that the world knows changed."""
    standing, run, task = worker.standing, entry.run, worker.task
    if standing.wedge is not worker.told_wedge:
        wedge = standing.wedge
        # Before nothing moves, "unknown" is no news.
        known = wedge is not Wedge.UNKNOWN or worker.verdict.row in NOTHING_MOVES
        if wedge is None or known:
            worker.told_wedge = wedge
        if wedge is not None and known:
            data: dict[str, object] = {"wedge": wedge.value, "remedy": REMEDIES[wedge], "because": standing.because}
            tidings.tell(task_event("worker.wedged", run, task, now.wall, data))
    if is_flapping(standing, observed) and not was_flapping:
        data = {"changes": len(standing.changes), "until_observed": standing.flapping_until}
        tidings.tell(task_event("worker.flapping", run, task, now.wall, data))
    if standing.level is worker.told:
        worker.recalled = None  # seen anew: what comes from now on is news, also what is better
        return False
    if worker.unproven:
        return False
    silence = worker.silence(observed)
    data = {
        "from_level": worker.told.value,
        "to_level": standing.level.value,
        "reason": standing.reason.value,
        "because": standing.because,
        "silence_seconds": round(silence, 3),
        "row": worker.verdict.row,
    }
    worker.told = standing.level
    worker.recalled = None
    tidings.tell(task_event("worker.level_changed", run, task, now.wall, data))
    if standing.level is Level.DEAD:
        _open_verdict(entry, worker, silence, verdicts, tidings, now)
    return True


def verdict_event(verdict: DeadVerdict, at: float, why: str = "") -> Event:
    """Tell that a dead verdict was opened, confirmed or refuted."""
    data: dict[str, object] = {"reason": verdict.reason.value, "because": why or verdict.because}
    match verdict.outcome:
        case Outcome.OPEN:
            type = "verdict.opened"
            data["latency_seconds"] = round(verdict.latency, 3)
        case Outcome.TRUE:
            type = "verdict.confirmed"
        case Outcome.FALSE:
            type = "verdict.refuted"
    return Event(type, at, data, verdict.run_id, verdict.task_id, verdict.attempt, verdict.runtime, verdict.crew)


def _open_verdict(
    entry: Entry, worker: Worker, silence: float, verdicts: Verdicts, tidings: Tidings, now: Reading
) -> None:
    exited = worker.standing.reason is Reason.EXITED and worker.gone_at is not None
    latency = now.mono - worker.gone_at if exited and worker.gone_at is not None else silence
    verdict = verdicts.open(entry, worker, latency, now.wall)
    if verdict is not None:
        tidings.verdicts.append(verdict)
        tidings.tell(verdict_event(verdict, now.wall))
