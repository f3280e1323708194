"""Incidents of one subject, told by two who do not know of each other."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from crewd.engine.incidents import CLOSED_MAX, SPENT, STUCK, UNKILLABLE, Incidents, News, incident_event
from crewd.engine.options import PatrolOptions
from crewd.model.verdict import Incident


def incident(cause: str, at: float = 1.0) -> Incident:
    return Incident("r/t", cause, "critical", cause, at)


def causes(incidents: Incidents) -> set[str]:
    return set(incidents.open.get("r/t", {}))


def test_what_its_standing_calls_for_and_what_its_engine_tells_stand_side_by_side() -> None:
    incidents = Incidents()
    assert [each.incident.cause for each in incidents.set("r/t", [incident(UNKILLABLE)], 1.0, STUCK)] == [UNKILLABLE]
    assert [each.incident.cause for each in incidents.set("r/t", [incident("dead")], 2.0)] == ["dead"]
    assert causes(incidents) == {"dead", UNKILLABLE} and incidents.subjects(STUCK) == ["r/t"]
    [resolved] = incidents.set("r/t", [], 3.0)
    assert (resolved.incident.cause, resolved.incident.resolved_at) == ("dead", 3.0)
    assert causes(incidents) == {UNKILLABLE}
    [resolved] = incidents.set("r/t", [], 4.0, STUCK)
    assert (resolved.incident.cause, resolved.incident.resolved_at) == (UNKILLABLE, 4.0)
    assert incidents.open == {} and incidents.subjects(STUCK) == []


def test_what_is_told_of_its_use_stands_beside_the_others() -> None:
    incidents = Incidents()
    incidents.set("r/t", [incident(UNKILLABLE)], 1.0, STUCK)
    incidents.set("r/t", [incident("burn"), incident("loop")], 1.0, SPENT)
    incidents.set("r/t", [incident("silent")], 1.0)
    assert causes(incidents) == {UNKILLABLE, "burn", "loop", "silent"}
    assert [each.incident.cause for each in incidents.set("r/t", [incident("loop")], 2.0, SPENT)] == ["burn"]
    assert [each.incident.cause for each in incidents.set("r/t", [], 3.0)] == ["silent"]
    assert causes(incidents) == {UNKILLABLE, "loop"} and incidents.subjects(SPENT) == ["r/t"]


def test_one_that_is_open_stays_as_it_was_opened() -> None:
    incidents = Incidents()
    incidents.set("r/t", [incident("dead", 1.0)], 1.0)
    assert incidents.set("r/t", [incident("dead", 9.0)], 9.0) == []
    assert incidents.open["r/t"]["dead"].opened_at == 1.0


def told(news: list[News]) -> list[tuple[str, str]]:
    return [(each.type.removeprefix("incident."), each.change) for each in news]


def open_one(cause: str = "dead", severity: str = "warning", kind: str = "", subject: str = "r/t") -> Incident:
    return Incident(subject, cause, severity, f"{cause}: {kind}", 0.0, "blue", "r", "t", kind=kind)


def flap(incidents: Incidents, times: int, gap: float, start: float = 0.0) -> list[bool]:
    """Open and resolve it so many times; whether each opening was damped."""
    damped = []
    for number in range(times):
        at = start + number * gap
        [opened] = incidents.set("r/t", [open_one()], at)
        damped.append(opened.incident.damped)
        incidents.set("r/t", [], at + gap / 2)
    return damped


def test_one_that_comes_back_soon_is_the_same_one_opened_once_more() -> None:
    incidents = Incidents()
    [first] = incidents.set("r/t", [msgspec.structs.replace(open_one(), opened_at=5.0)], 5.0)
    incidents.acknowledge(incidents.open["r/t"]["dead"], "anna", "", "operator:anna", 6.0)
    incidents.set("r/t", [], 10.0)
    [again] = incidents.set("r/t", [msgspec.structs.replace(open_one(), opened_at=100.0)], 100.0)
    assert told([again]) == [("opened", "")]
    assert (again.incident.opened_at, again.incident.openings, again.incident.resolved_at) == (5.0, 2, None)
    assert again.incident.acknowledged_by == "anna", "it is the one that anna has seen"
    assert first.incident.openings == 1


def test_one_that_comes_back_late_is_another() -> None:
    incidents = Incidents()
    incidents.set("r/t", [open_one()], 0.0)
    incidents.set("r/t", [], 10.0)
    late = msgspec.structs.replace(open_one(), opened_at=700.0)
    [again] = incidents.set("r/t", [late], 700.0)
    assert (again.incident.opened_at, again.incident.openings) == (700.0, 1)


def test_one_that_opens_again_and_again_is_damped_until_it_was_quiet() -> None:
    incidents = Incidents()
    assert flap(incidents, 6, 60.0) == [False, False, False, True, True, True]
    [again] = incidents.set("r/t", [open_one()], 360.0)
    assert again.incident.damped
    assert incidents.pass_time(400.0, PatrolOptions()) == []
    [over] = incidents.pass_time(2400.0, PatrolOptions())
    assert told([over]) == [("updated", "damping_over")] and not over.incident.damped
    assert incidents.pass_time(2405.0, PatrolOptions()) == []


def test_what_is_damped_stays_so_beyond_the_window_in_which_it_is_the_same() -> None:
    incidents = Incidents()
    flap(incidents, 20, 20.0)
    assert incidents.pass_time(1050.0, PatrolOptions()) == []
    [other] = incidents.set("r/t", [open_one()], 1050.0)
    assert other.incident.openings == 1 and other.incident.damped


def test_what_can_neither_come_back_nor_is_damped_is_forgotten() -> None:
    incidents = Incidents()
    flap(incidents, 1, 2.0)
    incidents.pass_time(601.0, PatrolOptions())
    assert list(incidents.closed) == [("r/t", "dead")]
    incidents.pass_time(602.0, PatrolOptions())
    assert incidents.closed == {}


def test_figures_are_no_news_and_another_meaning_is_told_now_and_then() -> None:
    incidents = Incidents()
    incidents.set("r/t", [open_one("waiting", kind="human")], 0.0)
    reworded = msgspec.structs.replace(open_one("waiting", kind="human"), summary="for 11 minutes")
    assert incidents.set("r/t", [reworded], 5.0) == []
    throttled = [open_one("waiting", kind="throttled")]
    assert incidents.set("r/t", throttled, 10.0) == [], "it may be human again in a moment"
    [news] = incidents.set("r/t", throttled, 301.0)
    assert told([news]) == [("updated", "kind")] and news.incident.summary == "waiting: throttled"
    assert incidents.set("r/t", throttled, 306.0) == []


def test_what_a_crewd_without_kinds_left_open_is_no_news() -> None:
    incidents = Incidents()
    incidents.recall(open_one("waiting"))
    assert incidents.set("r/t", [open_one("waiting", kind="human")], 5000.0) == []
    assert incidents.open["r/t"]["waiting"].kind == "human"


def test_a_graver_severity_is_told_at_once_to_those_too_who_had_seen_the_lesser() -> None:
    incidents = Incidents()
    incidents.set("r/t", [open_one()], 0.0)
    incidents.acknowledge(incidents.open["r/t"]["dead"], "anna", "", "operator:anna", 1.0)
    incidents.snooze(incidents.open["r/t"]["dead"], "anna", "", 9999.0, "operator:anna", 1.0)
    [news] = incidents.set("r/t", [open_one(severity="critical")], 2.0)
    assert told([news]) == [("updated", "severity")]
    assert (news.incident.acknowledged_at, news.incident.snoozed_until) == (None, None)
    incidents.acknowledge(news.incident, "anna", "", "operator:anna", 3.0)
    [news] = incidents.set("r/t", [open_one(severity="warning")], 4.0)
    assert news.incident.acknowledged_by == "anna", "it became less grave"


def test_what_people_say_is_told_once() -> None:
    incidents = Incidents()
    incidents.set("r/t", [open_one()], 0.0)
    [one] = incidents.named("r/t", "dead")
    assert told(incidents.acknowledge(one, "anna", "on it", "operator:anna", 1.0)) == [("acknowledged", "")]
    [one] = incidents.named("r/t", "")
    assert incidents.acknowledge(one, "anna", "", "operator:anna", 2.0) == []
    assert incidents.unsnooze(one, "operator:anna", 2.0) == []
    assert told(incidents.snooze(one, "anna", "", 100.0, "operator:anna", 3.0)) == [("snoozed", "")]
    assert incidents.pass_time(99.0, PatrolOptions()) == []
    assert told(incidents.pass_time(100.0, PatrolOptions())) == [("updated", "snooze_over")]
    [one] = incidents.named("r/t", "dead")
    assert (one.note, one.acknowledged_by, one.snoozed_until) == ("on it", "anna", None)
    assert one.anew == 1, "who was told of it before hears of it again"
    [one] = [each.incident for each in incidents.snooze(one, "bo", "", 200.0, "operator:bo", 110.0)]
    assert told(incidents.unsnooze(one, "operator:bo", 120.0)) == [("updated", "unsnoozed")]
    assert incidents.open["r/t"]["dead"].anew == 1, "who ended the snooze knows of it"


def test_those_that_are_over_are_remembered_in_bounds() -> None:
    incidents = Incidents()
    for number in range(CLOSED_MAX + 10):
        incidents.set(f"r/{number}", [open_one(subject=f"r/{number}")], 0.0)
        incidents.set(f"r/{number}", [], 1.0)
    assert len(incidents.closed) == CLOSED_MAX and ("r/0", "dead") not in incidents.closed


def test_whoever_wakes_people_sees_from_the_event_whether_to_do_so() -> None:
    incidents = Incidents()
    [opened] = incidents.set("r/t", [open_one()], 0.0)
    flags = ("acknowledged", "snoozed", "damped")
    assert [incident_event(opened, 0.0).data[flag] for flag in flags] == [False, False, False]
    [one] = incidents.named("r/t", "dead")
    [seen] = incidents.acknowledge(one, "anna", "", "operator:anna", 1.0)
    event = incident_event(seen, 1.0)
    assert (event.type, event.actor, event.data["by"]) == ("incident.acknowledged", "operator:anna", "anna")
    [quiet] = incidents.snooze(seen.incident, "bo", "later", 60.0, "operator:bo", 2.0)
    event = incident_event(quiet, 2.0)
    assert (event.data["until"], event.data["note"], event.data["by"]) == (60.0, "later", "bo")
    [over] = incidents.set("r/t", [], 3.0)
    assert [incident_event(over, 3.0).data[flag] for flag in flags] == [True, True, False]


def test_the_gravest_come_first_then_the_oldest() -> None:
    incidents = Incidents()
    for number, severity in enumerate(["info", "warning", "critical", "warning", "odd"]):
        one = msgspec.structs.replace(open_one(severity=severity, subject=f"r{number}"), opened_at=10.0 - number)
        incidents.set(f"r{number}", [one], 20.0)
    assert [each.subject for each in incidents.all_open()] == ["r2", "r3", "r1", "r0", "r4"]


MOVES = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0.0, 900.0)), max_size=40)


@given(MOVES)
def test_openings_and_ends_alternate_and_one_incident_is_open_at_most(moves: list[tuple[str, bool, float]]) -> None:
    incidents, now, is_open, rows = Incidents(), 0.0, dict.fromkeys("abc", False), {}
    for cause, wanted, gap in moves:
        now += gap
        others = [open_one(each) for each in "abc" if each != cause and is_open[each]]
        one = msgspec.structs.replace(open_one(cause), opened_at=now)
        for news in incidents.set("r/t", [*others, one] if wanted else others, now):
            opened = news.type == "incident.opened"
            assert news.incident.cause == cause and opened is not is_open[cause]
            is_open[cause] = opened
            rows[news.incident.cause, news.incident.opened_at] = news.incident
        incidents.pass_time(now, PatrolOptions())
        assert {each.cause for each in incidents.all_open()} == {each for each, on in is_open.items() if on}
        assert sum(each.resolved_at is None for each in rows.values()) == sum(is_open.values())


def test_one_that_opened_for_ever_and_ended_says_so_once_it_has_been_quiet() -> None:
    incidents = Incidents()
    flap(incidents, 5, 60.0)
    assert incidents.pass_time(400.0, PatrolOptions()) == []
    [over] = incidents.pass_time(3000.0, PatrolOptions())
    assert told([over]) == [("resolved", "damping_over")]
    data = incident_event(over, 3000.0).data
    assert (data["damped"], data["change"]) == (False, "damping_over")
    assert incidents.pass_time(3005.0, PatrolOptions()) == [] and incidents.closed == {}


def test_one_that_ended_while_damped_is_quiet_in_time_though_the_clock_was_set_back() -> None:
    incidents = Incidents()
    flap(incidents, 5, 60.0, start=1_000_000.0)
    news = [incidents.pass_time(5000.0 + at, PatrolOptions()) for at in range(0, 3000, 500)]
    assert [told(each) for each in news if each] == [[("resolved", "damping_over")]]


def snoozed(for_seconds: float, wall: float = 1_000_000.0) -> Incidents:
    incidents = Incidents()
    incidents.set("r/t", [open_one()], wall)
    incidents.snooze(incidents.open["r/t"]["dead"], "anna", "", wall + for_seconds, "operator:anna", wall)
    return incidents


def test_a_snooze_lasts_no_longer_though_the_wall_clock_is_set_back() -> None:
    incidents, wall, running = snoozed(3600.0), 1_000_000.0, 50.0
    assert incidents.pass_time(wall, PatrolOptions(), running) == []
    wall, running = wall - 86_400.0 + 600.0, running + 600.0
    [news] = incidents.pass_time(wall, PatrolOptions(), running)
    assert told([news]) == [("updated", "snooze_shortened")] and news.incident.snoozed_until == wall + 3000.0
    assert incident_event(news, wall).data["snoozed"]
    assert incidents.pass_time(wall + 2999.0, PatrolOptions(), running + 2999.0) == []
    [news] = incidents.pass_time(wall + 3000.0, PatrolOptions(), running + 3000.0)
    assert told([news]) == [("updated", "snooze_over")]


def test_a_snooze_ends_at_its_time_where_crewd_or_the_machine_slept() -> None:
    incidents = snoozed(3600.0)
    incidents.pass_time(1_000_000.0, PatrolOptions(), 0.0)
    assert incidents.pass_time(1_003_599.0, PatrolOptions(), 10.0) == []
    [news] = incidents.pass_time(1_003_600.0, PatrolOptions(), 11.0)
    assert told([news]) == [("updated", "snooze_over")]


def test_a_snooze_of_a_former_crewd_lasts_no_longer_than_what_was_left_of_it_when_it_was_last_changed() -> None:
    [former] = snoozed(3600.0).named("r/t", "dead")
    incidents = Incidents()
    incidents.recall(former)
    [news] = incidents.pass_time(900_000.0, PatrolOptions(), 0.0)
    assert news.incident.snoozed_until == 903_600.0


@given(
    st.lists(st.tuples(st.floats(0.0, 900.0), st.floats(-1e5, 1e5)), max_size=30),
    st.floats(1.0, 20_000.0),
)
def test_no_snooze_outlasts_the_time_it_was_asked_for(steps: list[tuple[float, float]], asked: float) -> None:
    incidents, wall, running = snoozed(asked), 1_000_000.0, 0.0
    incidents.pass_time(wall, PatrolOptions(), running)
    for seconds, set_by in steps:
        wall, running = wall + seconds + set_by, running + seconds
        incidents.pass_time(wall, PatrolOptions(), running)
        [known] = incidents.named("r/t", "dead")
        if running > asked + 1.5:
            assert known.snoozed_until is None
