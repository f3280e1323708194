"""Agents judged by the whole patrol in cases that no genuine run lasted long enough for."""

from typing import Any

import pytest

from crewd.model.run import Expectation, Task, Waiting
from crewd.model.verdict import Level, Reason, Wedge
from tests.engine.stage import MARK, Stage, play, run, task

EXPECTED = Expectation(warn_after=60.0, stale_after=240.0)


def agent(beat: int = 0, **more: Any) -> Task:
    return task(beat=beat, pid=7, streams=True, expectation=EXPECTED, **more)


async def settle(stage: Stage, **process: Any) -> None:
    """A crewd that has been up for a while, and an agent that has just spoken."""
    stage.processes.add(7, marks=(MARK,), **process)
    stage.source.put(run(agent()))
    await stage.seconds(40)
    stage.source.put(run(agent(1)))
    await stage.rounds(1)


def test_a_silent_tool_is_busy_for_as_long_as_its_process_runs() -> None:
    async def scene(stage: Stage) -> None:
        await settle(stage, tools=("bash", "make"))
        stage.source.put(run(agent(2, tool="Bash")))
        await stage.seconds(290)
        assert stage.levels() == []
        assert (stage.worker().verdict.reason, stage.worker().verdict.row) == (Reason.BUSY, 7)
        await stage.seconds(3 * 3600)
        assert (stage.worker().standing.level, stage.worker().standing.reason) == (Level.STALE, Reason.BUSY)
        assert stage.worker().standing.wedge is Wedge.TOOL_RUNNING

    stage = play(scene)
    reasons = {event.data["reason"] for event in stage.told("worker.level_changed")}
    assert reasons == {"busy"} and "dead" not in stage.levels()
    assert stage.told("incident.opened") == []


def test_a_tool_whose_process_is_gone_is_no_excuse() -> None:
    async def scene(stage: Stage) -> None:
        await settle(stage, tools=("bash",))
        stage.source.put(run(agent(2, tool="Bash")))
        await stage.seconds(120)
        assert stage.levels() == []
        stage.processes.process(7).tools = ()
        await stage.seconds(60)
        assert stage.levels() == ["warn"]

    play(scene)


def test_a_model_that_hangs_is_named_at_its_own_threshold_and_its_agent_is_never_dead() -> None:
    async def scene(stage: Stage) -> None:
        await settle(stage, sockets=None)
        await stage.seconds(235)
        assert stage.levels() == ["warn"] and stage.told("worker.wedged") == []
        await stage.seconds(15)
        assert stage.levels() == ["warn", "stale"]
        assert [event.data["wedge"] for event in stage.told("worker.wedged")] == ["api_stream_hang"]
        assert [event.data["cause"] for event in stage.told("incident.opened")] == ["silent"]
        await stage.seconds(3 * 3600)
        assert stage.levels() == ["warn", "stale"]
        stage.source.put(run(agent(2)))
        await stage.rounds(1)

    stage = play(scene)
    assert stage.levels() == ["warn", "stale", "healthy"]
    assert len(stage.told("incident.resolved")) == 1


def test_a_model_that_hangs_again_and_again_is_named_each_time() -> None:
    async def scene(stage: Stage) -> None:
        await settle(stage)
        for beat in range(2, 6):
            await stage.seconds(300)
            assert stage.worker().standing.wedge is Wedge.API_STREAM_HANG
            stage.source.put(run(agent(beat)))
            await stage.rounds(1)

    assert len(play(scene).told("worker.wedged")) == 4


def test_the_bytes_of_its_own_timers_are_no_word_of_its_model() -> None:
    async def scene(stage: Stage) -> None:
        await settle(stage, sockets=1)
        await stage.seconds(290, lambda: stage.processes.work(7, io_chars=2000))
        standing = stage.worker().standing
        assert (standing.level, standing.wedge) == (Level.STALE, Wedge.API_STREAM_HANG)

    assert len(play(scene).told("worker.wedged")) == 1


@pytest.mark.parametrize(
    ("hint", "wedge"),
    [
        ("429 Too Many Requests", Wedge.RATE_LIMITED),
        ("401 Unauthorized", Wedge.AUTH_EXPIRED),
        ("", Wedge.API_STREAM_HANG),
    ],
)
def test_what_its_provider_said_last_is_why_it_is_silent(hint: str, wedge: Wedge) -> None:
    async def scene(stage: Stage) -> None:
        await settle(stage)
        stage.source.put(run(agent(2, hint=hint)))
        await stage.seconds(260)
        assert stage.worker().standing.wedge is wedge

    play(scene)


def test_a_wait_of_ten_minutes_counts_for_nothing_when_it_is_over() -> None:
    async def scene(stage: Stage) -> None:
        await settle(stage)
        await stage.seconds(50)
        waits = Waiting("throttled", detail="until 12:10")
        stage.source.put(run(agent(1, waiting=waits)))
        await stage.seconds(600)
        assert (stage.worker().standing.level, stage.worker().standing.reason) == (Level.WAITING, Reason.THROTTLED)
        stage.source.put(run(agent(1)))
        snapshot = await stage.rounds(1)
        view = snapshot.runs["r"]
        assert snapshot.silence(view, view.workers[0]) == 0.0
        await stage.seconds(55)
        assert stage.levels() == ["waiting", "healthy"]
        await stage.seconds(180)
        assert "stale" not in stage.levels()
        await stage.seconds(20)
        assert stage.worker().standing.wedge is Wedge.API_STREAM_HANG

    play(scene)


def test_a_killed_and_a_stopped_agent_are_judged_as_others_are() -> None:
    async def scene(stage: Stage) -> None:
        await settle(stage, tools=("bash",))
        stage.source.put(run(agent(2, tool="Bash")))
        await stage.rounds(1)
        stage.processes.process(7).tools = ()
        stage.processes.stop(7)
        await stage.seconds(300)
        assert (stage.worker().standing.level, stage.worker().standing.reason) == (Level.STALE, Reason.STOPPED)
        stage.processes.kill(7)
        await stage.rounds(2)
        assert (stage.worker().standing.level, stage.worker().standing.reason) == (Level.DEAD, Reason.EXITED)

    play(scene)


def test_who_is_to_be_warned_of_early_is_looked_at_as_early() -> None:
    async def scene(stage: Stage) -> None:
        stage.processes.add(7, marks=(MARK,), tools=("bash",))
        hasty = Expectation(warn_after=5.0, stale_after=10.0, dead_after=200.0)
        stage.source.put(run(task(beat=1, pid=7, tool="bash", expectation=hasty)))
        await stage.seconds(40)
        stage.source.put(run(task(beat=2, pid=7, tool="bash", expectation=hasty)))
        await stage.seconds(150)

    assert play(scene).levels() == []
