"""The patrol from outside: what is on disk and in the kernel goes in, events and pictures come out."""

import msgspec
import pytest

from crewd.model.catalogue import EVENTS
from crewd.model.look import DeadLetter, ReadResult
from crewd.model.run import Lease, RunStatus, TaskStatus, Waiting
from crewd.model.verdict import Level, Reason, Wedge
from crewd.telemetry.state import State
from tests.engine.stage import MARK, WAITING, Stage, play, run, task


def test_a_silent_remote_worker_walks_through_every_level() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(40)
        stage.source.put(run(task(beat=2)))
        await stage.seconds(400)

    stage = play(scene)
    assert stage.levels() == ["warn", "stale", "dead"]
    assert stage.told("verdict.opened")[0].data["reason"] == "presumed"
    assert [event.data["cause"] for event in stage.told("incident.opened")] == ["dead"]


def test_the_same_worker_is_well_as_long_as_its_token_changes_whatever_its_clock_says() -> None:
    async def scene(stage: Stage) -> None:
        beats = iter(range(1000))
        await stage.seconds(600, lambda: stage.source.put(run(task(beat=next(beats), beat_at=0.0))))

    assert play(scene).levels() == []


def test_a_local_death_is_dead_at_once_after_a_second_look() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(60, lambda: stage.source.put(run(task(beat=int(stage.clock.mono), pid=7))))
        stage.processes.kill(7)
        await stage.rounds(1)
        assert stage.levels() == []
        await stage.rounds(1, gap=2.0)
        assert stage.levels() == ["dead"]
        assert stage.worker().standing.reason is Reason.EXITED

    play(scene)


def test_a_worker_that_exits_and_leaves_its_result_was_never_dead() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(60)
        stage.processes.kill(7)
        await stage.rounds(1)
        stage.source.put(run(task(pid=7, status=TaskStatus.COMPLETED), status=RunStatus.COMPLETED))
        await stage.seconds(30)

    stage = play(scene)
    assert stage.levels() == []
    assert [e.type for e in stage.told("task.completed", "run.completed")] == ["task.completed", "run.completed"]


def test_a_living_worker_in_which_something_moves_is_never_dead() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(3 * 3600, lambda: stage.processes.work(7, cpu_ticks=2, io_chars=2000))

    stage = play(scene)
    assert "dead" not in stage.levels()
    assert stage.worker().standing.reason is Reason.BUSY


def test_a_living_worker_in_which_nothing_moves_is_stale_with_a_diagnosis_and_later_hung() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,), sockets=1)
        stage.source.put(run(task(pid=7)))
        await stage.seconds(500)
        assert stage.worker().standing.level is Level.STALE
        assert stage.worker().standing.wedge is Wedge.API_STREAM_HANG
        await stage.seconds(1400)
        assert stage.worker().standing.reason is Reason.HUNG

    stage = play(scene)
    wedges = [event.data["wedge"] for event in stage.told("worker.wedged")]
    assert wedges[-1] == "api_stream_hang"


def test_a_reused_pid_is_another_process() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=("something else",))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(60)
        assert stage.worker().standing.reason is Reason.EXITED

    play(scene)


def test_work_that_goes_on_while_its_pid_is_not_here_goes_on_elsewhere() -> None:
    async def scene(stage: Stage) -> None:
        await stage.seconds(300, lambda: stage.source.put(run(task(beat=int(stage.clock.mono), pid=7))))
        assert stage.worker().process.why.endswith("lives elsewhere")
        assert stage.levels() == []

    play(scene)


@pytest.mark.parametrize("pause", [3600.0, 20.0])
def test_a_pause_of_crewd_itself_makes_nobody_worse(pause: float) -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(35)
        stage.source.put(run(task(beat=2)))
        await stage.rounds(1)
        await stage.rounds(1, gap=pause)
        assert stage.patrol.pace.hold.on
        await stage.rounds(3)
        assert stage.levels() == []

    play(scene)


def test_a_suspend_holds_and_ages_nobody() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(35)
        stage.source.put(run(task(beat=2)))
        await stage.rounds(1)
        stage.clock.suspend(8 * 3600)
        snapshot = await stage.rounds(1)
        assert "slept" in snapshot.health.hold
        view = snapshot.runs["r"]
        assert snapshot.silence(view, view.workers[0]) <= 10

    stage = play(scene)
    assert len(stage.told("daemon.suspended")) == 1
    assert stage.levels() == []


def test_nobody_is_dead_for_the_first_hold_after_a_restart_and_no_verdict_is_repeated() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(60)
        stage.processes.kill(7)
        await stage.seconds(20)
        assert stage.levels() == ["dead"]
        stage.restart()
        snapshot = await stage.rounds(1)
        assert snapshot.health.hold
        shown = stage.worker()
        assert shown.standing.level is Level.DEAD and shown.standing.held_by.startswith("restart"), "as it was told"
        await stage.seconds(120)
        shown = stage.worker()
        assert shown.standing.level is Level.DEAD and shown.standing.held_by == ""

    stage = play(scene)
    assert stage.levels() == ["dead"]
    assert len(stage.told("verdict.opened")) == 1
    assert len(stage.told("incident.opened")) == 1 and stage.told("incident.resolved") == []
    assert len(stage.told("run.discovered")) == 1


def test_a_worker_that_was_dead_before_the_restart_and_moves_is_told_to_be_well() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        assert stage.levels()[-1] == "dead"
        stage.restart()
        await stage.rounds(2)
        stage.source.put(run(task(beat=2)))
        await stage.rounds(1)

    stage = play(scene)
    assert stage.levels() == ["warn", "stale", "dead", "healthy"]
    assert [e.data["because"] for e in stage.told("verdict.refuted")] == ["the attempt moved again"]
    assert len(stage.told("incident.resolved")) == 1


def test_a_vanished_run_is_not_dead() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task()))
        await stage.seconds(60)
        del stage.source.runs["r"]
        await stage.seconds(600)

    stage = play(scene)
    assert "dead" not in stage.levels()
    assert len(stage.told("run.vanished")) == 1


def test_a_run_that_vanished_while_crewd_was_down_is_told_after_the_first_complete_look() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task()))
        await stage.rounds(2)
        stage.restart()
        del stage.source.runs["r"]
        stage.source.complete = False
        await stage.rounds(2)
        assert stage.told("run.vanished") == []
        stage.source.complete = True
        await stage.rounds(3)

    assert len(play(scene).told("run.vanished")) == 1


def test_an_unreadable_run_ages_nobody_proves_no_exit_and_is_an_incident_of_its_own() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(60)
        stage.source.unread["r"] = ReadResult.TORN
        stage.processes.kill(7)
        await stage.seconds(900)
        assert stage.worker().standing.level is Level.UNREADABLE
        stage.source.unread.clear()
        await stage.rounds(2)

    stage = play(scene)
    assert [event.data["cause"] for event in stage.told("incident.opened")] == ["unreadable", "dead"]
    assert [event.data["cause"] for event in stage.told("incident.resolved")] == ["unreadable"]


def test_a_root_that_cannot_be_listed_ages_nobody() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task()))
        await stage.seconds(35)
        stage.source.complete = False
        await stage.seconds(3600)

    assert play(scene).levels() == []


def test_waiting_for_a_human_stops_the_clock_and_becomes_an_incident_after_a_while() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(waiting=WAITING, status=TaskStatus.WAITING)))
        await stage.seconds(3600)
        assert stage.worker().standing.reason is Reason.HUMAN
        stage.source.put(run(task(beat=1)))
        await stage.rounds(2)

    stage = play(scene)
    assert stage.levels() == ["waiting", "healthy"]
    assert [event.data["cause"] for event in stage.told("incident.opened")] == ["waiting"]


@pytest.mark.parametrize(
    ("reason", "standing", "words"),
    [("human", Reason.HUMAN, "waits for a person"), ("throttled", Reason.THROTTLED, "rate limit of its provider")],
)
def test_whoever_waits_does_not_grow_silent_and_is_alerted_of_by_its_own_reason(
    reason: str, standing: Reason, words: str
) -> None:
    """The clock of silence stands still, and goes on from where it stood; the wait has an age of its own."""

    async def scene(stage: Stage) -> None:
        def silence() -> float:
            entry = stage.patrol.book.entries["r"]
            return entry.workers["t"].silence(stage.patrol.book.observed[entry.root])

        stage.source.put(run(task()))
        await stage.seconds(20)
        before = silence()
        assert before >= 10
        since = stage.clock.read().wall
        stage.source.put(run(task(waiting=Waiting(reason, since), status=TaskStatus.WAITING)))
        await stage.seconds(3600)
        assert silence() <= before + 5 and stage.worker().standing.reason is standing
        picture = stage.patrol.picture.snapshot
        state = {each.name: each for each in State(lambda: picture, {}, 0).collect_runs()}
        family = "crew_waiting_human" if reason == "human" else "crew_throttled"
        oldest = [each.value for each in state[f"{family}_oldest_timestamp_seconds"].samples]
        assert len(oldest) == 1 and since <= oldest[0] <= since + 10
        stage.source.put(run(task()))  # it ends without a word
        await stage.seconds(10)
        assert silence() <= before + 15

    stage = play(scene)
    assert stage.levels()[0] == "waiting"
    told = [event.data["summary"] for event in stage.told("incident.opened")]
    assert len(told) == 1 and words in told[0]
    assert not any(stage.patrol.incidents.open.values())


def test_an_announced_silence_is_no_silence() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1, lease=Lease(1000.0, "pytest"))))
        await stage.seconds(990)
        assert stage.levels() == []
        await stage.seconds(90)
        assert stage.levels() == ["warn"]

    play(scene)


def test_a_stopped_process_is_named_and_its_continuing_too() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(40, lambda: stage.source.put(run(task(beat=int(stage.clock.mono), pid=7))))
        stage.processes.stop(7)
        await stage.seconds(120)
        assert stage.worker().standing.reason is Reason.STOPPED
        assert stage.worker().standing.wedge is Wedge.STOPPED
        stage.processes.resume(7)
        stage.source.put(run(task(beat=1, pid=7)))
        await stage.rounds(1)

    assert play(scene).levels() == ["warn", "stale", "healthy"]


def test_many_that_fall_silent_at_once_are_one_incident_and_no_death() -> None:
    async def scene(stage: Stage) -> None:
        crew = [run(task(), run_id=f"r{n}", folder=f"/crew/r{n}") for n in range(10)]
        for each in crew:
            stage.source.put(each)
        await stage.seconds(1200)
        for each in crew:
            stage.source.put(msgspec.structs.replace(each, tasks=(task(beat=1),)))
        await stage.rounds(2)

    stage = play(scene)
    assert "dead" not in stage.levels()
    assert [event.data["cause"] for event in stage.told("incident.opened")] == ["mass_brake"]
    assert [event.type for event in stage.told("daemon.brake_engaged", "daemon.brake_released")] == [
        "daemon.brake_engaged",
        "daemon.brake_released",
    ]


def test_a_full_disk_is_named_as_the_common_cause() -> None:
    async def scene(stage: Stage) -> None:
        for n in range(10):
            stage.source.put(run(task(), run_id=f"r{n}", folder=f"/crew/r{n}"))
        stage.free = 0
        await stage.seconds(300)

    assert play(scene).told("daemon.brake_engaged")[0].data["cause"] == "the disk is full"


def test_exits_proven_by_the_kernel_count_one_by_one_under_the_brake() -> None:
    async def scene(stage: Stage) -> None:
        for n in range(10):
            stage.source.put(run(task(), run_id=f"r{n}", folder=f"/crew/r{n}"))
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7), run_id="local", folder="/crew/local"))
        await stage.seconds(200)
        assert stage.patrol.braking.why
        stage.processes.kill(7)
        await stage.rounds(3)
        assert stage.worker(run_id="local").standing.reason is Reason.EXITED

    play(scene)


def test_a_dead_letter_is_told_once_also_across_a_restart() -> None:
    letter = DeadLetter("r", "t", "max-retries", "max-retries", 3, "boom", None, "fake", "key")

    async def scene(stage: Stage) -> None:
        stage.source.put(run(task()))
        stage.source.letters.append(letter)
        await stage.rounds(2)
        stage.restart()
        stage.source.letters.append(letter)
        await stage.rounds(2)

    assert len(play(scene).told("deadletter.added")) == 1


def test_what_the_ledger_could_not_write_is_told_once_it_can_and_readiness_says_so_meanwhile() -> None:
    async def scene(stage: Stage) -> None:
        stage.ledger.failing = True
        stage.source.put(run(task()))
        await stage.rounds(2)
        snapshot = await stage.rounds(1)
        assert "ledger" in snapshot.health.degraded
        assert stage.told() == []
        stage.ledger.failing = False
        await stage.rounds(1)
        snapshot = await stage.rounds(1)
        assert snapshot.health.degraded == {}

    stage = play(scene)
    assert len(stage.told("run.discovered")) == 1


def test_a_write_that_failed_for_somebody_else_is_told_also_where_the_patrol_has_nothing_to_write() -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(2)
        stage.patrol.recorder.others_failed = lambda: "disk full" if stage.ledger.failing else ""
        stage.ledger.failing = True
        assert (await stage.rounds(2)).health.degraded == {"ledger": "disk full"}
        stage.ledger.failing = False
        await stage.rounds(1)
        assert (await stage.rounds(1)).health.degraded == {}

    stage = play(scene)
    assert (len(stage.told("daemon.degraded")), len(stage.told("daemon.recovered"))) == (1, 1)


def test_a_run_that_had_ended_before_crewd_came_is_one_event() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(status=TaskStatus.COMPLETED), status=RunStatus.COMPLETED))
        await stage.rounds(3)

    stage = play(scene)
    assert [event.type for event in stage.told() if event.run_id] == ["run.discovered"]


def test_a_new_attempt_inherits_no_silence() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task()))
        await stage.seconds(150)
        assert stage.levels() == ["warn", "stale"]
        stage.source.put(run(task(attempt=2)))
        snapshot = await stage.rounds(1)
        view = snapshot.runs["r"]
        assert snapshot.silence(view, view.workers[0]) == 0
        assert view.workers[0].standing.level is Level.HEALTHY

    play(scene)


def test_more_dead_letters_within_an_hour_than_the_threshold_are_told_once_and_resolved_later() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task()))
        for n in range(5):
            letter = DeadLetter("r", "t", "max-retries", "max-retries", 3, "boom", stage.clock.wall, "fake", f"k{n}")
            stage.source.letters.append(letter)
            await stage.rounds(1)
        await stage.seconds(3700, lambda: stage.source.put(run(task(beat=int(stage.clock.mono)))))

    stage = play(scene)
    assert len(stage.told("deadletter.threshold_exceeded")) == 1
    assert [event.data["cause"] for event in stage.told("incident.opened")] == ["dead_letters:crew"]
    assert len(stage.told("incident.resolved")) == 1


def test_old_dead_letters_that_are_met_for_the_first_time_are_no_storm() -> None:
    async def scene(stage: Stage) -> None:
        old = stage.clock.wall - 86_400
        stage.source.letters += [DeadLetter("r", "t", "manual", "", 1, "", old, "fake", f"k{n}") for n in range(50)]
        await stage.rounds(3)

    stage = play(scene)
    assert len(stage.told("deadletter.added")) == 50
    assert stage.told("incident.opened") == []


def test_what_cannot_be_written_at_all_costs_only_itself() -> None:
    async def scene(stage: Stage) -> None:
        stage.ledger.refuses = "bad"
        stage.source.put(run(task(), run_id="good", folder="/crew/good"))
        stage.source.put(run(task(), run_id="bad", folder="/crew/bad"))
        await stage.rounds(2)
        assert stage.patrol.recorder.refused > 0

    stage = play(scene)
    assert {event.run_id for event in stage.told("run.discovered")} == {"good"}


def test_every_type_of_event_that_is_told_is_in_the_catalogue() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(), task("u", status=TaskStatus.FAILED), task("v", status=TaskStatus.UNKNOWN)))
        await stage.seconds(400)
        stage.source.put(run(task(), status=RunStatus.UNKNOWN))
        await stage.rounds(2)

    told = {event.type for event in play(scene).told()}
    assert told <= set(EVENTS) and len(told) > 6


def test_everybody_at_work_is_on_record_from_the_first_round_on() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(), task("u")))
        await stage.rounds(1)

    rows = play(scene).ledger.standings
    assert {key: row.standing.level for key, row in rows.items()} == {
        ("r", "t"): Level.HEALTHY,
        ("r", "u"): Level.HEALTHY,
    }


def test_two_restarts_repeat_no_more_than_one() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        stage.restart()
        await stage.rounds(2)
        stage.restart()
        await stage.seconds(500)

    stage = play(scene)
    assert stage.levels() == ["warn", "stale", "dead"]
    assert len(stage.told("verdict.opened")) == 1


def test_a_torn_read_revives_nobody() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(60)
        stage.processes.kill(7)
        await stage.rounds(3)
        stage.source.unread["r"] = ReadResult.TORN
        await stage.rounds(2)
        stage.source.unread.clear()
        await stage.rounds(2)

    assert play(scene).levels() == ["dead"]


def test_a_wait_that_ends_without_a_word_announces_no_lease() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1, waiting=WAITING, status=TaskStatus.WAITING)))
        await stage.seconds(60)
        stage.source.put(run(task(beat=1)))
        await stage.rounds(1, gap=1.0)
        await stage.seconds(400)

    assert play(scene).levels() == ["waiting", "healthy", "warn", "stale", "dead"]


def test_one_slow_round_delays_no_later_verdict() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(100)
        await stage.rounds(1, gap=14.0)  # late enough to stretch all thresholds, not enough to hold
        assert stage.patrol.pace.health > 1.5
        await stage.seconds(220)
        assert stage.levels()[-1] == "dead"

    play(scene)


def test_a_worker_presumed_dead_whose_process_turns_up_is_not_dead() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        assert stage.levels()[-1] == "dead"
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(beat=1, pid=7)))
        await stage.rounds(2)

    assert play(scene).levels() == ["warn", "stale", "dead", "stale"]


def test_who_was_found_dead_again_after_a_restart_and_then_lives_is_told_and_shown_so() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        stage.restart()
        await stage.seconds(500)
        assert stage.levels()[-1] == "dead" and stage.worker().standing.held_by == ""
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(beat=1, pid=7)))
        await stage.rounds(2)
        assert stage.worker().standing.level is Level.STALE

    assert play(scene).levels() == ["warn", "stale", "dead", "stale"]


def test_the_brake_holds_the_step_into_dead_and_no_other() -> None:
    async def scene(stage: Stage) -> None:
        for n in range(10):
            stage.source.put(run(task(), run_id=f"r{n}", folder=f"/crew/r{n}"))
        await stage.seconds(200)
        assert stage.patrol.braking.why
        stage.source.put(run(task(), run_id="late", folder="/crew/late"))
        await stage.seconds(600)
        assert stage.worker(run_id="late").standing.level is Level.STALE
        assert stage.worker(run_id="late").standing.held_by.startswith("brake")

    play(scene)


def test_unreadable_files_make_nobody_better() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        stage.source.unread["r"] = ReadResult.IO_ERROR
        await stage.seconds(60)
        stage.source.unread.clear()
        await stage.rounds(1)

    stage = play(scene)
    assert stage.levels() == ["warn", "stale", "dead", "unreadable", "dead"]
    assert len(stage.told("verdict.opened")) == 1


def test_an_unknown_diagnosis_is_told_once_nothing_moves() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(250)
        assert stage.told("worker.wedged") == []
        await stage.seconds(200)

    assert [event.data["wedge"] for event in play(scene).told("worker.wedged")] == ["unknown"]


def test_a_worker_whose_own_file_is_bad_costs_its_neighbour_nothing() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task("good", pid=7), task("bad")))
        await stage.seconds(60)
        stage.source.unread_tasks["r", "bad"] = ReadResult.INVALID
        stage.processes.kill(7)
        await stage.seconds(30)
        assert stage.worker("good").standing.level is Level.DEAD
        assert stage.worker("bad").standing.level is Level.UNREADABLE
        stage.source.unread_tasks.clear()
        await stage.rounds(2)
        assert stage.worker("bad").standing.level is not Level.UNREADABLE

    play(scene)


def test_a_run_that_comes_back_repeats_nothing() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        there = run(task(pid=7))
        stage.source.put(there)
        await stage.seconds(60)
        stage.processes.kill(7)
        await stage.seconds(700)  # dead, and settled as true
        assert len(stage.told("verdict.confirmed")) == 1
        del stage.source.runs["r"]
        await stage.rounds(2)
        stage.source.put(there)
        await stage.seconds(60)
        assert stage.worker().standing.level is Level.DEAD

    stage = play(scene)
    assert len(stage.told("verdict.opened")) == 1 and stage.levels() == ["dead"]
    assert [event.data.get("returned", False) for event in stage.told("run.discovered")] == [False, True]
    assert len(stage.told("run.started")) == 1


def test_an_incident_of_silence_lasts_until_it_is_one_of_death() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(1000)

    told = [(e.type, e.data["cause"]) for e in play(scene).told("incident.opened", "incident.resolved")]
    assert told[0] == ("incident.opened", "silent") and set(told[1:]) == {
        ("incident.opened", "dead"),
        ("incident.resolved", "silent"),
    }


def test_secrets_are_taken_out_before_anything_is_kept() -> None:
    async def scene(stage: Stage) -> None:
        stage.patrol.intake.redact = lambda text: text.replace("hunter2", "***")
        stage.source.put(run(task(status=TaskStatus.FAILED, error="password hunter2", title="hunter2")))
        await stage.rounds(1)

    stage = play(scene)
    assert "hunter2" not in str(stage.ledger.runs) + str(stage.ledger.events)
    assert "***" in stage.ledger.runs["r"].tasks[0].error


def test_the_words_of_a_standing_follow_what_is_seen() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7)))
        await stage.seconds(100)
        assert "nothing moves" not in stage.worker().standing.because
        await stage.seconds(300)
        assert "nothing moves" in stage.worker().standing.because

    play(scene)


def test_a_run_of_which_nothing_could_ever_be_read_is_named_and_an_incident_until_it_can_be() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task()))
        stage.source.unread["r"] = ReadResult.INVALID
        snapshot = await stage.rounds(5)
        assert snapshot.strangers == {"r": ReadResult.INVALID} and snapshot.runs == {}
        stage.source.unread.clear()
        snapshot = await stage.rounds(2)
        assert snapshot.strangers == {} and list(snapshot.runs) == ["r"]

    stage = play(scene)
    assert [event.data["cause"] for event in stage.told("incident.opened")] == ["unreadable:r"]
    assert [event.data["cause"] for event in stage.told("incident.resolved")] == ["unreadable:r"]


@pytest.mark.parametrize("every", [1, 2, 12])
def test_roots_are_searched_in_the_first_round_however_often_later(every: int) -> None:
    async def scene(stage: Stage) -> None:
        searched: list[int] = []
        stage.patrol.lookout.discover = lambda known: searched.append(stage.patrol.number) or [stage.source]
        await stage.rounds(25)
        assert searched == list(range(1, 26, every))

    play(scene, discover_every=every)
