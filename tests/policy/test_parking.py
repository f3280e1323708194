"""Parking: who waits for his provider without spending an attempt, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import RetryPolicy, TaskPlan, WatchPlan
from crewd.policy.parking import PARKS_MAX, SPREAD, WAIT_MAX, parked
from crewd.policy.retry import RETRY_AFTER_MAX

NOW = 1_000_000.0
LIMITED = Failure(ErrorClass.RATE_LIMITED, "429")


def plan(park_after: float = 120.0, max_attempts: int = 3) -> TaskPlan:
    return TaskPlan(
        task_id="t",
        command=("claude",),
        cwd="/",
        profile="claude",
        watch=WatchPlan(park_after=park_after),
        retry=RetryPolicy(max_attempts=max_attempts),
    )


@pytest.mark.parametrize(
    ("parks", "named", "wait"),
    [
        (0, None, 120.0),
        (1, None, 240.0),
        (4, None, 1920.0),
        (5, None, WAIT_MAX),
        (19, None, WAIT_MAX),
        (0, 30.0, 120.0),
        (0, 5000.0, 5000.0),
        (5, 3700.0, 3700.0),
        (0, 1e9, RETRY_AFTER_MAX),
    ],
)
def test_the_wait_is_the_named_one_and_no_shorter_than_one_that_doubles(
    parks: int, named: float | None, wait: float
) -> None:
    found = parked(plan(), Failure(ErrorClass.RATE_LIMITED, "429", retry_after=named), parks, NOW, 0.0)
    assert found is not None
    assert found.due_at == NOW + wait


@pytest.mark.parametrize(
    ("task", "failure", "parks"),
    [
        (plan(), Failure(ErrorClass.PROVIDER_ERROR, "500"), 0),
        (plan(), LIMITED, PARKS_MAX),
        (plan(park_after=0.0), LIMITED, 0),
        (plan(max_attempts=1), LIMITED, 0),
    ],
)
def test_others_are_not_parked(task: TaskPlan, failure: Failure, parks: int) -> None:
    assert parked(task, failure, parks, NOW, 0.0) is None


@given(st.integers(0, PARKS_MAX - 1), st.floats(0, 1, exclude_max=True), st.none() | st.floats(allow_nan=True))
def test_a_wait_is_bounded_and_chance_only_adds_to_it(parks: int, roll: float, named: float | None) -> None:
    failure = Failure(ErrorClass.RATE_LIMITED, "429", retry_after=named)
    least, found = parked(plan(), failure, parks, NOW, 0.0), parked(plan(), failure, parks, NOW, roll)
    assert least is not None
    assert found is not None
    assert least.due_at is not None
    assert found.due_at is not None
    assert NOW + 120 <= least.due_at <= found.due_at <= NOW + RETRY_AFTER_MAX * (1 + SPREAD)
