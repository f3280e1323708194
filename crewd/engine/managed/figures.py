"""Figures: how managed runs stand, in numbers, for the snapshot of a round. Pure, over what the scheduler holds."""

from crewd.engine.managed.board import Board
from crewd.engine.managed.purse import Purse
from crewd.engine.managed.scheduler import Scheduler
from crewd.model.run import RUN_ENDED
from crewd.model.snapshot import ManagedFigures


def figures(scheduler: Scheduler, purse: Purse) -> ManagedFigures:
    """Take the numbers of this moment. One step for each run on the board, and for each task of those at work."""
    board, conductor = scheduler.board, scheduler.conductor
    return ManagedFigures(
        running=len(board.at_work),
        running_max=scheduler.options.max_parallel,
        ready=len(board.offered),
        retries_pending=_retries_pending(board),
        circuits={name: state.state for name, state in scheduler.circuits.states.items()},
        paused=tuple(sorted(scheduler.pauses)),
        stuck={_mark(board, key): why for key, why in conductor.stuck.items()},
        budgets=purse.figures(),
        messages=dict(conductor.messages),
        defects=dict(conductor.defects),
        succeeded_at=scheduler.succeeded_at,
        ledger_failed=scheduler.register.failed,
        violations=tuple(sorted(scheduler.register.broken)),
    )


def _retries_pending(board: Board) -> dict[str, int]:
    """Crew -> tasks between two attempts, also those whose time has come and that wait for a slot."""
    pending: dict[str, int] = {}
    for entry in board.runs.values():
        if entry.run.status not in RUN_ENDED:
            crew = entry.plan.crew
            pending[crew] = pending.get(crew, 0) + entry.counts["retry_wait"]
    return pending


def _mark(board: Board, key: tuple[str, str]) -> str:
    task = board.task(key)
    return f"{key[0]}/{key[1]}/{task.attempt if task is not None else 0}"
