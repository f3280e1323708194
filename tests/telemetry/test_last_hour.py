"""The last hour of every crew: the worst moment of each half minute, within bounds."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.snapshot import Snapshot
from crewd.model.verdict import Level
from crewd.telemetry.last_hour import CREWS_MAX, POINT_SECONDS, POINTS_MAX, LastHour
from tests.telemetry.pictures import report, snapshot, view, worker

AT = 1_800_000_000.0


def at(seconds: float, *levels: Level, crew: str = "blue") -> Snapshot:
    taken = snapshot(view("r1", crew, *(worker(f"t{number}", level) for number, level in enumerate(levels))))
    return msgspec.structs.replace(taken, taken_at=AT + seconds)


def heard(*pictures: Snapshot) -> LastHour:
    hour = LastHour()
    for picture in pictures:
        hour.on_round(report(), picture)
    return hour


def told(hour: LastHour, crew: str = "blue") -> list[tuple[float, dict[str, int]]]:
    return [(point.at - AT, dict(point.levels)) for point in hour.points(crew, "pi_crew")]


def test_each_half_minute_keeps_its_worst_moment() -> None:
    hour = heard(
        at(0, Level.HEALTHY, Level.HEALTHY),
        at(5, Level.DEAD, Level.HEALTHY),
        at(10, Level.HEALTHY, Level.HEALTHY),
        at(29, Level.WARN, Level.WARN),
        at(30, Level.HEALTHY),
    )
    assert told(hour) == [(0.0, {"dead": 1, "healthy": 1}), (30.0, {"healthy": 1})]


def test_a_half_minute_without_a_round_has_no_point() -> None:
    assert [when for when, _ in told(heard(at(0, Level.HEALTHY), at(95, Level.HEALTHY)))] == [0.0, 90.0]


def test_a_crew_that_nobody_has_seen_for_an_hour_is_forgotten() -> None:
    later = POINTS_MAX * POINT_SECONDS
    assert heard(at(0, crew="old"), at(later - 1)).crews() == (("blue", "pi_crew"), ("old", "pi_crew"))
    assert heard(at(0, crew="old"), at(later)).crews() == (("blue", "pi_crew"),)


def test_more_crews_than_it_keeps_are_counted() -> None:
    many = snapshot(*(view(f"r{number}", f"crew{number:04}") for number in range(CREWS_MAX + 3)))
    hour = heard(msgspec.structs.replace(many, taken_at=AT))
    assert (len(hour.crews()), hour.left_off) == (CREWS_MAX, 3)


@given(st.lists(st.floats(0, 7200), max_size=200))
def test_there_are_never_more_points_than_an_hour_has(moments: list[float]) -> None:
    hour = heard(*(at(moment, Level.HEALTHY) for moment in sorted(moments)))
    points = told(hour)
    assert len(points) <= POINTS_MAX and sorted(points, key=lambda each: each[0]) == points
