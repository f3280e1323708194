"""Recorded silences judged once more, with other thresholds. Nothing is recorded of a silence that was no trouble."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from crewd.detection.liveness import NOTHING_MOVES, Evidence, judge
from crewd.detection.options import Override, Patience, Thresholds, thresholds_for
from crewd.model.event import Event
from crewd.model.process import Activity, ProcessSeen, ProcessState
from crewd.model.verdict import Level, Reason, Verdict

CHANGED = "worker.level_changed"
SILENT_LEVELS = frozenset({"warn", "stale", "dead"})
# Whatever a silence may have grown to by then, it goes no further.
RUN_OVER = frozenset({"run.completed", "run.failed", "run.cancelled", "run.vanished"})
TASK_OVER = frozenset(
    {"task.completed", "task.failed", "task.cancelled", "task.skipped", "task.timed_out", "attempt.finished"}
)
CREWD_OVER = frozenset({"daemon.started", "daemon.stopping", "daemon.handed_over"})
HEARD = frozenset({CHANGED}) | RUN_OVER | TASK_OVER | CREWD_OVER
ROW_BUSY, ROW_HUNG = 10, 12
INSIDE_DEAD = (*NOTHING_MOVES, ROW_BUSY)
CHANCE = (Reason.EXITED, Reason.STOPPED)  # of the process, not of its silence


class Worker(NamedTuple):
    run_id: str
    task_id: str
    attempt: int


class Episode(msgspec.Struct, frozen=True):
    """One silence of one worker, from the first change of level that it caused to its end."""

    worker: Worker
    runtime: str
    crew: str
    at: float  # wall time of the worst recorded change
    level: Level  # the worst recorded
    reason: Reason
    row: int  # of the evidence table, then
    alive: bool  # a process was seen; otherwise it could not be
    least: float  # seconds of silence that are recorded
    most: float  # that it can have grown to by its end: crewd's own pauses are not known here
    least_at: float  # wall time at which `least` was recorded


class Reached(NamedTuple):
    """How far an episode gets: with the silence that is recorded, and with the most it can have been."""

    least: Verdict
    most: Verdict
    certain: bool
    after: float | None  # seconds of silence after which it is dead by silence; None: it is not


def episodes(events: Iterable[Event]) -> Iterator[Episode]:
    """Take the silences out of a record, in the order in which they end. The last ones end with the record."""
    open: dict[Worker, Episode] = {}
    now = 0.0
    for event in events:
        now = max(now, event.at)
        if event.type == CHANGED:
            worker = Worker(event.run_id, event.task_id, event.attempt)
            yield from _followed(open, worker, event)
            continue
        for worker in [each for each in open if _is_over(each, event)]:
            yield _closed(open.pop(worker), event.at)
    for episode in open.values():
        yield _closed(episode, now)


def rules_for(episode: Episode, default: Thresholds, overrides: tuple[Override, ...], task_type: str) -> Thresholds:
    """The thresholds of one episode. Which tool its worker was inside of is not recorded: none is assumed."""
    return thresholds_for(default, overrides, episode.runtime, episode.crew, task_type, "")


def reached(episode: Episode, thresholds: Thresholds, patience: Patience) -> Reached:
    """Judge an episode with these thresholds, by the table that judges living workers."""
    least = _judged(episode, episode.least, thresholds, patience)
    most = _judged(episode, max(episode.least, episode.most), thresholds, patience)
    certain = (least.level, least.reason) == (most.level, most.reason) and not _guessed(episode, most)
    after = {Reason.PRESUMED: thresholds.dead_after, Reason.HUNG: thresholds.hung_after}.get(most.reason)
    return Reached(least, most, certain, after)


def fits(episode: Episode, verdict: Verdict) -> bool:
    """Whether the rules that led to this verdict can have led to what is recorded."""
    return verdict.level is episode.level


def _followed(open: dict[Worker, Episode], worker: Worker, event: Event) -> Iterator[Episode]:
    known = open.get(worker)
    told = _episode(worker, event)
    if known is not None and (told is None or told.least < known.least):
        yield _closed(open.pop(worker), event.at)  # it moved, or waits for somebody: another silence begins
        known = None
    if told is not None:
        open[worker] = told if known is None or _is_worse(told, known) else _longer(known, told)


def _episode(worker: Worker, event: Event) -> Episode | None:
    """Read a change of level for the worse; None: it is none, or no such event as crewd writes."""
    data = event.data
    silence, row = data.get("silence_seconds"), data.get("row")
    try:
        level, reason = Level(str(data.get("to_level"))), Reason(str(data.get("reason")))
    except ValueError:
        return None
    if level.value not in SILENT_LEVELS or not isinstance(silence, int | float) or not 0 <= silence < 1e9:
        return None
    row = row if isinstance(row, int) else 0
    # The words are crewd's own (identity.py); a process that could not be seen is told otherwise.
    alive = row in INSIDE_DEAD or " is alive" in str(data.get("because"))
    return Episode(
        worker,
        event.runtime,
        event.crew,
        event.at,
        level,
        reason,
        row,
        alive,
        float(silence),
        float(silence),
        event.at,
    )


def _is_worse(one: Episode, other: Episode) -> bool:
    order = list(Level)
    return order.index(one.level) >= order.index(other.level)


def _longer(known: Episode, told: Episode) -> Episode:
    return msgspec.structs.replace(known, least=told.least, least_at=told.at)


def _closed(episode: Episode, at: float) -> Episode:
    return msgspec.structs.replace(episode, most=episode.least + max(0.0, at - episode.least_at))


def _is_over(worker: Worker, event: Event) -> bool:
    if event.type in CREWD_OVER:
        return True
    if event.type in RUN_OVER:
        return event.run_id == worker.run_id
    return event.type in TASK_OVER and (event.run_id, event.task_id) == (worker.run_id, worker.task_id)


def _judged(episode: Episode, silence: float, thresholds: Thresholds, patience: Patience) -> Verdict:
    exited = episode.reason is Reason.EXITED
    state = ProcessState.ALIVE if episode.alive else ProcessState.HIDDEN
    if episode.reason is Reason.STOPPED:
        state = ProcessState.STOPPED
    activity: Activity | None = None
    if episode.row in NOTHING_MOVES:
        activity = Activity()
    elif episode.row == ROW_BUSY:
        activity = Activity(tools=("a tool",))
    process = ProcessSeen(ProcessState.EXITED if exited else state, "", letter="S", activity=activity)
    return judge(Evidence(silence, process, exit_confirmed=exited), thresholds, patience)


def _guessed(episode: Episode, verdict: Verdict) -> bool:
    """Whether the verdict rests on how the process did, of which nothing is recorded at that silence."""
    if episode.reason in CHANCE or not episode.alive or verdict.row not in (*INSIDE_DEAD,):
        return False
    if verdict.reason is Reason.HUNG:
        return episode.row != ROW_HUNG
    return episode.row not in INSIDE_DEAD
