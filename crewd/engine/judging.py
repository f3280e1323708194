"""Judging: one worker's evidence put together, judged, and followed by its standing."""

import math

import msgspec

from crewd.detection.gradient import Restraint, follow, is_flapping
from crewd.detection.liveness import Evidence, judge
from crewd.detection.options import Override, Patience, Thresholds, thresholds_for
from crewd.detection.wedge import diagnose
from crewd.engine.book import Entry, Worker
from crewd.engine.options import PatrolOptions
from crewd.model.moment import Reading
from crewd.model.process import ProcessState
from crewd.model.verdict import RANK, Level, Reason, Standing

RUNNER = "runner"  # role of a process above the worker
AT_ONCE, NEVER = -math.inf, math.inf
SILENT_LEVELS = (Level.STALE, Level.DEAD)


class Court(msgspec.Struct, frozen=True):
    """The rules under which this round judges."""

    default: Thresholds
    overrides: tuple[Override, ...]
    patience: Patience
    options: PatrolOptions
    restraint: Restraint
    health: float  # the multiplier of local health
    now: Reading
    regular: bool
    read: frozenset[str] = frozenset()  # roots whose look came back complete this round
    disk_full: bool = False

    def can_read(self, entry: Entry, worker: Worker) -> bool:
        return entry.unread is None and worker.unread is None and entry.root in self.read

    def thresholds(self, entry: Entry, worker: Worker, observed: float) -> Thresholds:
        """What this worker's silence means, stretched while crewd doubts itself or the worker flaps."""
        task, run = worker.task, entry.run
        own = thresholds_for(self.default, self.overrides, run.runtime, run.crew, task.task_type, task.tool)
        if task.expectation is not None:
            own = own.expecting(task.expectation)
        if not task.streams:
            return own.stretched(self.stretch(worker, observed))
        # An agent thinks for a minute, speaks, and thinks again: that it is warned of more seldom must not put off
        # the moment from which its model counts as hung, or the program itself would react first.
        return own.warned_later(self._flapping(worker, observed)).stretched(self.health)

    def stretch(self, worker: Worker, observed: float) -> float:
        """By how much this worker's thresholds are multiplied in this round at most; 1 or more."""
        return self._flapping(worker, observed) * self.health

    def _flapping(self, worker: Worker, observed: float) -> float:
        return self.patience.flapping_factor if is_flapping(worker.standing, observed) else 1.0


def evidence_of(entry: Entry, worker: Worker, observed: float, court: Court) -> Evidence:
    """Put together everything that is known of one worker in this round.

    A process that is gone proves a death only while its run can be read: the result that it left, or the next
    attempt that took its place, may be what could not be read.
    """
    unread = entry.unread or worker.unread
    gone_for = 0.0 if worker.gone_at is None or not court.can_read(entry, worker) else court.now.mono - worker.gone_at
    return Evidence(
        silence=worker.silence(observed),
        process=worker.process,
        exit_confirmed=worker.exited or gone_for >= court.options.exit_settle,
        waiting=worker.task.waiting or entry.run.waiting,
        lease_left=max(0.0, worker.heard_at - observed),
        tool=worker.task.tool,
        unread=unread.value if unread is not None else "",
        unread_rounds=max(entry.unread_rounds, worker.unread_rounds),
        fresh=worker.fresh,
        streams=worker.task.streams,
        above=worker.task.claim is not None and worker.task.claim.role == RUNNER,
    )


def is_due(entry: Entry, worker: Worker, observed: float) -> bool:
    """Whether a verdict could differ from the last one: by an event, a pending change, or time alone."""
    return worker.progressed or worker.noticed or observed >= due_from(entry, worker)


def due_from(entry: Entry, worker: Worker) -> float:
    """From which time of the root's observed clock a worker must be judged again if nothing happens to it."""
    standing, verdict = worker.standing, worker.verdict
    if entry.unread is not None or worker.unread is not None or worker.gone_at is not None:
        return AT_ONCE
    if worker.task.waiting is not None or entry.run.waiting is not None or worker.task.lease is not None:
        return AT_ONCE
    if standing.level not in RANK or standing.level is not verdict.level or standing.held_by or standing.worse_rounds:
        return AT_ONCE
    if standing.level in SILENT_LEVELS and worker.process.state is not ProcessState.HIDDEN:
        return AT_ONCE
    if verdict.reason is Reason.LEASED:
        return AT_ONCE
    return NEVER if worker.due_silence is None else worker.heard_at + worker.due_silence


def judge_worker(entry: Entry, worker: Worker, observed: float, court: Court) -> None:
    """Judge one worker and let its standing follow."""
    evidence = evidence_of(entry, worker, observed, court)
    thresholds = court.thresholds(entry, worker, observed)
    verdict = judge(evidence, thresholds, court.patience, court.options.unreadable_after)
    worker.verdict = verdict
    worker.exited |= verdict.reason is Reason.EXITED
    # The stretch of this round may be gone in the next: whoever could be judged otherwise then is due again.
    until = verdict.until_silence
    worker.due_silence = None if until is None else until / court.stretch(worker, observed)
    standing = follow(
        worker.standing,
        verdict,
        court.restraint,
        court.patience,
        observed,
        court.now.wall,
        worker.progressed,
        court.regular,
    )
    if standing.level in SILENT_LEVELS and standing.reason is not Reason.EXITED:
        standing = _diagnosed(worker, evidence, court, standing)
    worker.standing = standing


def _diagnosed(worker: Worker, evidence: Evidence, court: Court, standing: Standing) -> Standing:
    """Name the wedge of a living, silent worker. Nothing is known of one that cannot be seen."""
    if evidence.process.state is ProcessState.HIDDEN and not (worker.task.hint or evidence.streams):
        return standing
    wedge = diagnose(
        evidence.process,
        evidence.waiting,
        evidence.tool,
        worker.task.hint,
        court.disk_full,
        court.patience,
        evidence.streams,
    )
    if wedge is standing.wedge:
        return standing
    return msgspec.structs.replace(standing, wedge=wedge)
