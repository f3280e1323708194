"""Oversight: what the patrol makes of the engine of managed runs: whether it works, and what a person should know."""

from collections.abc import Callable
from dataclasses import dataclass, field

from crewd.engine.incidents import UNKILLABLE
from crewd.model.event import Event
from crewd.model.incident import ABOUT_ALL, subject_of
from crewd.model.snapshot import ManagedFigures
from crewd.model.verdict import Incident

PART = "scheduler"
STILL_MIN = 10.0  # seconds without a complete turn that are nothing to speak of
STILL_ROUNDS = 3  # nor are so many rounds
CIRCUIT_PATIENCE = 600.0  # seconds that a circuit may be open before a person should know
CIRCUIT = "circuit:"  # how the cause of its incident begins


@dataclass(slots=True, eq=False)
class Oversight:
    """Follows the figures of managed runs from round to round, on the patrol's own observed time."""

    figures: ManagedFigures | None = None  # None: crewd only watches
    failed: str = ""  # what is wrong with the scheduler
    _still: float = 0.0  # observed seconds since its latest success was another one
    _open: dict[str, float] = field(default_factory=dict)  # circuit -> observed seconds for which it was open
    _trying: dict[str, float] = field(default_factory=dict)  # and for which it has been half open

    def recall(self, incident: Incident) -> None:
        """Take over an incident of a former crewd: a circuit that was open for too long has been so until now."""
        if incident.cause.startswith(CIRCUIT):
            self._open[incident.cause.removeprefix(CIRCUIT)] = CIRCUIT_PATIENCE

    def look(self, figures: ManagedFigures | None, seconds: float, interval: float, wall: float) -> list[Event]:
        """Take in the figures of this round, `seconds` of observed time after the last; tells what became of it."""
        before, self.figures = self.figures, figures
        if figures is None:
            return []
        # Compared, never subtracted: a clock that was set, or a machine that slept, is no fault of the scheduler's.
        moved = before is None or figures.succeeded_at != before.succeeded_at
        self._still = 0.0 if moved else self._still + seconds
        self._follow_circuits(figures, seconds)
        was, self.failed = self.failed, self._wrong(figures, interval)
        if self.failed and not was:
            return [Event("daemon.degraded", wall, {"part": PART, "error": self.failed})]
        if was and not self.failed:
            return [Event("daemon.recovered", wall, {"part": PART, "events_dropped": 0})]
        return []

    def parts(self) -> dict[str, bool]:
        """Part -> ready, for the health of crewd."""
        return {} if self.figures is None else {PART: not self.failed}

    def degraded(self) -> dict[str, str]:
        """Part -> what is wrong with it."""
        return {PART: self.failed} if self.figures is not None and self.failed else {}

    def incidents(self, wall: float) -> list[Incident]:
        """Which incidents the circuits call for."""
        if self.figures is None:
            return []
        return [
            Incident(
                ABOUT_ALL,
                f"{CIRCUIT}{name}",
                "warning",
                f"the circuit {name} has been open for more than {CIRCUIT_PATIENCE / 60:.0f} minutes: its tasks wait "
                "and lose no attempt; look whether its provider answers and its credentials are valid",
                wall,
            )
            for name, seconds in sorted(self._open.items())
            if seconds >= CIRCUIT_PATIENCE
        ]

    def unkillable(self, crew_of: Callable[[str], str], wall: float) -> dict[str, Incident]:
        """The attempts that do not end, by the subject of their incident."""
        found = {}
        for mark, why in ({} if self.figures is None else self.figures.stuck).items():
            run_id, task_id, attempt = mark.split("/")
            subject = subject_of(run_id, task_id)
            summary = f"attempt {attempt} of {task_id} does not end: {why}"
            found[subject] = Incident(
                subject, UNKILLABLE, "critical", summary, wall, crew_of(run_id), run_id, task_id
            )
        return found

    def _wrong(self, figures: ManagedFigures, interval: float) -> str:
        if figures.ledger_failed:
            return (
                f"the ledger cannot write ({figures.ledger_failed}): nothing is started, and what has ended waits "
                "to be recorded; make room or mend the disk"
            )
        if figures.violations:
            return (
                f"{', '.join(figures.violations)} of docs/guarantees.md did not hold, which is a defect: "
                "the log names the task; look at it before you rely on its state, and report it"
            )
        patience = max(STILL_MIN, STILL_ROUNDS * interval)
        if self._still > patience:
            return (
                f"no turn of the scheduler was completed for more than {patience:.0f} s: no task is started, "
                "no run is closed; the log tells why"
            )
        return ""

    def _follow_circuits(self, figures: ManagedFigures, seconds: float) -> None:
        for name, state in figures.circuits.items():
            if state == "open":
                self._open[name] = self._open.get(name, 0.0) + seconds
                self._trying.pop(name, None)
            elif state == "half_open" and name in self._open:
                # One that nobody tries, because no task is left for it, keeps nobody waiting.
                self._trying[name] = self._trying.get(name, 0.0) + seconds
        over = {name for name in self._open if figures.circuits.get(name, "closed") == "closed"}
        for name in over | {name for name, tried in self._trying.items() if tried >= CIRCUIT_PATIENCE}:
            self._open.pop(name, None)
            self._trying.pop(name, None)
