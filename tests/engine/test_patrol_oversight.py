"""What the patrol makes of the engine of managed runs: readiness, and incidents of no worker's standing."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from crewd.engine.oversight import Oversight
from crewd.model.event import Event
from crewd.model.snapshot import ManagedFigures
from crewd.telemetry.readiness import is_ready
from tests.engine.stage import Stage, play, run, task

STUCK = "SIGKILL did not end sh (7, D); until it ends, nothing takes its place"


class Engine:
    """Managed runs as a test wants them. Every ask is a complete turn, unless it stands still."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.figures = ManagedFigures(running_max=4)
        self.stands_still = False
        stage.patrol.managed = self.ask

    def ask(self) -> ManagedFigures:
        if not self.stands_still:
            self.figures = msgspec.structs.replace(self.figures, succeeded_at=self.stage.clock.wall)
        return self.figures

    def now(self, **changes: Any) -> None:
        self.figures = msgspec.structs.replace(self.figures, **changes)


def of_scheduler(events: list[Event]) -> list[str]:
    return [event.type for event in events if event.data.get("part") == "scheduler"]


def test_a_crewd_that_only_watches_has_no_scheduler() -> None:
    async def scene(stage: Stage) -> None:
        snapshot = await stage.rounds(2)
        assert snapshot.managed is None and "scheduler" not in snapshot.health.parts

    play(scene)


def test_the_figures_of_the_round_are_in_its_picture() -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        engine.now(running=3)
        snapshot = await stage.rounds(1)
        assert snapshot.managed is engine.figures and snapshot.managed.running == 3
        assert snapshot.health.parts["scheduler"] and is_ready(snapshot.health)

    play(scene)


@pytest.mark.parametrize(("interval", "patience"), [(5.0, 15.0), (1.0, 10.0), (20.0, 60.0)])
def test_a_scheduler_that_stands_still_is_told_after_ten_seconds_or_three_rounds(
    interval: float, patience: float
) -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        await stage.rounds(2, gap=interval)
        engine.stands_still = True
        still = 0.0
        while still + interval <= patience:
            snapshot = await stage.rounds(1, gap=interval)
            still += interval
            assert is_ready(snapshot.health), still
        snapshot = await stage.rounds(1, gap=interval)
        assert not is_ready(snapshot.health) and not snapshot.health.parts["scheduler"]
        assert f"more than {patience:.0f} s" in snapshot.health.degraded["scheduler"]
        await stage.rounds(10, gap=interval)
        engine.stands_still = False
        snapshot = await stage.rounds(1, gap=interval)
        assert is_ready(snapshot.health)

    stage = play(scene, interval=interval)
    assert of_scheduler(stage.told("daemon.degraded", "daemon.recovered")) == ["daemon.degraded", "daemon.recovered"]


@pytest.mark.parametrize("pause", ["suspend", "stall", "step"])
def test_neither_sleep_nor_a_stall_nor_another_time_of_day_is_the_schedulers_fault(pause: str) -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        await stage.rounds(2)
        engine.stands_still = True  # it had no turn between the pause and this round
        pauses: dict[str, Callable[[], None]] = {
            "suspend": lambda: stage.clock.suspend(8 * 3600),
            "stall": lambda: stage.clock.advance(600),
            "step": lambda: stage.clock.step(86_400),
        }
        pauses[pause]()
        snapshot = await stage.rounds(1)
        assert is_ready(snapshot.health)
        engine.stands_still = False
        assert is_ready((await stage.rounds(1)).health)

    assert of_scheduler(play(scene).told("daemon.degraded")) == []


def test_a_scheduler_that_never_had_a_turn_is_given_time_and_then_told() -> None:
    async def scene(stage: Stage) -> None:
        Engine(stage).stands_still = True
        assert is_ready((await stage.rounds(1)).health)
        assert not is_ready((await stage.rounds(5)).health)

    play(scene)


def test_a_register_that_cannot_write_is_told_at_once() -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        engine.now(ledger_failed="disk full")
        snapshot = await stage.rounds(1)
        assert not is_ready(snapshot.health)
        assert "disk full" in snapshot.health.degraded["scheduler"]
        engine.now(ledger_failed="")
        assert is_ready((await stage.rounds(1)).health)

    stage = play(scene)
    assert of_scheduler(stage.told("daemon.degraded", "daemon.recovered")) == ["daemon.degraded", "daemon.recovered"]


def test_an_attempt_that_does_not_end_is_an_incident_whatever_becomes_of_its_worker() -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        stage.source.put(run(task(beat=1)))
        await stage.seconds(40)
        engine.now(stuck={"r/t/2": STUCK})
        await stage.seconds(500)  # long enough to be declared dead beside it
        stage.source.put(run(task(beat=2)))
        await stage.rounds(2)
        assert set(stage.patrol.incidents.open["r/t"]) == {"unkillable"}
        engine.now(stuck={})
        await stage.rounds(1)

    stage = play(scene)
    [opened] = [event for event in stage.told("incident.opened") if event.data["cause"] == "unkillable"]
    assert (opened.run_id, opened.task_id, opened.crew, opened.data["severity"]) == ("r", "t", "crew", "critical")
    assert (
        opened.data["subject"] == "r/t" and STUCK in opened.data["summary"] and "attempt 2" in opened.data["summary"]
    )
    assert [event.data["cause"] for event in stage.told("incident.resolved")] == ["dead", "unkillable"]


def test_an_incident_of_an_attempt_that_does_not_end_survives_a_restart() -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        stage.source.put(run(task(beat=1)))
        await stage.seconds(40)
        engine.now(stuck={"r/t/1": STUCK})
        await stage.rounds(1)
        stage.restart()
        engine = Engine(stage)
        await stage.rounds(2)  # it has not been found again yet
        engine.now(stuck={"r/t/1": STUCK})
        await stage.seconds(60)
        assert stage.told("incident.resolved") == []
        engine.now(stuck={})
        await stage.rounds(1)

    stage = play(scene)
    assert [e.data["cause"] for e in stage.told("incident.opened", "incident.resolved")] == ["unkillable"] * 2


def circuit_causes(stage: Stage) -> list[tuple[str, str]]:
    return [(event.type, event.data["cause"]) for event in stage.told("incident.opened", "incident.resolved")]


OPENED, RESOLVED = ("incident.opened", "circuit:openai"), ("incident.resolved", "circuit:openai")


def test_a_circuit_that_is_open_for_ten_minutes_is_an_incident_until_it_closes() -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        engine.now(circuits={"openai": "open", "local": "closed"})
        await stage.rounds(1)
        await stage.seconds(590)
        assert circuit_causes(stage) == []
        await stage.seconds(10)
        assert circuit_causes(stage) == [OPENED]
        for _ in range(3):  # a probe that fails tells nothing new
            engine.now(circuits={"openai": "half_open"})
            await stage.seconds(300)
            engine.now(circuits={"openai": "open"})
            await stage.seconds(60)
        stage.restart()
        engine = Engine(stage)
        engine.now(circuits={"openai": "open"})
        await stage.rounds(3)
        assert circuit_causes(stage) == [OPENED]
        engine.now(circuits={"openai": "closed"})
        await stage.rounds(1)

    stage = play(scene)
    assert circuit_causes(stage) == [OPENED, RESOLVED]
    [told] = stage.told("incident.opened")
    assert (told.data["subject"], told.data["severity"]) == ("crewd", "warning")


def test_a_circuit_that_opens_now_and_then_is_no_incident() -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        for _ in range(10):
            engine.now(circuits={"openai": "open"})
            await stage.seconds(120)
            engine.now(circuits={"openai": "closed"})
            await stage.seconds(60)

    assert circuit_causes(play(scene)) == []


def test_a_circuit_that_nobody_tries_any_more_keeps_nobody_waiting() -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        engine.now(circuits={"openai": "open"})
        await stage.seconds(700)
        engine.now(circuits={"openai": "half_open"})
        await stage.seconds(590)
        assert circuit_causes(stage) == [OPENED]
        await stage.seconds(20)

    assert circuit_causes(play(scene)) == [OPENED, RESOLVED]


def test_a_crewd_that_runs_nothing_any_more_leaves_no_incident_of_it_open() -> None:
    async def scene(stage: Stage) -> None:
        engine = Engine(stage)
        engine.now(circuits={"openai": "open"}, stuck={"r/t/1": STUCK})
        await stage.seconds(700)
        stage.restart()
        await stage.seconds(60)
        assert stage.patrol.incidents.open == {}

    play(scene)


def test_what_was_told_of_the_scheduler_is_told_once() -> None:
    oversight, still = Oversight(), ManagedFigures(succeeded_at=1.0)
    told = [oversight.look(still, 5.0, 5.0, float(n)) for n in range(20)]
    assert [event.type for events in told for event in events] == ["daemon.degraded"]
