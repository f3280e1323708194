"""What became of attempts, tasks and runs, from events alone: examples as tables, and what holds for any events."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from crewd.model.event import Event
from crewd.model.history import AttemptRow, RunRow, TaskRow
from crewd.model.run import Usage
from crewd.policy.history import TYPES, History

Told = tuple[str, Mapping[str, Any]]


def numbered(events: Sequence[Event]) -> list[Event]:
    return [replace(event, seq=seq) for seq, event in enumerate(events, start=1)]


def managed(type: str, attempt: int = 0, at: float = 10.0, **data: Any) -> Event:
    return Event(type, at, data, "run", "task", attempt, "managed", "shop")


def observed(type: str, attempt: int = 1, at: float = 10.0, **data: Any) -> Event:
    return Event(type, at, data, "run", "task", attempt, "pi_crew", "shop")


def of_run(type: str, at: float = 10.0, **data: Any) -> Event:
    return Event(type, at, data, "run", runtime="pi_crew", crew="shop")


def folded(*events: Event) -> History:
    history = History()
    for event in numbered(events):
        history.take(event)
    return history


def the_attempt(history: History, number: int = 1) -> AttemptRow:
    row = history.attempts["run", "task", number]
    assert row is not None
    return row


def the_task(history: History) -> TaskRow:
    row = history.tasks["run", "task"]
    assert row is not None
    return row


def the_run(history: History) -> RunRow:
    row = history.runs["run"]
    assert row is not None
    return row


KIND = {"task_type": "explore", "executor": "claude", "model": "opus", "variants": {"prompt": "b"}}


def an_attempt(number: int, at: float, **end: Any) -> list[Event]:
    return [
        managed("attempt.starting", number, at, queue_seconds=1.5, **KIND),
        managed("attempt.started", number, at + 1, **KIND),
        managed("task.started", number, at + 1),
        managed("attempt.finished", number, at + 6, duration_seconds=5.0, **end),
    ]


def test_an_attempt_of_crewds_own_has_everything_that_was_told_of_it() -> None:
    used = managed("usage.recorded", 1, 13.0, input=10, output=5, model="opus-4")
    more = managed("usage.recorded", 1, 14.0, input=1, cache_read=7, cost_usd=0.25)
    events = an_attempt(1, 10.0, outcome="completed", exit_code=0)
    history = folded(managed("task.queued"), *events[:3], used, more, events[3], managed("task.completed", 1, 16.0))
    assert the_attempt(history) == AttemptRow(
        run_id="run",
        task_id="task",
        attempt=1,
        first_seq=2,
        last_seq=7,
        runtime="managed",
        crew="shop",
        task_type="explore",
        executor="claude",
        model="opus",
        variants={"prompt": "b"},
        outcome="completed",
        started_at=11.0,
        ended_at=16.0,
        queue_seconds=1.5,
        duration_seconds=5.0,
        usage=Usage(input=11, output=5, cache_read=7, cost_usd=0.25, model="opus-4"),
    )
    task = the_task(history)
    assert (task.outcome, task.attempts, task.started_at, task.ended_at) == ("completed", 1, 10.0, 16.0)
    assert (task.executor, task.queue_seconds, task.duration_seconds) == ("claude", 1.5, 6.0)
    assert task.usage == the_attempt(history).usage == the_run(history).usage
    assert the_run(history).tasks == {"completed": 1}


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        pytest.param({"outcome": "timed_out", "error_class": "timeout"}, "timed_out", id="as it is told"),
        pytest.param({"interrupted": True, "signal": 15}, "interrupted", id="ended by crewd itself"),
        pytest.param({"error_class": "timeout"}, "timed_out", id="told before outcomes were: its time was over"),
        pytest.param({"error_class": "worker_crash"}, "failed", id="told before outcomes were: it failed"),
        pytest.param({"error_class": "cancelled"}, "cancelled", id="told before outcomes were: a person did it"),
        pytest.param({"exit_code": 0, "signal": None}, "completed", id="told before outcomes were: nothing is wrong"),
        pytest.param({"exit_code": None, "signal": 15}, "cancelled", id="told before outcomes were: stopped"),
        pytest.param({}, "completed", id="nothing is told"),
    ],
)
def test_how_an_attempt_ended(end: dict[str, Any], outcome: str) -> None:
    assert the_attempt(folded(*an_attempt(1, 10.0, **end))).outcome == outcome


def test_a_failed_and_a_completed_attempt_make_one_completed_task() -> None:
    history = folded(
        *an_attempt(1, 10.0, error_class="worker_crash", error="exit 1"),
        managed("task.retry_scheduled", 1, 16.0, error_class="worker_crash"),
        *an_attempt(2, 20.0, outcome="completed"),
        managed("task.completed", 2, 26.0),
    )
    assert [the_attempt(history, number).outcome for number in (1, 2)] == ["failed", "completed"]
    assert (the_attempt(history).error_class, the_attempt(history).error) == ("worker_crash", "exit 1")
    task = the_task(history)
    assert (task.outcome, task.attempts, task.error_class, task.duration_seconds) == ("completed", 2, "", 16.0)
    assert the_run(history).attempts == 2


def test_a_redriven_task_gets_its_newest_end_and_its_attempts_count_once() -> None:
    history = folded(
        *an_attempt(1, 10.0, outcome="failed", error_class="worker_crash"),
        managed("task.failed", 1, 16.0, error_class="worker_crash"),
        managed("task.dead_lettered", 1, 16.0, error_class="worker_crash"),
    )
    assert (the_task(history).outcome, the_run(history).tasks) == ("failed", {"failed": 1})
    history.take(replace(managed("task.queued", 1, 20.0, redriven_from="key"), seq=7))
    assert (the_task(history).outcome, the_task(history).ended_at) == ("", None)
    assert the_run(history).tasks == {"at_work": 1}
    for seq, event in enumerate(an_attempt(2, 30.0, outcome="completed"), start=8):
        history.take(replace(event, seq=seq))
    history.take(replace(managed("task.completed", 2, 36.0), seq=12))
    assert (the_task(history).outcome, the_task(history).attempts) == ("completed", 2)
    assert the_run(history).tasks == {"completed": 1}
    assert the_attempt(history).outcome == "failed"


def test_an_attempt_told_twice_is_counted_once() -> None:
    once = an_attempt(1, 10.0, outcome="completed")
    history = folded(*once, *once, managed("task.completed", 1, 16.0), managed("task.completed", 1, 16.0))
    assert (the_task(history).attempts, the_run(history).attempts) == (1, 1)
    assert the_run(history).tasks == {"completed": 1}


def test_an_observed_task_tells_of_its_attempt_with_the_times_of_its_runtime() -> None:
    history = folded(
        of_run("run.discovered", status="running", goal="ship", created_at=1.0),
        observed("task.started", at=10.0, executor="coder", model="opus", started_at=8.0, task_type="build"),
        observed("task.failed", at=20.0, started_at=8.0, finished_at=18.0, error="boom"),
        observed("usage.recorded", at=20.0, input=3, output=4),
        of_run("run.failed", at=21.0, finished_at=19.0, tasks={"needs_attention": 1}),
    )
    attempt, task, run = the_attempt(history), the_task(history), the_run(history)
    assert (attempt.outcome, attempt.error, attempt.executor) == ("failed", "boom", "coder")
    assert (attempt.started_at, attempt.ended_at, attempt.duration_seconds) == (8.0, 18.0, 10.0)
    assert attempt.usage == Usage(input=3, output=4)
    assert (task.outcome, task.started_at, task.ended_at, task.task_type) == ("failed", 8.0, 18.0, "build")
    assert (run.status, run.goal, run.tasks, run.duration_seconds) == ("failed", "ship", {"failed": 1}, 18.0)


def test_an_observed_attempt_that_another_one_followed_did_not_do() -> None:
    history = folded(
        observed("task.started", 1), observed("task.started", 2, 15.0), observed("task.completed", 2, 20.0)
    )
    assert [the_attempt(history, number).outcome for number in (1, 2)] == ["failed", "completed"]
    assert (the_attempt(history).ended_at, the_task(history).attempts) == (15.0, 2)


def test_a_task_that_was_left_out_never_had_an_attempt() -> None:
    history = folded(observed("task.queued"), observed("task.skipped"))
    assert not any(history.attempts.values())
    assert (the_task(history).outcome, the_task(history).attempts) == ("skipped", 0)


def test_a_run_that_goes_on_has_not_ended_and_one_that_is_gone_from_disk_is_known() -> None:
    ended = folded(of_run("run.discovered", status="failed", at=5.0))
    assert (the_run(ended).status, the_run(ended).ended_at) == ("failed", 5.0)
    again = folded(of_run("run.discovered", status="failed"), of_run("run.resumed", status="running"))
    assert (the_run(again).status, the_run(again).ended_at) == ("running", None)
    gone = folded(of_run("run.started"), of_run("run.vanished"))
    assert (the_run(gone).vanished, the_run(gone).status) == (True, "running")


def test_iterations_are_counted_and_the_end_is_none_of_them() -> None:
    steps = [managed("task.progressed", 1, 12.0 + number, iteration=number) for number in range(1, 9)]
    begun = an_attempt(1, 10.0, outcome="completed")
    history = folded(*begun[:3], *steps, begun[3], managed("task.completed", 1, 30.0))
    assert the_attempt(history).iterations == 8


def test_events_of_a_later_crewd_change_nothing_and_break_nothing() -> None:
    begun = an_attempt(1, 10.0, outcome="completed")
    plain = folded(*begun)
    events = numbered([replace(event, data={**event.data, "colour": {"deep": [1]}}) for event in begun])
    history = History()
    for event in [*events, replace(managed("task.pondered", 1), seq=9)]:
        history.take(event)
    assert (history.attempts, history.tasks, history.runs) == (plain.attempts, plain.tasks, plain.runs)


WORDS = ("a", "b", "\udce9", "")
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from((*WORDS, "failed", "completed", "timeout", "running")),
    st.dictionaries(st.sampled_from(("x", "completed", "needs_attention")), st.integers(-3, 5) | st.text(max_size=2)),
    st.lists(st.integers(), max_size=2),
)
names = st.sampled_from(
    ("task_type", "executor", "model", "variants", "queue_seconds", "duration_seconds", "started_at", "finished_at",
     "outcome", "error_class", "error", "interrupted", "signal", "input", "output", "cost_usd", "status", "tasks",
     "goal", "labels", "created_at", "iteration")
)  # fmt: skip
events = st.builds(
    Event,
    st.sampled_from((*sorted(TYPES), "task.pondered", "worker.level_changed")),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(names, values, max_size=6),
    st.sampled_from(WORDS),
    st.sampled_from(WORDS),
    st.integers(-1, 4),
    st.sampled_from(("managed", "pi_crew", "")),
    st.sampled_from(WORDS),
)


@given(st.lists(events, max_size=30))
def test_no_events_can_break_it_and_counts_hold(told: list[Event]) -> None:
    history = folded(*told)
    for run_id, run in history.runs.items():
        assert run is not None
        mine = [row for (owner, _, _), row in history.attempts.items() if owner == run_id and row is not None]
        assert run.attempts == len(mine)
        assert all(number > 0 for number in run.tasks.values())
    for (run_id, task_id), task in history.tasks.items():
        assert task is not None
        keys = [key for key, row in history.attempts.items() if row is not None and key[:2] == (run_id, task_id)]
        assert task.attempts == len(keys)
        assert task.duration_seconds is None or task.duration_seconds >= 0


@given(st.lists(events, max_size=30), st.lists(st.integers(1, 5), max_size=10))
def test_it_comes_out_the_same_however_events_are_grouped_and_however_often_they_are_read(
    told: list[Event], sizes: list[int]
) -> None:
    whole, left = folded(*told), numbered(told)
    attempts: dict[Any, Any] = {}
    tasks: dict[Any, Any] = {}
    runs: dict[Any, Any] = {}
    for size in (*sizes, len(left)):
        piece, left = left[:size], left[size:]
        part = History(attempts.get, tasks.get, runs.get)  # which holds nothing but what was written before
        for event in (*piece, *piece):
            part.take(event)
        attempts |= part.attempts
        tasks |= part.tasks
        runs |= part.runs
    assert (tasks, runs) == (whole.tasks, whole.runs)
    assert {key: row for key, row in attempts.items() if row is not None} == {
        key: row for key, row in whole.attempts.items() if row is not None
    }


@pytest.mark.parametrize("end", ["task.completed", "task.failed", "task.cancelled"])
def test_an_attempt_that_was_over_between_two_looks_leaves_none_before_it_at_work(end: str) -> None:
    history = folded(observed("task.started", 1, started_at=8.0), observed(end, 4, 90.0, started_at=20.0))
    former = the_attempt(history)
    assert (former.outcome, former.ended_at, former.duration_seconds) == ("failed", 20.0, 12.0)
    assert (the_attempt(history, 4).ended_at, the_task(history).attempts) == (90.0, 2)


def test_numbers_of_attempts_that_nobody_saw_are_looked_over() -> None:
    history = folded(*(observed("task.started", number, 10.0 + number) for number in (1, 3, 9)))
    assert [the_attempt(history, number).outcome for number in (1, 3, 9)] == ["failed", "failed", ""]
    # A start that its successor has from itself tells nothing of its own end.
    same = folded(observed("task.started", 1, started_at=8.0), observed("task.started", 2, 15.0, started_at=8.0))
    assert (the_attempt(same).ended_at, the_attempt(same).duration_seconds) == (15.0, 7.0)


@pytest.mark.parametrize("far", [253_402_300_800.0, -62_135_596_801.0, 2.0**53])
def test_a_time_that_no_calendar_has_is_none(far: float) -> None:
    history = folded(
        of_run("run.discovered", status="running", created_at=far),
        observed("task.started", started_at=far),
        observed("task.completed", at=20.0, started_at=far, finished_at=far),
    )
    attempt = the_attempt(history)
    assert (attempt.started_at, attempt.ended_at, the_run(history).created_at) == (10.0, 20.0, 10.0)


def test_a_clock_that_was_set_back_makes_no_duration_less_than_nothing() -> None:
    history = folded(observed("task.started", started_at=50.0), observed("task.completed", at=60.0, finished_at=40.0))
    assert (the_attempt(history).duration_seconds, the_task(history).duration_seconds) == (0.0, 0.0)
