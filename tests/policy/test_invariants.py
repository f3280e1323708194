"""The invariants that are checked on-line: each is seen broken once, and nothing that is right breaks one."""

from typing import Any

import msgspec
import pytest

from crewd.model.failure import ErrorClass
from crewd.model.managed import (
    AnyState,
    Cancelled,
    Completed,
    DeadLettered,
    Ending,
    ManagedTask,
    RetryWait,
    Running,
    Starting,
    Waiting,
)
from crewd.model.plan import RetryPolicy, RetryRule
from crewd.policy.invariants import Violation, violations, violations_of, violations_of_run
from crewd.policy.lifecycle import TABLE, Step
from tests.policy.states import (
    AT_WORK,
    ONE_TASK,
    OTHER,
    SHIM,
    STATES,
    record,
    run_plan,
    simply,
    task_in,
    task_plan,
)

replace = msgspec.structs.replace


def broken(before: ManagedTask | None, after: ManagedTask) -> str:
    return " ".join(violations_of(before, after, ONE_TASK))


def into(before: ManagedTask, state: AnyState, **more: Any) -> ManagedTask:
    return replace(before, state=state, **more)


def follow_up(before: ManagedTask, name: str) -> ManagedTask:
    """The task in a next state, all else as it should be: what starts is numbered anew, what is over recorded."""
    was_at_work = isinstance(before.state, Starting | Running | Ending)
    if name == "starting" or (name in AT_WORK and not was_at_work):
        return into(before, replace(STATES[name], attempt=3, fence=8), fence=8)
    if was_at_work and name not in AT_WORK:
        return into(before, STATES[name], attempts=(*before.attempts, record(2, 7)))
    return into(before, STATES[name])


@pytest.mark.parametrize("name", sorted(STATES))
def test_a_task_alone_is_right_in_every_state(name: str) -> None:
    assert broken(None, task_in(name)) == ""
    assert broken(task_in(name), task_in(name)) == ""


@pytest.mark.parametrize(("cell", "to"), sorted((cell, to) for cell, to in TABLE.items() if to is not None))
def test_no_step_of_the_table_breaks_anything(cell: tuple[str, Step], to: str) -> None:
    before = task_in(cell[0])
    assert broken(before, follow_up(before, to)) == ""


# What turns red where a task goes from one state to another that the table does not have.
SKIPPED_STEPS = {
    ("waiting", "running"): "I5",
    ("waiting", "ending"): "I5",
    ("retry_wait", "running"): "I5",
    ("blocked", "starting"): "I5",
    ("running", "starting"): "I3 I5",
    ("ending", "starting"): "I3 I5",
    ("ending", "running"): "I5",
    ("completed", "waiting"): "I2",
    ("completed", "starting"): "I2 I5",
    ("completed", "dead_lettered"): "I2",
    ("dead_lettered", "completed"): "I2",
    ("dead_lettered", "starting"): "I2 I5",
    ("cancelled", "waiting"): "I2",
    ("cancelled", "completed"): "I2",
    ("skipped", "completed"): "I2",
    ("skipped", "starting"): "I2 I5",
}


@pytest.mark.parametrize(("cell", "ids"), sorted(SKIPPED_STEPS.items()))
def test_what_the_table_does_not_have_is_seen(cell: tuple[str, str], ids: str) -> None:
    before = task_in(cell[0])
    assert broken(before, follow_up(before, cell[1])) == ids


@pytest.mark.parametrize("before", ["starting", "running"])
@pytest.mark.parametrize("after", ["completed", "retry_wait", "dead_lettered", "cancelled"])
def test_i5_an_attempt_is_over_only_with_its_end_or_its_record(before: str, after: str) -> None:
    # An end and the proof of it that came in one look are one change; the record stands for both.
    task = task_in(before)
    assert broken(task, into(task, STATES[after])) == "I5"
    assert broken(task, follow_up(task, after)) == ""


def test_i5_a_process_that_runs_is_not_put_back_without_its_record() -> None:
    task = task_in("running")
    assert broken(task, into(task, Waiting(1.0))) == "I5"
    assert broken(task, follow_up(task, "waiting")) == ""


def test_i5_nothing_follows_an_attempt_in_the_change_that_ends_it() -> None:
    task = task_in("running")
    following = into(task, Starting(1.0, 3, 8), fence=8, attempts=(*task.attempts, record(2, 7)))
    assert broken(task, following) == "I3 I5"
    assert any(
        each.why == "starting follows an attempt that is over" for each in violations(task, following, ONE_TASK)
    )


@pytest.mark.parametrize("name", ["completed", "dead_lettered", "cancelled", "skipped"])
def test_i2_what_is_final_is_not_changed_in_itself_either(name: str) -> None:
    before = task_in(name)
    assert broken(before, into(before, replace(before.state, since=1.0))) == "I2"
    waiting = broken(before, into(before, Waiting(101.0)))
    assert waiting == ("" if name in {"dead_lettered", "skipped"} else "I2")


@pytest.mark.parametrize("name", AT_WORK)
def test_i3_two_attempts_of_a_task_are_never_at_work_in_a_row(name: str) -> None:
    before = task_in(name)
    other = replace(before.state, attempt=3)
    assert broken(before, into(before, other)).startswith("I3")
    behind_another_fence = into(before, replace(before.state, fence=8), fence=8)
    assert broken(before, behind_another_fence).startswith("I3")


def test_i4_fences_grow() -> None:
    before = task_in("waiting")
    assert broken(before, into(before, Starting(101.0, 3, 8), fence=8)) == ""
    assert broken(before, into(before, Starting(101.0, 3, 7))) == "I4"
    assert broken(before, into(before, before.state, fence=6)) == "I4"
    assert broken(None, into(before, Starting(101.0, 3, 7), fence=8)) == "I4"
    assert broken(None, replace(before, attempts=(record(1, 8),))) == "I4"
    assert broken(None, replace(before, attempts=(record(1, 7), record(2, 7)))) == "I4"
    assert broken(None, replace(before, attempts=(record(1, 7), record(2, 6)))) == "I4"
    assert broken(None, replace(before, attempts=(record(1, 3), record(2, 7), record(3, 6)))) == "I4"


@pytest.mark.parametrize("name", AT_WORK)
def test_i5_an_attempt_that_is_over_is_not_at_work(name: str) -> None:
    assert broken(None, task_in(name, attempts=(record(1, 3), record(2, 7)))) == "I5"


@pytest.mark.parametrize("name", ["running", "ending"])
def test_i5_an_end_is_of_the_process_that_was_recorded(name: str) -> None:
    before, end = task_in(name), STATES["ending"]
    assert broken(before, into(before, replace(end, process=OTHER))) == "I5"
    assert broken(before, into(before, replace(end, process=None))) == "I5"
    unknown = task_in("ending")
    unknown = into(unknown, replace(end, process=None))
    assert broken(unknown, into(unknown, replace(end, process=SHIM))) == ""


def test_the_first_attempt_comes_after_none() -> None:
    assert broken(None, simply("a", Starting(1.0, 1, 1), fence=1)) == ""


def test_i6_no_more_attempts_are_made_than_are_allowed() -> None:
    three = tuple(record(number) for number in (1, 2, 3))
    assert broken(None, task_in("dead_lettered", attempts=three)) == ""
    assert broken(None, task_in("dead_lettered", attempts=(*three, record(4)))) == "I6"
    fourth = {"state": Starting(1.0, 4, 8), "fence": 8}
    assert broken(None, replace(task_in("waiting", attempts=three), **fourth)) == "I6"
    assert broken(None, replace(task_in("waiting", attempts=three, budget_from=1), **fourth)) == ""
    interrupted = (*three[:2], record(3, interrupted=True))
    assert broken(None, replace(task_in("waiting", attempts=interrupted), **fourth)) == ""


def test_i6_no_rule_for_a_class_raises_the_bound() -> None:
    rules = {ErrorClass.TIMEOUT: RetryRule(max_attempts=9)}
    plan = run_plan(task_plan("a", retry=RetryPolicy(max_attempts=2, classes=rules)))
    three = tuple(record(number) for number in (1, 2, 3))
    assert violations_of(None, task_in("dead_lettered", attempts=three), plan) == ["I6"]


def test_i6_what_counts_is_not_forgotten() -> None:
    before = task_in("waiting")
    changed = (replace(before.attempts[0], error="another"), before.attempts[1])
    assert broken(before, replace(before, attempts=before.attempts[:1])) == "I6"
    assert broken(before, replace(before, attempts=changed)) == "I6"
    assert broken(before, replace(before, budget_from=2)) == "I6"
    dead = task_in("dead_lettered")
    assert broken(dead, replace(dead, state=Waiting(1.0), budget_from=2)) == ""


@pytest.mark.parametrize("kind", [Completed, RetryWait, DeadLettered, Cancelled])
def test_i6_an_attempt_that_is_over_is_recorded(kind: type) -> None:
    before = task_in("ending")
    (state,) = (each for each in STATES.values() if type(each) is kind)
    assert broken(before, into(before, state)) == "I6"
    assert broken(before, into(before, state, attempts=(*before.attempts, record(2, 7)))) == ""


def test_what_crewd_put_back_before_it_began_needs_no_record() -> None:
    for name in ("starting", "ending"):
        assert broken(task_in(name), into(task_in(name), Waiting(1.0))) == ""


@pytest.mark.parametrize(
    ("delay", "due_at", "ids"),
    [
        (10.0, 110.0, ""),
        (0.0, 100.0, ""),  # full jitter may draw nothing
        (-0.1, 100.0, "I7"),
        (float("nan"), 110.0, "I7"),
        (float("inf"), 110.0, "I7"),
        (10.0, float("inf"), "I7"),
        (10.0, float("nan"), "I7"),
        (10.0, 95.0, ""),  # some seconds may lie between the decision and its record
        (10.0, 94.9, "I7"),
        (10.0, 115.0, ""),
        (10.0, 115.1, "I7"),
    ],
)
def test_i7_a_delay_is_a_time_and_due_when_it_is_over(delay: float, due_at: float, ids: str) -> None:
    state = replace(STATES["retry_wait"], delay=delay, due_at=due_at)
    assert broken(None, into(task_in("retry_wait"), state)) == ids


@pytest.mark.parametrize(
    ("details", "ids"),
    [
        ({}, ""),
        ({"delay_floor": 10.0, "delay_ceiling": 10.0}, ""),
        ({"delay_floor": 10, "delay_ceiling": 10}, ""),
        ({"delay_floor": 10.1}, "I7"),
        ({"delay_ceiling": 9.9}, "I7"),
        ({"delay_floor": "99", "delay_ceiling": None}, ""),
    ],
)
def test_i7_a_delay_lies_inside_the_window_it_was_drawn_from(details: dict[str, object], ids: str) -> None:
    attempts = (record(1, 3), record(2, 7, details=details))
    assert broken(None, task_in("retry_wait", attempts=attempts)) == ids


def test_i10_a_task_is_one_of_its_plan() -> None:
    assert violations_of(None, simply("zzz", "waiting"), ONE_TASK) == ["I10"]
    assert broken(None, replace(task_in("waiting"), run_id="run-2")) == "I10"


def test_i10_every_accepted_task_is_in_one_state() -> None:
    plan = run_plan(task_plan("a"), task_plan("b"), task_plan("c"))
    tasks = [simply(each, "waiting") for each in "abc"]
    assert violations_of_run(plan, tasks) == []
    found = violations_of_run(plan, [tasks[0], tasks[0], simply("z", "waiting"), replace(tasks[1], run_id="run-2")])
    assert found == [
        Violation("I10", "run-1/a is there twice"),
        Violation("I10", "run-1/z is no task of the run run-1"),
        Violation("I10", "run-2/b is no task of the run run-1"),
        Violation("I10", "run-1/b is in no state"),
        Violation("I10", "run-1/c is in no state"),
    ]


def test_each_broken_promise_is_named_once_by_number_and_has_its_reason() -> None:
    before = task_in("completed")
    after = replace(before, state=Running(1.0, 2, 6, SHIM, 1.0, "/a"), fence=6, run_id="run-2", attempts=())
    assert violations_of(before, after, ONE_TASK) == ["I2", "I4", "I5", "I6", "I10"]
    assert all(each.why for each in violations(before, after, ONE_TASK))
