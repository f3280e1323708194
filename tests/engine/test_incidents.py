"""Incidents of one subject, told by two who do not know of each other."""

from crewd.engine.incidents import SPENT, STUCK, UNKILLABLE, Incidents
from crewd.model.verdict import Incident


def incident(cause: str, at: float = 1.0) -> Incident:
    return Incident("r/t", cause, "critical", cause, at)


def causes(incidents: Incidents) -> set[str]:
    return set(incidents.open.get("r/t", {}))


def test_what_its_standing_calls_for_and_what_its_engine_tells_stand_side_by_side() -> None:
    incidents = Incidents()
    assert [each.cause for each in incidents.set("r/t", [incident(UNKILLABLE)], 1.0, STUCK)] == [UNKILLABLE]
    assert [each.cause for each in incidents.set("r/t", [incident("dead")], 2.0)] == ["dead"]
    assert causes(incidents) == {"dead", UNKILLABLE} and incidents.subjects(STUCK) == ["r/t"]
    [resolved] = incidents.set("r/t", [], 3.0)
    assert (resolved.cause, resolved.resolved_at) == ("dead", 3.0)
    assert causes(incidents) == {UNKILLABLE}
    [resolved] = incidents.set("r/t", [], 4.0, STUCK)
    assert (resolved.cause, resolved.resolved_at) == (UNKILLABLE, 4.0)
    assert incidents.open == {} and incidents.subjects(STUCK) == []


def test_what_is_told_of_its_use_stands_beside_the_others() -> None:
    incidents = Incidents()
    incidents.set("r/t", [incident(UNKILLABLE)], 1.0, STUCK)
    incidents.set("r/t", [incident("burn"), incident("loop")], 1.0, SPENT)
    incidents.set("r/t", [incident("silent")], 1.0)
    assert causes(incidents) == {UNKILLABLE, "burn", "loop", "silent"}
    assert [each.cause for each in incidents.set("r/t", [incident("loop")], 2.0, SPENT)] == ["burn"]
    assert [each.cause for each in incidents.set("r/t", [], 3.0)] == ["silent"]
    assert causes(incidents) == {UNKILLABLE, "loop"} and incidents.subjects(SPENT) == ["r/t"]


def test_one_that_is_open_stays_as_it_was_opened() -> None:
    incidents = Incidents()
    incidents.set("r/t", [incident("dead", 1.0)], 1.0)
    assert incidents.set("r/t", [incident("dead", 9.0)], 9.0) == []
    assert incidents.open["r/t"]["dead"].opened_at == 1.0
