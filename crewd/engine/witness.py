"""The witness: asks the kernel about the processes that the files name, and notices exits at once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from crewd.detection.identity import Here, recognise
from crewd.engine.book import Worker, note_process
from crewd.host.machine import close_handle
from crewd.host.processes import ActivitySample, Processes
from crewd.model.moment import Reading
from crewd.model.process import Activity, Identity, ProcessClaim, ProcessSeen, ProcessState

PIDFDS_MAX = 1024  # beyond it, exits are noticed by the round alone


@dataclass(slots=True, eq=False)
class Witness:
    """Sees the processes of workers. `woken` is called, in the event loop, when one of them exits."""

    processes: Processes
    host: str
    woken: Callable[[], None]
    handles_max: int = PIDFDS_MAX
    sees: bool = True  # False: what runs name lives in other containers
    handles_refused: int = 0  # since the last round
    _pidfds: dict[Identity, int] = field(default_factory=dict)

    def here(self, now: Reading) -> Here:
        processes = self.processes
        return Here(self.host, processes.boot_id(), processes.namespace(), now.wall - now.boot, self.sees)

    def see(self, worker: Worker, here: Here, now: Reading) -> None:
        """Look at one worker's process and note what is true of it."""
        claim = worker.task.claim
        if claim is None:
            return
        # A process that was recognised once is known by its identity; its environment need not be read again.
        marks = claim.marks if worker.remembered is None else ()
        facts = self.processes.facts(claim.pid, marks)
        seen = recognise(claim, facts, worker.remembered, here, worker.beats_after_gone)
        note_process(worker, seen, now.mono)
        if seen.identity is not None and seen.identity not in self._pidfds:
            self._follow(seen.identity)

    def is_gone(self, claim: ProcessClaim, here: Here) -> bool:
        """Whether the process that a claim means has proven to be gone, at one look."""
        facts = self.processes.facts(claim.pid, claim.marks)
        return recognise(claim, facts, None, here).state is ProcessState.EXITED

    def sample(self, worker: Worker, observed: float, every: float) -> None:
        """Look whether a silent, living worker does anything: at most every so many observed seconds."""
        identity = worker.process.identity
        if identity is None or worker.process.state is not ProcessState.ALIVE:
            worker.activity, worker.sample = None, None
            return
        if worker.sample is None or observed - worker.activity_at >= every:
            before = worker.sample if isinstance(worker.sample, ActivitySample) else None
            activity, worker.sample = self.processes.activity(identity, before)
            worker.activity_at = observed
            # A first sample has no rates yet; only its tools say something.
            worker.activity = activity if before is not None or activity.tools else None
        worker.process = _with_activity(worker.process, worker.activity)

    def forget_all_but(self, kept: set[Identity]) -> None:
        """Let go of processes that no worker means any more."""
        for identity in self._pidfds.keys() - kept:
            self._unfollow(identity)

    def close(self) -> None:
        self.forget_all_but(set())

    def _follow(self, identity: Identity) -> None:
        if len(self._pidfds) >= self.handles_max:
            return
        try:
            descriptor = self.processes.pidfd(identity)
        except OSError:
            # No descriptor is to be had just now: the rounds notice this exit, a little later.
            self.handles_refused += 1
            return
        if descriptor is None:
            return
        self._pidfds[identity] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._exited, identity)

    def _exited(self, identity: Identity) -> None:
        self._unfollow(identity)
        self.woken()

    def _unfollow(self, identity: Identity) -> None:
        descriptor = self._pidfds.pop(identity)
        asyncio.get_running_loop().remove_reader(descriptor)
        close_handle(descriptor)


def _with_activity(seen: ProcessSeen, activity: Activity | None) -> ProcessSeen:
    if seen.activity is activity:
        return seen
    return ProcessSeen(seen.state, seen.why, seen.identity, seen.letter, activity)
