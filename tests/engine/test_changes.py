"""Which events tell how a run differs from what was known of it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.engine.changes import RUN_EVENT, TASK_EVENT, changes
from crewd.model.event import Event, as_record
from crewd.model.run import RUN_ENDED, TASK_ENDED, Run, RunStatus, Task, TaskStatus, Usage, Waiting
from tests.engine.values import run, task

AT = 1_767_225_600.0
ENDED = {"started_at": 100.0, "finished_at": 160.0}


def told(before: Run | None, now: Run) -> list[Event]:
    return list(changes(before, now, AT))


def types(before: Run | None, now: Run) -> list[str]:
    return [event.type for event in told(before, now)]


def only(events: list[Event], type: str) -> Event:
    [event] = [event for event in events if event.type == type]
    return event


def test_an_unchanged_run_tells_nothing() -> None:
    now = run(task("a"), task("b", TaskStatus.COMPLETED, usage=Usage(1, 2)))
    assert told(now, now) == []


def test_progress_alone_tells_nothing() -> None:
    assert told(run(task(token=(1,))), run(task(token=(2,), beat_at=5.0, tool="bash"))) == []


# --- first sight


def test_a_running_run_is_discovered_with_its_tasks() -> None:
    now = run(task("a", TaskStatus.COMPLETED), task("b"), task("c", TaskStatus.QUEUED))
    events = told(None, now)
    assert [event.type for event in events] == [
        "run.discovered", "run.started", "task.completed", "task.started", "task.queued"
    ]  # fmt: skip
    assert events[0].data["tasks"] == {"completed": 1, "running": 1, "queued": 1}
    assert events[0].data["folder"] == "/crew/run-1"
    assert only(events, "run.started").data["first_sight"] is True
    assert only(events, "task.completed").data["first_sight"] is True
    assert "first_sight" not in only(events, "task.started").data


@pytest.mark.parametrize("status", sorted(RUN_ENDED))
def test_a_run_that_had_ended_before_is_told_in_one_event(status: RunStatus) -> None:
    now = run(task("a", TaskStatus.COMPLETED, usage=Usage(1, 2)), status=status)
    [event] = told(None, now)
    assert event.type == "run.discovered"
    assert event.data["status"] == status.value


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.PLANNING, RunStatus.UNKNOWN])
def test_a_run_that_does_not_run_yet_is_only_discovered(status: RunStatus) -> None:
    assert types(None, run(status=status)) == ["run.discovered"]


def test_a_task_that_appears_later_is_told() -> None:
    assert types(run(task("a")), run(task("a"), task("b"))) == ["task.started"]


# --- runs


@pytest.mark.parametrize(
    ("before", "now", "type"),
    [
        (RunStatus.QUEUED, RunStatus.RUNNING, "run.started"),
        (RunStatus.PLANNING, RunStatus.RUNNING, "run.started"),
        (RunStatus.RUNNING, RunStatus.BLOCKED, "run.blocked"),
        (RunStatus.BLOCKED, RunStatus.RUNNING, "run.resumed"),
        (RunStatus.RUNNING, RunStatus.COMPLETED, "run.completed"),
        (RunStatus.RUNNING, RunStatus.FAILED, "run.failed"),
        (RunStatus.BLOCKED, RunStatus.CANCELLED, "run.cancelled"),
        (RunStatus.FAILED, RunStatus.RUNNING, "run.resumed"),
        (RunStatus.COMPLETED, RunStatus.QUEUED, "run.resumed"),
        (RunStatus.CANCELLED, RunStatus.COMPLETED, "run.completed"),
    ],
)
def test_a_change_of_a_runs_status_is_told(before: RunStatus, now: RunStatus, type: str) -> None:
    [event] = told(run(status=before), run(status=now))
    assert event.type == type
    assert (event.data["from_status"], event.data["status"]) == (before.value, now.value)
    assert (event.run_id, event.task_id, event.attempt) == ("run-1", "", 0)
    assert (event.runtime, event.crew, event.at, event.seq) == ("beat", "night", AT, 0)


def test_a_runtimes_own_word_for_a_status_is_kept() -> None:
    [event] = told(run(), run(status=RunStatus.FAILED, status_text="exploded"))
    assert event.data["status"] == "exploded"


def test_a_run_ends_after_its_tasks_with_counts_and_duration() -> None:
    before = run(task("a"), task("b"), created_at=100.0, updated_at=150.0)
    now = run(
        task("a", TaskStatus.COMPLETED),
        task("b", TaskStatus.FAILED),
        status=RunStatus.FAILED,
        created_at=100.0,
        updated_at=190.0,
    )
    events = told(before, now)
    assert [event.type for event in events] == ["task.completed", "task.failed", "run.failed"]
    assert events[-1].data["tasks"] == {"completed": 1, "failed": 1}
    assert events[-1].data["duration_seconds"] == 90.0


def test_clocks_that_ran_backwards_give_no_negative_durations() -> None:
    ended = run(
        task(status=TaskStatus.COMPLETED, started_at=200.0, finished_at=100.0),
        status=RunStatus.COMPLETED,
        created_at=200.0,
        updated_at=100.0,
    )
    assert [event.data["duration_seconds"] for event in told(run(task()), ended)] == [0.0, 0.0]


# --- tasks


@pytest.mark.parametrize(
    ("now", "type"),
    [
        (TaskStatus.QUEUED, "task.queued"),
        (TaskStatus.WAITING, "task.waiting"),
        (TaskStatus.COMPLETED, "task.completed"),
        (TaskStatus.FAILED, "task.failed"),
        (TaskStatus.NEEDS_ATTENTION, "task.failed"),
        (TaskStatus.CANCELLED, "task.cancelled"),
        (TaskStatus.SKIPPED, "task.skipped"),
    ],
)
def test_a_change_of_a_tasks_status_is_told(now: TaskStatus, type: str) -> None:
    [event] = told(run(task("a", attempt=2)), run(task("a", now, attempt=2, task_type="review")))
    assert event.type == type
    assert event.data["task_type"] == "review"
    assert (event.run_id, event.task_id, event.attempt, event.at) == ("run-1", "a", 2, AT)


def test_a_word_of_the_runtimes_own_is_told_beside_the_type() -> None:
    [event] = told(run(task()), run(task(status=TaskStatus.NEEDS_ATTENTION, status_text="no-result")))
    assert event.data["status"] == "no-result"
    [plain] = told(run(task()), run(task(status=TaskStatus.COMPLETED)))
    assert "status" not in plain.data


def test_the_next_attempt_of_a_task_starts_it_again() -> None:
    [event] = told(run(task(attempt=1)), run(task(attempt=2)))
    assert (event.type, event.attempt) == ("task.started", 2)
    assert told(run(task(status=TaskStatus.QUEUED)), run(task(status=TaskStatus.QUEUED, attempt=2))) == []


def test_what_is_known_of_an_end_or_a_wait_is_told() -> None:
    [failed] = told(run(task()), run(task(status=TaskStatus.FAILED, error="exit 1", **ENDED)))
    assert (failed.data["error"], failed.data["duration_seconds"]) == ("exit 1", 60.0)
    [waits] = told(run(task()), run(task(status=TaskStatus.WAITING, waiting=Waiting("human"), **ENDED)))
    assert waits.data["reason"] == "human"
    assert "duration_seconds" not in waits.data


# --- usage


def usage_told(before: Run | None, now: Run) -> list[Event]:
    return [event for event in told(before, now) if event.type == "usage.recorded"]


def test_what_a_task_used_is_told_once_at_its_end() -> None:
    used = Usage(input=10, output=20, cache_read=30, cache_write=40, cost_usd=0.5, model="large")
    running, ended = run(task(usage=used)), run(task(status=TaskStatus.COMPLETED, usage=used))
    assert usage_told(None, running) == []
    [event] = usage_told(running, ended)
    assert event.data == {
        "model": "large", "input": 10, "output": 20, "cache_read": 30, "cache_write": 40, "cost_usd": 0.5
    }  # fmt: skip
    assert usage_told(ended, ended) == []


def test_an_unknown_cost_is_not_told_as_nothing() -> None:
    [event] = usage_told(run(task()), run(task(status=TaskStatus.FAILED, model="small", usage=Usage(1, 2))))
    assert "cost_usd" not in event.data
    assert event.data["model"] == "small"


# --- for any two pictures of a run

tasks = st.builds(
    task,
    task_id=st.sampled_from(["a", "b", "c"]),
    status=st.sampled_from(TaskStatus),
    attempt=st.integers(min_value=1, max_value=3),
    usage=st.none() | st.just(Usage(1, 2)),
    started_at=st.none() | st.floats(min_value=0.0, max_value=4e9),
    finished_at=st.none() | st.floats(min_value=0.0, max_value=4e9),
)
pictures: Any = st.builds(
    lambda tasks, status: run(*tasks, status=status),
    st.lists(tasks, max_size=3, unique_by=lambda task: task.task_id),
    st.sampled_from(RunStatus),
)


@settings(deadline=None)
@given(before=st.none() | pictures, now=pictures)
def test_every_difference_is_told_once_in_a_record_that_can_be_written(before: Run | None, now: Run) -> None:
    events = told(before, now)
    for event in events:
        assert (event.run_id, event.at, event.actor) == ("run-1", AT, "daemon")
        assert as_record(event)["type"] == event.type
    about_runs = [event for event in events if not event.task_id and event.type != "run.discovered"]
    assert len(about_runs) <= 1
    known = {task.task_id: task for task in before.tasks} if before is not None else {}
    for each in now.tasks:
        mine = [event for event in events if event.task_id == each.task_id and event.type != "usage.recorded"]
        former = known.get(each.task_id)
        if before is None and now.status in RUN_ENDED:
            assert mine == []
        elif former is None or former.status is not each.status:
            assert len(mine) == 1
        else:
            assert len(mine) == (former.attempt != each.attempt and each.status is TaskStatus.RUNNING)


def test_every_end_has_an_event_of_its_own() -> None:
    assert set(RUN_EVENT) >= RUN_ENDED
    assert set(TASK_EVENT) >= TASK_ENDED


def test_a_task_that_is_no_longer_listed_tells_nothing() -> None:
    kept: Task = task("a")
    assert told(run(kept, task("b")), run(kept)) == []


# --- what history is made of


def test_a_task_tells_whose_it_is_and_the_times_that_its_runtime_wrote() -> None:
    whose: dict[str, Any] = {"agent": "coder", "model": "opus", "task_type": "build"}
    begun = task("a", started_at=100.0, **whose)
    [started] = told(run(), run(begun))
    assert started.data == {"task_type": "build", "executor": "coder", "model": "opus", "started_at": 100.0}
    done = task("a", TaskStatus.COMPLETED, **ENDED, **whose)
    ended = only(told(run(begun), run(done)), "task.completed").data
    assert (ended["started_at"], ended["finished_at"], ended["duration_seconds"]) == (100.0, 160.0, 60.0)
    assert ended["executor"] == "coder"


def test_a_task_that_waits_to_be_started_has_not_begun() -> None:
    again = task("a", TaskStatus.QUEUED, started_at=100.0, finished_at=160.0)
    data = only(told(run(), run(again)), "task.queued").data
    assert not data.keys() & {"started_at", "finished_at"}


def test_a_run_tells_its_goal_when_it_was_made_and_what_its_own_word_for_its_status_means() -> None:
    ended = run(goal="ship " * 200, created_at=50.0, updated_at=90.0, status=RunStatus.FAILED, status_text="exploded")
    [event] = told(None, ended)
    assert (event.data["status"], event.data["run_status"]) == ("exploded", "failed")
    assert (event.data["created_at"], event.data["finished_at"], len(event.data["goal"])) == (50.0, 90.0, 500)
