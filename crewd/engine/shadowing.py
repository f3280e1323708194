"""Shadows: overrides that are only tried. What they would have made of a worker is told; nothing follows from it."""

from dataclasses import dataclass, field
from typing import NamedTuple

from crewd.detection.gradient import follow, is_flapping
from crewd.detection.liveness import judge
from crewd.detection.options import Override, Thresholds, shadow_for
from crewd.engine.book import Book, Entry, Worker
from crewd.engine.changes import task_event
from crewd.engine.judging import Court, evidence_of
from crewd.engine.tidings import Tidings
from crewd.model.verdict import Standing

Key = tuple[str, str, int, str]  # run id, task id, attempt, name of the override


class _Shadow(NamedTuple):
    standing: Standing
    row: int


@dataclass(slots=True, eq=False)
class Shadowing:
    """How workers would stand under the shadow override that fits them. A restarted crewd begins anew."""

    standings: dict[Key, Standing] = field(default_factory=dict)
    failed: str = ""  # what of the latest step could not be done, which is a defect

    def step(self, book: Book, court: Court, tidings: Tidings) -> None:
        """Judge those once more whom a shadow fits, after the real judgement. Without shadows it costs nothing.

        The evidence is that of the real judgement: what a process does is looked at only once it is silent by the
        thresholds that count.
        """
        if not any(override.shadow for override in court.overrides):
            self.standings.clear()
            return
        before, self.standings = self.standings, {}
        for entry in book.live.values():
            observed = book.observed.get(entry.root, 0.0)
            for worker in entry.workers.values():
                run, task = entry.run, worker.task
                override = shadow_for(court.overrides, run.runtime, run.crew, task.task_type, task.tool)
                if override is None:
                    continue
                key = run.run_id, task.task_id, task.attempt, override.name
                known = before.get(key, Standing())
                shadow = _judged(entry, worker, known, override, observed, court)
                self.standings[key] = shadow.standing
                if shadow.standing.level is not known.level:
                    _tell(entry, worker, known, shadow, override, observed, court, tidings)


def _judged(
    entry: Entry, worker: Worker, known: Standing, override: Override, observed: float, court: Court
) -> _Shadow:
    thresholds = _thresholds(worker, known, override, observed, court)
    evidence = evidence_of(entry, worker, observed, court)
    verdict = judge(evidence, thresholds, court.patience, court.options.unreadable_after)
    standing = follow(
        known,
        verdict,
        court.restraint,
        court.patience,
        observed,
        court.now.wall,
        worker.progressed,
        court.regular,
    )
    return _Shadow(standing, verdict.row)


def _thresholds(worker: Worker, known: Standing, override: Override, observed: float, court: Court) -> Thresholds:
    """Those of the override, stretched as the real ones are (judging.py), by how the shadow itself flaps."""
    task, own = worker.task, override.thresholds
    if task.expectation is not None:
        own = own.expecting(task.expectation)
    flapping = court.patience.flapping_factor if is_flapping(known, observed) else 1.0
    if not task.streams:
        return own.stretched(flapping * court.health)
    return own.warned_later(flapping).stretched(court.health)


def _tell(
    entry: Entry,
    worker: Worker,
    known: Standing,
    shadow: _Shadow,
    override: Override,
    observed: float,
    court: Court,
    tidings: Tidings,
) -> None:
    data: dict[str, object] = {
        "override": override.name,
        "from_level": known.level.value,
        "to_level": shadow.standing.level.value,
        "real_level": worker.standing.level.value,
        "reason": shadow.standing.reason.value,
        "because": shadow.standing.because,
        "silence_seconds": round(worker.silence(observed), 3),
        "row": shadow.row,
    }
    tidings.tell(task_event("shadow.level_changed", entry.run, worker.task, court.now.wall, data))
