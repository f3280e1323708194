"""Mass deaths: workers whose processes are gone together are one incident, which counts them and names the cause.

Each of them is dead, with its own event, verdict and dead letter; people get one notice for all. A death alone is
told at once. One among several that ended at the same time waits for a moment: until crewd has looked twice at all of
them, since they may as well have ended properly.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from crewd.engine.book import Entry, Worker
from crewd.engine.incidents import MASS_DEATH
from crewd.model.incident import ABOUT_ALL, subject_of
from crewd.model.verdict import Incident, Reason

DEAD = "dead"  # cause of the incident of one worker
GATHER_SECONDS = 15.0  # for which a death waits at most until it is clear how many died with it
NAMED_MAX = 3
UNKNOWN = "nothing common was found"
NO_MEMORY = "the kernel ended processes for want of memory (OOM)"
RESTARTED = "this machine was restarted"


@dataclass(frozen=True, slots=True)
class _Dead:
    """One that died with others."""

    run_id: str
    task_id: str
    crew: str
    pid: int
    why: str  # crewd knows that its process is gone


@dataclass(slots=True, eq=False)
class MassDeaths:
    """Who died together, and of what. Subjects are those of incidents; times are monotonic seconds."""

    members: dict[str, _Dead] = field(default_factory=dict)  # of the open mass
    cause: str = ""  # what is common to them
    _waiting: dict[str, tuple[float, _Dead]] = field(default_factory=dict)  # dead since, and not yet told of
    _alone: set[str] = field(default_factory=set)  # dead, and told of by incidents of their own
    _together: frozenset[str] = frozenset()  # gone within one window, and too many for chance
    _ended: int = 0  # members, at most, while it lasts
    _recalled: bool = False  # a former crewd opened it, and its members are not met again yet
    _held_at: float = float("-inf")
    _oom_kills: int | None = None
    _oom_at: float | None = None

    def recall(self, incident: Incident) -> None:
        """Take over the mass of a former crewd."""
        if (incident.subject, incident.cause) == (ABOUT_ALL, MASS_DEATH):
            self._recalled, self.cause = True, incident.kind

    def note_oom_kills(self, count: int | None, mono: float) -> None:
        """Take in how many processes the kernel has ended for want of memory, since it was started; None: unknown."""
        if count is not None and self._oom_kills is not None and count > self._oom_kills:
            self._oom_at = mono
        self._oom_kills = count

    def look(self, gone: Iterable[tuple[str, float]], minimum: int, window: float, hold: bool, mono: float) -> None:
        """See who is gone: subject, and since when. More than `minimum` within `window` seconds are a mass.

        `hold`: a crewd that has just started, or slept, concludes nothing yet; that time does not count.
        """
        if hold:
            self._held_at = mono
        recent = frozenset(subject for subject, since in gone if mono - max(since, self._held_at) <= window)
        self._together = recent if len(recent) > minimum else frozenset()

    def sift(
        self, wanted: list[Incident], entry: Entry, worker: Worker, known: Collection[str], mono: float
    ) -> list[Incident]:
        """Take out the death of a worker that died with others. `known`: causes that are open already."""
        subject = subject_of(entry.run.run_id, worker.task.task_id)
        proven = any(each.cause == DEAD and each.kind == Reason.EXITED.value for each in wanted)
        if not proven:
            self.forget(subject)
            return wanted
        told_alone = DEAD in known or not (subject in self.members or self._gathers(subject, entry, worker, mono))
        if told_alone:
            self.forget(subject)
            self._alone.add(subject)
            return wanted
        return [each for each in wanted if each.cause != DEAD]

    def step(self, minimum: int, probe: Callable[[Collection[str]], str], mono: float) -> None:
        """Follow one round: open the mass once everybody who is gone was looked at twice, and close it.

        `probe` finds what is common to workers of these runs, "" where it finds nothing.
        """
        late = any(mono - since >= GATHER_SECONDS for since, _ in self._waiting.values())
        alone = self._alone & self._together
        many = self._waiting and len(self._waiting) + len(alone) > minimum
        if many and (late or self._together <= self._waiting.keys() | self.members.keys() | alone):
            self.members |= {subject: dead for subject, (_, dead) in self._waiting.items()}
            self._waiting.clear()
            self._ended = max(self._ended, len(self.members) + len(alone))
            self.cause = self.cause or self._common(probe, mono)
        if not self.members and not self._recalled:
            self.cause, self._ended = "", 0

    def incidents(self, wall: float, hold: bool) -> list[Incident]:
        """The one incident of them all. `hold`: a crewd that has just started has not met all of them again."""
        if not self.members:
            self._recalled = self._recalled and (hold or bool(self._waiting))
            return [Incident(ABOUT_ALL, MASS_DEATH, "critical", "", wall, kind=self.cause)] if self._recalled else []
        self._recalled = False
        dead = sorted(self.members.values(), key=lambda each: (each.run_id, each.task_id))
        named = ", ".join(f"{each.run_id}/{each.task_id}" for each in dead[:NAMED_MAX])
        more = f" and {len(dead) - NAMED_MAX} more" if len(dead) > NAMED_MAX else ""
        crews, runs = sorted({each.crew for each in dead}), {each.run_id for each in dead}
        return [
            Incident(
                ABOUT_ALL,
                MASS_DEATH,
                "critical",
                f"{self._ended} workers died together ({self.cause}): {named}{more}; each has its own verdict",
                wall,
                crews[0] if len(crews) == 1 else "",
                next(iter(runs)) if len(runs) == 1 else "",
                kind=self.cause,
                crews=tuple(crews) if len(crews) > 1 else (),
            )
        ]

    def tells_of(self, run_id: str, task_id: str) -> bool:
        """Whether the mass tells of a worker, or may soon."""
        subject = subject_of(run_id, task_id)
        return subject in self.members or subject in self._waiting

    def forget(self, subject: str) -> None:
        """Let go of a worker that is at work no more, or again."""
        self.members.pop(subject, None)
        self._waiting.pop(subject, None)
        self._alone.discard(subject)

    def _gathers(self, subject: str, entry: Entry, worker: Worker, mono: float) -> bool:
        """Whether a death waits for others."""
        if subject not in self._together and subject not in self._waiting:
            return False
        claim = worker.task.claim
        pid = claim.pid if claim is not None else 0
        dead = _Dead(entry.run.run_id, worker.task.task_id, entry.run.crew, pid, worker.process.why)
        since, _ = self._waiting.setdefault(subject, (mono, dead))
        if self.members and subject in self._together:
            self.members[subject] = dead  # it follows the others
            self._waiting.pop(subject)
            self._ended += 1
            return True
        return subject in self._together and mono - since < GATHER_SECONDS

    def _common(self, probe: Callable[[Collection[str]], str], mono: float) -> str:
        dead = self.members.values()
        if self._oom_at is not None and mono - self._oom_at <= 2 * GATHER_SECONDS:
            return NO_MEMORY
        if all("boot of this machine" in each.why or "before this machine" in each.why for each in dead):
            return RESTARTED
        pids, runs = {each.pid for each in dead}, {each.run_id for each in dead}
        if len(pids) == 1 and len(runs) == 1:
            return f"all were one process, pid {pids.pop()}"
        if found := probe(runs):
            return found
        return f"all are of run {runs.pop()}; {UNKNOWN}" if len(runs) == 1 else UNKNOWN


def told_apart(letters: Iterable[tuple[float, str]], incidents: Iterable[Incident]) -> list[tuple[float, str]]:
    """Those dead letters (wall time, crew) that were written while no mass told of many at once."""
    masses = [(each.opened_at - GATHER_SECONDS, each.resolved_at) for each in incidents if each.cause == MASS_DEATH]
    return [
        (at, crew)
        for at, crew in letters
        if not any(began <= at and (ended is None or at <= ended) for began, ended in masses)
    ]
