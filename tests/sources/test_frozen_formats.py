"""Every genuine pi-crew folder that was ever frozen reads as it was."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from crewd.model.look import Look, ReadResult
from crewd.model.moment import Reading
from crewd.model.run import Run, TaskStatus
from crewd.sources.pi_crew import PiCrewSource

FORMATS = Path(__file__).parent.parent / "formats" / "pi_crew"

# name: runs by status, tasks by status
COUNTS = {
    "cancelled": ({"cancelled": 1}, {"cancelled": 3}),
    "completed": ({"completed": 1}, {"completed": 3}),
    "completed-foreground": ({"completed": 1}, {"completed": 3}),
    "deadlettered": ({"failed": 1}, {"failed": 1, "skipped": 2}),
    "failed": ({"failed": 1}, {"failed": 1, "skipped": 2}),
    "failed-http429": ({"failed": 1}, {"failed": 1, "skipped": 2}),
    "harness-corrupt-tasks": ({"running": 1}, {}),
    "harness-heartbeat-dead-deadletter": ({"running": 1}, {"running": 3}),
    "harness-pid-reuse": ({"running": 1}, {"running": 1, "queued": 1}),
    "harness-waiting-and-blocked": (
        {"running": 2, "blocked": 1},
        {"needs_attention": 1, "skipped": 1, "completed": 1, "queued": 2, "waiting": 1},
    ),
    "killed-stale-pid": ({"running": 1}, {"running": 1, "queued": 2}),
    "large-50-running": ({"running": 50}, {"running": 150}),
    "old-v0.1.35": (
        {"completed": 2, "running": 1, "failed": 1},
        {"completed": 6, "running": 1, "queued": 1, "failed": 1, "skipped": 2},
    ),
    "old-v0.2.0": (
        {"running": 1, "failed": 1, "completed": 2},
        {"running": 1, "queued": 1, "failed": 1, "skipped": 2, "completed": 6},
    ),
    "resumed-after-crash": ({"completed": 1}, {"completed": 3}),
    "runner-sigkill-orphan-worker": ({"running": 1}, {"completed": 1, "running": 1, "queued": 1}),
    "running-dead-heartbeat": ({"running": 1}, {"running": 1, "queued": 2}),
    "running-false-dead-streaming": ({"running": 1}, {"running": 1, "queued": 2}),
    "running-fresh-heartbeat": ({"running": 1}, {"running": 1, "queued": 2}),
}

# name: what the worker's record names, and what META.json says became of it (checked by pid below)
CLAIMS = {
    "harness-pid-reuse": (12703, "runner"),
    "killed-stale-pid": (20005, "worker"),
    "old-v0.1.35": (999998, "worker"),
    "old-v0.2.0": (999998, "worker"),
    "runner-sigkill-orphan-worker": (20080, "worker"),
    "running-dead-heartbeat": (30453, "worker"),
    "running-false-dead-streaming": (11251, "worker"),
    "running-fresh-heartbeat": (18819, "worker"),
}


def snapshot(name: str) -> Reading:
    meta = msgspec.json.decode((FORMATS / name / "META.json").read_bytes())
    return Reading(meta["snapshotEpochMs"] / 1000, 0.0, 0.0)


def look_at(name: str) -> Look:
    source = PiCrewSource(str(FORMATS / name / "project"))
    look = source.look(snapshot(name))
    source.close()
    return look


def only(name: str) -> Run:
    (run,) = look_at(name).changed
    return run


def test_every_frozen_folder_has_its_expectations() -> None:
    assert {path.name for path in FORMATS.iterdir()} == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_a_frozen_folder_reads_to_its_statuses_without_a_complaint(name: str) -> None:
    look = look_at(name)
    runs, tasks = COUNTS[name]
    assert Counter(run.status.value for run in look.changed) == runs
    assert Counter(task.status.value for run in look.changed for task in run.tasks) == tasks
    assert look.complete
    assert look.complaints == ()
    assert (look.unknown_fields, look.unknown_statuses) == (0, 0)


@pytest.mark.parametrize("name", COUNTS)
def test_a_second_look_at_a_frozen_folder_brings_no_run(name: str) -> None:
    source = PiCrewSource(str(FORMATS / name / "project"))
    source.look(snapshot(name))
    assert source.look(snapshot(name)).changed == ()
    source.close()


@pytest.mark.parametrize("name", CLAIMS)
def test_a_worker_at_work_is_claimed_by_the_pid_that_its_record_names(name: str) -> None:
    tasks = [task for run in look_at(name).changed for task in run.tasks if task.status is TaskStatus.RUNNING]
    claims = {(task.claim.pid, task.claim.role) for task in tasks if task.claim is not None}
    assert claims == {CLAIMS[name]}


def test_a_torn_task_list_leaves_the_run_known_and_says_so() -> None:
    look = look_at("harness-corrupt-tasks")
    (run,) = look.changed
    assert look.unread == {run.run_id: ReadResult.TORN}
    assert run.status_text == "running"


@pytest.mark.parametrize(
    ("name", "reason", "attempts"),
    [("deadlettered", "max-retries", 3), ("harness-heartbeat-dead-deadletter", "heartbeat-dead", 0)],
)
def test_dead_letters_are_read(name: str, reason: str, attempts: int) -> None:
    (letter,) = look_at(name).letters
    assert (letter.reason, letter.attempts) == (reason, attempts)


def test_a_question_and_an_approval_are_waits_for_a_human() -> None:
    runs = {run.goal: run for run in look_at("harness-waiting-and-blocked").changed}
    asking = runs["worker asks a question"]
    approving = runs["plan approval pending"]
    assert asking.waiting is not None and asking.waiting.reason == "human"
    assert asking.tasks[0].waiting is not None and asking.tasks[0].waiting.reason == "human"
    assert approving.waiting is not None and approving.waiting.detail == "plan approval"


def test_a_resumed_task_counts_its_attempts_although_both_bear_one_name() -> None:
    attempts = {task.task_id: task.attempt for task in only("resumed-after-crash").tasks}
    assert attempts == {"01_explore": 1, "02_execute": 2, "03_verify": 1}


def test_tokens_are_the_sum_over_all_calls_and_not_those_of_the_last() -> None:
    used = only("completed-foreground").usage
    assert used is not None and used.input == 5491


def test_marks_are_the_runs_name_where_the_writer_is_known_to_set_it() -> None:
    run = only("running-fresh-heartbeat")
    claim = run.tasks[0].claim
    assert claim is not None and claim.marks == (run.run_id,)
    assert run.runner is not None and (run.runner.pid, run.runner.marks) == (18622, (run.run_id,))


def test_an_old_project_below_pi_teams_is_found(tmp_path: Path) -> None:
    (tmp_path / ".pi").mkdir()
    (tmp_path / ".pi" / "teams").symlink_to(FORMATS / "old-v0.1.35" / "project" / ".crew")
    refused = PiCrewSource(str(tmp_path))
    assert refused.look(snapshot("old-v0.1.35")).changed == ()  # a link below a root is not followed
    refused.close()
    source = PiCrewSource(str(tmp_path / ".pi" / "teams"))  # a link that the operator names is
    assert len(source.look(snapshot("old-v0.1.35")).changed) == 4
    source.close()
