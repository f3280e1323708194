"""What the states of the tasks make of a run: nothing is settled while one can run, and the worst comes first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.managed import ManagedTask
from crewd.model.run import RunStatus
from crewd.policy.rollup import counts, roll_up
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
