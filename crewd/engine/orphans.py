"""Orphans: what is known of runs, put together for the question which living processes outlived theirs.

Everything is read afresh from the roots and the ledger, so that no daemon is needed. What cannot be read is not
known, and spares whoever belongs to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from crewd.detection.identity import Here
from crewd.detection.orphan import search
from crewd.host import crowd
from crewd.host.aside import within
from crewd.host.clock import Clock
from crewd.host.files import is_network
from crewd.host.machine import host_name, own_pid
from crewd.host.processes import Processes
from crewd.ledger.errors import LedgerDamaged, LedgerFailed
from crewd.ledger.reader import Reader
from crewd.model.managed import AT_WORK, ManagedTask
from crewd.model.moment import Reading
from crewd.model.orphan import ATTEMPT_DIR, MARKS, Bystander, Known, Owner, Recorded, Sighting
from crewd.model.run import RUN_ENDED, Run
from crewd.sources.beat import recorded as beat_recorded
from crewd.sources.beat.tasks import RUNTIME as BEAT
from crewd.sources.managed.source import RUNTIME as MANAGED
from crewd.sources.names import valid_id
from crewd.sources.pi_crew import recorded as pi_crew_recorded
from crewd.sources.pi_crew.layout import RUNTIME as PI_CREW
from crewd.sources.source import Source


@dataclass(frozen=True)
class Places:
    """Where the runs of this user are looked for. `reader` None: there is no ledger, so that no attempt is known."""

    sources: Sequence[Source]
    reader: Reader | None
    attempts: str  # folder of all attempts of managed runs
    daemon: int = 0  # pid of the running daemon; 0: none runs
    file_max: int = 4 << 20  # bytes of one file
    sees: bool = True  # False: what runs name lives in other containers
    look_timeout: float = 30.0  # seconds for one root


@dataclass
class Search:
    """One search: what was found, and what could not be read."""

    sighting: Sighting = field(default_factory=Sighting)
    complaints: list[str] = field(default_factory=list)


def find_orphans(places: Places, processes: Processes, clock: Clock) -> Search:
    """Look at every process of this user and at every run, and find whoever outlived the run it belongs to.

    Processes are looked at first: that an attempt is over stays true, and a run that goes on again is told by a
    process that started after its end.
    """
    now = clock.read()
    seen = crowd.crowd(MARKS, clock)
    result = Search()
    if seen.cut:
        result.complaints.append(f"{seen.cut} processes were not looked at: more than {crowd.PROCESSES_MAX} run here")
    gathered = _Gathered(now, crowd.booted_at(clock), places.file_max)
    for source in places.sources:
        gathered.look_at(source, places.look_timeout)
    gathered.ask_ledger(places, seen.processes)
    here = Here(host_name(), processes.boot_id(), processes.namespace(), gathered.booted_at, places.sees)
    untouchable = crowd.above(own_pid())
    if places.daemon:
        untouchable |= crowd.above(places.daemon)
    result.sighting = search(seen.processes, gathered.known(), here, untouchable, now.wall)
    result.complaints += gathered.complaints
    return result


class _Gathered:
    """What is known, while it is put together."""

    def __init__(self, now: Reading, booted_at: float, file_max: int) -> None:
        self.booted_at = booted_at
        self.complaints: list[str] = []
        self._now = now
        self._file_max = file_max
        self._owners: dict[str, Owner] = {}
        self._ids: dict[str, tuple[Owner, ...]] = {}
        self._recorded: dict[int, tuple[Recorded, ...]] = {}
        self._living: set[int] = set()

    def known(self) -> Known:
        return Known(self._owners, self._ids, self._recorded, frozenset(self._living))

    def look_at(self, source: Source, timeout: float) -> None:
        try:
            look = within(timeout, partial(source.look, self._now), "orphans-look")
        except TimeoutError:
            words = f"{source.folder}: it does not answer within {timeout:g} s; its runs are left alone"
            self.complaints.append(words)
            return
        self.complaints += look.complaints
        if not look.complete:
            self.complaints.append(f"{source.folder}: not everything below it could be read; its runs are left alone")
        unread = set(look.unread) | {run_id for run_id, _ in look.unread_tasks}
        for run in look.changed:
            self._take(run, run.run_id in unread or not look.complete)

    def ask_ledger(self, places: Places, processes: Iterable[Bystander]) -> None:
        """Learn of those attempts that a living process names, and of no other."""
        root = places.attempts.rstrip("/") + "/"
        named = {value for each in processes for name, value in each.marks if name == ATTEMPT_DIR}
        tasks: dict[str, dict[str, ManagedTask]] = {}
        for folder in sorted(named):
            run_id, task_id, attempt = _attempt_of(folder, root)
            if places.reader is None or not attempt:
                continue
            try:
                if run_id not in tasks:
                    tasks[run_id] = {task.task_id: task for task in places.reader.managed_tasks(run_id)}
            except (LedgerDamaged, LedgerFailed) as error:
                self.complaints.append(f"{error}; processes of {run_id} are left alone")
                tasks[run_id] = {}
            if task_id in tasks[run_id]:
                self._owners[folder] = _owner(tasks[run_id][task_id], folder, attempt)

    def _take(self, run: Run, doubtful: bool) -> None:
        over = run.status in RUN_ENDED and not doubtful
        owner = Owner(
            run.runtime,
            run.run_id,
            run.folder,
            began_at=run.created_at,
            ended_at=run.updated_at if over else None,
        )
        self._owners[run.folder] = owner
        if run.runtime == PI_CREW:
            self._ids[run.run_id] = (*self._ids.get(run.run_id, ()), owner)
        if not over:
            claims = [run.runner, *(task.claim for task in run.tasks)]
            self._living.update(claim.pid for claim in claims if claim is not None)
        elif run.updated_at is not None and run.updated_at > self.booted_at:
            self._record(run)

    def _record(self, run: Run) -> None:
        try:
            for record in _recorded(run, self._file_max):
                self._recorded[record.pid] = (*self._recorded.get(record.pid, ()), record)
        except OSError as error:
            self.complaints.append(f"{run.folder}: unreadable: {error.strerror}; its recorded pids are passed over")


def _recorded(run: Run, file_max: int) -> Iterator[Recorded]:
    """Read the pids of an ended run of this boot. Raises OSError."""
    if run.runtime == PI_CREW:
        yield from pi_crew_recorded.recorded_pids(run.folder, run.run_id, not is_network(run.folder), file_max)
    elif run.runtime == BEAT:
        yield from beat_recorded.recorded_pids(run.folder, run.run_id, file_max)


def _attempt_of(folder: str, root: str) -> tuple[str, str, int]:
    """Take ROOT/RUN/TASK/ATTEMPT apart; attempt 0: it is no such folder."""
    parts = folder.removeprefix(root).split("/") if folder.startswith(root) else []
    if len(parts) != 3 or not (valid_id(parts[0]) and valid_id(parts[1])):
        return "", "", 0
    number = parts[2]
    return parts[0], parts[1], int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0


def _owner(task: ManagedTask, folder: str, attempt: int) -> Owner:
    """An attempt is over once it is recorded among those that are; numbers never come again."""
    at_work = isinstance(task.state, AT_WORK) and task.state.attempt == attempt
    record = next((each for each in task.attempts if each.attempt == attempt), None)
    if record is None or at_work:
        return Owner(MANAGED, task.run_id, folder, task.task_id)
    return Owner(MANAGED, task.run_id, folder, task.task_id, record.started_at, record.ended_at)
