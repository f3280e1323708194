"""Dead verdicts: opened when a worker is declared dead, settled when the truth arrives, counted either way."""

from dataclasses import dataclass, field

import msgspec

from crewd.detection.outcome import Truth, outcome_of
from crewd.engine.book import Book, Entry, Worker
from crewd.model.run import RUN_ENDED, TASK_ENDED, TaskStatus
from crewd.model.verdict import DeadVerdict, Outcome, Reason

Key = tuple[str, str, int]  # run id, task id, attempt


@dataclass(slots=True, eq=False)
class _Open:
    verdict: DeadVerdict
    observed_for: float = 0.0  # seconds of crewd's own running time since it was opened


@dataclass(slots=True, eq=False)
class Verdicts:
    """The verdicts that still wait for the truth."""

    _open: dict[Key, _Open] = field(default_factory=dict)

    def recall(self, verdict: DeadVerdict) -> None:
        """Take over a verdict that a former crewd left open."""
        self._open[verdict.run_id, verdict.task_id, verdict.attempt] = _Open(verdict)

    def counts(self) -> dict[tuple[str, str], int]:
        """How many are open, by runtime and reason."""
        counts: dict[tuple[str, str], int] = {}
        for open in self._open.values():
            key = (open.verdict.runtime, open.verdict.reason.value)
            counts[key] = counts.get(key, 0) + 1
        return counts

    def open(self, entry: Entry, worker: Worker, latency: float, wall: float) -> DeadVerdict | None:
        """Record that a worker was declared dead. None: this attempt's verdict is open already."""
        run, task = entry.run, worker.task
        key = (run.run_id, task.task_id, task.attempt)
        if key in self._open:
            return None
        verdict = DeadVerdict(
            run_id=run.run_id,
            task_id=task.task_id,
            attempt=task.attempt,
            runtime=run.runtime,
            crew=run.crew,
            reason=worker.standing.reason,
            opened_at=wall,
            last_life_at=worker.progress_at,
            latency=latency,
            because=worker.standing.because,
        )
        self._open[key] = _Open(verdict)
        return verdict

    def settle(self, book: Book, seconds: float, dead_after: float, wall: float) -> list[tuple[DeadVerdict, str]]:
        """Label every verdict whose truth has arrived; `seconds` is how long crewd watched since last time."""
        settled = []
        for key, open in list(self._open.items()):
            open.observed_for += seconds
            truth = _truth(book, key, open)
            outcome, why = outcome_of(open.verdict.reason, truth, dead_after)
            if outcome is not Outcome.OPEN:
                del self._open[key]
                settled.append((msgspec.structs.replace(open.verdict, outcome=outcome, settled_at=wall), why))
        return settled


def _truth(book: Book, key: Key, open: _Open) -> Truth:
    run_id, task_id, attempt = key
    entry = book.entries.get(run_id)
    if entry is None:
        return Truth(seconds_open=open.observed_for)
    worker = entry.workers.get(task_id)
    if worker is not None and worker.task.attempt == attempt:
        return Truth(
            progressed=worker.progressed,
            exit_proven=worker.gone_at is not None and worker.standing.reason is Reason.EXITED,
            seconds_open=open.observed_for,
        )
    task = next((task for task in entry.run.tasks if task.task_id == task_id), None)
    if task is None:
        return Truth(ended_badly=entry.run.status in RUN_ENDED, seconds_open=open.observed_for)
    if task.attempt > attempt or task.status is TaskStatus.QUEUED:
        return Truth(replaced=True, seconds_open=open.observed_for)
    return Truth(
        ended_well=task.status is TaskStatus.COMPLETED,
        ended_badly=task.status in TASK_ENDED or entry.run.status in RUN_ENDED,
        seconds_open=open.observed_for,
    )
