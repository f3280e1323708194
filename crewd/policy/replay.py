"""Recorded failures met with another retry policy, and recorded dead letters counted against another threshold."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from crewd.model.action import Decision, GiveUp, RetryAt
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import RetryPolicy
from crewd.policy.retry import after_failure

HOUR = 3600.0
FIXED_ROLL = 0.5  # where the recorded delay does not say what chance said
SAME_DELAY = 0.05  # seconds
HEARD = frozenset(
    {"attempt.started", "attempt.finished", "task.retry_scheduled", "task.dead_lettered", "deadletter.redriven"}
)


class Failed(msgspec.Struct, frozen=True):
    """One failed attempt, and what followed it: a retry after so many seconds, or the end. Neither: not recorded."""

    attempt: int
    at: float  # wall time
    error_class: ErrorClass
    error: str
    delay: float | None = None
    given_up: str = ""  # the reason


class Chain(msgspec.Struct, frozen=True):
    """The failures of one managed task within one budget of attempts, oldest first."""

    run_id: str
    task_id: str
    crew: str
    executor: str
    started_at: float
    failures: tuple[Failed, ...]


class Step(NamedTuple):
    """What follows one failure with the base policy and with the new one. `fits`: the first is what was recorded."""

    failed: Failed
    base: Decision
    new: Decision
    fits: bool


def chains(events: Iterable[Event]) -> list[Chain]:
    """Take the failures of managed tasks out of a record."""
    open: dict[tuple[str, str], Chain] = {}
    done: list[Chain] = []
    for event in events:
        key = event.run_id, event.task_id
        known = open.get(key)
        match event.type:
            case "attempt.started" if known is None and event.runtime in ("", "managed"):
                open[key] = Chain(*key, event.crew, str(event.data.get("executor", "")), event.at, ())
            case "attempt.finished" if known is not None and (failed := _failed(event)) is not None:
                open[key] = msgspec.structs.replace(known, failures=(*known.failures, failed))
            case "task.retry_scheduled" if known is not None and known.failures:
                delay = event.data.get("delay_seconds")
                open[key] = _followed(known, delay=float(delay) if isinstance(delay, int | float) else None)
            case "task.dead_lettered" if known is not None and known.failures:
                open[key] = _followed(known, given_up=str(event.data.get("reason", "")))
            case "deadletter.redriven" if known is not None:
                done.append(open.pop(key))
    return [chain for chain in (*done, *open.values()) if chain.failures]


def compare(chain: Chain, base: RetryPolicy, new: RetryPolicy) -> Iterator[Step]:
    """Decide after each failure with both policies, with the chance that the recorded delay shows.

    It ends where one of them gives up, or where the base policy does not lead to what is recorded: whatever else
    decided there (the worker's own word, a session that could not go on) is not in the record.
    """
    delays: tuple[float | None, float | None] = (None, None)
    for count, failed in enumerate(chain.failures, 1):
        if failed.delay is None and not failed.given_up:
            return  # cancelled, or the record ends here
        roll = _roll(chain, base, count, delays[0])
        before = _decide(chain, base, count, delays[0], roll)
        after = _decide(chain, new, count, delays[1], roll)
        fits = isinstance(before, RetryAt) == (failed.delay is not None)
        yield Step(failed, before, after, fits)
        if not (fits and isinstance(before, RetryAt) and isinstance(after, RetryAt)):
            return
        delays = failed.delay, after.delay


def differ(base: Decision, new: Decision) -> bool:
    """Whether two decisions are not the same for whoever waits."""
    if isinstance(base, RetryAt) and isinstance(new, RetryAt):
        return abs(base.delay - new.delay) > SAME_DELAY
    if isinstance(base, GiveUp) and isinstance(new, GiveUp):
        return base.reason != new.reason
    return type(base) is not type(new)


def crossings(times: Iterable[float], per_hour: int) -> list[float]:
    """When more than `per_hour` dead letters of one crew came within an hour: each time that it began to be so."""
    window: deque[float] = deque()
    found: list[float] = []
    over = False
    for at in sorted(times):
        while window and window[0] <= at - HOUR:
            window.popleft()
            over = over and len(window) > per_hour
        window.append(at)
        if len(window) > per_hour and not over:
            found.append(at)
        over = len(window) > per_hour
    return found


def _failed(event: Event) -> Failed | None:
    if event.data.get("interrupted"):
        return None  # crewd's own doing: it does not count
    try:
        error_class = ErrorClass(str(event.data.get("error_class")))
    except ValueError:
        return None
    return Failed(event.attempt, event.at, error_class, str(event.data.get("error", "")))


def _followed(chain: Chain, delay: float | None = None, given_up: str = "") -> Chain:
    last = msgspec.structs.replace(chain.failures[-1], delay=delay, given_up=given_up)
    return msgspec.structs.replace(chain, failures=(*chain.failures[:-1], last))


def _decide(chain: Chain, policy: RetryPolicy, count: int, previous: float | None, roll: float) -> Decision:
    failed = chain.failures[count - 1]
    return after_failure(
        policy,
        Failure(failed.error_class, failed.error),
        counted=count,
        of_class=sum(1 for each in chain.failures[:count] if each.error_class is failed.error_class),
        previous_delay=previous,
        first_started_at=chain.started_at,
        now=failed.at,
        roll=roll,
    )


def _roll(chain: Chain, base: RetryPolicy, count: int, previous: float | None) -> float:
    """Find the chance that makes the base policy choose the recorded delay."""
    delay = chain.failures[count - 1].delay
    decided = _decide(chain, base, count, previous, 0.0)
    if delay is None or not isinstance(decided, RetryAt) or decided.ceiling <= decided.floor:
        return FIXED_ROLL
    roll = (delay - decided.floor) / (decided.ceiling - decided.floor)
    return roll if 0.0 <= roll < 1.0 else FIXED_ROLL
