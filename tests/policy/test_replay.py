"""Recorded failures under other policies."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.action import GiveUp, RetryAt
from crewd.model.event import Event
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import Jitter, RetryPolicy, RetryRule
from crewd.policy.replay import Chain, Failed, chains, compare, crossings, differ
from crewd.policy.retry import after_failure

CRASH = ErrorClass.WORKER_CRASH


def event(type: str, at: float, attempt: int = 1, **data: Any) -> Event:
    return Event(type, at, data, "r", "t", attempt, "managed", "blue")


def record(policy: RetryPolicy, roll: float, failures: int, error_class: ErrorClass = CRASH) -> list[Event]:
    """What a task leaves that fails every time, as the engine tells it."""
    told, at, before = [event("attempt.started", 0.0, executor="x")], 1.0, None
    for count in range(1, failures + 1):
        told.append(event("attempt.finished", at, count, error_class=error_class.value, error="boom"))
        decision = after_failure(
            policy,
            Failure(error_class, "boom"),
            counted=count,
            of_class=count,
            previous_delay=before,
            first_started_at=0.0,
            now=at,
            roll=roll,
        )
        if isinstance(decision, RetryAt):
            told.append(event("task.retry_scheduled", at, count, delay_seconds=decision.delay))
            before, at = decision.delay, decision.due_at + 1.0
        else:
            assert isinstance(decision, GiveUp)
            return [*told, event("task.dead_lettered", at, count, reason=decision.reason)]
    return told


policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 6),
    base=st.floats(0.1, 60),
    factor=st.floats(1, 4),
    cap=st.floats(60, 600),
    jitter=st.sampled_from(Jitter),
)


@given(policies, st.floats(0, 1, exclude_max=True), st.sampled_from(ErrorClass), st.integers(1, 8))
def test_the_same_policy_leads_to_what_is_recorded(
    policy: RetryPolicy, roll: float, error_class: ErrorClass, failures: int
) -> None:
    for chain in chains(record(policy, roll, failures, error_class)):
        for step in compare(chain, policy, policy):
            assert step.fits
            assert not differ(step.base, step.new)
            if isinstance(step.base, RetryAt) and step.failed.delay is not None:
                assert step.base.delay == pytest.approx(step.failed.delay, abs=0.01)


def test_more_attempts_would_have_made_another_retry() -> None:
    old, new = RetryPolicy(max_attempts=2, jitter=Jitter.NONE), RetryPolicy(max_attempts=3, jitter=Jitter.NONE)
    (chain,) = chains(record(old, 0.5, 5))
    first, second = compare(chain, old, new)
    assert not differ(first.base, first.new)
    assert isinstance(second.base, GiveUp)
    assert isinstance(second.new, RetryAt)


def test_a_rule_for_a_class_ends_a_chain_at_its_first_failure() -> None:
    old = RetryPolicy(max_attempts=4)
    new = RetryPolicy(max_attempts=4, classes={CRASH: RetryRule(retry=False)})
    (chain,) = chains(record(old, 0.3, 4))
    (step,) = compare(chain, old, new)
    assert isinstance(step.new, GiveUp)


def test_another_base_moves_the_delay_with_the_same_chance() -> None:
    old, new = RetryPolicy(base=10), RetryPolicy(base=20)
    (chain,) = chains(record(old, 0.25, 2))
    step = next(iter(compare(chain, old, new)))
    assert isinstance(step.new, RetryAt)
    assert step.new.delay == pytest.approx(5.0)


def test_a_record_that_the_base_policy_does_not_lead_to_is_told_and_followed_no_further() -> None:
    (chain,) = chains(record(RetryPolicy(max_attempts=5), 0.5, 5))
    (step,) = compare(chain, RetryPolicy(max_attempts=1), RetryPolicy(max_attempts=2))
    assert not step.fits


def test_interrupted_attempts_do_not_count_and_a_redrive_begins_anew() -> None:
    told = [
        event("attempt.started", 0.0),
        event("attempt.finished", 1.0, 1, interrupted=True, error_class="worker_killed"),
        *record(RetryPolicy(max_attempts=1), 0.5, 1),
        event("deadletter.redriven", 9.0),
        *record(RetryPolicy(max_attempts=2), 0.5, 2),
    ]
    assert [len(chain.failures) for chain in chains(told)] == [1, 2]


@pytest.mark.parametrize("data", [{}, {"error_class": "nonsense"}, {"error_class": 3}])
def test_a_record_of_any_shape_makes_no_error(data: dict[str, Any]) -> None:
    assert chains([event("attempt.started", 0.0), event("attempt.finished", 1.0, **data)]) == []


def test_an_attempt_without_a_recorded_decision_is_left_alone() -> None:
    chain = Chain("r", "t", "blue", "x", 0.0, (Failed(1, 1.0, CRASH, ""),))
    assert list(compare(chain, RetryPolicy(), RetryPolicy(max_attempts=9))) == []


@pytest.mark.parametrize(
    ("times", "per_hour", "found"),
    [
        ([0, 1, 2, 3], 3, [3]),
        ([0, 1, 2, 3, 4], 3, [3]),
        ([0, 1, 2], 3, []),
        ([0, 1, 2, 3, 4000, 4001, 4002, 4003], 3, [3, 4003]),
    ],
)
def test_crossings(times: list[float], per_hour: int, found: list[float]) -> None:
    assert crossings(times, per_hour) == found


@given(st.lists(st.floats(0, 20_000), max_size=40), st.integers(1, 10))
def test_a_higher_threshold_is_never_crossed_where_a_lower_one_never_is(times: list[float], per_hour: int) -> None:
    if not crossings(times, per_hour):
        assert crossings(times, per_hour + 1) == []
