"""Recovery: before crewd starts anything, it accounts for every attempt of its predecessor.

Whoever lives is taken over; whoever ended meanwhile is settled by what its files say; whatever was being ended is
ended. Every step passes through the same transactions as in ordinary life, so that a recovery that is interrupted
anywhere and begun again comes to the same.
"""

from dataclasses import dataclass

import msgspec
import structlog

from crewd.engine.managed import transitions
from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.board import Key
from crewd.engine.managed.hands import Grip
from crewd.engine.managed.scheduler import Scheduler, attempt_of
from crewd.ledger.batch import Batch, Memory
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Failure
from crewd.model.managed import Ending, ManagedRun, ManagedTask, Running, Starting
from crewd.model.work import Item, Lease
from crewd.policy.handling import handling_of

log = structlog.get_logger("crewd.tasks")


@dataclass(frozen=True)
class Accounts:
    """What became of the attempts of a predecessor."""

    adopted: int = 0  # live, and go on
    ended: int = 0  # ended while nobody looked, or were being ended
    never_ran: int = 0  # their command had not begun


def recall(scheduler: Scheduler, memory: Memory) -> None:
    """Put everything that a predecessor wrote down back on the board."""
    tasks: dict[str, dict[str, ManagedTask]] = {}
    for (run_id, task_id), task in memory.tasks.items():
        tasks.setdefault(run_id, {})[task_id] = task
    for run in sorted(memory.managed.values(), key=lambda run: (run.submitted_at, run.plan.run_id)):
        scheduler.board.add(run, tasks.get(run.plan.run_id, {}))
    scheduler.circuits.recall(memory.circuits)
    scheduler.pauses.update({pause.scope: pause for pause in memory.pauses})


async def account(scheduler: Scheduler) -> Accounts:
    """Account for every attempt that was at work. Afterwards each of them is carried again."""
    leases = {lease.key: lease for lease in await scheduler.register.work.holding()}
    adopted = ended = never_ran = 0
    for key, task in list(scheduler.board.at_work.items()):
        lease = leases.get("/".join(key)) or await _lease_again(scheduler, key, task)
        entry = scheduler.board.runs[key[0]]
        attempt = attempt_of(entry, task, lease, scheduler.options.folder)
        match task.state:
            case Starting():
                never_ran += 1
                await _never_ran(scheduler, entry.run, attempt, task)
            case Running() as state:
                lives = await _adopt(scheduler, attempt, state)
                adopted, ended = adopted + lives, ended + (not lives)
            case Ending() as state:
                ended += 1
                grip = _grip(scheduler, attempt, state)
                scheduler.conductor.adopt(attempt, state, grip)
                attempt.over = Over(
                    state.why,
                    state.failure,
                    cancelled=state.cancelled,
                    interrupted=state.interrupted,
                    exited=not (state.failure or state.cancelled or state.interrupted),
                )
        scheduler.carry(attempt)
    return Accounts(adopted, ended, never_ran)


async def _never_ran(scheduler: Scheduler, run: ManagedRun, attempt: Attempt, task: ManagedTask) -> None:
    """Its gate was never opened. It counts all the same, or a task that fells crewd would do so for ever."""
    attempt.adopted = True
    failure = Failure(
        ErrorClass.UNKNOWN,
        "crewd ended while it was starting this attempt; its command had not begun",
        code="never_ran",
        retryable=True,
        guidance=handling_of(ErrorClass.UNKNOWN).guidance,
    )
    attempt.over = Over("crewd ended before it began", failure)
    at = scheduler.clock.read().wall
    after, events = transitions.ending(run, task, attempt.over.why, at, failure)
    await scheduler.register.insist(Batch(events=events, tasks=(after,)))


async def _adopt(scheduler: Scheduler, attempt: Attempt, state: Running) -> bool:
    """Take over a running attempt; True: it lives."""
    conductor = scheduler.conductor
    grip = conductor.hands.adopt(attempt.mark, state.process, attempt.exited)
    conductor.adopt(attempt, state, grip)
    if grip is None:
        attempt.end(Over("it ended while crewd was away", exited=True))
        return False
    log.info("attempt.adopted", attempt=attempt.name, pid=state.process.pid)
    told = Event("attempt.adopted", scheduler.clock.read().wall, {"pid": state.process.pid}, *attempt.key)
    told = msgspec.structs.replace(
        told, attempt=attempt.number, runtime=transitions.RUNTIME, crew=attempt.run.plan.crew
    )
    await scheduler.register.insist(Batch(events=(told,)))
    return True


def _grip(scheduler: Scheduler, attempt: Attempt, state: Ending) -> Grip | None:
    if state.process is None:
        return None
    return scheduler.conductor.hands.adopt(attempt.mark, state.process, attempt.exited)


async def _lease_again(scheduler: Scheduler, key: Key, task: ManagedTask) -> Lease:
    """The engine of work forgot a lease that the ledger's own rows know: take it anew, so that it can be settled."""
    name = "/".join(key)
    plan = scheduler.board.plan(key)
    log.warning("lease.missing", key=name)
    await scheduler.register.offer([Item(name, plan.executor, plan.priority)])
    leases, _ = await scheduler.register.work.pull([name], None)
    if leases:
        return leases[0]
    return Lease(name, plan.executor, task.fence, None)
