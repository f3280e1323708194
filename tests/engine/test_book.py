"""What the patrol knows between two rounds: observed clocks, silences, and workers that come, move and go."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.engine.book import GONE_MAX, Book, Entry, Worker, note_process
from crewd.engine.pace import Pace
from crewd.model.process import HIDDEN, Activity, ProcessClaim, ProcessSeen, ProcessState
from crewd.model.run import Lease, RunStatus, Task, TaskStatus, Waiting
from crewd.model.verdict import Level, Reason, Standing
from tests.engine.values import ALIVE, GONE, IDENTITY, ROOT, run, task
from tests.fakes.clock import FakeClock

WALL = 1_767_225_600.0
CLAIM = ProcessClaim(pid=700)
STOPPED = ProcessSeen(ProcessState.STOPPED, "pid 700 is stopped", IDENTITY, "T")


def put(book: Book, *tasks: Task, status: RunStatus = RunStatus.RUNNING) -> Entry:
    entry = book.put(ROOT, run(*tasks, status=status), WALL)
    assert entry is not None
    return entry


def book_with(first: Task, observed: float = 100.0) -> tuple[Book, Worker]:
    book = Book()
    book.advance(ROOT, observed)
    return book, put(book, first).workers[first.task_id]


def silence(book: Book, worker: Worker) -> float:
    return worker.silence(book.observed[ROOT])


# --- silence


def test_a_worker_met_late_has_been_silent_for_no_time() -> None:
    book, worker = book_with(task(), observed=5000.0)
    assert silence(book, worker) == 0.0
    assert worker.fresh
    assert worker.progress_at is None


def test_silence_grows_with_the_observed_clock_of_its_own_root() -> None:
    book, worker = book_with(task())
    book.advance(ROOT, 7.5)
    book.advance("beat:/elsewhere", 1000.0)
    assert silence(book, worker) == 7.5


def test_a_token_that_differs_is_life_whatever_its_value() -> None:
    book, worker = book_with(task(token=(900, "boot-1")))
    book.advance(ROOT, 40.0)
    put(book, task(token=(3, "boot-2")))
    assert silence(book, worker) == 0.0
    assert worker.progressed
    assert not worker.fresh
    assert (worker.progress_at, worker.beat_interval) == (WALL, 40.0)


def test_the_same_token_is_no_life_however_new_its_timestamps() -> None:
    book, worker = book_with(task(token=(1,), beat_at=1.0))
    book.advance(ROOT, 40.0)
    put(book, task(token=(1,), beat_at=2e9, hint="still here"))
    assert silence(book, worker) == 40.0
    assert not worker.progressed
    assert worker.task.beat_at == 2e9


def test_an_announced_silence_counts_from_its_end() -> None:
    book, worker = book_with(task(token=(1,)))
    put(book, task(token=(2,), lease=Lease(60.0, "bash")))
    book.advance(ROOT, 50.0)
    assert silence(book, worker) == 0.0
    book.advance(ROOT, 15.0)
    assert silence(book, worker) == 5.0


def test_the_clock_of_a_worker_that_waits_or_cannot_be_read_stands_still() -> None:
    book, worker = book_with(task())
    entry = book.entries["run-1"]
    book.advance(ROOT, 20.0)
    for _ in range(10):
        book.advance(ROOT, 5.0)
        book.stand_still(entry, worker, 5.0)
    assert silence(book, worker) == 20.0


def test_standing_still_takes_nothing_from_an_announced_silence() -> None:
    book, worker = book_with(task(lease=Lease(60.0)))
    book.stand_still(book.entries["run-1"], worker, 5.0)
    assert worker.heard_at == 160.0


# --- workers come and go


@pytest.mark.parametrize("status", sorted(TaskStatus))
def test_only_tasks_at_work_have_a_worker(status: TaskStatus) -> None:
    book = Book()
    entry = put(book, task("a", status))
    at_work = status in (TaskStatus.RUNNING, TaskStatus.WAITING)
    assert set(entry.workers) == ({"a"} if at_work else set())
    assert ("run-1" in book.live) is at_work


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_run_that_has_ended_has_no_workers_whatever_its_tasks_say(status: RunStatus) -> None:
    book, _ = book_with(task("a"))
    entry = put(book, task("a"), status=status)
    assert entry.workers == {}
    assert book.left == [("run-1", "a")]
    assert workers_of(book) == []
    assert book.live == {}


def test_a_blocked_run_can_go_on_and_keeps_its_workers() -> None:
    book, worker = book_with(task("a"))
    assert put(book, task("a"), status=RunStatus.BLOCKED).workers["a"] is worker


def test_a_worker_whose_task_ends_leaves() -> None:
    book, _ = book_with(task("a"))
    put(book, task("a", TaskStatus.COMPLETED), task("b"))
    assert book.left == [("run-1", "a")]
    assert [worker.key for _, worker in workers_of(book)] == ["b"]


def test_the_next_attempt_is_another_worker() -> None:
    # The old attempt's heartbeat, verdict and process say nothing about the new one.
    book, worker = book_with(task(claim=CLAIM))
    note_process(worker, GONE, mono=1.0)
    book.advance(ROOT, 500.0)
    again = put(book, task(attempt=2, claim=CLAIM)).workers["task-1"]
    assert again is not worker
    assert silence(book, again) == 0.0
    assert (again.gone_at, again.process, again.standing.level) == (None, HIDDEN, Level.HEALTHY)


def test_a_run_id_belongs_to_the_root_that_showed_it_first() -> None:
    book, worker = book_with(task("a"))
    assert book.put("beat:/elsewhere", run(task("b")), WALL) is None
    assert list(book.entries["run-1"].workers.values()) == [worker]


def test_a_run_that_is_dropped_takes_its_workers_with_it() -> None:
    book, _ = book_with(task("a"))
    assert book.drop("run-1") is not None
    assert book.left == [("run-1", "a")]
    assert (book.entries, book.live) == ({}, {})
    assert book.drop("run-1") is None


# --- waiting


def test_a_wait_begins_when_crewd_first_sees_it_and_ends_with_it() -> None:
    book, worker = book_with(task())
    book.put(ROOT, run(task(waiting=Waiting("human", since=1.0))), WALL + 5)
    book.put(ROOT, run(task(waiting=Waiting("human", since=1.0))), WALL + 10)
    assert worker.waiting_since == WALL + 5
    worker.waited = 30.0
    book.put(ROOT, run(task()), WALL + 15)
    assert (worker.waiting_since, worker.waited) == (None, 0.0)


def test_a_run_that_waits_makes_its_workers_wait() -> None:
    book, worker = book_with(task())
    book.put(ROOT, run(task(), waiting=Waiting("parked")), WALL)
    assert worker.waiting_since == WALL


# --- processes


def test_a_process_that_is_gone_is_gone_since_it_was_first_missed() -> None:
    _, worker = book_with(task(claim=CLAIM))
    note_process(worker, ALIVE, mono=10.0)
    assert (worker.remembered, worker.gone_at) == (IDENTITY, None)
    note_process(worker, GONE, mono=15.0)
    note_process(worker, GONE, mono=20.0)
    assert worker.gone_at == 15.0


def test_a_process_that_comes_back_was_never_seen_rightly() -> None:
    _, worker = book_with(task(claim=CLAIM))
    note_process(worker, GONE, mono=10.0)
    note_process(worker, HIDDEN, mono=15.0)
    assert (worker.remembered, worker.gone_at) == (None, None)
    note_process(worker, GONE, mono=20.0)
    assert worker.gone_at == 20.0


def test_what_a_process_did_while_it_was_stopped_says_nothing_once_it_goes_on() -> None:
    _, worker = book_with(task(claim=CLAIM))
    for seen, kept in ((ALIVE, True), (STOPPED, True), (STOPPED, True), (ALIVE, False)):
        worker.activity, worker.sample = Activity(), object()
        note_process(worker, seen, mono=10.0)
        assert (worker.activity is not None, worker.sample is not None) == (kept, kept), seen


def test_progress_after_the_process_was_gone_is_counted() -> None:
    book, worker = book_with(task(token=(0,), claim=CLAIM))
    for number in (1, 2):
        note_process(worker, GONE, mono=10.0 * number)
        put(book, task(token=(number,), claim=CLAIM))
        assert (worker.gone_at, worker.beats_after_gone) == (None, number)


def test_another_pid_is_another_process() -> None:
    book, worker = book_with(task(claim=CLAIM))
    note_process(worker, ALIVE, mono=10.0)
    put(book, task(claim=ProcessClaim(pid=701)))
    assert (worker.remembered, worker.process, worker.gone_at) == (None, HIDDEN, None)


# --- what a former crewd wrote down


def test_what_was_recalled_is_known_until_it_is_met() -> None:
    book = Book()
    former = run(task("a"))
    dead = Standing(Level.DEAD, Reason.EXITED, "gone", since=7.0, changes=(1.0, 2.0), flapping_until=900.0)
    book.remember({"run-1": former}, {("run-1", "a", 1): dead})
    assert book.known("run-1") is former
    worker = put(book, task("a")).workers["a"]
    # The world was told of a dead worker; what it is now must be seen anew.
    assert (worker.told, worker.standing.level) == (Level.DEAD, Level.HEALTHY)
    # Until then whoever looks sees what was told.
    shown = worker.view().standing
    assert (shown.level, shown.reason, shown.since) == (Level.DEAD, Reason.EXITED, 7.0)
    assert shown.held_by.startswith("restart") and (shown.changes, shown.flapping_until) == ((), None)
    assert book.recalled == {}
    assert book.known("run-2") is None


def test_a_level_that_was_told_of_another_attempt_is_not_recalled() -> None:
    book = Book()
    book.remember({}, {("run-1", "a", 1): Standing(Level.DEAD, Reason.EXITED, "gone")})
    assert put(book, task("a", attempt=2)).workers["a"].told is Level.HEALTHY


def test_recalled_runs_that_are_not_found_again_are_lost_once_and_only_beneath_their_folder() -> None:
    book = Book()
    runs = {f"run-{number}": run(run_id=f"run-{number}") for number in (1, 2)}
    elsewhere = run(run_id="run-3")
    book.remember(runs | {"run-3": elsewhere}, {})
    put(book, task("a"))
    assert [lost.run_id for lost in book.lost("/crew/run-3")] == []
    assert [lost.run_id for lost in book.lost("/crew/")] == ["run-2", "run-3"]
    assert list(book.lost("/crew")) == []


# --- I18: the sum of silence never exceeds crewd's own running time

rounds = st.lists(
    st.tuples(
        st.sampled_from(["nothing new", "progress", "lease", "waits", "torn", "no look", "next attempt"]),
        st.floats(min_value=0.0, max_value=1e5),  # awake
        st.sampled_from([0.0, 30.0, 1e6]),  # asleep
        st.sampled_from([0.0, 86_400.0, -86_400.0]),  # step of the wall clock
    ),
    max_size=40,
)


@settings(deadline=None)
@given(rounds)
def test_no_silence_exceeds_crewds_own_running_time(rounds: list[tuple[str, float, float, float]]) -> None:
    clock, pace, book = FakeClock(), Pace.start(5.0, warn_after=30.0), Book()
    began = clock.mono
    pace.step(clock.read(), 0.0)
    token, attempt, counted = 0, 1, 0.0
    put(book, task(token=(token,)))
    for what, awake, asleep, step in rounds:
        clock.suspend(asleep)
        clock.advance(awake)
        clock.step(step)
        pace.step(clock.read(), 0.0)
        counted += pace.gap.counted
        token += what in ("progress", "lease")
        attempt += what == "next attempt"
        if what != "no look":
            book.advance(ROOT, pace.gap.counted)
        if what != "torn":
            lease = Lease(100.0) if what == "lease" else None
            put(book, task(token=(token,), attempt=attempt, lease=lease))
        [(entry, worker)] = workers_of(book)
        if what in ("waits", "torn"):
            book.stand_still(entry, worker, pace.gap.counted)
        quiet = worker.silence(book.observed.get(ROOT, 0.0))
        assert 0.0 <= quiet <= pace.running + 1e-6
        assert pace.running == pytest.approx(counted)
        assert pace.running <= clock.mono - began + 1e-6
        if worker.progressed:
            assert quiet == 0.0
        worker.progressed = False


@settings(deadline=None)
@given(st.lists(st.floats(min_value=0.0, max_value=1e4), max_size=30), st.integers(min_value=0, max_value=30))
def test_a_silence_is_the_sum_of_the_gaps_counted_since_the_last_sign_of_life(gaps: list[float], at: int) -> None:
    clock, pace = FakeClock(), Pace.start(5.0, warn_after=30.0)
    book, worker = book_with(task(token=(0,)))
    pace.step(clock.read(), 0.0)
    expected = 0.0
    for number, awake in enumerate(gaps):
        clock.advance(awake)
        pace.step(clock.read(), 0.0)
        book.advance(ROOT, pace.gap.counted)
        expected += pace.gap.counted
        if number == at:
            put(book, task(token=(1,)))
            expected = 0.0
    assert silence(book, worker) == pytest.approx(expected, abs=1e-6)


def test_runs_that_come_and_go_by_the_thousand_are_bounded_and_crowd_out_nobody() -> None:
    book = Book()
    book.remember({"known": run(run_id="known")}, {})
    for number in range(GONE_MAX + 50):
        book.put(ROOT, run(run_id=f"r{number}"), WALL)
        book.drop(f"r{number}")
    assert len(book.gone) == GONE_MAX and not book.recalled_standings
    assert book.known("known") is not None and book.known("r0") is None
    # A root that is looked at for the first time misses only what a former crewd knew, not what vanished since.
    assert [lost.run_id for lost in book.lost("/crew")] == ["known"]


def workers_of(book: Book) -> list[tuple[Entry, Worker]]:
    """Everybody at work, with the runs."""
    return [(entry, worker) for entry in book.live.values() for worker in entry.workers.values()]
