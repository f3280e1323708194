"""Hung: what follows when the patrol finds a managed worker in which provably nothing moves."""

from collections.abc import Mapping

from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.board import Key
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import Mode, TaskPlan
from crewd.model.snapshot import Snapshot
from crewd.model.verdict import Level, Reason
from crewd.policy.handling import handling_of

RUNTIME = "managed"


def heed(snapshot: Snapshot, attempts: Mapping[Key, Attempt]) -> None:
    """End the attempts that hang and have agreed to be ended for it. Only the newest attempt is meant."""
    for (run_id, task_id), attempt in list(attempts.items()):
        view = snapshot.runs.get(run_id)
        if view is None or attempt.over is not None or not stops_when_hung(attempt.plan):
            continue
        for worker in view.workers:
            standing = worker.standing
            if (worker.task_id, worker.attempt) != (task_id, attempt.number) or standing.level is not Level.DEAD:
                continue
            if standing.reason is Reason.HUNG:
                words = f"nothing of it moved: {standing.because}"
                guidance = handling_of(ErrorClass.HEARTBEAT_LOST).guidance
                attempt.end(Over(words, Failure(ErrorClass.HEARTBEAT_LOST, words, guidance=guidance)))


def stops_when_hung(plan: TaskPlan) -> bool:
    """Whether a worker agreed to beat, so that its silence means something: it is only reported otherwise."""
    beats = plan.heartbeat
    if beats.on_hung:
        return beats.on_hung == "stop"
    named = (beats.warn_after, beats.stale_after, beats.dead_after, beats.hung_after, beats.activity_is_heartbeat)
    return plan.mode is Mode.PROTOCOL or any(each is not None for each in named)
