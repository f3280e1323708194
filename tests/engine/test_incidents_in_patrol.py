"""Incidents from round to round: over restarts, at the end of runs, in masses, and as people speak of them."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest

from crewd.errors import CrewdError, NothingMatched, UsageProblem
from crewd.model.asking import Done
from crewd.model.event import Event
from crewd.model.look import ReadResult
from crewd.model.run import Run, RunStatus, TaskStatus, Waiting
from tests.engine.stage import MARK, WAITING, Stage, play, run, task

OPENED, RESOLVED = "incident.opened", "incident.resolved"


def causes(stage: Stage, type: str = OPENED) -> list[str]:
    return [str(event.data["cause"]) for event in stage.told(type)]


async def says(stage: Stage, word: Awaitable[Done]) -> Done:
    """Let a person say something, and a round pass."""
    asked = asyncio.ensure_future(word)
    await asyncio.sleep(0)
    assert stage.patrol.wake.is_set(), "nobody waits for the next regular round"
    await stage.rounds(1)
    return await asked


async def dead(stage: Stage) -> None:
    """A worker whose process is gone."""
    stage.processes.add(7, marks=(MARK,))
    stage.source.put(run(task(pid=7)))
    await stage.rounds(20)
    stage.processes.kill(7)
    await stage.rounds(5)
    assert causes(stage) == ["dead"]


def ended(status: RunStatus, **of_task: Any) -> Run:
    return run(task(pid=7, **of_task), status=status)


def test_a_word_is_durable_when_it_is_answered_and_survives_a_restart() -> None:
    async def scene(stage: Stage) -> None:
        await dead(stage)
        desk = stage.patrol.desk
        done = await says(stage, desk.acknowledge("r/t", "", by="anna", note="on it", actor="operator:root"))
        assert (done.what, done.ids) == ("1 incident is acknowledged by anna", ("r/t dead",))
        snoozed = desk.snooze("r/t", "dead", by="", note="", for_seconds=3600, actor="operator:root")
        assert (await says(stage, snoozed)).what.startswith("1 incident is snoozed until 20")
        [kept] = [each for each in stage.ledger.incidents.values() if each.resolved_at is None]
        assert (kept.acknowledged_by, kept.note, kept.snoozed_by) == ("anna", "on it", "operator:root")
        stage.restart()
        await stage.rounds(20)
        [now] = stage.patrol.picture.snapshot.incidents
        assert now == kept
        await stage.rounds(800)
        [now] = stage.patrol.picture.snapshot.incidents
        assert (now.acknowledged_by, now.snoozed_until) == ("anna", None)

    stage = play(scene)
    assert causes(stage) == ["dead"] and causes(stage, RESOLVED) == []
    assert [event.actor for event in stage.told("incident.acknowledged", "incident.snoozed")] == ["operator:root"] * 2
    [over] = stage.told("incident.updated")
    assert (over.data["change"], over.data["snoozed"], over.data["acknowledged"]) == ("snooze_over", False, True)


def test_a_word_about_nothing_is_refused_and_says_what_there_is() -> None:
    async def scene(stage: Stage) -> None:
        await dead(stage)
        desk = stage.patrol.desk
        for subject, cause, words in (
            ("r", "", "there is r/t dead"),
            ("r/t", "silent", "of cause 'silent'; there is r/t dead"),
            ("q", "", "crewd incidents list"),
        ):
            with pytest.raises(NothingMatched, match=words):
                await says(stage, desk.acknowledge(subject, cause, by="a", note="", actor="operator:a"))
        with pytest.raises(UsageProblem, match="30 days"):
            await desk.snooze("r/t", "", by="a", note="", for_seconds=31 * 86_400, actor="operator:a")

    assert play(scene).told("incident.acknowledged", "incident.snoozed") == []


def test_a_word_that_cannot_be_written_down_is_answered_with_that_and_written_later() -> None:
    async def scene(stage: Stage) -> None:
        await dead(stage)
        stage.ledger.failing = True
        with pytest.raises(CrewdError, match="the ledger cannot write it down: disk full"):
            await says(stage, stage.patrol.desk.acknowledge("r/t", "", by="a", note="", actor="operator:a"))
        stage.ledger.failing = False
        await stage.rounds(1)

    assert len(play(scene).told("incident.acknowledged")) == 1


def test_a_note_keeps_secrets_to_itself() -> None:
    async def scene(stage: Stage) -> None:
        await dead(stage)
        stage.patrol.desk.redact = lambda text: text.replace("hunter2", "***")
        await says(stage, stage.patrol.desk.acknowledge("r/t", "", by="a", note="is hunter2", actor="operator:a"))

    assert [event.data["note"] for event in play(scene).told("incident.acknowledged")] == ["is ***"]


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_run_that_ends_resolves_its_incidents_also_while_crewd_is_down(status: RunStatus) -> None:
    async def scene(stage: Stage) -> None:
        await dead(stage)
        stage.restart()
        stage.source.put(ended(status))  # its task is never closed: whoever did so was killed
        await stage.rounds(20)
        assert stage.patrol.picture.snapshot.incidents == ()

    stage = play(scene)
    assert causes(stage, RESOLVED) == ["dead"]


def test_a_task_that_ends_while_crewd_is_down_resolves_its_incidents() -> None:
    async def scene(stage: Stage) -> None:
        await dead(stage)
        stage.restart()
        stage.source.put(run(task(status=TaskStatus.COMPLETED), task("u")))
        await stage.rounds(2)

    assert causes(play(scene), RESOLVED) == ["dead"]


@pytest.mark.parametrize("down", [False, True])
def test_a_run_that_vanishes_resolves_its_incidents(down: bool) -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task()))
        await stage.rounds(2)
        stage.source.unread["r"] = ReadResult.TORN
        await stage.rounds(6)
        assert causes(stage) == ["unreadable"]
        del stage.source.runs["r"], stage.source.unread["r"]
        if down:
            stage.restart()
        await stage.rounds(3)
        assert stage.patrol.picture.snapshot.incidents == ()

    assert causes(play(scene), RESOLVED) == ["unreadable"]


def test_a_run_that_crewd_has_not_met_again_keeps_its_incidents() -> None:
    async def scene(stage: Stage) -> None:
        await dead(stage)
        stage.restart()
        stage.source.complete = False
        await stage.rounds(100)
        stage.source.complete = True
        await stage.rounds(30)

    stage = play(scene)
    assert causes(stage) == ["dead"] and causes(stage, RESOLVED) == []


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED])
def test_a_run_that_has_ended_never_opens_one(status: RunStatus) -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,))
        # It waits, its task is said to be running, its process dies, and its files can be read no more.
        stage.source.put(ended(status, waiting=WAITING))
        await stage.rounds(20)
        stage.processes.kill(7)
        stage.source.unread["r"] = ReadResult.TORN
        stage.source.unread_tasks["r", "t"] = ReadResult.TORN
        await stage.rounds(300)

    assert play(scene).told(OPENED) == []


def test_one_that_flaps_is_opened_again_and_then_damped() -> None:
    async def scene(stage: Stage) -> None:
        await stage.rounds(20)
        for _ in range(6):
            stage.source.unread["r"] = ReadResult.TORN
            await stage.rounds(6)
            stage.source.unread.clear()
            await stage.rounds(3)
        assert len(stage.ledger.incidents) == 1
        stage.restart()
        await stage.rounds(3)
        stage.source.unread["r"] = ReadResult.TORN
        await stage.rounds(600)

    async def begin(stage: Stage) -> None:
        stage.source.put(run(task()))
        await scene(stage)

    stage = play(begin)
    unreadable = [event for event in stage.told(OPENED) if event.data["cause"] == "unreadable"]
    assert [event.data["openings"] for event in unreadable] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.data["damped"] for event in unreadable] == [False] * 3 + [True] * 4
    assert len({event.data["opened_at"] for event in unreadable}) == 1
    assert [event.data["change"] for event in stage.told("incident.updated")] == ["damping_over"]


@pytest.mark.parametrize(
    ("reason", "words"), [("human", "t waits for a person"), ("throttled", "t is kept waiting by the rate limit")]
)
def test_a_wait_says_for_what(reason: str, words: str) -> None:
    async def scene(stage: Stage) -> None:
        stage.source.put(run(task(waiting=Waiting(reason, None, ""), status=TaskStatus.WAITING)))
        await stage.rounds(200)

    [event] = play(scene).told(OPENED)
    assert (event.data["cause"], event.data["kind"]) == ("waiting", reason)
    assert str(event.data["summary"]).startswith(words)


def crew_of(stage: Stage, number: int, beat: int = 0) -> None:
    for n in range(number):
        stage.source.put(run(task(beat=beat, pid=100 + n), run_id=f"r{n}", folder=f"/crew/r{n}"))


def mass(stage: Stage) -> list[Event]:
    return stage.told(OPENED, RESOLVED, "incident.updated")


def test_fifty_that_are_stopped_one_after_the_other_are_one_incident_that_names_the_cause() -> None:
    async def scene(stage: Stage) -> None:
        beats = dict.fromkeys(range(50), 0)
        for n in beats:
            stage.processes.add(100 + n, marks=(MARK,))

        def work(stopped: bool = False) -> None:
            # Each beats every 30 s, a few of them in each round: they are not silent from one moment on.
            for n in beats:
                if not stopped and (stage.patrol.number + n) % 6 == 0:
                    beats[n] += 1
                stage.source.put(run(task(beat=beats[n], pid=100 + n), run_id=f"r{n}", folder=f"/crew/r{n}"))

        await stage.rounds(40, between=work)
        for n in beats:
            stage.processes.stop(100 + n)
        await stage.rounds(400, between=lambda: work(stopped=True))
        for n in beats:
            stage.processes.resume(100 + n)
        await stage.rounds(40, between=work)
        assert stage.patrol.picture.snapshot.incidents == ()

    stage = play(scene)
    assert "dead" not in stage.levels() and stage.told("deadletter.added", "verdict.opened") == []
    opened, resolved = mass(stage)
    assert (opened.type, opened.data["cause"], resolved.type) == (OPENED, "mass_brake", RESOLVED)
    assert "stopped: SIGSTOP" in str(opened.data["summary"]) and opened.data["severity"] == "critical"


def test_one_that_is_stopped_among_many_is_told_after_a_moment() -> None:
    async def scene(stage: Stage) -> None:
        beat = 0

        def work() -> None:
            nonlocal beat
            beat += 1
            for n in range(10):
                one = task(beat=0 if n == 0 else beat, pid=100 + n)
                stage.source.put(run(one, run_id=f"r{n}", folder=f"/crew/r{n}"))

        for n in range(10):
            stage.processes.add(100 + n, marks=(MARK,))
        stage.processes.stop(100)
        await stage.rounds(60, between=work)

    stage = play(scene)
    [opened] = stage.told(OPENED)
    assert (opened.run_id, opened.data["cause"]) == ("r0", "stopped")
    level = next(event for event in stage.told("worker.level_changed") if event.data["to_level"] == "stale")
    assert 30 <= opened.at - level.at <= 40


def test_a_full_disk_is_one_incident_that_names_it_also_where_it_shows_late() -> None:
    async def scene(stage: Stage) -> None:
        for n in range(50):
            stage.source.put(run(task(), run_id=f"r{n}", folder=f"/crew/r{n}"))
        await stage.rounds(60)
        assert stage.patrol.picture.snapshot.incidents[0].kind == "no common cause found"
        stage.free = 0
        await stage.rounds(100)

    stage = play(scene)
    assert causes(stage) == ["mass_brake"]
    [later] = stage.told("incident.updated")
    assert later.data["kind"] == "the disk is full" and "the disk is full" in str(later.data["summary"])


def test_a_machine_that_slept_is_no_incident() -> None:
    async def scene(stage: Stage) -> None:
        for n in range(50):
            stage.processes.add(100 + n, marks=(MARK,))
        beat = 0

        def work() -> None:
            nonlocal beat
            beat += 1
            crew_of(stage, 50, beat)

        await stage.rounds(40, between=work)
        for hours in (1, 8, 60):
            stage.clock.suspend(hours * 3600.0)
            await stage.rounds(1)  # it looks before anybody had the time to beat
            await stage.rounds(20, between=work)

    stage = play(scene)
    assert len(stage.told("daemon.suspended")) == 3
    assert stage.told(OPENED, "daemon.brake_engaged") == [] and stage.levels() == []


def test_memory_of_the_ledger_is_enough_to_open_the_same_one_again_after_a_restart() -> None:
    async def scene(stage: Stage) -> None:
        await dead(stage)
        stage.processes.add(7, marks=(MARK,))
        stage.source.put(run(task(beat=1, pid=7)))
        await stage.rounds(3)
        assert causes(stage, RESOLVED) == ["dead"]
        stage.restart()
        await stage.rounds(20)
        stage.processes.kill(7)
        await stage.rounds(5)

    first, again = play(scene).told(OPENED)
    assert again.data["openings"] == 2 and again.data["opened_at"] == first.data["opened_at"]


def test_a_snapshot_holds_plain_values() -> None:
    async def scene(stage: Stage) -> None:
        await dead(stage)
        msgspec.json.encode(msgspec.to_builtins(stage.patrol.picture.snapshot.incidents))

    play(scene)
