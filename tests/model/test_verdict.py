"""Levels and statuses: what is ordered, and what counts as ended."""

from crewd.model.run import RUN_ENDED, TASK_ENDED, RunStatus, TaskStatus
from crewd.model.verdict import LEVEL_AT, RANK, Level


def test_the_four_degrees_are_ordered_from_well_to_gone() -> None:
    assert LEVEL_AT == (Level.HEALTHY, Level.WARN, Level.STALE, Level.DEAD)
    assert [RANK[level] for level in LEVEL_AT] == [0, 1, 2, 3]


def test_waiting_and_unreadable_are_no_degrees() -> None:
    assert set(Level) - set(RANK) == {Level.WAITING, Level.UNREADABLE}


def test_what_can_go_on_has_not_ended() -> None:
    assert not RUN_ENDED & {RunStatus.BLOCKED, RunStatus.QUEUED, RunStatus.UNKNOWN}
    assert set(TaskStatus) - TASK_ENDED == {
        TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.WAITING, TaskStatus.UNKNOWN
    }  # fmt: skip
