"""Braking: who is silent without proof of an exit, and the mass brake that follows from it."""

from dataclasses import dataclass, field

from crewd.detection.brake import RELEASED, Brake, brake_after
from crewd.detection.liveness import moves
from crewd.detection.options import Patience
from crewd.engine.book import Entry, Worker
from crewd.model.event import Event
from crewd.model.incident import ABOUT_ALL
from crewd.model.process import ProcessState
from crewd.model.verdict import Incident, Level

Key = tuple[str, str]
UNKNOWN_CAUSE = "no common cause found"


@dataclass(slots=True, eq=False)
class Braking:
    """The brake, and the workers that it counts."""

    patience: Patience
    brake: Brake = RELEASED
    silent: set[Key] = field(default_factory=set)
    cause: str = ""
    _turned: set[Key] = field(default_factory=set)
    _stopped: set[Key] = field(default_factory=set)  # of the silent: whose process is stopped

    def note(self, entry: Entry, worker: Worker) -> None:
        """Count a worker that was just judged: silent, not proven gone, and doing nothing that can be seen."""
        key = (entry.run.run_id, worker.task.task_id)
        silent = (
            worker.standing.level in (Level.STALE, Level.DEAD)
            and worker.process.state is not ProcessState.EXITED
            and not moves(worker.process.activity, self.patience)
        )
        if silent and key not in self.silent:
            self._turned.add(key)
            self.silent.add(key)
        elif not silent:
            self.silent.discard(key)
        if silent and worker.process.state is ProcessState.STOPPED:
            self._stopped.add(key)
        else:
            self._stopped.discard(key)

    def forget(self, keys: list[Key]) -> None:
        self.silent.difference_update(keys)
        self._stopped.difference_update(keys)

    def mostly_stopped(self) -> bool:
        """Whether more than half of the silent are so because somebody stopped their processes."""
        return 2 * len(self._stopped) > len(self.silent)

    def tells_of(self, run_id: str, task_id: str) -> bool:
        """Whether the brake's own incident tells of a worker: it is silent with the others."""
        return self.brake.engaged and (run_id, task_id) in self.silent

    def step(self, live: int, running: float, dead_window: float, cause: str, wall: float) -> list[Event]:
        """Follow one round; `cause` is the best guess at what is common to all."""
        before = self.brake
        turned, self._turned = frozenset(self._turned & self.silent), set()
        self.brake = brake_after(before, turned, frozenset(self.silent), live, running, dead_window, self.patience)
        if self.brake.engaged and not before.engaged:
            self.cause = cause
            data = {"workers": len(self.brake.cohort), "live": live, "cause": cause}
            return [Event("daemon.brake_engaged", wall, data)]
        if self.brake.engaged and self.cause == UNKNOWN_CAUSE:
            self.cause = cause  # it may show only later
        if before.engaged and not self.brake.engaged:
            self.cause = ""
            return [Event("daemon.brake_released", wall, {"workers": len(before.cohort)})]
        return []

    @property
    def why(self) -> str:
        """Why nobody is declared dead for silence just now; "" when the brake is not engaged."""
        if not self.brake.engaged:
            return ""
        return f"{len(self.brake.cohort)} workers fell silent together ({self.cause})"

    def incidents(self, wall: float) -> list[Incident]:
        if not self.brake.engaged:
            return []
        summary = f"{self.why}: none is declared dead for silence until half of them move again or end"
        return [Incident(ABOUT_ALL, "mass_brake", "critical", summary, wall, kind=self.cause)]
