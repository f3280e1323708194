"""Hung: what follows when the patrol finds a managed worker in which nothing moves, or whose model is silent."""

from collections.abc import Mapping

from crewd.engine.managed.attempt import Attempt, Over
from crewd.engine.managed.board import Key
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import Mode, TaskPlan
from crewd.model.snapshot import Snapshot
from crewd.model.verdict import Level, Reason, Standing, Wedge
from crewd.policy.handling import handling_of

RUNTIME = "managed"


def heed(snapshot: Snapshot, attempts: Mapping[Key, Attempt]) -> None:
    """End the attempts that hang and have agreed to be ended for it. Only the newest attempt is meant."""
    # Where crewd was away, or many fell silent at once, a silent model has a cause that no restart mends.
    believes_silence = not (snapshot.health.hold or snapshot.health.brake)
    for (run_id, task_id), attempt in list(attempts.items()):
        view = snapshot.runs.get(run_id)
        if view is None or attempt.over is not None:
            continue
        for worker in view.workers:
            if (worker.task_id, worker.attempt) != (task_id, attempt.number):
                continue
            failure = _failure(attempt.plan, worker.standing, believes_silence)
            if failure is not None:
                attempt.end(Over(failure.message, failure))


def _failure(plan: TaskPlan, standing: Standing, believes_silence: bool) -> Failure | None:
    """As what an attempt ends that stands like this; None: it goes on."""
    if standing.level is Level.DEAD and standing.reason is Reason.HUNG and stops_when_hung(plan):
        words = f"nothing of it moved: {standing.because}"
        return Failure(ErrorClass.HEARTBEAT_LOST, words, guidance=handling_of(ErrorClass.HEARTBEAT_LOST).guidance)
    hangs = standing.level in (Level.STALE, Level.DEAD) and standing.wedge is Wedge.API_STREAM_HANG
    if hangs and believes_silence and plan.profile and plan.watch.on_stream_hang == "stop":
        words = f"its model has not said a word for {plan.watch.stream_hang_after:g} s: {standing.because}"
        guidance = handling_of(ErrorClass.PROVIDER_ERROR).guidance
        return Failure(ErrorClass.PROVIDER_ERROR, words, code="stream_hang", guidance=guidance)
    return None


def stops_when_hung(plan: TaskPlan) -> bool:
    """Whether a worker agreed to beat, so that its silence means something: it is only reported otherwise."""
    beats = plan.heartbeat
    if beats.on_hung:
        return beats.on_hung == "stop"
    named = (beats.warn_after, beats.stale_after, beats.dead_after, beats.hung_after, beats.activity_is_heartbeat)
    return plan.mode is Mode.PROTOCOL or any(each is not None for each in named)
