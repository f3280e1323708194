"""Recorded silences, judged with other thresholds by the table that judges the living."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.detection.options import Patience, Thresholds
from crewd.detection.replay import Episode, Worker, episodes, fits, reached
from crewd.model.event import Event
from crewd.model.verdict import RANK, Level, Reason


def changed(at: float, to: str, silence: float, reason: str = "silent", row: int = 8, **more: Any) -> Event:
    data = {"to_level": to, "reason": reason, "silence_seconds": silence, "row": row, "because": ""} | more
    return Event("worker.level_changed", at, data, "r", "t", 1, "pi_crew", "blue")


def told(type: str, at: float, run_id: str = "r", task_id: str = "t") -> Event:
    return Event(type, at, {}, run_id, task_id)


def episode(least: float, most: float, reason: Reason = Reason.SILENT, row: int = 9, alive: bool = False) -> Episode:
    return Episode(Worker("r", "t", 1), "pi_crew", "blue", 0.0, Level.STALE, reason, row, alive, least, most, 0.0)


def test_a_silence_lasts_from_the_first_change_for_the_worse_until_the_worker_moves() -> None:
    record = [
        changed(100, "warn", 30),
        changed(130, "stale", 60, row=9),
        changed(160, "healthy", 0, "beating", 6),
        changed(300, "warn", 31),
        told("task.completed", 310),
    ]
    first, second = episodes(record)
    assert (first.level, first.least, first.most) == (Level.STALE, 60, 90)
    assert (second.level, second.least, second.most) == (Level.WARN, 31, 41)


@pytest.mark.parametrize(
    "end",
    [
        told("task.failed", 200),
        told("run.cancelled", 200, task_id=""),
        told("daemon.started", 200, run_id="", task_id=""),
        changed(200, "waiting", 0, "human", 1),
        changed(200, "warn", 30),
    ],
)
def test_whatever_ends_a_silence_bounds_it(end: Event) -> None:
    first, *_ = episodes([changed(100, "stale", 60, row=9), end])
    assert (first.least, first.most) == (60, 160)


def test_a_silence_that_is_shorter_than_before_is_another_one() -> None:
    first, second = episodes([changed(100, "stale", 60), changed(200, "warn", 30), told("task.failed", 250)])
    assert (first.level, first.least, first.most) == (Level.STALE, 60, 160)
    assert (second.level, second.least, second.most) == (Level.WARN, 30, 80)


def test_a_better_level_without_new_life_is_the_same_silence() -> None:
    (only,) = episodes([changed(100, "dead", 900, "hung", 12), changed(200, "stale", 1000, "busy", 10)])
    assert (only.level, only.row, only.least, only.most) == (Level.DEAD, 12, 1000, 1000)


def test_the_end_of_another_run_ends_nothing() -> None:
    (only,) = episodes(
        [changed(100, "stale", 60), told("task.failed", 150, "other"), told("run.failed", 400, "x", "")]
    )
    assert only.most == 360


@pytest.mark.parametrize(
    "data",
    [
        {"to_level": "dead"},
        {"to_level": 3, "silence_seconds": 1},
        {"silence_seconds": "x"},
        {"silence_seconds": -1},
        {},
    ],
)
def test_a_record_of_any_shape_makes_no_silence_and_no_error(data: dict[str, Any]) -> None:
    assert list(episodes([Event("worker.level_changed", 1.0, data, "r", "t")])) == []


@pytest.mark.parametrize(
    ("found", "thresholds", "level", "certain"),
    [
        (episode(310, 310), Thresholds(), Level.DEAD, True),
        (episode(310, 310), Thresholds(dead_after=600), Level.STALE, True),
        (episode(310, 700), Thresholds(dead_after=600), Level.DEAD, False),
        (episode(310, 310, row=11, alive=True), Thresholds(), Level.STALE, True),
        # A living process that nobody looked at: whether it would have been busy is not known.
        (episode(200, 200, alive=True), Thresholds(dead_after=150), Level.STALE, False),
        (episode(910, 910, Reason.HUNG, 12, True), Thresholds(), Level.DEAD, True),
        (episode(910, 910, Reason.HUNG, 12, True), Thresholds(hung_after=2000), Level.STALE, True),
        (episode(950, 950, row=11, alive=True), Thresholds(), Level.DEAD, False),
        (episode(3, 3, Reason.EXITED, 2), Thresholds(warn_after=1), Level.DEAD, True),
        (episode(40, 40, Reason.STOPPED, 4), Thresholds(), Level.WARN, True),
        (episode(40, 40, Reason.STOPPED, 4), Thresholds(warn_after=5, stale_after=10), Level.STALE, True),
    ],
)
def test_how_far_a_silence_gets(found: Episode, thresholds: Thresholds, level: Level, certain: bool) -> None:
    result = reached(found, thresholds, Patience())
    assert (result.most.level, result.certain) == (level, certain)


def test_what_is_recorded_fits_the_rules_that_were_in_force() -> None:
    (only,) = episodes([changed(100, "dead", 305, "presumed", 13)])
    assert fits(only, reached(only, Thresholds(), Patience()).least)
    assert not fits(only, reached(only, Thresholds(dead_after=900), Patience()).least)


@given(
    st.floats(0, 3000),
    st.floats(0, 3000),
    st.sampled_from([Reason.SILENT, Reason.HUNG, Reason.STOPPED, Reason.PRESUMED]),
    st.integers(4, 13),
    st.booleans(),
    st.floats(1.0, 10.0),
)
def test_longer_thresholds_never_make_a_silence_worse(
    least: float, more: float, reason: Reason, row: int, alive: bool, factor: float
) -> None:
    found = episode(least, least + more, reason, row, alive)
    short, long = (reached(found, Thresholds().stretched(each), Patience()) for each in (1.0, factor))
    assert RANK[long.least.level] <= RANK[short.least.level]
    assert RANK[long.most.level] <= RANK[short.most.level]
    assert RANK[short.least.level] <= RANK[short.most.level]
