"""Census: the state of all runs, counted by label. Pure over one snapshot, cheap over the next."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from crewd.detection.gradient import is_flapping
from crewd.model.run import Run
from crewd.model.snapshot import RunView, Snapshot
from crewd.model.verdict import Level, Reason


@dataclass(frozen=True, slots=True)
class Share:
    """What one run adds to the census."""

    run: Run
    group: tuple[str, str]  # runtime, crew: as written
    tasks: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Census:
    """Counts over one snapshot. Keys hold texts as written; whoever exports them makes labels of them."""

    shares: Mapping[str, Share] = field(default_factory=dict)
    runs: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # runtime, crew, status
    tasks: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    workers: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # runtime, crew, level
    in_trouble: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # runtime, crew, reason
    flapping: Counter[tuple[str, str]] = field(default_factory=Counter)  # runtime, crew
    wedges: Counter[tuple[str, str]] = field(default_factory=Counter)  # runtime, wedge
    oldest_progress: Mapping[tuple[str, str], float] = field(default_factory=dict)
    waiting: Counter[str] = field(default_factory=Counter)  # crew
    waiting_oldest: Mapping[str, float] = field(default_factory=dict)
    throttled: Counter[str] = field(default_factory=Counter)  # crew
    throttled_oldest: Mapping[str, float] = field(default_factory=dict)

    def groups(self) -> Counter[tuple[str, str]]:
        """Count runs by runtime and crew."""
        counts: Counter[tuple[str, str]] = Counter()
        for (runtime, crew, _), number in self.runs.items():
            counts[runtime, crew] += number
        return counts


def take(snapshot: Snapshot, before: Census) -> Census:
    """Count a snapshot. A run that is the same object as in the former census is not looked into again."""
    shares: dict[str, Share] = {}
    census = Census(shares=shares)
    oldest: dict[tuple[str, str], float] = {}
    waiting_oldest: dict[str, float] = {}
    throttled_oldest: dict[str, float] = {}
    for run_id, view in snapshot.runs.items():
        share = before.shares.get(run_id)
        if share is None or share.run is not view.run:
            share = _share(view.run)
        shares[run_id] = share
        census.runs[(*share.group, view.run.status.value)] += 1
        for status, number in share.tasks:
            census.tasks[(*share.group, status)] += number
        if view.workers or view.run.waiting is not None:
            _count_workers(view, census, oldest, snapshot.observed.get(view.root))
            _count_waits(view, "human", Reason.HUMAN, census.waiting, waiting_oldest)
            _count_waits(view, "throttled", Reason.THROTTLED, census.throttled, throttled_oldest)
    return Census(
        shares,
        census.runs,
        census.tasks,
        census.workers,
        census.in_trouble,
        census.flapping,
        census.wedges,
        oldest,
        census.waiting,
        waiting_oldest,
        census.throttled,
        throttled_oldest,
    )


def _share(run: Run) -> Share:
    counts = Counter(task.status.value for task in run.tasks)
    return Share(run, (run.runtime, run.crew), tuple(counts.items()))


def _count_workers(
    view: RunView, census: Census, oldest: dict[tuple[str, str], float], observed: float | None
) -> None:
    run = view.run
    group = (run.runtime, run.crew)
    for worker in view.workers:
        standing = worker.standing
        census.workers[(*group, standing.level.value)] += 1
        if standing.level in (Level.STALE, Level.DEAD):
            census.in_trouble[(*group, standing.reason.value)] += 1
        if observed is not None and is_flapping(standing, observed):
            census.flapping[group] += 1
        if standing.wedge is not None:
            census.wedges[run.runtime, standing.wedge.value] += 1
        if standing.level not in (Level.WAITING, Level.DEAD):
            # The dead have an alert of their own; counted here they would hide everyone else's silence.
            seen = worker.progress_at if worker.progress_at is not None else worker.first_seen_at
            oldest[group] = min(seen, oldest.get(group, seen))


def _count_waits(view: RunView, why: str, reason: Reason, counts: Counter[str], oldest: dict[str, float]) -> None:
    """Count who waits for one reason: the workers, or where none of them says so the run itself."""
    crew, wait = view.run.crew, view.run.waiting
    waits = [
        worker.waiting_since
        for worker in view.workers
        if worker.standing.level is Level.WAITING and worker.standing.reason is reason
    ]
    if not waits and wait is not None and wait.reason == why:
        waits.append(wait.since)
    counts[crew] += len(waits)
    for since in waits:
        if since is not None:
            oldest[crew] = min(since, oldest.get(crew, since))
