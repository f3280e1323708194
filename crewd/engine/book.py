"""The book: what the patrol knows between two rounds. Runs, their workers, and one observed clock per root."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from crewd.model.look import ReadResult
from crewd.model.process import HIDDEN, Activity, Identity, ProcessSeen, ProcessState
from crewd.model.run import RUN_ENDED, Run, Task, TaskStatus
from crewd.model.snapshot import RunView, WorkerView
from crewd.model.verdict import RANK, Level, Reason, Standing, Verdict, Wedge

FIRST_VERDICT = Verdict(Level.HEALTHY, Reason.BEATING, "beating", 6, until_silence=0.0)
GONE_MAX = 20_000  # runs remembered after they vanished
FIRST_STANDING = Standing()
RECALLED = "restart: told before it, and nothing new has been seen since"
AT_WORK = (TaskStatus.RUNNING, TaskStatus.WAITING)


@dataclass(slots=True, eq=False)
class Worker:
    """A task at work, and everything crewd remembers about who does it."""

    task: Task
    heard_at: float  # on the root's observed clock; a lease moves it into the future
    first_seen_at: float  # wall time
    told: Level = Level.HEALTHY  # the level that the world was last told
    recalled: Standing | None = None  # a former crewd's word, until something shows whether it still holds
    recorded: bool = False  # the ledger knows that there is such a worker
    told_wedge: Wedge | None = None
    standing: Standing = FIRST_STANDING
    verdict: Verdict = FIRST_VERDICT
    due_silence: float | None = 0.0  # seconds at which time alone could change the verdict, thresholds unstretched
    process: ProcessSeen = HIDDEN
    remembered: Identity | None = None
    gone_at: float | None = None  # monotonic time at which its process was first seen to be gone
    beats_after_gone: int = 0
    unread: ReadResult | None = None  # set while its own file cannot be read
    unread_rounds: int = 0
    exited: bool = False  # confirmed; it stays so until the work moves or the process is back
    fresh: bool = True  # no progress of this attempt has been seen yet
    progressed: bool = False  # in this round
    noticed: bool = False  # in this round its process was seen to be otherwise than before
    progress_at: float | None = None  # wall time
    beat_interval: float | None = None  # observed seconds between the latest two signs of life
    activity: Activity | None = None
    activity_at: float = 0.0  # on the observed clock
    sample: object | None = None
    waiting_since: float | None = None  # wall time at which crewd saw the wait begin: display only
    waited: float = 0.0  # observed seconds of the present wait

    @property
    def key(self) -> str:
        return self.task.task_id

    def silence(self, observed: float) -> float:
        return max(0.0, observed - self.heard_at)

    @property
    def unproven(self) -> bool:
        """Whether a former crewd knew it as worse, and it has shown no new life.

        A fresh crewd starts everyone as healthy: that is no news, and nobody is told of it.
        """
        told, now = RANK.get(self.told), RANK.get(self.standing.level)
        return self.recalled is not None and told is not None and now is not None and now < told

    def view(self) -> WorkerView:
        task = self.task
        return WorkerView(
            task_id=task.task_id,
            attempt=task.attempt,
            standing=self.recalled if self.recalled is not None and self.unproven else self.standing,
            verdict=self.verdict,
            heard_at=self.heard_at,
            progress_at=self.progress_at,
            process=self.process,
            task_type=task.task_type,
            waiting_since=self.waiting_since,
            tool=task.tool,
            first_seen_at=self.first_seen_at,
        )


@dataclass(slots=True, eq=False)
class Entry:
    """One run in the book."""

    run: Run
    root: str
    workers: dict[str, Worker] = field(default_factory=dict)
    unread: ReadResult | None = None
    unread_rounds: int = 0
    # On the root's observed clock: before it, no verdict on any of its workers can differ. Anything new lowers it.
    due_at: float = -math.inf

    def view(self) -> RunView:
        return RunView(
            run=self.run,
            root=self.root,
            workers=tuple(worker.view() for worker in self.workers.values()),
            unread=self.unread,
            unread_rounds=self.unread_rounds,
        )


@dataclass(slots=True, frozen=True)
class Gone:
    """A run that vanished, and what was told of its workers: should it come back, nothing is repeated."""

    run: Run
    standings: Mapping[tuple[str, str, int], Standing]


@dataclass(slots=True, eq=False)
class Book:
    """Everything between two rounds."""

    entries: dict[str, Entry] = field(default_factory=dict)
    live: dict[str, Entry] = field(default_factory=dict)  # those with workers
    seen: dict[str, Entry] = field(default_factory=dict)  # those of which some worker has a process, or waits
    moved: list[tuple[Entry, Worker]] = field(default_factory=list)  # whose token changed this round
    observed: dict[str, float] = field(default_factory=dict)  # root -> its observed clock
    gone: dict[str, Gone] = field(default_factory=dict)  # vanished from disk, oldest first
    recalled: dict[str, Run] = field(default_factory=dict)  # from the ledger, not yet met again
    recalled_standings: dict[tuple[str, str, int], Standing] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)  # roots whose look came back complete this round
    left: list[tuple[str, str]] = field(default_factory=list)  # (run, task) of workers that ended this round

    def advance(self, root: str, seconds: float) -> None:
        """Let one root's observed clock run: its look came back complete."""
        self.observed[root] = self.observed.get(root, 0.0) + seconds
        self.read.add(root)

    def known(self, run_id: str) -> Run | None:
        entry = self.entries.get(run_id)
        if entry is not None:
            return entry.run
        gone = self.gone.get(run_id)
        return gone.run if gone is not None else self.recalled.get(run_id)

    def put(self, root: str, run: Run, wall: float) -> Entry | None:
        """Take in what was read of a run. None: another root already owns a run of this id."""
        entry = self.entries.get(run.run_id)
        if entry is None:
            entry = self.entries[run.run_id] = Entry(run, root)
            self.recalled.pop(run.run_id, None)
            if gone := self.gone.pop(run.run_id, None):
                self.recalled_standings.update(gone.standings)
        elif entry.root != root:
            return None
        entry.run = run
        self._update_workers(entry, wall)
        return entry

    def drop(self, run_id: str) -> Entry | None:
        """Forget a run that is gone; what was told of it is kept for the case that it comes back."""
        self.seen.pop(run_id, None)
        self.live.pop(run_id, None)
        entry = self.entries.pop(run_id, None)
        if entry is None:
            return None
        self.left += [(run_id, task_id) for task_id in entry.workers]
        standings = {
            (run_id, task_id, each.task.attempt): each.view().standing for task_id, each in entry.workers.items()
        }
        self.gone[run_id] = Gone(entry.run, standings)
        while len(self.gone) > GONE_MAX:
            del self.gone[next(iter(self.gone))]
        return entry

    def stand_still(self, entry: Entry, worker: Worker, seconds: float) -> None:
        """Stop the silence clock for one worker this round: it waits, or its files could not be read."""
        observed = self.observed.get(entry.root, 0.0)
        if worker.heard_at <= observed:
            # Never past the clock: that would be a lease that nobody announced.
            worker.heard_at = min(worker.heard_at + seconds, observed)

    def find(self, run_id: str, task_id: str) -> tuple[Entry, Worker] | None:
        """Find a worker, with its run."""
        entry = self.live.get(run_id)
        worker = entry.workers.get(task_id) if entry is not None else None
        return (entry, worker) if entry is not None and worker is not None else None

    def judge_all(self) -> None:
        """Make everyone due: the rules have changed."""
        for entry in self.live.values():
            entry.due_at = -math.inf
            for worker in entry.workers.values():
                worker.due_silence = 0.0

    def remember(self, runs: Mapping[str, Run], standings: Mapping[tuple[str, str, int], Standing]) -> None:
        """Take over what a former crewd wrote down."""
        self.recalled.update(runs)
        self.recalled_standings.update(standings)

    def lost(self, folder: str) -> Iterable[Run]:
        """Runs that a former crewd knew under `folder` and that a first complete look did not find."""
        beneath = folder.rstrip("/") + "/"
        lost = [run for run in self.recalled.values() if run.folder.startswith(beneath)]
        for run in lost:
            del self.recalled[run.run_id]
        return lost

    def _update_workers(self, entry: Entry, wall: float) -> None:
        observed = self.observed.get(entry.root, 0.0)
        entry.due_at = -math.inf
        is_seen = entry.run.waiting is not None
        at_work = () if entry.run.status in RUN_ENDED else entry.run.tasks
        former, entry.workers = entry.workers, {}
        for task in at_work:
            if task.status not in AT_WORK:
                continue
            worker = former.get(task.task_id)
            if worker is None or worker.task.attempt != task.attempt:
                worker = Worker(task, _heard_at(task, observed), wall)
                before = self.recalled_standings.pop((entry.run.run_id, task.task_id, task.attempt), None)
                if before is not None and before.level is not Level.HEALTHY:
                    worker.told, worker.recalled = before.level, _as_recalled(before)
            elif _hear(worker, task, observed, wall):
                self.moved.append((entry, worker))
            _note_wait(worker, entry.run, observed, wall)
            is_seen |= task.claim is not None or task.waiting is not None
            entry.workers[task.task_id] = worker
        self.left += [(entry.run.run_id, task_id) for task_id in former.keys() - entry.workers.keys()]
        if entry.workers:
            self.live[entry.run.run_id] = entry
            if is_seen:
                self.seen[entry.run.run_id] = entry
            else:
                self.seen.pop(entry.run.run_id, None)
        else:
            self.live.pop(entry.run.run_id, None)
            self.seen.pop(entry.run.run_id, None)


def _hear(worker: Worker, task: Task, observed: float, wall: float) -> bool:
    """Compare progress tokens: what differs is life, whatever its timestamps say. True: it differs."""
    moved = task.token != worker.task.token
    if moved:
        worker.progressed = True
        worker.beat_interval = max(0.0, observed - worker.heard_at)
        worker.fresh, worker.recalled = False, None
        worker.progress_at = wall
        worker.heard_at = _heard_at(task, observed)
        worker.activity = worker.sample = None  # what it did before it moved says nothing of the silence after
        worker.exited = False
        if worker.gone_at is not None:
            worker.gone_at = None
            worker.beats_after_gone += 1
    if task.claim is None or worker.task.claim is None or task.claim.pid != worker.task.claim.pid:
        worker.remembered, worker.gone_at, worker.beats_after_gone = None, None, 0
        worker.exited = False
        worker.process = HIDDEN
    worker.task = task
    return moved


def _as_recalled(standing: Standing) -> Standing:
    """What a former crewd told. Its times on the observed clock are over, and mean nothing any more."""
    return msgspec.structs.replace(standing, changes=(), flapping_until=None, worse_rounds=0, held_by=RECALLED)


def _heard_at(task: Task, observed: float) -> float:
    """A sign of life counts from now, or from the end of the silence that it announces."""
    return observed + (task.lease.seconds if task.lease is not None else 0.0)


def _note_wait(worker: Worker, run: Run, observed: float, wall: float) -> None:
    if worker.task.waiting is not None or run.waiting is not None:
        if worker.waiting_since is None:
            worker.waiting_since = wall
    elif worker.waiting_since is not None:
        # Its silence begins where the wait ended: neither the wait nor what lay before it counts.
        worker.waiting_since, worker.waited = None, 0.0
        worker.heard_at = max(worker.heard_at, observed)
        worker.activity = worker.sample = None


def note_process(worker: Worker, seen: ProcessSeen, mono: float) -> None:
    """Take in what the kernel says of a worker's process this round."""
    if worker.process.state is ProcessState.STOPPED and seen.state is ProcessState.ALIVE:
        worker.activity = worker.sample = None  # that it did nothing while it was stopped says nothing of it
    worker.process = seen
    if seen.state is ProcessState.EXITED:
        if worker.gone_at is None:
            worker.gone_at = mono
        return
    if worker.gone_at is not None:
        # It was gone and is back: then it was never seen rightly. Begin again.
        worker.gone_at, worker.remembered, worker.exited = None, None, False
    if seen.identity is not None:
        worker.remembered = seen.identity
