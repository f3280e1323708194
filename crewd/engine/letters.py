"""Letters: dead letters, each told once, and an incident when a crew has too many within an hour.

Runtimes write some; crewd itself writes one for each worker of an observed run that stays dead, unless its runtime
gave up that attempt itself: then its letter, in its own words, is the one. Those of managed runs are their engine's:
they are only counted here.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from crewd.engine.book import Book, Entry, Worker
from crewd.engine.tidings import Tidings
from crewd.model.event import Event
from crewd.model.failure import ErrorClass
from crewd.model.incident import ABOUT_ALL
from crewd.model.look import OWN_LETTERS, DeadLetter
from crewd.model.moment import Reading
from crewd.model.run import Run, Task
from crewd.model.verdict import Incident, Level
from crewd.policy.fingerprint import fingerprint
from crewd.telemetry.rates import SlidingWindow

HOUR = 3600.0
TOO_MANY = "dead_letters:"  # cause of an incident, before the name of the crew
Attempt = tuple[str, str, int]  # run id, task id, attempt


@dataclass(slots=True, eq=False)
class Letters:
    """What was given up."""

    book: Book
    redact: Callable[[str], str] = str
    known: set[str] = field(default_factory=set)
    open: dict[str, tuple[int, float | None]] = field(default_factory=dict)  # crew -> count, oldest wall time
    exceeded: set[str] = field(default_factory=set)  # crews that are over the threshold
    own: dict[Attempt, DeadLetter] = field(default_factory=dict)  # open letters that crewd itself wrote
    # Crew -> open letters of managed runs, which come and go as crewd's own do; those of runtimes stay.
    managed: Callable[[], Mapping[str, tuple[int, float | None]]] = dict
    _theirs: dict[tuple[str, str], float] = field(default_factory=dict)  # task -> the latest letter of its runtime
    _window: SlidingWindow = field(default_factory=lambda: SlidingWindow(HOUR))
    _crews: set[str] = field(default_factory=set)  # crews with letters in the window
    _dead: dict[Attempt, int] = field(default_factory=dict)  # dead, and not given up: for so many rounds

    def recall(
        self,
        open: Mapping[str, tuple[int, float | None]],
        managed: Iterable[DeadLetter],
        own: Iterable[DeadLetter] = (),
    ) -> None:
        """Take over the counts of a former crewd, without the managed ones, which are counted by their owner."""
        self.own.update({(letter.run_id, letter.task_id, letter.attempts): letter for letter in own})
        theirs = Counter(letter.crew for letter in (*managed, *self.own.values()))
        self.open.update(
            {crew: (count - theirs[crew], oldest) for crew, (count, oldest) in open.items() if count > theirs[crew]}
        )

    def recall_hour(
        self, letters: Iterable[tuple[float, str]], exceeded: Iterable[str], running: float, wall: float
    ) -> None:
        """Take over which letters the last hour saw, and which crews are known to have had too many by then."""
        for at, crew in letters:
            if wall - HOUR < at <= wall:
                self._window.add(crew, running - (wall - at))
                self._crews.add(crew)
        self.exceeded.update(exceeded)
        self._crews.update(self.exceeded)

    def note(self, letter: DeadLetter, running: float) -> None:
        """A managed task was given up: it counts towards the threshold of its crew."""
        self._window.add(letter.crew, running)
        self._crews.add(letter.crew)

    def totals(self) -> dict[str, tuple[int, float | None]]:
        """Crew -> open letters of all runtimes, and the wall time of the oldest."""
        totals = dict(self.open)
        own = ((letter.crew, (1, letter.at)) for letter in self.own.values())
        for crew, (count, oldest) in chain(self.managed().items(), own):
            others, at = totals.get(crew, (0, None))
            times = [each for each in (oldest, at) if each is not None]
            totals[crew] = (count + others, min(times, default=None))
        return totals

    def died(self, entry: Entry, worker: Worker) -> None:
        """A worker of an observed run was judged dead; whether it stays so, rounds will tell."""
        attempt = _attempt(entry, worker)
        if _own_key(attempt) not in self.known:
            self._dead.setdefault(attempt, 0)

    def bury(
        self,
        rounds: int,
        counts: bool,
        now: Reading,
        running: float,
        tidings: Tidings,
        told_together: Callable[[str, str], bool] = lambda run_id, task_id: False,
    ) -> None:
        """Give up whoever stayed dead for so many rounds. `counts`: this round is one, nothing restrains it.

        `told_together` says of a (run, task) that one incident tells of it and of others: the threshold of its crew
        is for those of which nobody was told together.
        """
        for attempt, dead_for in list(self._dead.items()):
            found = self.book.find(*attempt[:2])
            if found is None or _attempt(*found) != attempt or found[1].standing.level is not Level.DEAD:
                del self._dead[attempt]
            elif not counts or not self._is_read(*found):
                continue
            elif dead_for + 1 >= rounds:
                del self._dead[attempt]
                if not self._is_theirs(found[1].task, attempt):
                    self._give_up(*found, now, tidings)
                    if not told_together(*attempt[:2]):
                        self._window.add(found[0].run.crew, running)
                        self._crews.add(found[0].run.crew)
            else:
                self._dead[attempt] = dead_for + 1

    def refute(self, attempt: Attempt, why: str, now: Reading, tidings: Tidings) -> None:
        """An attempt lives, or ended well: crewd's own letter about it was wrong, and is taken back."""
        self._take_back(attempt, f"it was not dead: {why}", now, tidings)

    def _take_back(self, attempt: Attempt, note: str, now: Reading, tidings: Tidings) -> None:
        letter = self.own.pop(attempt, None)
        if letter is None:
            return
        tidings.letters_settled.append(
            msgspec.structs.replace(letter, state="discarded", settled_at=now.wall, settled_by="daemon", note=note)
        )
        data = {"key": letter.key, "reason": note, "error_class": letter.error_class}
        run_id, task_id, number = attempt
        tidings.tell(
            Event("deadletter.discarded", now.wall, data, run_id, task_id, number, letter.runtime, letter.crew)
        )

    def forget(self, letter: DeadLetter) -> None:
        """A person wanted a letter no more: it is counted no longer."""
        if self.own.pop((letter.run_id, letter.task_id, letter.attempts), None) is None:
            count, oldest = self.open.get(letter.crew, (0, None))
            self.open[letter.crew] = (max(0, count - 1), oldest if count > 1 else None)

    def take(self, letters: tuple[DeadLetter, ...], now: Reading, running: float, tidings: Tidings) -> None:
        """Take in letters as they were read; the same one read again changes nothing."""
        for letter in letters:
            self._note_theirs(letter)
            if letter.key in self.known:
                continue
            self.known.add(letter.key)
            run = self.book.known(letter.run_id)
            merged = self._merge(letter, run, now, tidings)
            crew = run.crew if run is not None else ""
            self._count(crew, letter.at)
            if not merged and (letter.at is None or letter.at > now.wall - HOUR):
                # History that is read for the first time is no storm; what is merged has been counted.
                self._window.add(crew, running)
                self._crews.add(crew)
            error = self.redact(letter.error)
            if (error, crew) != (letter.error, letter.crew):
                letter = msgspec.structs.replace(letter, error=error, crew=crew)
            tidings.letters.append(letter)
            tidings.tell(_added(letter, crew, now.wall))

    def over_threshold(self, running: float, per_hour: int, now: Reading, tidings: Tidings) -> None:
        """Find the crews that had more than `per_hour` within the last hour, and tell each crossing once."""
        for crew in sorted(self._crews):
            count = self._window.count(crew, running)
            if count > per_hour and crew not in self.exceeded:
                self.exceeded.add(crew)
                data = {"count": count, "threshold": per_hour, "window_seconds": HOUR}
                tidings.tell(Event("deadletter.threshold_exceeded", now.wall, data, crew=crew))
            elif count <= per_hour:
                self.exceeded.discard(crew)
            if not count:
                self._crews.discard(crew)

    def incidents(self, wall: float, per_hour: int) -> list[Incident]:
        return [
            Incident(
                ABOUT_ALL,
                f"{TOO_MANY}{crew}",
                "warning",
                f"crew {crew} had more than {per_hour} dead letters within an hour; their errors tell what is common",
                wall,
                crew,
            )
            for crew in sorted(self.exceeded)
        ]

    def _note_theirs(self, letter: DeadLetter) -> None:
        """Remember when a runtime last gave up a task. Of a letter without a time nobody knows the attempt."""
        if letter.at is not None:
            task = letter.run_id, letter.task_id
            self._theirs[task] = max(letter.at, self._theirs.get(task, letter.at))

    def _merge(self, letter: DeadLetter, run: Run | None, now: Reading, tidings: Tidings) -> bool:
        """A runtime gave up what crewd had given up before it: its letter is the one, and crewd's is taken back."""
        for task in run.tasks if run is not None and self.own else ():
            attempt = letter.run_id, task.task_id, task.attempt
            if task.task_id == letter.task_id and attempt in self.own and self._is_theirs(task, attempt):
                self._take_back(attempt, f"its runtime gave it up as well: {letter.key}", now, tidings)
                return True
        return False

    def _is_theirs(self, task: Task, attempt: Attempt) -> bool:
        """Whether the runtime itself gave up this very attempt: its letter was written after the attempt began."""
        at = self._theirs.get(attempt[:2])
        return at is not None and (task.started_at is None or at >= task.started_at)

    def _is_read(self, entry: Entry, worker: Worker) -> bool:
        """Whether this round knows anything of it: the result that it left may be what could not be read."""
        return entry.unread is None and worker.unread is None and entry.root in self.book.read

    def _give_up(self, entry: Entry, worker: Worker, now: Reading, tidings: Tidings) -> None:
        letter = _own_letter(entry, worker, now.wall)
        self.known.add(letter.key)
        self.own[_attempt(entry, worker)] = letter
        tidings.letters.append(letter)
        tidings.tell(_added(letter, letter.crew, now.wall, worker.task.attempt))

    def _count(self, crew: str, at: float | None) -> None:
        count, oldest = self.open.get(crew, (0, None))
        if at is not None:
            oldest = at if oldest is None else min(oldest, at)
        self.open[crew] = (count + 1, oldest)


def _attempt(entry: Entry, worker: Worker) -> Attempt:
    return entry.run.run_id, worker.task.task_id, worker.task.attempt


def _own_key(attempt: Attempt) -> str:
    run_id, task_id, number = attempt
    return f"{OWN_LETTERS}{run_id}/{task_id}/{number}"


def _own_letter(entry: Entry, worker: Worker, at: float) -> DeadLetter:
    """What crewd itself knows of a worker that it gave up. Its runtime may still think that it works."""
    run, task, standing = entry.run, worker.task, worker.standing
    error_class = ErrorClass.HEARTBEAT_LOST.value
    return DeadLetter(
        run_id=run.run_id,
        task_id=task.task_id,
        reason="heartbeat-dead",
        words=standing.because,
        attempts=task.attempt,
        error=task.error or standing.because,
        at=at,
        runtime=run.runtime,
        key=_own_key(_attempt(entry, worker)),
        crew=run.crew,
        error_class=error_class,
        fingerprint=fingerprint(error_class, standing.because),
        evidence={"reason": standing.reason.value, "dead_since": standing.since, "process": worker.process.why},
    )


def _added(letter: DeadLetter, crew: str, at: float, attempt: int = 0) -> Event:
    data = {
        "key": letter.key,
        "reason": letter.reason,
        "words": letter.words,
        "attempts": letter.attempts,
        "error": letter.error,
        "written_at": letter.at,
    }
    return Event("deadletter.added", at, data, letter.run_id, letter.task_id, attempt, letter.runtime, crew)
