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
LETTERS_SECONDS = 120.0  # within which the dead letters of those who died together are written
NAMED_MAX = 3
UNKNOWN = "nothing common was found"
# The kernel counts for the whole machine: which of its processes they were is not known.
NO_MEMORY = "the kernel of this machine ended processes for want of memory (OOM) at that time"
RESTARTED = "this machine was restarted"


@dataclass(frozen=True, slots=True)
class _Dead:
    """One that died with others."""

    run_id: str
    task_id: str
    crew: str
    pid: int
    why: str  # crewd knows that its process is gone
    is_news: bool = True  # a former crewd did not tell of its death


@dataclass(slots=True, eq=False)
class MassDeaths:
    """Who died together, and of what. Subjects are those of incidents; times are monotonic seconds."""

    members: dict[str, _Dead] = field(default_factory=dict)  # of the open mass
    cause: str = ""  # what is common to those of the latest wave
    _wave: set[str] = field(default_factory=set)  # members that died last: whoever follows soon joins them
    _wave_at: float = float("-inf")
    _first: bool = True  # there was one wave alone
    _more: bool = False  # a wave began this round, after people were told of the mass
    _window: float = 0.0
    _minimum: int = 0
    _waiting: dict[str, tuple[float, _Dead]] = field(default_factory=dict)  # dead since, and not yet told of
    _alone: set[str] = field(default_factory=set)  # dead, and told of by incidents of their own
    _together: frozenset[str] = frozenset()  # gone within one window, and too many for chance
    _ended: int = 0  # all who were members, or died just before the others, while it lasts
    _recalled: bool = False  # a former crewd opened it, and its members are not met again yet
    _former: bool = False  # a former crewd opened it
    _oom_kills: int | None = None
    _oom_at: float | None = None

    def recall(self, incident: Incident) -> None:
        """Take over the mass of a former crewd."""
        if (incident.subject, incident.cause) == (ABOUT_ALL, MASS_DEATH):
            self._recalled, self._former, self.cause = True, True, incident.kind

    def note_oom_kills(self, count: int | None, mono: float) -> None:
        """Take in how many processes the kernel has ended for want of memory, since it was started; None: unknown."""
        if count is not None and self._oom_kills is not None and count > self._oom_kills:
            self._oom_at = mono
        self._oom_kills = count

    def look(self, gone: Iterable[tuple[str, float]], minimum: int, window: float, mono: float) -> None:
        """See who is gone: subject, and since when. More than `minimum` within `window` seconds are a mass."""
        self._window, self._minimum = window, minimum
        # Whose death could not be concluded so far, as of unreadable files, may be told together with others now.
        recent = frozenset(subject for subject, since in gone if mono - since <= window or not self._is_told(subject))
        self._together = recent if len(recent) > minimum else frozenset()

    def sift(
        self,
        wanted: list[Incident],
        entry: Entry,
        worker: Worker,
        known: Collection[str],
        mono: float,
        is_news: bool = True,
    ) -> list[Incident]:
        """Take out the death of a worker that died with others. `known`: causes that are open already.

        `is_news`: this crewd found just now that it is dead; a former one could not tell of it.
        """
        subject = subject_of(entry.run.run_id, worker.task.task_id)
        proven = any(each.cause == DEAD and each.kind == Reason.EXITED.value for each in wanted)
        if not proven:
            self.forget(subject)
            return wanted
        if DEAD in known or not (subject in self.members or self._gathers(entry, worker, is_news, mono)):
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
        if self._are_many(minimum) and (late or self._together <= self._waiting.keys() | self.members.keys() | alone):
            self._begin_wave(len(alone), probe, mono)
        if not self.members and not self._recalled:
            self.cause, self._ended, self._first, self._former = "", 0, True, False

    def incidents(self, wall: float, hold: bool) -> list[Incident]:
        """The one incident of them all. `hold`: a crewd that has just started has not met all of them again."""
        if not self.members:
            self._recalled = self._recalled and (hold or bool(self._waiting))
            return [Incident(ABOUT_ALL, MASS_DEATH, "critical", "", wall, kind=self.cause)] if self._recalled else []
        self._recalled = False
        more_died, self._more = self._more, False
        dead = [each for subject, each in self.members.items() if subject in self._wave] or [*self.members.values()]
        dead.sort(key=lambda each: (each.run_id, each.task_id))
        named = ", ".join(f"{each.run_id}/{each.task_id}" for each in dead[:NAMED_MAX])
        more = f" and {len(dead) - NAMED_MAX} more" if len(dead) > NAMED_MAX else ""
        crews, runs = sorted({each.crew for each in self.members.values()}), {each.run_id for each in dead}
        died = f"{self._ended if self._first else f'{len(dead)} more'} workers died together"
        if not self._first and len(dead) == 1:
            died = "1 more worker died"
        in_all = "" if self._first else f", {self._ended} with those before them"
        return [
            Incident(
                ABOUT_ALL,
                MASS_DEATH,
                "critical",
                f"{died} ({self.cause}): {named}{more}{in_all}; each has its own verdict",
                wall,
                crews[0] if len(crews) == 1 else "",
                next(iter(runs)) if len(runs) == 1 else "",
                kind=self.cause,
                crews=tuple(crews) if len(crews) > 1 else (),
                anew=int(more_died),
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
        self._wave.discard(subject)

    def _begin_wave(self, alone: int, probe: Callable[[Collection[str]], str], mono: float) -> None:
        """Make a mass of all who wait; or a further wave of one that is open, of which people hear as well."""
        wave = {subject: dead for subject, (_, dead) in self._waiting.items()}
        news = {subject: dead for subject, dead in wave.items() if dead.is_news}
        known = bool(self.members) or self._recalled
        self._more = known and bool(news)
        self._first = self._first and not self._more
        if self._more or not self.cause:
            self.cause = self._common((news or wave).values(), probe, mono)
        self._ended += len(wave) + alone
        self.members |= wave
        self._waiting.clear()
        self._wave = {*(news or wave)}
        self._wave_at = mono if news or not known else float("-inf")  # who dies now is news, and does not just join

    def _is_told(self, subject: str) -> bool:
        return subject in self.members or subject in self._alone

    def _gathers(self, entry: Entry, worker: Worker, is_news: bool, mono: float) -> bool:
        """Whether a death waits for others."""
        subject = subject_of(entry.run.run_id, worker.task.task_id)
        of_former = self._former and not is_news and bool(self.members)  # the former crewd told of it with the others
        if not of_former and subject not in self._together and subject not in self._waiting:
            return False
        claim = worker.task.claim
        pid = claim.pid if claim is not None else 0
        dead = _Dead(entry.run.run_id, worker.task.task_id, entry.run.crew, pid, worker.process.why, is_news)
        since, dead = self._waiting.setdefault(subject, (mono, dead))
        follows = self.members and subject in self._together and mono - self._wave_at <= self._window
        if follows or of_former:
            self.members[subject] = dead  # it follows the others
            self._wave.add(subject)
            self._waiting.pop(subject)
            self._ended += 1
            return True
        if subject not in self._together:
            return False
        # At the end of the wait those who are many are one mass in this very round, whoever else cannot be judged.
        return mono - since < GATHER_SECONDS or self._are_many(self._minimum)

    def _are_many(self, minimum: int) -> bool:
        return bool(self._waiting) and len(self._waiting) + len(self._alone & self._together) > minimum

    def _common(self, dead: Collection[_Dead], probe: Callable[[Collection[str]], str], mono: float) -> str:
        if all("boot of this machine" in each.why or "before this machine" in each.why for each in dead):
            return RESTARTED
        if self._oom_at is not None and mono - self._oom_at <= 2 * GATHER_SECONDS:
            return NO_MEMORY
        pids, runs = {each.pid for each in dead}, {each.run_id for each in dead}
        if len(pids) == 1 and len(runs) == 1:
            return f"all were one process, pid {pids.pop()}"
        if found := probe(runs):
            return found
        return f"all are of run {runs.pop()}; {UNKNOWN}" if len(runs) == 1 else UNKNOWN


def told_apart(letters: Iterable[tuple[float, str]], incidents: Iterable[Incident]) -> list[tuple[float, str]]:
    """Those dead letters (wall time, crew) that were written while no mass told of many at once.

    Letters of a mass follow it soon; one that lies about for days does not tell of who dies alone meanwhile.
    """
    masses = [each for each in incidents if each.cause == MASS_DEATH]
    waves = [at for each in masses for at in (each.opened_at, each.updated_at) if at is not None]
    return [
        (at, crew)
        for at, crew in letters
        if not any(-GATHER_SECONDS <= at - wave <= LETTERS_SECONDS for wave in waves)
    ]
