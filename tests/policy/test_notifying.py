"""Whom a notice concerns, when it may disturb, how many go out, and how long to wait: tables, and a property each."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.notice import SEVERITIES, Notice
from crewd.policy.notifying import (
    BACKOFF_MOST,
    DAY,
    RETRY_AFTER_MOST,
    Bucket,
    Hold,
    Quiet,
    Route,
    Send,
    Suppress,
    backoff,
    decide,
    quiet_hours,
)

HOUR = 3600.0
MIDNIGHT = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def notice(severity: str = "warning", crew: str = "blue", silenced: bool = False) -> Notice:
    return Notice("opened", "r/t", "dead", severity, "t is dead", MIDNIGHT, MIDNIGHT, crew, "r", "t", 7, silenced)


@pytest.mark.parametrize("least", SEVERITIES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_channel_is_told_what_is_at_least_as_severe_as_it_wants(least: str, severity: str) -> None:
    decision = decide(Route(min_severity=least), notice(severity), MIDNIGHT)
    assert isinstance(decision, Send) == (SEVERITIES.index(severity) >= SEVERITIES.index(least))


@pytest.mark.parametrize(
    ("crews", "crew", "told"),
    [
        ((), "blue", True),
        ((), "", True),
        (("blue",), "blue", True),
        (("blue",), "Blue", False),
        (("blue",), "", False),
        (("night-*", "bl?e"), "blue", True),
        (("night-*",), "night-1", True),
        (("*",), "", True),
    ],
)
def test_a_channel_is_told_of_the_crews_it_names(crews: tuple[str, ...], crew: str, told: bool) -> None:
    decision = decide(Route(crews=crews), notice(crew=crew), MIDNIGHT)
    assert isinstance(decision, Send if told else Suppress)


@pytest.mark.parametrize(
    ("severity", "passes", "hour", "decision"),
    [
        ("warning", True, 21.99, Send),
        ("warning", True, 22, Hold),
        ("warning", True, 6.99, Hold),
        ("warning", True, 7, Send),
        ("critical", True, 23, Send),
        ("critical", False, 23, Hold),
        ("info", True, 23, Suppress),
    ],
)
def test_in_quiet_hours_only_what_is_critical_is_told(
    severity: str, passes: bool, hour: float, decision: type
) -> None:
    route = Route(quiet=quiet_hours("22:00-07:00"), quiet_critical=passes)
    assert isinstance(decide(route, notice(severity), MIDNIGHT + hour * HOUR), decision)


def test_what_a_person_snoozed_is_held_back() -> None:
    assert isinstance(decide(Route(), notice("critical", silenced=True), MIDNIGHT), Hold)


@pytest.mark.parametrize(
    ("text", "quiet"),
    [
        ("", None),
        ("22:00-07:00", Quiet(22 * HOUR, 7 * HOUR)),
        ("22:00-07:00Z", Quiet(22 * HOUR, 7 * HOUR)),
        ("00:00-00:30+02:00", Quiet(0, HOUR / 2, 2 * HOUR)),
        ("12:15-13:45-05:30", Quiet(12.25 * HOUR, 13.75 * HOUR, -5.5 * HOUR)),
    ],
)
def test_quiet_hours_are_read_as_they_are_written(text: str, quiet: Quiet | None) -> None:
    assert quiet_hours(text) == quiet


@pytest.mark.parametrize("text", ["22-7", "24:00-07:00", "22:00-07:60", "07:00-07:00", "22:00-07:00+25:00", "x", " "])
def test_what_is_no_part_of_a_day_is_refused_with_its_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no part of a day|names an hour|begins where it ends"):
        quiet_hours(text)


@given(st.floats(0, DAY), st.floats(0, DAY), st.floats(-DAY / 2, DAY / 2), st.floats(0, 4e9))
def test_every_moment_lies_in_one_of_two_parts_of_the_day_that_fill_it(
    begins: float, ends: float, offset: float, wall: float
) -> None:
    if begins != ends and begins < DAY and ends < DAY:
        assert Quiet(begins, ends, offset).covers(wall) != Quiet(ends, begins, offset).covers(wall)


def test_an_offset_moves_the_quiet_hours_to_where_the_people_are() -> None:
    quiet = quiet_hours("22:00-07:00+02:00")
    assert quiet is not None
    assert quiet.covers(MIDNIGHT + 20 * HOUR)
    assert not quiet.covers(MIDNIGHT + 5 * HOUR)


@given(st.floats(0.1, 6000), st.integers(1, 50), st.lists(st.floats(0, 120), max_size=60))
def test_no_more_goes_out_than_the_burst_and_what_the_time_allows(
    per_minute: float, burst: int, waits: list[float]
) -> None:
    bucket, now, sent = Bucket.full(per_minute, burst, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        bucket = bucket.at(now)
        while bucket.messages:
            bucket, sent = bucket.taken(), sent + 1
        assert bucket.seconds_to_next > 0
    assert sent <= burst + now * per_minute / 60 + 1e-3


def test_a_bucket_is_never_fuller_than_its_burst_and_a_clock_that_goes_back_fills_nothing() -> None:
    bucket = Bucket.full(60, 3, 100.0).at(10_000.0)
    assert bucket.messages == 3
    empty = bucket.taken().taken().taken()
    assert (empty.messages, empty.seconds_to_next) == (0, 1.0)
    assert empty.at(50.0).messages == 0
    assert empty.at(10_001.0).messages == 1


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.none() | st.floats(-10, 1e9))
def test_a_wait_is_bounded_and_never_shorter_than_the_receiver_wished(
    failures: int, roll: float, retry_after: float | None
) -> None:
    wait = backoff(failures, roll, retry_after)
    assert 0.5 <= wait <= max(BACKOFF_MOST, RETRY_AFTER_MOST)
    assert wait >= min(retry_after or 0.0, RETRY_AFTER_MOST)


def test_waits_double_up_to_their_bound() -> None:
    waits = [backoff(failures, 0.0) for failures in range(1, 15)]
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == BACKOFF_MOST
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert backoff(3, 0.999) == pytest.approx(2, abs=0.01)
