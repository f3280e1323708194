"""State from events: folded up, they say what the ledger holds, and where they do not it is said in words."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.event import Event
from crewd.policy.fold import differences, fold
from tests.policy.states import RUN, simply, task_in

KEY = (RUN, "a")


def told(type: str, state: str | None = None, attempt: int = 0, **more: Any) -> Event:
    named = {"data": {} if state is None else {"state": state}, "run_id": RUN, "task_id": "a", "runtime": "managed"}
    return Event(type, 1.0, attempt=attempt, **{**named, **more})


A_LIFE = [
    told("task.queued", "waiting"),
    told("attempt.starting", "starting", 1),
    told("attempt.started", "running", 1),
    told("task.started", None, 1),
    told("attempt.ending", "ending", 1),
    told("attempt.gone", None, 1),
    told("attempt.finished", None, 1),
    told("task.retry_scheduled", "retry_wait", 1),
    told("attempt.starting", "starting", 2),
    told("attempt.started", "running", 2),
    told("attempt.adopted", None, 2),
    told("attempt.fenced", None, 1),
    told("attempt.ending", "ending", 2),
    told("attempt.gone", None, 2),
    told("attempt.finished", None, 2),
    told("task.completed", "completed", 2),
]


def test_a_life_folds_up_to_its_end() -> None:
    assert fold(A_LIFE) == {KEY: ("completed", 2)}


def test_every_prefix_of_a_life_folds_up_to_where_it_stood_then() -> None:
    stood = [fold(A_LIFE[:length])[KEY] for length in range(1, len(A_LIFE) + 1)]
    assert stood == [
        ("waiting", 0), ("starting", 1), ("running", 1), ("running", 1), ("ending", 1), ("ending", 1), ("ending", 1),
        ("retry_wait", 1), ("starting", 2), ("running", 2), ("running", 2), ("running", 2), ("ending", 2),
        ("ending", 2), ("ending", 2), ("completed", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "type",
    ["attempt.gone", "attempt.finished", "attempt.adopted", "attempt.fenced", "task.started", "task.failed",
     "task.timed_out", "worker.exit_mismatch", "something.new"],
)  # fmt: skip
def test_what_names_no_state_and_is_no_change_of_state_changes_nothing(type: str) -> None:
    assert fold([told("attempt.started", "running", 2), told(type, None, 3)]) == {KEY: ("running", 2)}


def test_a_type_that_is_not_known_folds_by_the_state_that_it_names() -> None:
    assert fold([told("task.hibernated", "waiting", 4)]) == {KEY: ("waiting", 4)}


def test_the_state_that_is_named_counts_more_than_the_type() -> None:
    assert fold([told("task.queued", "blocked")]) == {KEY: ("blocked", 0)}


@pytest.mark.parametrize(
    ("type", "state"),
    [
        ("task.queued", "waiting"),
        ("task.unblocked", "waiting"),
        ("task.retry_scheduled", "retry_wait"),
        ("task.blocked", "blocked"),
        ("task.completed", "completed"),
        ("task.dead_lettered", "dead_lettered"),
        ("task.cancelled", "cancelled"),
        ("task.skipped", "skipped"),
        ("attempt.starting", "starting"),
        ("attempt.started", "running"),
        ("attempt.ending", "ending"),
    ],
)
def test_an_event_that_names_no_state_has_that_of_its_type(type: str, state: str) -> None:
    assert fold([told(type, None, 3)]) == {KEY: (state, 3)}
    assert fold([told("attempt.starting", "starting", 2), told(type)]) == {KEY: (state, 2)}
    assert fold([told(type, data={"state": 7})]) == {KEY: (state, 0)}
    assert fold([told(type, data={"state": ""})]) == {KEY: (state, 0)}


def test_only_tasks_of_managed_runs_are_folded() -> None:
    observed = told("task.completed", "completed", runtime="pi-crew")
    of_the_run = told("run.completed", "completed", task_id="")
    assert fold([observed, of_the_run]) == {}


def test_an_event_read_twice_counts_once() -> None:
    first = told("task.queued", "waiting", seq=1)
    second = told("attempt.starting", "starting", 1, seq=2)
    assert fold([first]) == {KEY: ("waiting", 0)}
    assert fold([first, second, first]) == {KEY: ("starting", 1)}
    assert fold([first, second, second]) == {KEY: ("starting", 1)}


@given(st.lists(st.integers(min_value=0, max_value=len(A_LIFE)), max_size=6))
def test_reading_on_from_anywhere_before_gives_the_same(again_from: list[int]) -> None:
    numbered = [told(e.type, e.data.get("state"), e.attempt, seq=seq) for seq, e in enumerate(A_LIFE, 1)]
    read = [event for start in [0, *again_from] for event in numbered[start:]]
    assert fold(read) == fold(numbered)


def test_events_and_ledger_that_agree_differ_nowhere() -> None:
    tasks = {
        KEY: task_in("retry_wait"),
        (RUN, "b"): simply("b", "waiting"),
        (RUN, "c"): simply("c", "running"),
        (RUN, "d"): simply("d", "dead_lettered"),
    }
    folded = {KEY: ("retry_wait", 2), (RUN, "b"): ("waiting", 0), (RUN, "c"): ("running", 2)}
    assert differences({**folded, (RUN, "d"): ("dead_lettered", 2)}, tasks) == []


def test_every_difference_is_said() -> None:
    tasks = {KEY: task_in("running"), (RUN, "b"): simply("b", "waiting"), (RUN, "c"): simply("c", "completed")}
    folded = {KEY: ("running", 1), (RUN, "c"): ("running", 2), ("run-0", "z"): ("waiting", 0)}
    assert differences(folded, tasks) == [
        "run-0/z: events say waiting after 0 attempts, the ledger says nothing",
        "run-1/a: events say running after 1 attempts, the ledger says running after 2 attempts",
        "run-1/b: events say nothing, the ledger says waiting after 0 attempts",
        "run-1/c: events say running after 2 attempts, the ledger says completed after 2 attempts",
    ]
