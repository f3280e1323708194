"""One attempt at work, as the conductor holds it: its process, what is asked of it, and how it went so far."""

import asyncio
from dataclasses import dataclass, field

from crewd.engine.managed.board import Key
from crewd.engine.managed.hands import Grip
from crewd.model.failure import Failure
from crewd.model.managed import ManagedRun
from crewd.model.plan import TaskPlan
from crewd.model.work import Lease


@dataclass(frozen=True, slots=True)
class Over:
    """Why an attempt is over, by whatever came first."""

    why: str  # for a person
    failure: Failure | None = None  # known already; None: its exit will tell
    cancelled: bool = False
    interrupted: bool = False
    exited: bool = False  # it ended by itself
    actor: str = "daemon"

    @property
    def asked(self) -> bool:
        """Whether somebody ended it, so that its own exit says nothing about its work."""
        return self.cancelled or self.interrupted or self.failure is not None


@dataclass(slots=True, eq=False)
class Attempt:
    """What the conductor remembers of one attempt."""

    run: ManagedRun
    plan: TaskPlan
    lease: Lease
    number: int
    name: str  # RUN/TASK/ATTEMPT
    mark: str  # by which its processes are found: the path of its folder, whether made yet or not
    folder: str = ""  # once it is made
    grip: Grip | None = None
    started_at: float = 0.0  # wall time
    started_mono: float = 0.0
    adopted: bool = False
    over: Over | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)  # it is over
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # nothing of it is left, and that is durable
    heard: int | None = None  # bytes of its stdout that were listened to; None: nobody needs to

    @property
    def key(self) -> Key:
        return self.run.plan.run_id, self.plan.task_id

    def end(self, over: Over) -> None:
        """Say that it is over. The first word counts; only a cancel overrides what crewd itself began."""
        if self.over is None or (over.cancelled and not self.over.exited):
            self.over = over
            self.changed.set()

    def exited(self) -> None:
        """The kernel says that its shim has ended."""
        if self.grip is not None:
            self.grip.gone.set()
        self.end(Over("it ended", exited=True))
        self.changed.set()
