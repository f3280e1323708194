"""Many that die at once: each is dead, and people hear of it once."""

import msgspec
import pytest

from crewd.engine.mass_deaths import NO_MEMORY, RESTARTED, UNKNOWN
from crewd.model.event import Event
from crewd.model.process import ProcessClaim
from crewd.model.run import Run, RunStatus
from tests.engine.stage import MARK, Stage, play, run, task

MANY = 50
OPENED, RESOLVED = "incident.opened", "incident.resolved"


def crew_of(stage: Stage, count: int = MANY, runs: int = 1, runner: int | None = None) -> list[int]:
    """So many workers with a process each, in so many runs of two crews at most; gives their pids."""
    pids = list(range(100, 100 + count))
    for pid in pids:
        stage.processes.add(pid, marks=(MARK,))
    for number in range(runs):
        tasks = [task(f"t{pid}", 0, pid) for pid in pids[number::runs]]
        claim = None if runner is None else ProcessClaim(runner, None, (MARK,))
        made = Run(
            f"r{number}", "fake", f"crew{number % 2}", RunStatus.RUNNING, "running", f"/crew/r{number}", tuple(tasks),
            runner=claim,
        )  # fmt: skip
        stage.source.put(made)
    return pids


def end(stage: Stage, pids: list[int]) -> None:
    for pid in pids:
        stage.processes.kill(pid)


def causes(events: list[Event]) -> list[str]:
    return [str(event.data["cause"]) for event in events]


def test_fifty_proven_exits_are_one_incident_and_fifty_verdicts() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, runs=5)
        await stage.rounds(4)
        end(stage, pids)
        await stage.rounds(20)

    stage = play(scene)
    [incident] = stage.told(OPENED)
    assert (incident.data["cause"], incident.data["subject"]) == ("mass_death", "crewd")
    assert incident.data["severity"] == "critical" and incident.data["kind"] == UNKNOWN
    assert str(incident.data["summary"]).startswith("50 workers died together")
    assert incident.data["crews"] == ["crew0", "crew1"], "channels of either crew are told"
    assert len(stage.told("verdict.opened")) == MANY
    assert len([each for each in stage.told("worker.level_changed") if each.data["to_level"] == "dead"]) == MANY
    assert len(stage.told("deadletter.added")) == MANY


def test_it_ends_when_nobody_of_them_is_at_work_any_more_and_its_members_stay_without_one_until_then() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 6)
        await stage.rounds(4)
        end(stage, pids)
        await stage.rounds(10)
        assert causes(stage.told(OPENED)) == ["mass_death"]
        for left in ([pids[0]], []):
            assert stage.told(RESOLVED) == []
            stage.source.put(run(*[task(f"t{pid}", 0, pid) for pid in left], run_id="r0"))
            await stage.rounds(10)

    stage = play(scene)
    assert causes(stage.told(OPENED)) == causes(stage.told(RESOLVED)) == ["mass_death"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_few_are_told_at_once_each_by_itself(count: int) -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 20)
        await stage.rounds(4)
        end(stage, pids[:count])
        await stage.rounds(4)
        assert causes(stage.told(OPENED)) == ["dead"] * count

    play(scene)


def test_one_that_died_while_many_ended_properly_is_told_by_itself() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 20)
        await stage.rounds(4)
        end(stage, pids)
        await stage.rounds(1, gap=1.0)
        stage.source.put(run(task(f"t{pids[0]}", 0, pids[0]), run_id="r0"))  # the results of the others are there
        await stage.rounds(3)

    stage = play(scene)
    assert [(e.data["cause"], e.data["subject"]) for e in stage.told(OPENED)] == [("dead", "r0/t100")]


def test_those_that_follow_one_after_the_other_join_and_those_before_keep_their_own() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 12)
        await stage.rounds(4)
        for pid in pids:
            end(stage, [pid])
            await stage.rounds(1, gap=1.5)
        await stage.rounds(3)

    stage = play(scene)
    told = causes(stage.told(OPENED))
    assert told.count("mass_death") == 1 and told.count("dead") <= 4, told
    [known] = [each for each in stage.patrol.incidents.all_open() if each.cause == "mass_death"]
    assert known.summary.startswith("12 workers died together")


@pytest.mark.parametrize("cause", ["runner", "memory", "boot", "one process", "disk"])
def test_it_names_what_is_common_to_them(cause: str) -> None:
    kills = 3

    async def scene(stage: Stage) -> None:
        nonlocal kills
        stage.patrol.oom_kills = lambda: kills
        if cause == "one process":
            stage.processes.add(100, marks=(MARK,))
            pids = [100]
            stage.source.put(run(*[task(f"t{number}", 0, 100) for number in range(8)], run_id="r0"))
        elif cause == "boot":
            claim = ProcessClaim(99, None, (MARK,), boot_id="boot-0", host="here")
            tasks = [msgspec.structs.replace(task(f"t{number}"), claim=claim) for number in range(8)]
            stage.source.put(run(*tasks, run_id="r0"))
            pids = []
        else:
            stage.processes.add(7, marks=(MARK,))
            pids = crew_of(stage, 8, runner=7 if cause == "runner" else None)
        await stage.rounds(4)
        if cause == "runner":
            end(stage, [7])
        if cause == "memory":
            kills += 8
        if cause == "disk":
            stage.free = 0
        end(stage, pids)
        await stage.rounds(10)

    stage = play(scene)
    expected = {
        "runner": "their runner ended, pid 7",
        "memory": NO_MEMORY,
        "boot": RESTARTED,
        "one process": "all were one process, pid 100",
        "disk": "the disk is full",
    }
    kinds = [event.data["kind"] for event in stage.told(OPENED) if event.data["cause"] == "mass_death"]
    assert kinds == [expected[cause]]


def test_a_restart_of_crewd_tells_nothing_of_it_again() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage)
        await stage.rounds(4)
        end(stage, pids)
        await stage.rounds(10)
        stage.restart()
        await stage.rounds(40)
        assert causes(stage.told(OPENED)) == ["mass_death"] and stage.told(RESOLVED) == []
        assert [each.cause for each in stage.patrol.incidents.all_open()] == ["mass_death"]

    play(scene)


def test_a_run_that_is_called_crewd_is_not_taken_for_crewd_itself() -> None:
    from crewd.model.look import ReadResult

    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 6)
        stage.source.put(run(task("t"), run_id="crewd"))
        await stage.rounds(4)
        end(stage, pids)
        await stage.rounds(10)
        stage.source.unread["crewd"] = ReadResult.TORN
        await stage.rounds(6)
        assert {(each.subject, each.cause) for each in stage.patrol.incidents.all_open()} == {
            ("crewd", "mass_death"),
            ("crewd/", "unreadable"),
        }
        stage.source.unread.clear()
        await stage.rounds(6)
        assert [each.subject for each in stage.patrol.incidents.all_open()] == ["crewd"]

    play(scene)
