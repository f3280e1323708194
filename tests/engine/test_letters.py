"""Dead letters that crewd itself writes about workers of observed runs, and the count of all of them."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from crewd.engine.book import Book
from crewd.engine.letters import Letters
from crewd.engine.tidings import Tidings
from crewd.ledger.ledger import Ledger
from crewd.model.look import DeadLetter, ReadResult
from crewd.model.moment import Reading
from crewd.model.run import RunStatus, TaskStatus
from crewd.model.verdict import Level, Reason, Standing
from tests.engine.stage import MARK, Stage, play, run, task
from tests.fakes.clock import FakeClock

NOW = Reading(wall=1_767_225_600.0, mono=500.0, boot=500.0)


def letter(number: int, crew: str = "crew", runtime: str = "managed", at: float = NOW.wall) -> DeadLetter:
    key = f"{runtime}:r/t/{number}"
    return DeadLetter("r", "t", "max-retries", "enough", number, "boom", at, runtime, key, crew)


async def dies(stage: Stage) -> None:
    """A local worker works for a while, and is proven gone."""
    stage.processes.add(7, marks=(MARK,))
    stage.source.put(run(task(pid=7)))
    await stage.seconds(60)
    stage.processes.kill(7)
    while stage.levels() != ["dead"]:
        await stage.rounds(1)


def test_a_worker_that_stays_dead_for_some_regular_rounds_is_given_up_once() -> None:
    async def scene(stage: Stage) -> None:
        await dies(stage)
        assert stage.told("deadletter.added") == []
        await stage.rounds(1)
        assert stage.told("deadletter.added") == []
        await stage.rounds(1)
        assert len(stage.told("deadletter.added")) == 1
        snapshot = await stage.rounds(50)
        assert snapshot.dead_letters == {"crew": (1, stage.ledger.letters["crewd:r/t/1"].at)}

    stage = play(scene, dead_rounds=3)
    [told] = stage.told("deadletter.added")
    [kept] = stage.ledger.letters.values()
    assert (told.run_id, told.task_id, told.attempt, told.runtime, told.crew) == ("r", "t", 1, "fake", "crew")
    assert (kept.key, kept.reason, kept.crew, kept.attempts) == ("crewd:r/t/1", "heartbeat-dead", "crew", 1)
    assert told.data["reason"] == "heartbeat-dead" and told.data["words"] == kept.words != ""
    assert kept.words == stage.told("worker.level_changed")[-1].data["because"]
    assert kept.evidence["reason"] == "exited" and kept.error_class == "heartbeat_lost" and kept.fingerprint


def test_rounds_that_were_woken_early_do_not_count() -> None:
    async def scene(stage: Stage) -> None:
        await dies(stage)
        await stage.rounds(3, gap=0.5)
        assert stage.told("deadletter.added") == []

    play(scene, dead_rounds=2)


def test_one_who_is_silently_dead_is_given_up_too() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        assert stage.levels()[-1] == "dead"

    stage = play(scene)
    assert [each.evidence["reason"] for each in stage.ledger.letters.values()] == ["presumed"]


def test_nobody_is_given_up_twice_not_even_by_another_crewd() -> None:
    async def scene(stage: Stage) -> None:
        await dies(stage)
        await stage.rounds(5)
        for _ in range(2):
            stage.restart()
            snapshot = await stage.seconds(300)
            assert snapshot.dead_letters["crew"][0] == 1

    assert len(play(scene).told("deadletter.added")) == 1


def test_while_crewd_holds_fire_nobody_is_given_up() -> None:
    async def scene(stage: Stage) -> None:
        await dies(stage)
        await stage.rounds(1, gap=600.0)  # crewd itself stood still
        assert stage.patrol.pace.hold.on
        while stage.patrol.pace.hold.on:
            assert stage.told("deadletter.added") == []
            await stage.rounds(1)
        await stage.rounds(2)

    assert len(play(scene, dead_rounds=3).told("deadletter.added")) == 1


def test_under_the_brake_nobody_is_given_up() -> None:
    async def scene(stage: Stage) -> None:
        for n in range(10):
            stage.source.put(run(task(), run_id=f"r{n}", folder=f"/crew/r{n}"))
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(pid=7), run_id="local", folder="/crew/local"))
        await stage.seconds(200)
        assert stage.patrol.braking.why
        stage.processes.kill(7)
        await stage.rounds(20)
        assert stage.levels()[-1] == "dead"

    assert play(scene).told("deadletter.added") == []


def test_the_dead_of_managed_runs_are_their_engines() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.tells_itself = True
        await dies(stage)
        await stage.rounds(20)

    assert play(scene).ledger.letters == {}


def test_one_who_lives_after_all_is_taken_back() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        assert list(stage.ledger.letters) == ["crewd:r/t/1"]
        stage.source.put(run(task(beat=2)))
        snapshot = await stage.rounds(1)
        assert snapshot.dead_letters == {}
        await stage.seconds(1000)  # and is dead once more: of the same attempt there is no second letter

    stage = play(scene)
    [kept] = stage.ledger.letters.values()
    assert (kept.state, kept.settled_by, kept.note) == (
        "discarded",
        "daemon",
        "it was not dead: the attempt moved again",
    )
    [told] = stage.told("deadletter.discarded")
    assert told.data["key"] == kept.key and told.actor == "daemon" and told.crew == "crew"
    assert stage.levels()[-1] == "dead" and len(stage.told("deadletter.added")) == 1


def test_one_who_lives_after_its_verdict_was_settled_is_taken_back_too() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(1500)
        assert len(stage.told("verdict.confirmed")) == 1
        stage.source.put(run(task(beat=2)))
        await stage.rounds(1)

    assert [each.state for each in play(scene).ledger.letters.values()] == ["discarded"]


def test_one_who_brings_its_result_after_a_restart_is_taken_back() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        stage.restart()
        await stage.rounds(2)
        stage.source.put(run(task(beat=1, status=TaskStatus.COMPLETED), status=RunStatus.COMPLETED))
        snapshot = await stage.rounds(1)
        assert snapshot.dead_letters == {}

    [kept] = play(scene).ledger.letters.values()
    assert (kept.state, kept.note) == ("discarded", "it was not dead: the attempt brought a clean result")
    assert kept.at is not None and kept.evidence  # the rest of it stays as it was written


def test_another_attempt_proves_nothing_about_the_one_that_was_given_up() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        stage.source.put(run(task(beat=1, attempt=2)))
        await stage.rounds(2)
        stage.source.put(run(task(beat=2, attempt=2)))
        await stage.rounds(2)

    assert [each.state for each in play(scene).ledger.letters.values()] == ["open"]


def test_rounds_in_which_its_files_cannot_be_read_do_not_count() -> None:
    async def scene(stage: Stage) -> None:
        await dies(stage)
        stage.source.unread["r"] = ReadResult.TORN
        await stage.rounds(20)
        assert stage.told("deadletter.added") == []
        stage.source.unread.clear()
        await stage.rounds(3)

    assert len(play(scene, dead_rounds=3).told("deadletter.added")) == 1


def test_rounds_in_which_its_root_does_not_answer_do_not_count() -> None:
    async def scene(stage: Stage) -> None:
        await dies(stage)
        stage.source.complete = False
        await stage.rounds(10)

    assert play(scene).told("deadletter.added") == []


def test_what_the_ledger_could_not_write_at_first_is_taken_back_in_the_same_piece() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(290)
        stage.ledger.failing = True
        await stage.seconds(100)
        stage.source.put(run(task(beat=2)))
        await stage.rounds(1)
        assert stage.ledger.letters == {}
        stage.ledger.failing = False
        await stage.rounds(1)

    stage = play(scene)
    assert [each.state for each in stage.ledger.letters.values()] == ["discarded"]
    assert len(stage.told("deadletter.added")) == len(stage.told("deadletter.discarded")) == 1


@pytest.mark.parametrize(("count", "over"), [(3, False), (4, True)])
def test_letters_of_managed_runs_count_towards_the_threshold(count: int, over: bool) -> None:
    letters, tidings = Letters(Book()), Tidings()
    for number in range(count):
        letters.note(letter(number), running=100.0 + number)
    letters.over_threshold(200.0, 3, NOW, tidings)
    assert [event.crew for event in tidings.events] == (["crew"] if over else [])
    assert [incident.cause for incident in letters.incidents(NOW.wall, 3)] == (["dead_letters:crew"] if over else [])


def test_letters_of_managed_runs_are_counted_while_they_are_open_and_others_for_ever() -> None:
    managed = [letter(1, at=NOW.wall - 50), letter(2, crew="night")]
    own = msgspec.structs.replace(letter(3, runtime="pi_crew", at=NOW.wall - 90), key="crewd:r/t/3")
    theirs = {"crew": (4, NOW.wall - 100), "night": (1, NOW.wall)}
    letters = Letters(Book())
    letters.recall(theirs, managed, [own])
    # Of the four of the crew one is managed and one is crewd's own: two are left, which only their runtime knows.
    assert letters.totals() == {"crew": (3, NOW.wall - 100)}
    letters.managed = lambda: {"crew": (1, NOW.wall - 50), "night": (1, NOW.wall)}
    assert letters.totals() == {"crew": (4, NOW.wall - 100), "night": (1, NOW.wall)}
    letters.refute(("r", "t", 3), "it moved", NOW, Tidings())
    assert letters.totals() == {"crew": (3, NOW.wall - 100), "night": (1, NOW.wall)}


def test_the_ledger_gives_crewds_own_open_letters_back_and_no_others(tmp_path: Path) -> None:
    own, gone, theirs = letter(1), letter(2), letter(3, runtime="pi_crew")
    own, gone = (msgspec.structs.replace(each, key=f"crewd:r/t/{each.attempts}") for each in (own, gone))

    async def scene() -> None:
        ledger = Ledger.open(tmp_path, FakeClock())
        tidings = Tidings(letters=[own, gone, theirs])
        await ledger.commit(tidings.batch())
        tidings = Tidings(letters_settled=[msgspec.structs.replace(gone, state="discarded", settled_by="daemon")])
        assert not tidings.empty()
        await ledger.commit(tidings.batch())
        memory = ledger.recall()
        assert memory.own_letters == (own,) and memory.letters_open["crew"][0] == 2
        assert {own.key, gone.key, theirs.key} == memory.letter_keys
        assert memory.letters_at == ((NOW.wall, "crew"),) * 2  # what was taken back is not counted
        await ledger.close()

    asyncio.run(scene())


def test_a_letter_that_is_taken_back_costs_only_itself_where_something_else_cannot_be_written() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        await stage.seconds(400)
        stage.ledger.refuses = "bad"
        stage.source.put(run(task(), run_id="bad", folder="/crew/bad"))
        stage.source.put(run(task(beat=2)))
        await stage.rounds(1)
        assert stage.patrol.recorder.refused > 0

    assert [each.state for each in play(scene).ledger.letters.values()] == ["discarded"]


def test_rounds_in_which_one_attempt_was_dead_are_not_held_against_the_next() -> None:
    book, tidings = Book(), Tidings()
    letters = Letters(book)
    book.advance("root", 5.0)
    for number in (1, 2):
        entry = book.put("root", run(task(attempt=number)), NOW.wall)
        assert entry is not None
        entry.workers["t"].standing = Standing(Level.DEAD, Reason.EXITED, "its process is gone")
        if number == 1:
            letters.died(entry, entry.workers["t"])
        letters.bury(2, True, NOW, 100.0, tidings)
    assert tidings.letters == []


def theirs(at: float, key: str = "fake:1") -> DeadLetter:
    return DeadLetter("r", "t", "heartbeat-dead", "heartbeat-dead", 0, "", at, "fake", key)


def test_whom_its_runtime_gave_up_crewd_does_not_give_up_as_well_nor_does_the_next_crewd() -> None:
    async def scene(stage: Stage) -> None:
        began = stage.clock.wall
        stage.source.put(run(task(beat=1, started_at=began)))
        stage.source.letters.append(theirs(began + 10))
        await stage.seconds(400)
        assert stage.levels()[-1] == "dead"
        stage.restart()
        stage.source.letters.append(theirs(began + 10))  # it is read anew
        await stage.seconds(400)

    stage = play(scene)
    assert stage.levels()[-1] == "dead" and list(stage.ledger.letters) == ["fake:1"]
    assert stage.ledger.letters["fake:1"].crew == "crew"
    assert len(stage.told("deadletter.added")) == 1


def test_a_letter_of_the_runtime_about_a_former_attempt_is_no_letter_of_this_one() -> None:
    async def scene(stage: Stage) -> None:
        began = stage.clock.wall
        stage.source.put(run(task(beat=1, started_at=began)))
        stage.source.letters.append(theirs(began - 10))
        await stage.seconds(400)

    assert list(play(scene).ledger.letters) == ["fake:1", "crewd:r/t/1"]


@pytest.mark.parametrize("ended", [False, True])
def test_what_its_runtime_gives_up_after_crewd_did_is_one_letter_and_the_runtimes(ended: bool) -> None:
    async def scene(stage: Stage) -> None:
        began = stage.clock.wall
        stage.source.put(run(task(beat=1, started_at=began)))
        await stage.seconds(400)
        assert list(stage.ledger.letters) == ["crewd:r/t/1"]
        stage.source.letters.append(theirs(stage.clock.wall))
        if ended:
            stage.source.put(run(task(beat=1, started_at=began, status=TaskStatus.FAILED), status=RunStatus.FAILED))
        snapshot = await stage.rounds(1)
        assert snapshot.dead_letters["crew"][0] == 1

    stage = play(scene, dead_letters_per_hour=1)
    assert stage.told("deadletter.threshold_exceeded") == []  # one task given up is one, whoever says so
    assert {key: each.state for key, each in stage.ledger.letters.items()} == {
        "crewd:r/t/1": "discarded",
        "fake:1": "open",
    }
    assert stage.ledger.letters["crewd:r/t/1"].note == "its runtime gave it up as well: fake:1"


def test_a_crew_with_too_many_letters_is_told_once_and_over_when_their_hour_is_whatever_restarts() -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(beat=1)))
        for number in range(4):
            stage.source.letters.append(theirs(stage.clock.wall, f"fake:{number}"))
        await stage.seconds(600)
        stage.restart()
        await stage.seconds(600)
        assert too_many(stage) == ["incident.opened"]
        await stage.seconds(3000)
        stage.restart()
        await stage.seconds(100)

    stage = play(scene)
    assert too_many(stage) == ["incident.opened", "incident.resolved"]
    assert len(stage.told("deadletter.threshold_exceeded")) == 1


def too_many(stage: Stage) -> list[str]:
    events = stage.ledger.events
    return [each.type for each in events if each.data.get("cause") == "dead_letters:crew"]
