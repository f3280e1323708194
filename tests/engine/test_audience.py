"""A listener that fails keeps nobody else from hearing, ends no round, is counted, and is named as degraded (H26)."""

from collections import Counter
from collections.abc import Sequence

import structlog

from crewd.daemon import Teller
from crewd.engine.audience import Audience
from crewd.model.event import Event
from crewd.model.report import RoundReport
from crewd.model.snapshot import Snapshot
from crewd.telemetry.state import State
from crewd.web.shapes import readiness
from tests.engine.stage import Stage, play, run, task


class Hearing:
    """Hears everything, and fails at what it is told to fail at."""

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.events: list[Event] = []
        self.rounds = 0

    def on_events(self, events: Sequence[Event]) -> None:
        if self.fails_at == "events":
            raise ValueError("no room")
        self.events += events

    def on_round(self, report: RoundReport, snapshot: Snapshot) -> None:
        if self.fails_at == "round":
            raise KeyError("gone")
        self.rounds += 1


class Broken(Hearing):
    """Named by its class."""


def test_a_listener_that_fails_costs_nobody_else_anything() -> None:
    async def scene(stage: Stage) -> None:
        for at in ("events", "round"):
            first, broken, last = Hearing(), Broken(at), Hearing()
            stage.patrol.listeners = (first, broken, last)
            number = stage.patrol.number
            stage.source.put(run(task("build", number)))
            await stage.rounds(3)
            assert stage.patrol.number == number + 3
            assert first.rounds == last.rounds == 3 and first.events == last.events
        assert first.events or stage.ledger.events
        assert stage.patrol.defects["listener"] == 6
        health = stage.patrol.picture.snapshot.health
        assert health.defects == {"listener": 5}  # as of the beginning of the last round's telling
        part = readiness(health)["parts"]["listeners"]
        assert not part["ready"] and "Broken: KeyError" in part["why"] and readiness(health)["status"] == "not ready"
        broken.fails_at = ""
        await stage.rounds(2)
        assert readiness(stage.patrol.picture.snapshot.health)["status"] == "ready"
        assert stage.patrol.defects["listener"] == 6

    play(scene)


def test_what_happens_between_rounds_reaches_the_others_too() -> None:
    async def scene(stage: Stage) -> None:
        broken, last = Broken("events"), Hearing()
        stage.patrol.listeners = (broken, last)
        await stage.rounds(2)
        broken.fails_at = ""
        await stage.rounds(2)
        broken.fails_at = "events"
        Teller(stage.patrol).tell((Event("run.accepted", 1.0),))
        assert [event.type for event in last.events][-1] == "run.accepted"
        broken.fails_at = ""
        await stage.rounds(2)  # the first ends what was since the round before it, and the second tells of it
        assert "Broken: ValueError: no room" in stage.patrol.picture.snapshot.health.degraded["listeners"]

    play(scene)


def test_each_failure_is_counted_and_only_the_first_in_a_row_is_logged() -> None:
    defects: Counter[str] = Counter()
    heard = Hearing()
    audience = Audience(lambda: (Broken("events"), heard), defects)
    with structlog.testing.capture_logs() as logged:
        for _ in range(4):
            audience.hear((Event("x", 1.0),))
    assert defects == {"listener": 4} and len(heard.events) == 4
    assert [(each["event"], each["listener"]) for each in logged] == [("listener.defect", "Broken")]


def test_defects_of_the_patrol_are_a_metric_also_where_nothing_is_managed() -> None:
    async def scene(stage: Stage) -> None:
        stage.patrol.listeners = (Broken("round"),)
        await stage.rounds(3)
        families = {each.name: each for each in State(lambda: stage.patrol.picture.snapshot, {}, 0).collect_self()}
        values = {each.labels["part"]: each.value for each in families["crewd_defects"].samples}
        assert values["listener"] == 2 and values["scheduler"] == 0

    play(scene)
