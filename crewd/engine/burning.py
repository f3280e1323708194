"""Burning: what observed agents use against what they do, and what a person should know of it. Nothing is acted upon.

A managed agent's words are followed one by one; of an observed one the runtime's files tell now and then how many
tokens it has used, and which tools it called lately. A call with an input that it did not have before is something
new. Whoever uses far more tokens than usual without one burns them; who repeats one call goes in circles.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from crewd.engine.changes import task_event
from crewd.engine.incidents import SPENT
from crewd.model.action import Alarm
from crewd.model.agent import AgentView
from crewd.model.event import Event
from crewd.model.incident import ABOUT_ALL, subject_of
from crewd.model.plan import BudgetPlan, WatchPlan
from crewd.model.run import RUN_ENDED, TASK_ENDED, Run, Task, TaskStatus
from crewd.model.verdict import Incident
from crewd.policy.alarm import WARN, alarms, budget_alarms
from crewd.policy.spending import Spending, Spent, spent, together

AT_WORK = (TaskStatus.RUNNING, TaskStatus.WAITING)
CALLS_KNOWN_MAX = 1024  # different calls of one task that are told apart; the oldest are forgotten
GAPS_MAX = 50  # of tokens between two new things
GAPS_TELLING = 5  # as many make a median
FOLLOWED_FROM = 0.25  # of the least that burns: who has used less is not followed yet, and costs no memory
DIGEST = 4  # bytes of one call
EVENTS = {"loop": "worker.looping", "burn": "worker.burning"}


class Budgets(msgspec.Struct, frozen=True):
    """What may be used in one UTC day: by all together, and by each crew."""

    day: BudgetPlan = BudgetPlan()
    crew: BudgetPlan = BudgetPlan()

    @property
    def limit(self) -> bool:
        """Whether they limit anything at all."""
        return any(plan.tokens is not None or plan.cost_usd is not None for plan in (self.day, self.crew))


NO_BUDGETS = Budgets()
NOTHING = Spent()


@dataclass(slots=True, eq=False)
class _Doing:
    """One attempt of one task, from when it was first followed. What it did before that is no burn, and not new."""

    attempt: int
    tokens: int
    at_new: int  # tokens at its latest new call
    known: dict[bytes, None]
    gaps: list[int] = field(default_factory=list)
    alarms: tuple[Alarm, ...] = ()

    def hear(self, tokens: int, calls: list[bytes]) -> bool:
        """Take in what it used and called; True: it did something new."""
        # What a runtime corrects downwards was used all the same, and nothing is used twice for it.
        tokens, self.tokens = max(tokens, self.tokens), max(tokens, self.tokens)
        new = dict.fromkeys(call for call in calls if call not in self.known)
        if not new:
            return False
        self.known |= new
        while len(self.known) > CALLS_KNOWN_MAX:
            del self.known[next(iter(self.known))]
        # Seen at one look, and done one after the other: each had its share.
        self.gaps = (self.gaps + [(tokens - self.at_new) // len(new)] * len(new))[-GAPS_MAX:]
        self.at_new = tokens
        return True

    def view(self, repeats: int) -> AgentView:
        """What an alarm is made of."""
        usual = int(statistics.median(self.gaps)) if len(self.gaps) >= GAPS_TELLING else 0
        since = self.tokens - self.at_new
        return AgentView(profile="", repeats=repeats, tokens_since_new=since, tokens_usual=usual)


@dataclass(slots=True, eq=False)
class Burning:
    """The book of observed tasks at work that use tokens. Looked at only where a run has changed."""

    watch: WatchPlan = field(default_factory=WatchPlan)
    budgets: Callable[[], Budgets] = lambda: NO_BUDGETS
    spending: Spending = field(default_factory=Spending)  # what was told as used; written by its owner
    live: dict[str, dict[str, Spent]] = field(default_factory=dict)  # crew -> run id -> used by its tasks at work
    _at_work: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)  # run id -> crew, those tasks
    _doing: dict[str, dict[str, _Doing]] = field(default_factory=dict)  # run id -> task id
    _recalled: dict[str, list[Incident]] = field(default_factory=dict)  # subject -> those of a former crewd
    _over: list[tuple[str, Spent]] = field(default_factory=list)  # crew, used: by those that ended in this round

    def recall(self, incident: Incident) -> None:
        """Take over an open incident: it holds until the task does something new, or is gone."""
        if incident.cause in SPENT:
            self._recalled.setdefault(incident.subject, []).append(incident)

    def begin(self) -> None:
        """Begin a round: what was told of in the one before is in the books of `spending` now."""
        self._over.clear()

    def follow(self, run: Run, wall: float) -> Iterator[tuple[str, list[Incident], list[Event]]]:
        """Look at an observed run that changed. Tells for each task of which it has something to say: the subject of
        its incidents, all that are open now, and the events of those that are new.
        """
        doing, met = self._doing.get(run.run_id, {}), {}
        used: dict[str, Spent] = {}
        for task in () if run.status in RUN_ENDED else run.tasks:
            if task.status not in AT_WORK or (use := spent(task.usage)) == NOTHING:
                continue
            used[task.task_id] = use
            if (followed := self._followed(doing.get(task.task_id), task)) is not None:
                met[task.task_id] = followed
                yield self._judged(run, task, followed, wall)
        self._count(run, used)
        for task_id in doing.keys() - met.keys():
            yield subject_of(run.run_id, task_id), [], []
        if met:
            self._doing[run.run_id] = met
        else:
            self._doing.pop(run.run_id, None)

    def forget(self, run_id: str) -> list[str]:
        """Let go of a run that is gone; returns the subjects of which there is nothing more to say."""
        self._uncount(run_id)
        return [subject_of(run_id, task_id) for task_id in self._doing.pop(run_id, ())]

    def knows(self, subject: str) -> bool:
        """Whether there is a task at work behind a subject."""
        run_id, _, task_id = subject.partition("/")
        return task_id in self._doing.get(run_id, ())

    def used(self, crew: str) -> Spent:
        """What the observed tasks of a crew that are at work have used so far: it is told of when they end."""
        return self.used_by_crew().get(crew, Spent())

    def incidents(self, wall: float) -> list[Incident]:
        """Which budgets of today are nearly or wholly used, by managed and observed tasks together."""
        budgets = self.budgets()
        if not budgets.limit:
            return []
        live = self.used_by_crew()
        day = together([self.spending.of_day(wall), *live.values()])
        found = [
            Incident(ABOUT_ALL, "budget", "warning", alarm.words, wall, kind=alarm.then)
            for alarm in budget_alarms("day", budgets.day, day)
        ]
        for crew in sorted({*self.spending.crews(wall), *live}):
            used = together([self.spending.of_crew(crew, wall), live.get(crew, Spent())])
            found += [
                Incident(
                    ABOUT_ALL, f"budget:{crew}", "warning", f"crew {crew}: {alarm.words}", wall, crew, kind=alarm.then
                )
                for alarm in budget_alarms("crew", budgets.crew, used)
            ]
        return found

    def _count(self, run: Run, used: dict[str, Spent]) -> None:
        """Note what the tasks at work used. Of those that ended it is told in this round, and counted by the next."""
        before = self._uncount(run.run_id)
        if ended := before - used.keys():
            over = (task for task in run.tasks if task.task_id in ended and task.status in TASK_ENDED)
            self._over += [(run.crew, spent(task.usage)) for task in over]
        if used:
            self._at_work[run.run_id] = run.crew, frozenset(used)
            self.live.setdefault(run.crew, {})[run.run_id] = together(used.values())

    def _uncount(self, run_id: str) -> frozenset[str]:
        """Take a run out of what is at work; returns the tasks that were."""
        crew, tasks = self._at_work.pop(run_id, ("", frozenset()))
        if tasks:
            del self.live[crew][run_id]
            if not self.live[crew]:
                del self.live[crew]
        return tasks

    def used_by_crew(self) -> dict[str, Spent]:
        """The same for every crew that has such tasks."""
        parts = {crew: [*runs.values()] for crew, runs in self.live.items()}
        for crew, used in self._over:
            parts.setdefault(crew, []).append(used)
        return {crew: together(each) for crew, each in parts.items()}

    def _followed(self, before: _Doing | None, task: Task) -> _Doing | None:
        """What is known of an attempt; None: it has done too little to say anything of it, or nobody tells."""
        if before is not None and before.attempt == task.attempt:
            return before
        calls, tokens, least = _calls(task), spent(task.usage).tokens, int(FOLLOWED_FROM * self.watch.burn_tokens_min)
        is_circle = 0 < self.watch.same_tool_warn <= _repeats(calls)
        if task.calls is None or not (is_circle or tokens >= least > 0):
            return None
        return _Doing(task.attempt, tokens, tokens, dict.fromkeys(calls))

    def _judged(self, run: Run, task: Task, doing: _Doing, wall: float) -> tuple[str, list[Incident], list[Event]]:
        subject, calls = subject_of(run.run_id, task.task_id), _calls(task)
        before = doing.alarms
        if doing.hear(spent(task.usage).tokens, calls):
            self._recalled.pop(subject, None)  # whatever a former crewd saw has ended
        doing.alarms = alarms(doing.view(_repeats(calls)), self.watch)
        recalled = self._recalled.get(subject, [])
        known = {alarm.cause for alarm in before} | {each.cause for each in recalled}
        said = {alarm.cause for alarm in doing.alarms}
        incidents = [_incident(run, task, alarm, wall) for alarm in doing.alarms]
        incidents += [each for each in recalled if each.cause not in said]
        events = [_event(run, task, alarm, wall) for alarm in doing.alarms if alarm.cause not in known]
        return subject, incidents, events


def _calls(task: Task) -> list[bytes]:
    calls = task.calls or b""
    return [calls[at : at + DIGEST] for at in range(0, len(calls), DIGEST)]


def _repeats(calls: list[bytes]) -> int:
    """How often the latest call was made without another between, as far back as the runtime tells."""
    return next((number for number, call in enumerate(reversed(calls)) if call != calls[-1]), len(calls))


def _incident(run: Run, task: Task, alarm: Alarm, wall: float) -> Incident:
    subject = subject_of(run.run_id, task.task_id)
    words = f"{task.task_id}: {alarm.words}"
    return Incident(subject, alarm.cause, "warning", words, wall, run.crew, run.run_id, task.task_id)


def _event(run: Run, task: Task, alarm: Alarm, wall: float) -> Event:
    # Whatever its owner wants done to managed tasks, nothing is done to this one.
    data: dict[str, object] = {"scope": alarm.scope, "then": WARN, "because": alarm.words}
    return task_event(EVENTS[alarm.cause], run, task, wall, data)
