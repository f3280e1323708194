"""The purse: what agents have used, against what they may; what is told of it, and who waits because of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from crewd.engine.managed.attempt import Attempt
from crewd.engine.managed.board import Board, RunEntry
from crewd.engine.managed.options import TaskOptions
from crewd.engine.managed.transitions import RUNTIME
from crewd.host.clock import Clock
from crewd.model.action import Alarm
from crewd.model.agent import AgentView
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Failure
from crewd.model.managed import ManagedTask, Pause
from crewd.model.plan import BudgetPlan
from crewd.model.run import RUN_ENDED, Usage
from crewd.model.snapshot import BudgetFigures
from crewd.policy.alarm import WARN, alarms, budget_alarms, ratio
from crewd.policy.spending import Spending, Spent, spent, together

DAY = 86_400.0
SCOPES = ("task", "run", "crew", "day")
NO_LIMIT = BudgetPlan()


@dataclass(slots=True, eq=False)
class Purse:
    """Counts what every run uses, of whatever runtime, as it becomes durable; and knows the budgets."""

    board: Board
    clock: Clock
    options: Callable[[], TaskOptions]
    spending: Spending = field(default_factory=Spending)
    observed: Callable[[], Mapping[str, Spent]] = dict  # crew -> used by observed tasks at work: noted when they end
    _runs: dict[str, Spent] = field(default_factory=dict)  # run id -> used by its tasks; of those that were asked for

    def hear(self, events: Iterable[Event]) -> None:
        """Count what was used, as told."""
        for event in events:
            if event.type == "usage.recorded":
                usage = _usage(event.data)
                self.spending.add(event.crew, usage, event.at)
                if event.runtime == RUNTIME and (used := self._runs.get(event.run_id)) is not None:
                    self._runs[event.run_id] = together((used, spent(usage)))

    def recall(self, used_between: Callable[[float, float], Mapping[str, Usage]]) -> None:
        """Count what was used today before this start: a sum for each crew, of the notes between two wall times."""
        now = self.clock.read().wall
        midnight = now - now % DAY
        for crew, usage in used_between(midnight, midnight + DAY).items():
            # As of midnight: it is spent, and nobody burns it just now.
            self.spending.add(crew, usage, midnight)

    def alarms(self, attempt: Attempt, view: AgentView) -> tuple[Alarm, ...]:
        """What is wrong with how an agent goes about it, and which budgets it has spent."""
        found = alarms(view, attempt.plan.watch)
        for scope, budget, used in self._budgets(attempt, view):
            found += budget_alarms(scope, budget, used)
        if not view.ended:
            return found
        # It is done: to end it now would undo its work, and save nothing.
        return tuple(replace(each, then=WARN) if each.cause == "budget" else each for each in found)

    def closed(self) -> tuple[Pause, ...]:
        """The doors that are shut because a budget is spent: nothing behind them is started."""
        now, options = self.clock.read().wall, self.options()
        shut: list[Pause] = []
        if _limits(options.day_budget) and _is_spent(options.day_budget, self._of_day(now)):
            shut.append(Pause("daemon", reason=_words("day", options.day_budget), since=now, actor="daemon"))
        if _limits(options.crew_budget):
            for crew in self._crews(now):
                if _is_spent(options.crew_budget, self._of_crew(crew, now)):
                    reason = _words("crew's day", options.crew_budget)
                    shut.append(Pause(f"crew:{crew}", reason=reason, since=now, actor="daemon"))
        for entry in self.board.active():
            budget = entry.plan.budget
            # One that stops is told to each of its tasks as it would begin: see `refuses`.
            if budget.on_exceeded == "park" and self._run_is_spent(entry):
                reason = _words("run", budget)
                shut.append(Pause(f"run:{entry.plan.run_id}", reason=reason, since=now, actor="daemon"))
        return tuple(shut)

    def refuses(self, attempt: Attempt) -> Failure | None:
        """Why an attempt must not begin; None: nothing of that kind. What waits for a new day does not get here."""
        entry = self.board.runs[attempt.key[0]]
        budget = entry.plan.budget
        if budget.on_exceeded != "stop" or not self._run_is_spent(entry):
            return None
        guidance = "Submit what is left as a run of its own, with a budget of its own."
        words = _words("run", budget)
        return Failure(ErrorClass.BUDGET_EXCEEDED, words, code="budget_run", guidance=guidance, retryable=False)

    def figures(self) -> BudgetFigures:
        """How full the purse is, for the snapshot. Of tasks and runs the one that has spent most of its budget."""
        now, options = self.clock.read().wall, self.options()
        ratios: dict[tuple[str, str], float] = {}
        self._runs = {run_id: used for run_id, used in self._runs.items() if run_id in self.board.runs}

        def note(scope: str, crew: str, budget: BudgetPlan, used: Spent) -> None:
            share = ratio(budget, used)
            if share is not None:
                ratios[scope, crew] = max(share, ratios.get((scope, crew), 0.0))

        note("day", "", options.day_budget, self._of_day(now))
        for crew in self._crews(now):
            note("crew", crew, options.crew_budget, self._of_crew(crew, now))
        for entry in self.board.runs.values():
            if entry.run.status in RUN_ENDED:
                continue
            if _limits(entry.plan.budget):
                note("run", entry.plan.crew, entry.plan.budget, self._of_run(entry))
            for task_id, plan in entry.plans.items():
                if _limits(plan.budget):
                    note("task", entry.plan.crew, plan.budget, _of_task(entry.tasks[task_id]))
        burn = {crew: self.spending.burn(crew, now) for crew in self.spending.burning(now)}
        return BudgetFigures(ratios=ratios, burn=burn)

    def _of_day(self, now: float) -> Spent:
        return together((self.spending.of_day(now), *self.observed().values()))

    def _of_crew(self, crew: str, now: float) -> Spent:
        return together((self.spending.of_crew(crew, now), self.observed().get(crew, Spent())))

    def _crews(self, now: float) -> set[str]:
        return {*self.spending.crews(now), *self.observed()}

    def _run_is_spent(self, entry: RunEntry) -> bool:
        budget = entry.plan.budget
        return _limits(budget) and _is_spent(budget, self._of_run(entry))

    def _of_run(self, entry: RunEntry) -> Spent:
        """What all tasks of a run used: added up once, and kept from then on. There may be ten thousand of them."""
        used = self._runs.get(entry.plan.run_id)
        if used is None:
            used = self._runs[entry.plan.run_id] = _of_tasks(entry.tasks.values())
        return used

    def _budgets(self, attempt: Attempt, view: AgentView) -> Iterator[tuple[str, BudgetPlan, Spent]]:
        """Every budget that this attempt draws on, with what is used of it: what is noted, and what comes on top."""
        task = self.board.task(attempt.key)
        if task is None or view.usage is None:
            return
        now, options, crew = self.clock.read().wall, self.options(), attempt.run.plan.crew
        more = _beyond(spent(view.usage), spent(task.attempt_usage))
        if _limits(attempt.plan.budget):
            yield "task", attempt.plan.budget, together((_of_task(task), spent(view.usage)))
        of_run = attempt.run.plan.budget
        if _limits(of_run):
            yield "run", of_run, together((self._of_run(self.board.runs[attempt.key[0]]), more))
        if _limits(options.crew_budget):
            yield "crew", options.crew_budget, together((self._of_crew(crew, now), more))
        if _limits(options.day_budget):
            yield "day", options.day_budget, together((self._of_day(now), more))


def _of_task(task: ManagedTask) -> Spent:
    """What the attempts that are over used. Once a person let it go on after its budget was spent, it counts anew."""
    total = Spent()
    for record in task.attempts:
        if record.attempt <= task.budget_from or record.details.get("code") == "budget_task":
            total = Spent()
        else:
            cost = record.details.get("cost_usd")
            part = Spent(int(record.details.get("tokens", 0)), None if cost is None else float(cost))
            total = together((total, part))
    return total


def _usage(data: Mapping[str, object]) -> Usage:
    """The figures of an event; what is no number there counts as nothing."""

    def count(name: str) -> int:
        value = data.get(name)
        return int(value) if isinstance(value, int | float) and value == value and abs(value) < 2**53 else 0

    cost = data.get("cost_usd")
    return Usage(
        input=count("input"),
        output=count("output"),
        cache_read=count("cache_read"),
        cache_write=count("cache_write"),
        cost_usd=float(cost) if isinstance(cost, int | float) else None,
    )


def _limits(budget: BudgetPlan) -> bool:
    return budget.tokens is not None or budget.cost_usd is not None


def _is_spent(budget: BudgetPlan, used: Spent) -> bool:
    return budget.on_exceeded != "warn" and _limits(budget) and (ratio(budget, used) or 0.0) >= 1.0


def _words(whose: str, budget: BudgetPlan) -> str:
    limits = [f"{budget.tokens} tokens"] if budget.tokens is not None else []
    limits += [f"{budget.cost_usd:g} USD"] if budget.cost_usd is not None else []
    if whose == "run":
        said = f"the run's budget of {' and '.join(limits)} is spent"
        return f"{said}; cancel it, and submit the rest with one of its own"
    return f"the {whose}'s budget of {' and '.join(limits)} is spent"


def _of_tasks(tasks: Iterable[ManagedTask]) -> Spent:
    return together(spent(task.usage) for task in tasks)


def _beyond(used: Spent, noted: Spent) -> Spent:
    cost = None if used.cost_usd is None else max(0.0, used.cost_usd - (noted.cost_usd or 0.0))
    return Spent(max(0, used.tokens - noted.tokens), cost)
