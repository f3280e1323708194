"""A crew of a hundred workers whose truth is known, and what it tells of itself."""

import random
from dataclasses import dataclass, field

from crewd.model.look import Look, ReadResult
from crewd.model.moment import Reading
from crewd.model.process import ProcessClaim
from crewd.model.run import Lease, Run, RunStatus, Task, TaskStatus
from tests.fakes.clock import FakeClock
from tests.fakes.processes import FakeProcesses

KEY = "sim:/crew"


@dataclass
class SimWorker:
    """One worker and the truth about it."""

    run_id: str
    task_id: str
    pid: int | None  # None: on another host, nothing of it can be seen but its files
    attempt: int = 1
    seq: int = 0
    next_beat: float = 0.0  # on the world's own awake time
    tool_until: float = 0.0  # inside a silent tool call until then
    died_at: float | None = None
    died_running: float | None = None  # crewd's own running time at the death
    status: TaskStatus = TaskStatus.RUNNING
    lease: Lease | None = None
    ends_at: float = 0.0
    excused: float = 0.0  # seconds by which its death may be noticed later: inside a lease, or unreadable

    @property
    def alive(self) -> bool:
        return self.died_at is None


@dataclass
class World:
    """Lives in awake seconds: nothing happens here while the machine sleeps."""

    seed: int
    clock: FakeClock
    processes: FakeProcesses
    workers_count: int = 100
    per_run: int = 5
    runtime: str = "sim"
    tells_itself: bool = False
    key: str = KEY
    folder: str = "/crew"
    awake: float = 0.0
    workers: list[SimWorker] = field(default_factory=list)
    torn: dict[str, int] = field(default_factory=dict)  # run id -> rounds for which it cannot be read
    replaced: int = 0
    _told: dict[str, tuple[object, ...]] = field(default_factory=dict)
    _next_pid: int = 1000
    chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        for number in range(self.workers_count):
            self.workers.append(
                self._hire(number, SimWorker(f"run-{number // self.per_run}", f"task-{number}", None))
            )

    def live(self, seconds: float) -> None:
        """Let the crew work for so long, in steps small enough that beats keep their own times."""
        self.awake += seconds
        for number, worker in enumerate(self.workers):
            if worker.alive and worker.status is TaskStatus.RUNNING:
                self._work(worker)
                if self.awake >= worker.ends_at:
                    self._replace(number, worker)

    def kill(self, worker: SimWorker, running: float, lease_left: float) -> None:
        """End a worker for good, unannounced. `lease_left` is on crewd's own clock, which stalls do not move."""
        worker.died_at, worker.died_running = self.awake, running
        worker.excused = lease_left
        if worker.pid is not None:
            self.processes.kill(worker.pid, reaped=self.chance.random() < 0.5)

    def bury(self, worker: SimWorker) -> None:
        """Its runtime starts another attempt, as it does some time after a death."""
        number = self.workers.index(worker)
        if worker.pid is not None and worker.pid in self.processes._table:
            self.processes.reap(worker.pid)
        worker.died_at = worker.died_running = None
        worker.attempt += 1
        self._hire(number, worker)

    def look(self, now: Reading) -> Look:
        """What a source would tell: only the runs in which something differs, and those that cannot be read."""
        changed, unread = [], {}
        for run_id, members in self._runs().items():
            if self.torn.get(run_id, 0) > 0:
                self.torn[run_id] -= 1
                unread[run_id] = ReadResult.TORN
                continue
            face = tuple((w.task_id, w.attempt, w.seq, w.status, w.pid) for w in members)
            if self._told.get(run_id) != face:
                self._told[run_id] = face
                changed.append(self._run(run_id, members))
        return Look(changed=tuple(changed), unread=unread)

    def close(self) -> None:
        """Nothing is open."""

    def _work(self, worker: SimWorker) -> None:
        inside = worker.tool_until > self.awake
        if worker.pid is not None:
            process = self.processes.process(worker.pid)
            process.tools = ("bash",) if inside else ()
            process.cpu_ticks += 1
        if inside or self.awake < worker.next_beat:
            return
        worker.seq += 1
        worker.next_beat = self.awake + self.chance.uniform(2, 20)
        worker.lease = None
        if self.chance.random() < 0.003:
            # A long silent tool call: measured ones lasted 405, 511 and 900 s. Who is on another host, and
            # shows nothing but its files, has to announce it.
            seconds = self.chance.uniform(60, 1500)
            worker.tool_until = self.awake + seconds
            if worker.pid is None:
                worker.lease = Lease(seconds + 30, "bash")

    def _hire(self, number: int, worker: SimWorker) -> SimWorker:
        worker.next_beat = self.awake + self.chance.uniform(0, 20)
        worker.ends_at = self.awake + self.chance.uniform(600, 20_000)
        worker.tool_until, worker.lease = 0.0, None
        worker.seq += 1
        if number % 2 == 0:
            self._next_pid += 1
            worker.pid = self._next_pid
            self.processes.add(worker.pid, marks=(self._mark(worker),))
        return worker

    def _replace(self, number: int, worker: SimWorker) -> None:
        """The task completes cleanly and the same slot begins its next attempt: a task of another name would do."""
        if worker.pid is not None:
            self.processes.kill(worker.pid)
        worker.attempt += 1
        self.replaced += 1
        self._hire(number, worker)

    def _runs(self) -> dict[str, list[SimWorker]]:
        runs: dict[str, list[SimWorker]] = {}
        for worker in self.workers:
            runs.setdefault(worker.run_id, []).append(worker)
        return runs

    def _mark(self, worker: SimWorker) -> str:
        return f"CREW_TASK={worker.task_id}"

    def _run(self, run_id: str, members: list[SimWorker]) -> Run:
        tasks = tuple(
            Task(
                task_id=w.task_id,
                status=w.status,
                status_text=w.status.value,
                attempt=w.attempt,
                claim=None if w.pid is None else ProcessClaim(w.pid, self.clock.wall, (self._mark(w),)),
                token=(w.attempt, w.seq),
                lease=w.lease,
            )
            for w in members
        )
        return Run(run_id, "sim", "sim", RunStatus.RUNNING, "running", f"/crew/{run_id}", tasks)
