"""What the states of the tasks make of a run: nothing is settled while one can run, and the worst comes first."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.managed import ManagedRun, ManagedTask
from crewd.model.plan import RunPlan
from crewd.model.run import RunStatus
from crewd.policy.rollup import counts, ended_at, roll_up, status_of
from tests.policy.states import STATES, record, simply

CAN_RUN = ["waiting", "starting", "running", "ending", "retry_wait"]
SETTLED = sorted(set(STATES) - set(CAN_RUN))


def run_of(*names: str) -> list[ManagedTask]:
    return [simply(f"task-{number}", name) for number, name in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ("waiting", RunStatus.QUEUED),
        ("waiting waiting", RunStatus.QUEUED),
        ("waiting cancelled skipped blocked", RunStatus.QUEUED),
        ("starting", RunStatus.RUNNING),
        ("running waiting", RunStatus.RUNNING),
        ("ending dead_lettered", RunStatus.RUNNING),
        ("retry_wait blocked", RunStatus.RUNNING),
        ("completed completed", RunStatus.COMPLETED),
        ("completed skipped", RunStatus.COMPLETED),
        ("completed cancelled", RunStatus.COMPLETED),  # docs/guarantees.md: only all of them make it cancelled
        ("completed cancelled skipped", RunStatus.COMPLETED),
        ("cancelled", RunStatus.CANCELLED),
        ("cancelled cancelled", RunStatus.CANCELLED),
        ("cancelled skipped", RunStatus.CANCELLED),  # skipped for the cancelled one
        ("cancelled blocked", RunStatus.BLOCKED),
        ("completed blocked skipped", RunStatus.BLOCKED),
        ("dead_lettered blocked cancelled completed skipped", RunStatus.FAILED),
        ("dead_lettered", RunStatus.FAILED),
        ("", RunStatus.COMPLETED),
    ],
)
def test_a_run_stands_as_its_tasks_do(names: str, status: RunStatus) -> None:
    assert roll_up(run_of(*names.split())) is status
    assert roll_up(reversed(run_of(*names.split()))) is status


def test_a_run_that_began_is_not_queued_again() -> None:
    put_back = simply("a", "waiting", fence=1)
    interrupted = simply("a", "waiting", attempts=(record(1, 0, interrupted=True),))
    assert roll_up([put_back, *run_of("waiting")]) is RunStatus.RUNNING
    assert roll_up([interrupted, *run_of("waiting")]) is RunStatus.RUNNING


def test_a_run_that_was_cancelled_is_not_called_completed_for_what_was_done_before() -> None:
    plan = RunPlan(run_id="r", crew="c", tasks=())
    run = ManagedRun(plan, RunStatus.RUNNING, submitted_at=1.0)
    tasks = run_of("completed", "cancelled")
    cancelled = msgspec.structs.replace(run, cancelled=True)
    assert status_of(run, tasks) is RunStatus.COMPLETED
    assert status_of(cancelled, tasks) is RunStatus.CANCELLED
    assert status_of(cancelled, run_of("completed")) is RunStatus.COMPLETED
    assert status_of(cancelled, run_of("completed", "cancelled", "dead_lettered")) is RunStatus.FAILED


def test_when_a_run_ended_is_what_was_written_of_it_or_what_its_last_task_says() -> None:
    run = ManagedRun(RunPlan(run_id="r", crew="c", tasks=()), RunStatus.RUNNING, submitted_at=1.0)
    tasks = run_of("completed", "completed")
    assert ended_at(run, tasks, RunStatus.RUNNING) is None
    assert ended_at(run, tasks, RunStatus.COMPLETED) == max(task.state.since for task in tasks)
    assert ended_at(msgspec.structs.replace(run, ended_at=9.0), tasks, RunStatus.COMPLETED) == 9.0
    assert ended_at(run, (), RunStatus.COMPLETED) == 1.0


some = st.lists(st.sampled_from(sorted(STATES)), min_size=1, max_size=8)


@given(some, st.sampled_from(CAN_RUN))
def test_nothing_is_settled_while_anything_can_run(names: list[str], able: str) -> None:
    assert roll_up(run_of(*names, able)) in {RunStatus.QUEUED, RunStatus.RUNNING}


@given(st.lists(st.sampled_from(SETTLED), min_size=1, max_size=8))
def test_a_settled_run_failed_exactly_when_a_task_is_a_dead_letter(names: list[str]) -> None:
    status = roll_up(run_of(*names))
    assert (status is RunStatus.FAILED) == ("dead_lettered" in names)
    assert status not in {RunStatus.QUEUED, RunStatus.RUNNING}


@given(some)
def test_the_counts_name_every_state_and_add_up(names: list[str]) -> None:
    counted = counts(run_of(*names))
    assert list(counted) == list(STATES)
    assert sum(counted.values()) == len(names)
    assert counted == {name: names.count(name) for name in STATES}
