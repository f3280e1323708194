"""Explain: the evidence behind a present verdict, signal by signal, for a person. Pure."""

import msgspec

from crewd.detection.liveness import TABLE, Row
from crewd.detection.wedge import REMEDIES
from crewd.model.moment import rfc3339
from crewd.model.snapshot import RunView, Snapshot, WorkerView

NAMES_SHOWN = 5


class Signal(msgspec.Struct, frozen=True):
    """One thing that crewd looked at."""

    name: str
    value: str
    seen: str = ""  # when, RFC 3339; "" = this round


class Explanation(msgspec.Struct, frozen=True):
    """Why a worker stands where it stands."""

    run_id: str
    task_id: str
    attempt: int
    runtime: str
    crew: str
    level: str
    reason: str
    because: str
    since: str
    silence_seconds: float
    verdict: str  # what this round's evidence says, before hysteresis, hold and brake
    row: int  # the row of the table that fitted
    rule: str  # that row in words
    held_by: str  # the rule that kept the level from following; "" = none
    wedge: str
    remedy: str
    signals: tuple[Signal, ...]


def explain(view: RunView, worker: WorkerView, snapshot: Snapshot) -> Explanation:
    """Lay out the evidence table of one worker."""
    standing, verdict = worker.standing, worker.verdict
    silence = snapshot.silence(view, worker)
    return Explanation(
        run_id=view.run.run_id,
        task_id=worker.task_id,
        attempt=worker.attempt,
        runtime=view.run.runtime,
        crew=view.run.crew,
        level=standing.level.value,
        reason=standing.reason.value,
        because=standing.because,
        since=rfc3339(standing.since) if standing.since else "",
        silence_seconds=round(silence, 3),
        verdict=f"{verdict.level.value}({verdict.reason.value}): {verdict.because}",
        row=verdict.row,
        rule=_in_words(TABLE[verdict.row - 1]),
        held_by=standing.held_by,
        wedge=standing.wedge.value if standing.wedge is not None else "",
        remedy=REMEDIES[standing.wedge] if standing.wedge is not None else "",
        signals=tuple(_signals(view, worker, snapshot, silence)),
    )


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN]) or "none"
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown


def _in_words(row: Row) -> str:
    return f"process {row.process}, silence {row.silence}: {row.verdict}"


def _signals(view: RunView, worker: WorkerView, snapshot: Snapshot, silence: float) -> list[Signal]:
    health = snapshot.health
    signals = [
        Signal("silence", f"{silence:.1f} s of observed time", rfc3339(snapshot.taken_at)),
        _progress(worker),
        Signal("process", f"{worker.process.state.value}: {worker.process.why}", rfc3339(snapshot.taken_at)),
    ]
    if worker.process.activity is not None:
        activity = worker.process.activity
        io = activity.io_chars_per_second
        signals += [
            Signal("cpu", f"{activity.cpu_ticks_per_second:.2f} ticks/s"),
            Signal("input and output", "may not be read" if io is None else f"{io:.0f} bytes/s"),
            Signal("processes below it", _some(activity.tools)),
            Signal("connections", "may not be read" if activity.sockets is None else str(activity.sockets)),
            Signal("waits in", activity.wait_channel or "user space"),
        ]
    if worker.tool:
        signals.append(Signal("tool", f"says it is inside {worker.tool}"))
    signals.append(_lease(view, worker, snapshot))
    signals.append(
        Signal("files", f"unread for {view.unread_rounds} rounds: {view.unread.value}" if view.unread else "readable")
    )
    signals.append(Signal("hold", f"{health.hold}, {health.hold_seconds_left:.0f} s left" if health.hold else "off"))
    signals.append(Signal("mass brake", health.brake or "off"))
    signals.append(Signal("local health", f"thresholds x {health.local_health:.2f}"))
    if worker.standing.flapping_until is not None:
        signals.append(Signal("flapping", "thresholds are doubled for this worker while it flaps"))
    return signals


def _progress(worker: WorkerView) -> Signal:
    if worker.progress_at is None:
        return Signal("progress", "none since crewd first saw it", rfc3339(worker.first_seen_at))
    return Signal("progress", "its token changed", rfc3339(worker.progress_at))


def _lease(view: RunView, worker: WorkerView, snapshot: Snapshot) -> Signal:
    left = worker.heard_at - snapshot.observed.get(view.root, worker.heard_at)
    return Signal("lease", f"{left:.0f} s left" if left > 0 else "none")
