"""Many that die at once: each is dead, and people hear of it once."""

import msgspec
import pytest

from crewd.engine.mass_deaths import NO_MEMORY, RESTARTED, UNKNOWN, told_apart
from crewd.model.event import Event
from crewd.model.look import ReadResult
from crewd.model.process import ProcessClaim
from crewd.model.run import Run, RunStatus
from crewd.model.verdict import Incident
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


def of_deaths(stage: Stage) -> list[str]:
    return [each for each in causes(stage.told(OPENED)) if not each.startswith("unreadable")]


def news_of_masses(stage: Stage) -> list[tuple[str, str, tuple[str, ...], int]]:
    """Kind, change, crews and number of the news, of each event of a mass."""
    found = [each for each in stage.told(OPENED, "incident.updated") if each.data["cause"] == "mass_death"]
    return [
        (
            str(each.data["kind"]),
            str(each.data.get("change", "")),
            tuple(each.data.get("crews") or [each.crew]),
            int(each.data.get("anew", 0)),
        )
        for each in found
    ]


@pytest.mark.parametrize("seen", ["", "acknowledged", "snoozed"])
def test_who_die_together_while_an_older_mass_lies_about_are_news_with_a_cause_of_their_own(seen: str) -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 16)
        await stage.rounds(4)
        end(stage, pids[:8])
        await stage.rounds(10)
        incidents, [mass] = stage.patrol.incidents, stage.patrol.incidents.all_open()
        wall = stage.clock.read().wall
        if seen == "acknowledged":
            incidents.acknowledge(mass, "anna", "", "operator:anna", wall)
        elif seen == "snoozed":
            incidents.snooze(mass, "anna", "", wall + 9000.0, "operator:anna", wall)
        await stage.rounds(20)
        stage.free = 0
        end(stage, pids[8:])
        await stage.rounds(10)
        assert news_of_masses(stage) == [
            (f"all are of run r0; {UNKNOWN}", "", ("crew0",), 0),
            ("the disk is full", "more", ("crew0",), 1),
        ]
        [mass] = [each for each in stage.patrol.incidents.all_open() if each.cause == "mass_death"]
        assert (mass.acknowledged_at, mass.snoozed_until) == (None, None), "nobody has seen these"
        assert mass.summary.startswith("8 more workers died together (the disk is full): r0/t108, r0/t109, r0/t110")
        assert "16 with those before them" in mass.summary

    play(scene)


def test_a_few_that_die_one_after_the_other_while_an_older_mass_lies_about_are_all_told() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 16)
        await stage.rounds(4)
        end(stage, pids[:8])
        await stage.rounds(30)
        for pid in pids[8:12]:
            end(stage, [pid])
            await stage.rounds(2, gap=2.5)
        await stage.rounds(10)
        alone = [each for each in stage.told(OPENED) if each.data["cause"] == "dead"]
        assert len(alone) == 3 and [change for _, change, _, _ in news_of_masses(stage)] == ["", "more"]
        [mass] = [each for each in stage.patrol.incidents.all_open() if each.cause == "mass_death"]
        assert mass.summary.startswith("1 more worker died (") and "12 with those before them" in mass.summary

    play(scene)


def test_a_crew_whose_workers_follow_the_others_hears_of_it_and_its_name_stays_known() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 12, runs=2)
        await stage.rounds(4)
        end(stage, pids[::2])
        await stage.rounds(3)
        end(stage, pids[1:4:2])
        await stage.rounds(3)
        assert [(change, crews) for _, change, crews, _ in news_of_masses(stage)] == [
            ("", ("crew0",)),
            ("crews", ("crew0", "crew1")),
        ]
        [mass] = stage.patrol.incidents.all_open()
        assert (mass.crew, mass.run_id) == ("crew0", "r0"), "an Alertmanager knows it by them"
        assert mass.summary.startswith("8 workers died together") and " and 5 more" in mass.summary

    play(scene)


def test_a_mass_that_comes_back_soon_is_that_of_those_who_died_now() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 12, runs=2)
        await stage.rounds(4)
        end(stage, pids[::2])
        await stage.rounds(4)
        [mass] = stage.patrol.incidents.all_open()
        stage.patrol.incidents.acknowledge(mass, "anna", "", "operator:anna", stage.clock.read().wall)
        stage.source.runs.pop("r0")
        await stage.rounds(2)
        assert causes(stage.told(RESOLVED)) == ["mass_death"]
        end(stage, pids[1::2])
        await stage.rounds(4)
        [mass] = stage.patrol.incidents.all_open()
        assert (mass.openings, mass.crew, mass.run_id, mass.crews) == (2, "crew1", "r1", ())
        assert mass.acknowledged_at is None, "others died than those that anna has seen"
        assert news_of_masses(stage)[-1][2:] == (("crew1",), 1), "also where its end was not told yet"

    play(scene)


@pytest.mark.parametrize("more", [0, 2, 6])
def test_who_died_while_crewd_was_down_is_news_beside_those_of_a_mass_that_was_told(more: int) -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 14)
        await stage.rounds(4)
        end(stage, pids[:8])
        await stage.rounds(10)
        stage.restart()
        end(stage, pids[8 : 8 + more])
        await stage.rounds(40)
        assert [change for _, change, _, _ in news_of_masses(stage)] == ["", "more"][: 2 if more else 1]
        assert causes(stage.told(OPENED)) == ["mass_death"] and stage.told(RESOLVED) == []
        if more:
            [mass] = stage.patrol.incidents.all_open()
            assert mass.summary.startswith(f"{more} more workers") and f"{8 + more} with" in mass.summary

    play(scene)


def test_who_cannot_be_judged_keeps_the_others_waiting_for_a_moment_only_and_they_stay_together() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 16, runs=2)
        await stage.rounds(4)
        stage.source.unread["r1"] = ReadResult.TORN
        end(stage, pids)
        await stage.rounds(3)
        assert of_deaths(stage) == [], "those of r1 may as well have ended properly"
        await stage.rounds(6)
        assert of_deaths(stage) == ["mass_death"]
        stage.source.unread.clear()
        await stage.rounds(10)

    stage = play(scene)
    told = causes(stage.told(OPENED))
    assert told.count("mass_death") == 1 and len(news_of_masses(stage)) == 2, "crew1 hears of it as well"


def test_a_few_who_wait_for_somebody_who_cannot_be_judged_are_told_by_themselves() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 16, runs=2)
        await stage.rounds(4)
        stage.source.unread["r1"] = ReadResult.TORN
        end(stage, [*pids[0:6:2], *pids[1:4:2]])
        await stage.rounds(9)
        assert of_deaths(stage) == ["dead"] * 3

    play(scene)


def test_it_is_told_with_the_number_of_all_who_are_gone_by_then() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 20)
        await stage.rounds(4)
        end(stage, pids[:5])
        await stage.rounds(1, gap=1.0)
        end(stage, pids[5:10])
        await stage.rounds(3, gap=1.5)
        await stage.rounds(3)

    stage = play(scene)
    [opened] = stage.told(OPENED)
    assert str(opened.data["summary"]).startswith("10 workers died together")


def test_who_dies_soon_after_a_new_crewd_met_the_former_ones_again_is_news() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 14)
        await stage.rounds(4)
        end(stage, pids[:8])
        await stage.rounds(10)
        stage.restart()
        await stage.rounds(8)
        assert stage.patrol.deaths.members
        end(stage, pids[8:13])
        await stage.rounds(10)
        assert [change for _, change, *_ in news_of_masses(stage)] == ["", "more"]
        assert causes(stage.told(OPENED)) == ["mass_death"]

    play(scene)


@pytest.mark.parametrize("late", [4, 8, 20])
def test_members_that_a_new_crewd_meets_later_than_the_others_are_no_news(late: int) -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 16, runs=2)
        await stage.rounds(4)
        end(stage, [*pids[::2], *pids[1:4:2]])
        await stage.rounds(10)
        stage.restart()
        stage.source.unread["r1"] = ReadResult.TORN
        await stage.rounds(late)
        stage.source.unread.clear()
        await stage.rounds(10)
        assert of_deaths(stage) == ["mass_death"]
        assert len(news_of_masses(stage)) == 1

    play(scene)


def test_a_mass_of_a_former_crewd_ends_where_nobody_of_it_is_met_again_and_nothing_is_remembered_of_it() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 8)
        await stage.rounds(4)
        for pid in pids[:2]:
            end(stage, [pid])
            await stage.rounds(2)
        end(stage, pids[2:])
        await stage.rounds(10)
        deaths = stage.patrol.deaths
        assert (len(deaths.members), len(deaths._alone), len(deaths._wave)) == (6, 2, 6)
        stage.restart()
        stage.source.runs.clear()
        await stage.rounds(40)
        assert sorted(causes(stage.told(RESOLVED))) == ["dead", "dead", "mass_death"]

    play(scene)


def test_nothing_is_remembered_of_those_who_are_at_work_no_more() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 8)
        await stage.rounds(4)
        for pid in pids[:2]:
            end(stage, [pid])
            await stage.rounds(2)
        end(stage, pids[2:])
        await stage.rounds(10)
        stage.source.runs.clear()
        await stage.rounds(4)
        deaths = stage.patrol.deaths
        assert not (deaths.members or deaths._alone or deaths._wave or deaths._waiting or deaths.cause)
        assert sorted(causes(stage.told(RESOLVED))) == ["dead", "dead", "mass_death"]

    play(scene)


def test_what_is_common_to_those_who_died_while_crewd_was_down_is_said_of_them_alone() -> None:
    async def scene(stage: Stage) -> None:
        pids = crew_of(stage, 8)
        stage.processes.add(300, marks=(MARK,))
        stage.source.put(run(*[task(f"u{number}", 0, 300) for number in range(5)], run_id="r9"))
        await stage.rounds(4)
        end(stage, pids)
        await stage.rounds(10)
        stage.restart()
        end(stage, [300])
        await stage.rounds(20)
        assert [kind for kind, *_ in news_of_masses(stage)] == [
            f"all are of run r0; {UNKNOWN}",
            "all were one process, pid 300",
        ]

    play(scene)


@pytest.mark.parametrize(
    ("at", "apart"),
    [(960.0, True), (990.0, False), (1100.0, False), (2500.0, True), (5020.0, False), (5200.0, True), (9000.0, True)],
)
def test_only_letters_of_those_who_died_together_do_not_count_as_those_of_their_crew(at: float, apart: bool) -> None:
    for over in (None, 8000.0):
        mass = Incident("crewd", "mass_death", "critical", "", 1000.0, updated_at=5000.0, resolved_at=over)
        other = Incident("r/t", "dead", "critical", "", at)
        assert told_apart([(at, "crew")], [mass, other]) == ([(at, "crew")] if apart else [])


def test_what_the_kernel_ended_is_said_to_be_of_the_whole_machine() -> None:
    assert "of this machine" in NO_MEMORY and "at that time" in NO_MEMORY


def test_a_machine_that_was_restarted_is_the_cause_whatever_ran_out_of_memory_since() -> None:
    async def scene(stage: Stage) -> None:
        kills = 0
        stage.patrol.oom_kills = lambda: kills
        await stage.rounds(4)
        claim = ProcessClaim(99, None, (MARK,), boot_id="boot-0", host="here")
        stage.source.put(run(*[msgspec.structs.replace(task(f"t{n}"), claim=claim) for n in range(8)], run_id="r0"))
        kills = 1
        await stage.rounds(10)
        assert [kind for kind, *_ in news_of_masses(stage)] == [RESTARTED]

    play(scene)


def test_a_run_that_is_called_crewd_is_not_taken_for_crewd_itself() -> None:
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
