"""One worker's evidence put together, when a verdict is due, and what stretches the thresholds."""

from typing import Any

import msgspec
import pytest

from crewd.detection.gradient import FREE
from crewd.detection.options import Override, Patience, Thresholds
from crewd.engine.book import Book, Entry, Worker, note_process
from crewd.engine.judging import Court, evidence_of, is_due, judge_worker
from crewd.engine.options import PatrolOptions
from crewd.model.look import ReadResult
from crewd.model.moment import Reading
from crewd.model.process import Activity, ProcessClaim, ProcessSeen
from crewd.model.run import Expectation, Lease, Run, Task, Waiting
from crewd.model.verdict import Level, Reason, Standing, Wedge
from tests.engine.values import ALIVE, BUSY, GONE, IDENTITY, ROOT, run, task

WALL = 1_767_225_600.0
OBSERVED = 1000.0


def court(mono: float = 0.0, **more: Any) -> Court:
    rules: dict[str, Any] = {
        "default": Thresholds(),
        "overrides": (),
        "patience": Patience(),
        "options": PatrolOptions(exit_settle=2.0),
        "restraint": FREE,
        "health": 1.0,
        "now": Reading(WALL, mono, mono),
        "regular": True,
        "read": frozenset({ROOT}),
    }
    return Court(**{**rules, **more})


def met(first: Run | Task | None = None) -> tuple[Book, Entry, Worker]:
    """A worker that moved once before, so that no grace applies."""
    book = Book()
    book.advance(ROOT, OBSERVED)
    entry = book.put(ROOT, first if isinstance(first, Run) else run(first or task()), WALL)
    assert entry is not None
    worker = entry.workers["task-1"]
    worker.fresh = False
    return book, entry, worker


# --- thresholds


def test_flapping_and_slowness_stretch_the_thresholds_of_a_worker() -> None:
    _, entry, worker = met()
    assert court().thresholds(entry, worker, OBSERVED) == Thresholds()
    assert court(health=1.5).thresholds(entry, worker, OBSERVED).dead_after == 450.0
    worker.standing = Standing(flapping_until=OBSERVED + 10.0)
    assert court().thresholds(entry, worker, OBSERVED).dead_after == 600.0
    assert court(health=1.5).thresholds(entry, worker, OBSERVED).dead_after == 900.0
    assert court().thresholds(entry, worker, OBSERVED + 10.0).dead_after == 300.0


def test_four_changes_in_ten_minutes_double_the_thresholds() -> None:
    _, entry, worker = met()
    for number in range(4):
        worker.gone_at = None if number % 2 else -100.0
        worker.process = ALIVE if number % 2 else GONE
        judge_worker(entry, worker, OBSERVED, court())
    assert worker.standing.level is Level.HEALTHY
    assert court().thresholds(entry, worker, OBSERVED).warn_after == 60.0
    assert court().thresholds(entry, worker, OBSERVED + 600.0).warn_after == 30.0


def test_the_override_of_a_tool_applies_while_the_worker_is_inside_it() -> None:
    patient = Override(Thresholds(dead_after=600.0), tool="bash")
    _, entry, worker = met(task(tool="bash"))
    assert court(overrides=(patient,)).thresholds(entry, worker, OBSERVED).dead_after == 600.0
    worker.task = task()
    assert court(overrides=(patient,)).thresholds(entry, worker, OBSERVED).dead_after == 300.0


# --- evidence


def test_an_exit_is_confirmed_by_a_second_look_a_settling_time_later() -> None:
    _, entry, worker = met()
    note_process(worker, GONE, mono=100.0)
    assert not evidence_of(entry, worker, OBSERVED, court(mono=100.0)).exit_confirmed
    assert not evidence_of(entry, worker, OBSERVED, court(mono=101.9)).exit_confirmed
    assert evidence_of(entry, worker, OBSERVED, court(mono=102.0)).exit_confirmed


def test_a_living_process_has_no_confirmed_exit() -> None:
    _, entry, worker = met()
    note_process(worker, ALIVE, mono=100.0)
    assert not evidence_of(entry, worker, OBSERVED, court(mono=1e6)).exit_confirmed


def test_an_exit_proves_no_death_while_the_result_it_may_have_left_cannot_be_read() -> None:
    _, entry, worker = met()
    note_process(worker, GONE, mono=100.0)
    assert not evidence_of(entry, worker, OBSERVED, court(mono=200.0, read=frozenset())).exit_confirmed
    entry.unread, entry.unread_rounds = ReadResult.TORN, 1
    evidence = evidence_of(entry, worker, OBSERVED, court(mono=200.0))
    assert not evidence.exit_confirmed
    assert (evidence.unread, evidence.unread_rounds) == ("torn", 1)


def test_a_wait_of_the_run_is_a_wait_of_its_workers() -> None:
    _, entry, worker = met(run(task(), waiting=Waiting("human")))
    assert evidence_of(entry, worker, OBSERVED, court()).waiting == Waiting("human")


def test_an_announced_silence_is_evidence_for_what_is_left_of_it() -> None:
    _, entry, worker = met(task(lease=Lease(60.0, "bash")))
    assert evidence_of(entry, worker, OBSERVED + 20.0, court()).lease_left == 40.0
    assert evidence_of(entry, worker, OBSERVED + 70.0, court()).lease_left == 0.0
    assert evidence_of(entry, worker, OBSERVED + 70.0, court()).silence == 10.0


# --- when a verdict is due


def test_a_worker_that_is_well_is_judged_again_when_its_silence_may_say_otherwise() -> None:
    _, entry, worker = met()
    judge_worker(entry, worker, OBSERVED, court())
    assert not is_due(entry, worker, OBSERVED + 29.9)
    assert is_due(entry, worker, OBSERVED + 30.0)


def test_a_worker_is_judged_when_it_moves_and_when_its_process_does() -> None:
    _, entry, worker = met()
    judge_worker(entry, worker, OBSERVED, court())
    worker.progressed = True
    assert is_due(entry, worker, OBSERVED)
    worker.progressed, worker.noticed = False, True
    assert is_due(entry, worker, OBSERVED)


def test_a_level_on_its_way_is_judged_in_every_round() -> None:
    _, entry, worker = met()
    judge_worker(entry, worker, OBSERVED + 40.0, court())
    assert worker.standing.level is Level.HEALTHY
    assert is_due(entry, worker, OBSERVED + 40.0)


def test_a_silent_process_that_can_be_seen_is_judged_in_every_round() -> None:
    _, entry, worker = met()
    worker.process = ALIVE
    for _ in range(6):
        judge_worker(entry, worker, OBSERVED + 100.0, court())
    assert worker.standing.level is Level.STALE
    assert is_due(entry, worker, OBSERVED + 100.0)


def test_the_end_of_a_wait_is_judged_even_if_nothing_else_moved() -> None:
    book, entry, worker = met(run(task(), waiting=Waiting("human")))
    judge_worker(entry, worker, OBSERVED, court())
    assert worker.standing.level is Level.WAITING
    book.put(ROOT, run(task()), WALL)
    assert is_due(entry, worker, OBSERVED)
    judge_worker(entry, worker, OBSERVED, court())
    assert worker.standing.level is Level.HEALTHY


def test_files_that_can_be_read_again_are_judged_even_if_nothing_in_them_moved() -> None:
    _, entry, worker = met()
    entry.unread, entry.unread_rounds = ReadResult.IO_ERROR, 3
    judge_worker(entry, worker, OBSERVED, court())
    assert worker.standing.level is Level.UNREADABLE
    entry.unread, entry.unread_rounds = None, 0
    assert is_due(entry, worker, OBSERVED)


# --- the diagnosis


@pytest.mark.parametrize(
    ("activity", "wedge"),
    [
        (None, Wedge.UNKNOWN),
        (Activity(tools=("pytest",)), Wedge.TOOL_RUNNING),
        (Activity(sockets=2), Wedge.API_STREAM_HANG),
    ],
)
def test_a_living_worker_that_is_silent_gets_a_diagnosis(activity: Activity | None, wedge: Wedge) -> None:
    _, entry, worker = met()
    worker.process = ProcessSeen(ALIVE.state, ALIVE.why, IDENTITY, "S", activity)
    for _ in range(6):
        judge_worker(entry, worker, OBSERVED + 100.0, court())
    assert (worker.standing.level, worker.standing.wedge) == (Level.STALE, wedge)


def test_a_full_disk_is_the_diagnosis_of_all() -> None:
    _, entry, worker = met()
    worker.process = ALIVE
    for _ in range(6):
        judge_worker(entry, worker, OBSERVED + 100.0, court(disk_full=True))
    assert worker.standing.wedge is Wedge.DISK_FULL


def test_the_dead_by_exit_and_the_unseen_get_none() -> None:
    _, entry, worker = met()
    for _ in range(6):
        judge_worker(entry, worker, OBSERVED + 100.0, court())
    assert (worker.standing.level, worker.standing.wedge) == (Level.STALE, None)
    note_process(worker, GONE, mono=0.0)
    judge_worker(entry, worker, OBSERVED + 100.0, court(mono=10.0))
    assert (worker.standing.reason, worker.standing.wedge) == (Reason.EXITED, None)


def test_a_silent_workers_standing_follows_its_evidence_to_the_end() -> None:
    _, entry, worker = met()
    levels = []
    for number in range(70):
        judge_worker(entry, worker, OBSERVED + 5.0 * number, court())
        levels.append(worker.standing.level)
    # The third round in a row that says so: 30, 60 and 300 s of silence, and two rounds.
    first = {level: levels.index(level) * 5.0 for level in Level if level in levels}
    assert first == {Level.HEALTHY: 0.0, Level.WARN: 40.0, Level.STALE: 70.0, Level.DEAD: 310.0}
    assert msgspec.structs.asdict(worker.standing)["reason"] is Reason.PRESUMED


# --- agents


def agent(**more: Any) -> Task:
    return task(streams=True, expectation=Expectation(warn_after=60.0, stale_after=240.0), **more)


def test_an_agent_that_speaks_now_and_then_is_warned_of_later_and_counts_as_hung_as_soon_as_ever() -> None:
    _, entry, worker = met(agent())
    worker.standing = Standing(flapping_until=OBSERVED + 10.0)
    own = court().thresholds(entry, worker, OBSERVED)
    assert (own.warn_after, own.stale_after, own.dead_after) == (120.0, 240.0, 300.0)
    slow = court(health=1.5).thresholds(entry, worker, OBSERVED)
    assert (slow.warn_after, slow.stale_after, slow.dead_after) == (180.0, 360.0, 450.0)


def test_an_agent_on_its_way_is_judged_again_no_later_than_its_thresholds_could_say_otherwise() -> None:
    _, entry, worker = met(agent())
    worker.standing = Standing(flapping_until=OBSERVED + 10.0)
    judge_worker(entry, worker, OBSERVED, court())
    assert is_due(entry, worker, OBSERVED + 60.0)


def test_an_agent_whose_model_hangs_is_named_also_where_nothing_of_its_process_is_seen() -> None:
    _, entry, worker = met(agent())
    for _ in range(6):
        judge_worker(entry, worker, OBSERVED + 250.0, court())
    assert (worker.standing.level, worker.standing.wedge) == (Level.STALE, Wedge.API_STREAM_HANG)


def test_below_a_runner_the_worker_itself_is_no_tool() -> None:
    claim = ProcessClaim(700, role="runner")
    _, entry, worker = met(task(tool="bash", claim=claim))
    worker.process = BUSY
    judge_worker(entry, worker, OBSERVED + 50.0, court())
    assert worker.verdict.level is Level.WARN
    worker.task = task(tool="bash", claim=ProcessClaim(700))
    judge_worker(entry, worker, OBSERVED + 50.0, court())
    assert (worker.verdict.level, worker.verdict.reason) == (Level.HEALTHY, Reason.BUSY)


# --- the end of a wait


@pytest.mark.parametrize("of_run", [False, True])
def test_silence_begins_where_a_wait_ended(of_run: bool) -> None:
    waits = Waiting("throttled", detail="until 12:00")

    def waiting(now: bool) -> Run:
        wait = waits if now else None
        return run(task(), waiting=wait) if of_run else run(task(waiting=wait))

    book, entry, worker = met(waiting(now=False))
    book.advance(ROOT, 50.0)
    book.put(ROOT, waiting(now=True), WALL)
    for _ in range(120):
        book.advance(ROOT, 5.0)
        book.stand_still(entry, worker, 5.0)
    book.advance(ROOT, 5.0)
    book.put(ROOT, waiting(now=False), WALL)
    assert worker.silence(book.observed[ROOT]) == 0.0
    book.advance(ROOT, 5.0)
    book.put(ROOT, waiting(now=False), WALL)
    assert worker.silence(book.observed[ROOT]) == 5.0


def test_the_end_of_a_wait_takes_no_announced_silence_away() -> None:
    book, _, worker = met(task(waiting=Waiting("human")))
    book.put(ROOT, run(task(lease=Lease(60.0, "bash"), token=(1,))), WALL)
    assert worker.heard_at == OBSERVED + 60.0
