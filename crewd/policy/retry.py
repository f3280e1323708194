"""Whether a failed attempt is followed by another, and when. Attempts, due time and reason become rows (ledger)."""

from typing import NamedTuple

from crewd.model.action import Decision, GiveUp, Handling, RetryAt
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import Jitter, RetryPolicy, RetryRule
from crewd.policy.handling import handling_of

DELAY_MAX = 7 * 86_400.0  # seconds; whatever a policy says, a backoff ends
RETRY_AFTER_MAX = 86_400.0  # seconds; a worker that names a longer wait is not believed beyond it
AS_THE_TASK = RetryRule()


class Window(NamedTuple):
    """Between which bounds chance picks a delay. Seconds."""

    floor: float
    ceiling: float


def after_failure(
    policy: RetryPolicy,
    failure: Failure,
    *,
    counted: int,
    of_class: int,
    previous_delay: float | None,
    first_started_at: float,
    now: float,
    roll: float,
) -> Decision:
    """Decide what follows the latest failure: RetryAt or GiveUp.

    `counted`: attempts of the present budget so far, this one included; `of_class`: how many of them ended in this
    class. `previous_delay`: seconds, of the retry before. `first_started_at`, `now`: wall times. `roll`: in [0, 1).

    A rule of the run file for the class is heard first, then the worker's own word, then the class's default. No
    rule raises `policy.max_attempts`: that bound is promised.
    """
    rule = policy.classes.get(failure.error_class, AS_THE_TASK)
    handling = handling_of(failure.error_class)
    if why_not := _refusal(failure, rule, handling):
        return GiveUp(_refused(failure.error_class), why_not)
    attempts_max = min(policy.max_attempts, _attempts_of_class(rule, handling, policy.max_attempts))
    if counted >= policy.max_attempts:
        return _exhausted(failure, f"{counted} of {policy.max_attempts} attempts are used")
    if of_class >= attempts_max:
        return _exhausted(failure, f"{of_class} of {attempts_max} attempts that this class may take are used")
    named = named_wait(failure.retry_after)
    window = _not_before(named, _window(policy, rule, counted, previous_delay))
    delay = min(window.ceiling, max(window.floor, window.floor + roll * (window.ceiling - window.floor)))
    # A clock that was set back since the first start must not lend more time than there is, nor take any.
    elapsed = max(0.0, now - first_started_at)
    if policy.elapsed_max is not None and elapsed + delay > policy.elapsed_max:
        return _exhausted(failure, f"a retry in {delay:.1f} s would start after the {policy.elapsed_max:g} s allowed")
    return RetryAt(
        due_at=now + delay,
        delay=delay,
        floor=window.floor,
        ceiling=window.ceiling,
        reason=f"{failure.error_class}: attempt {counted} of {policy.max_attempts} failed, the next in {delay:.1f} s"
        + (f"; at least {named:g} s were asked for" if named else ""),
    )


def named_wait(retry_after: float | None) -> float:
    """The seconds that a worker asked to wait, as far as it is believed; 0: none, or no number."""
    if retry_after is None or not retry_after > 0:  # so written, it is true of NaN too
        return 0.0
    return min(retry_after, RETRY_AFTER_MAX)


def _refusal(failure: Failure, rule: RetryRule, handling: Handling) -> str:
    """Why this failure is followed by no retry, however many attempts are left; "": it may be."""
    name = failure.error_class
    # Whoever grants a class several attempts wants it retried.
    if rule.retry is not None or (rule.max_attempts or 0) > 1:
        return f"the run file lets {name} not be retried" if rule.retry is False else ""
    if failure.retryable is False:
        return f"the worker says that a retry of this {name} is of no use"
    if handling.waits_for_human:
        return f"{name} waits for a human: no retry can mend it"
    if handling.retry or failure.retryable:
        return ""
    return f"{name} is not retried unless the run file or the worker says so"


def _refused(error_class: ErrorClass) -> str:
    return "budget" if error_class is ErrorClass.BUDGET_EXCEEDED else "not-retryable"


def _exhausted(failure: Failure, because: str) -> GiveUp:
    dead = failure.error_class is ErrorClass.HEARTBEAT_LOST
    return GiveUp("heartbeat-dead" if dead else "max-retries", f"{failure.error_class}: {because}")


def _attempts_of_class(rule: RetryRule, handling: Handling, otherwise: int) -> int:
    if rule.max_attempts is not None:
        return rule.max_attempts
    # `retry = true` in the run file means: like any other failure, not once.
    return otherwise if rule.retry or handling.attempts_max is None else handling.attempts_max


def _window(policy: RetryPolicy, rule: RetryRule, counted: int, previous_delay: float | None) -> Window:
    """The bounds of the delay by the jitter's kind (docs/reference/run-file.md); no wait was named."""
    cap = _seconds(policy.cap if rule.cap is None else rule.cap)
    base = min(cap, _seconds(policy.base if rule.base is None else rule.base))
    delay = min(cap, _grown(base, policy.factor if rule.factor is None else rule.factor, counted - 1))
    match policy.jitter:
        case Jitter.NONE:
            return Window(delay, delay)
        case Jitter.FULL:
            return Window(0.0, delay)
        case Jitter.EQUAL:
            return Window(delay / 2, delay)
        case Jitter.DECORRELATED:
            before = max(base, _seconds(previous_delay or 0.0))
            return Window(base, min(cap, 3 * before))


def _not_before(named: float, window: Window) -> Window:
    """Move the window up until it begins no sooner than the named wait.

    Its width stays: everyone was told the same number, and chance is what keeps them from coming back at once. The
    cap bounds the backoff, never the wait that was asked for.
    """
    floor = max(named, window.floor)
    return Window(floor, floor + (window.ceiling - window.floor))


def _grown(base: float, factor: float, times: int) -> float:
    """base x factor^times, which for a large count is more than a number can hold."""
    try:
        return _seconds(base * float(factor) ** max(0, times))
    except OverflowError:
        return DELAY_MAX


def _seconds(value: float) -> float:
    """A number of seconds that can be waited: within [0, DELAY_MAX], and 0 for what is no number."""
    return min(value, DELAY_MAX) if value > 0 else 0.0
