"""Settling: what became of an attempt of which nothing is left, and what follows from it. One transaction."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from crewd.engine.managed import outcome, transitions
from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.board import Board, circuit_of
from crewd.engine.managed.circuits import Changed, Circuits
from crewd.engine.managed.ladder import Ladder, profile_of
from crewd.engine.managed.options import TaskOptions
from crewd.engine.managed.outcome import Facts
from crewd.engine.managed.register import Register
from crewd.engine.managed.voice import Voice, Word
from crewd.host.clock import Clock
from crewd.ledger.batch import Batch
from crewd.model.action import Decision, GiveUp, Park, RetryAt
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Failure
from crewd.model.look import DeadLetter
from crewd.model.managed import AttemptRecord, ManagedTask
from crewd.policy.budget import spend
from crewd.policy.invariants import DELAY_CEILING, DELAY_FLOOR
from crewd.policy.parking import parked
from crewd.policy.retry import DELAY_MAX, after_failure

PARKED_SECONDS = 60.0
DAY = 86_400.0
Check = Callable[[Attempt], Any]  # runs the success command: an awaitable of its exit and words


@dataclass(slots=True, eq=False)
class Settling:
    """Decides what follows an attempt, and makes it durable."""

    board: Board
    register: Register
    circuits: Circuits
    clock: Clock
    options: Callable[[], TaskOptions]
    ladder: Ladder
    check: Check
    roll: Callable[[], float]
    redact: Callable[[str], str]
    paroled: Callable[[tuple[str, str]], bool]
    settled: Callable[[DeadLetter], None]
    budgets: dict[str, tuple[float, ...]] = field(default_factory=dict)  # crew -> times of its retries

    async def settle(self, attempt: Attempt, over: Over, facts: Facts, voice: Voice | None) -> None:
        """Record what became of it. Raises LeaseLost where somebody else has a newer fence."""
        word = voice.last_word(facts, over) if voice is not None else Word()
        failure = await self._failure(attempt, over, facts, voice, word)
        details = voice.details() if voice is not None else {}
        if failure is not None or over.interrupted:
            details |= await self.ladder.left_behind(attempt)
        now = self.clock.read().wall
        record = AttemptRecord(
            attempt=attempt.number,
            fence=attempt.lease.fence,
            started_at=attempt.started_at or now,
            ended_at=now,
            error_class=failure.error_class if failure is not None else None,
            error=failure.message if failure is not None else "",
            exit=facts.exit,
            interrupted=over.interrupted and failure is None and not word.succeeded,
            tail=facts.tail if failure is not None else "",
            output_bytes=facts.stdout_bytes + facts.stderr_bytes,
            folder=attempt.folder,
            details=details | ({"code": failure.code} if failure is not None and failure.code else {}),
        )
        task = self._task(attempt)
        extra: tuple[Event, ...] = ()
        if voice is not None:
            task, extra = voice.told(attempt.run, task, facts.exit, now)
        if failure is None and record.interrupted:
            after, events = transitions.interrupted(attempt.run, task, record, over.why, now)
            await self.register.retry(attempt.lease, now, Batch(events=(*extra, *events), tasks=(after,)))
        elif failure is None:
            await self._completed(attempt, task, record, voice, extra, now)
        elif failure.error_class is ErrorClass.CANCELLED:
            await self._cancelled(attempt, task, record, over, extra, now)
        else:
            await self._failed(attempt, task, record, failure, extra, now)

    async def _failure(
        self, attempt: Attempt, over: Over, facts: Facts, voice: Voice | None, word: Word
    ) -> Failure | None:
        """What went wrong; None: nothing, or crewd itself interrupted it."""
        if over.cancelled and not word.succeeded:
            return Failure(ErrorClass.CANCELLED, over.why)
        if over.interrupted and not word.succeeded:
            return None
        failure = outcome.first_word(attempt, over, facts, word.failure, word.succeeded)
        if failure is None:
            output_bytes = voice.output_bytes(facts) if voice is not None else facts.stdout_bytes
            failure = await outcome.broken_promise(attempt, facts, output_bytes, self.check)
        return outcome.shortened(failure, self.redact) if failure is not None else None

    async def _completed(
        self,
        attempt: Attempt,
        task: ManagedTask,
        record: AttemptRecord,
        voice: Voice | None,
        extra: tuple[Event, ...],
        now: float,
    ) -> None:
        after, events = transitions.completed(attempt.run, attempt.plan, task, record, now)
        circuits, told = self.circuits.succeeded(circuit_of(attempt.plan), now)
        batch = Batch(events=(*extra, *events, *told), tasks=(after,), circuits=circuits)
        result = voice.result() if voice is not None else {}
        await self.register.complete(attempt.lease, {"outcome": "completed", **result}, batch)

    async def _cancelled(
        self,
        attempt: Attempt,
        task: ManagedTask,
        record: AttemptRecord,
        over: Over,
        extra: tuple[Event, ...],
        now: float,
    ) -> None:
        after, events = transitions.cancelled(attempt.run, attempt.plan, task, record, over.why, now, over.actor)
        batch = Batch(events=(*extra, *events), tasks=(after,))
        await self.register.bury(attempt.lease, "cancelled", batch)

    async def _failed(
        self,
        attempt: Attempt,
        task: ManagedTask,
        record: AttemptRecord,
        failure: Failure,
        extra: tuple[Event, ...],
        now: float,
    ) -> None:
        plan, circuit = attempt.plan, circuit_of(attempt.plan)
        circuits, told = self._circuit_failed(circuit, failure, attempt.started_at, now)
        told = (*extra, *told)
        decision = self._decide(attempt, task, record, failure, now)
        match decision:
            case RetryAt():
                decision = self._within_budget(attempt.run.plan.crew, decision, now)
                record = msgspec.structs.replace(record, details={**record.details, **_window(decision)})
            case Park():
                # It waits without spending an attempt: what is missing is no fault of the task.
                record = msgspec.structs.replace(record, interrupted=True)
                delay = PARKED_SECONDS if decision.due_at is None else max(0.0, decision.due_at - now)
                decision = RetryAt(now + delay, delay, delay, delay, decision.reason)
        if isinstance(decision, RetryAt):
            after, events = transitions.retrying(attempt.run, plan, task, record, decision, now)
            batch = Batch(events=(*events, *told), tasks=(after,), circuits=circuits)
            await self.register.retry(attempt.lease, decision.due_at, batch)
            return
        evidence = self._evidence(attempt, record, circuit)
        after, events, letter = transitions.given_up(
            attempt.run, plan, task, record, decision, failure, evidence, now
        )
        batch = Batch(events=(*events, *told), tasks=(after,), circuits=circuits, letters=(letter,))
        await self.register.bury(attempt.lease, decision.reason, batch)
        self.settled(letter)

    def _circuit_failed(self, circuit: str, failure: Failure, started_at: float, now: float) -> Changed:
        """Let everybody of this provider know, where it was the provider that failed."""
        self.circuits.ended(circuit, failure, started_at, now)
        if failure.code.startswith("budget_"):
            return (), ()  # the operator's own budget, of which the provider knows nothing
        return self.circuits.failed(circuit, failure, now)

    def _decide(
        self, attempt: Attempt, task: ManagedTask, record: AttemptRecord, failure: Failure, now: float
    ) -> Decision:
        if _parks(attempt, failure):
            return Park(_parked_until(failure, now), f"parked: {failure.message}")
        present = [each for each in task.attempts if each.attempt > task.budget_from]
        if profile_of(attempt.plan) is not None:
            # Only an agent's reader knows a rate limit for sure: words in the output of any command prove nothing.
            parks = sum(1 for each in present if each.interrupted and each.error_class is ErrorClass.RATE_LIMITED)
            if (park := parked(attempt.plan, failure, parks, now, self.roll())) is not None:
                return park
        budget = [each for each in present if not each.interrupted]
        before = budget[-1].details.get("retry_delay") if budget else None
        decision = after_failure(
            attempt.plan.retry,
            failure,
            counted=len(budget) + 1,
            of_class=sum(1 for each in budget if each.error_class is failure.error_class) + 1,
            previous_delay=float(before) if before is not None else None,
            first_started_at=task.first_started_at or now,
            now=now,
            roll=self.roll(),
        )
        if isinstance(decision, RetryAt) and (neither := self.ladder.refuses(attempt, (*present, record))):
            return GiveUp("not-retryable", neither.reason)
        return decision

    def _within_budget(self, crew: str, decision: RetryAt, now: float) -> RetryAt:
        """A crew that retries too often waits until its budget allows one more."""
        used, free_at = spend(self.budgets.get(crew, ()), now, self.options().retries_per_hour)
        self.budgets[crew] = used
        if free_at is None or free_at <= decision.due_at:
            return decision
        delay = free_at - now
        spent = f"crew {crew} has spent its {self.options().retries_per_hour} retries of this hour"
        reason = f"{decision.reason}; {spent}"
        return RetryAt(free_at, delay, decision.floor, max(decision.ceiling, delay), reason)

    def _evidence(self, attempt: Attempt, record: AttemptRecord, circuit: str) -> Mapping[str, Any]:
        plan = attempt.plan
        return {
            "circuit": circuit,
            "executor": plan.executor,
            "secrets": sorted(plan.secrets.values()),
            "exit_code": record.exit.code,
            "signal": record.exit.signal,
            "folder": record.folder,
            # What must not happen twice is begun afresh by a person, and by nobody else.
            "paroled": self.paroled(attempt.key) or not plan.idempotent,
        }

    def _task(self, attempt: Attempt) -> ManagedTask:
        task = self.board.task(attempt.key)
        assert task is not None
        return task


def _window(decision: RetryAt) -> dict[str, float]:
    """What the delay was drawn from: kept, so that it can be checked at any time."""
    return {
        "retry_delay": decision.delay,
        DELAY_FLOOR: decision.floor,
        DELAY_CEILING: decision.ceiling,
    }


def _parks(attempt: Attempt, failure: Failure) -> bool:
    """Whether crewd itself wanted the task parked: what a worker writes into its failure parks nothing."""
    own = attempt.over.failure if attempt.over is not None else None
    return own is not None and own.code == failure.code and own.details.get("then") == "park"


def _parked_until(failure: Failure, now: float) -> float:
    """Wall time at which a parked task is looked at again: the next day of a daily budget; else it wants a person."""
    daily = failure.details.get("scope") in ("crew", "day")
    return (now // DAY + 1) * DAY if daily else now + DELAY_MAX
