"""Braking: who counts as silent without proof of an exit, and what the mass brake tells."""

import pytest

from crewd.detection.options import Patience
from crewd.engine.braking import UNKNOWN_CAUSE, Braking
from crewd.model.event import Event
from crewd.model.process import HIDDEN, ProcessSeen, ProcessState
from crewd.model.verdict import Level, Reason
from tests.engine.values import ALIVE, BUSY, GONE, silent

WALL = 1_767_225_600.0
WINDOW = 300.0


def note(braking: Braking, *numbers: int, level: Level = Level.STALE, process: ProcessSeen = ALIVE) -> None:
    for number in numbers:
        braking.note(*silent(f"task-{number}", level, process))


def step(braking: Braking, live: int = 6, running: float = 1000.0) -> list[Event]:
    return braking.step(live, running, WINDOW, "the disk is full", WALL)


def engaged() -> Braking:
    braking = Braking(Patience())
    note(braking, *range(6))
    step(braking)
    assert braking.brake.engaged
    return braking


def test_many_who_fall_silent_together_engage_it_and_it_says_so_once() -> None:
    braking = Braking(Patience())
    assert braking.why == ""
    assert braking.incidents(WALL) == []
    note(braking, *range(4))
    [event] = step(braking)
    assert event.type == "daemon.brake_engaged"
    assert event.data == {"workers": 4, "live": 6, "cause": "the disk is full"}
    assert "4 workers" in braking.why
    assert "the disk is full" in braking.why
    [incident] = braking.incidents(WALL)
    assert (incident.subject, incident.cause, incident.severity) == ("crewd", "mass_brake", "critical")
    assert step(braking) == []


def test_half_of_the_living_do_not_engage_it() -> None:
    braking = Braking(Patience())
    note(braking, *range(4))
    assert step(braking, live=8) == []
    assert braking.why == ""


def test_exits_that_are_proven_never_engage_it() -> None:
    braking = Braking(Patience())
    note(braking, *range(50), level=Level.DEAD, process=GONE)
    assert step(braking, live=50) == []


def test_workers_that_do_something_never_engage_it() -> None:
    braking = Braking(Patience())
    note(braking, *range(50), process=BUSY)
    assert step(braking, live=50) == []


@pytest.mark.parametrize("level", [Level.HEALTHY, Level.WARN, Level.WAITING, Level.UNREADABLE])
def test_workers_that_are_no_worse_than_late_never_engage_it(level: Level) -> None:
    braking = Braking(Patience())
    note(braking, *range(50), level=level)
    assert step(braking, live=50) == []


def test_workers_that_cannot_be_seen_engage_it() -> None:
    braking = Braking(Patience())
    note(braking, *range(6), process=HIDDEN)
    assert [event.type for event in step(braking)] == ["daemon.brake_engaged"]


def test_a_worker_counts_from_the_round_in_which_it_fell_silent() -> None:
    braking = Braking(Patience())
    for number in range(6):
        # One every 100 s: never more than three within one dead window.
        for one in range(number + 1):
            note(braking, one)
        assert step(braking, running=1000.0 + 100.0 * number) == []


def test_it_lets_go_when_half_of_them_move_again() -> None:
    braking = engaged()
    note(braking, 0, 1, level=Level.HEALTHY)
    assert step(braking) == []
    note(braking, 2, level=Level.HEALTHY)
    [event] = step(braking)
    assert (event.type, event.data) == ("daemon.brake_released", {"workers": 6})
    assert braking.why == braking.cause == ""
    assert braking.incidents(WALL) == []


def test_it_lets_go_when_half_of_them_are_proven_gone() -> None:
    braking = engaged()
    note(braking, 0, 1, 2, level=Level.DEAD, process=GONE)
    assert [event.type for event in step(braking)] == ["daemon.brake_released"]


def test_it_lets_go_when_half_of_them_have_ended() -> None:
    braking = engaged()
    braking.forget([("run-1", "task-0"), ("run-1", "task-1"), ("run-1", "task-2")])
    assert [event.type for event in step(braking)] == ["daemon.brake_released"]


def test_who_fell_silent_and_ended_within_one_round_does_not_count() -> None:
    braking = Braking(Patience())
    note(braking, *range(4))
    braking.forget([("run-1", "task-0")])
    assert step(braking) == []


def test_a_worker_that_dies_silent_is_counted_once() -> None:
    braking = Braking(Patience())
    note(braking, 0, 1, 2)
    assert step(braking, live=3) == []
    for number in range(3):
        braking.note(*silent(f"task-{number}", Level.DEAD, HIDDEN, Reason.PRESUMED))
    assert step(braking, live=3) == []


def test_it_knows_whether_most_of_them_were_stopped() -> None:
    braking = Braking(Patience())
    stopped = ProcessSeen(ProcessState.STOPPED, "pid 700 is stopped", letter="T")
    assert not braking.mostly_stopped()
    note(braking, 0, 1, 2, process=stopped)
    note(braking, 3, 4)
    assert braking.mostly_stopped()
    note(braking, 0)
    assert not braking.mostly_stopped(), "one of them goes on, and is silent still"
    braking.forget([("run-1", "task-3"), ("run-1", "task-4")])
    assert braking.mostly_stopped()


def test_its_incident_tells_of_those_that_are_silent_and_of_no_other() -> None:
    braking = Braking(Patience())
    note(braking, *range(6))
    assert not braking.tells_of("run-1", "task-0")
    step(braking)
    assert braking.tells_of("run-1", "task-0") and not braking.tells_of("run-1", "task-9")


def test_a_cause_that_shows_later_is_told_and_one_that_is_known_stays() -> None:
    braking = Braking(Patience())
    note(braking, *range(6))
    for cause, told in ((UNKNOWN_CAUSE, UNKNOWN_CAUSE), ("a", "a"), ("b", "a"), (UNKNOWN_CAUSE, "a")):
        braking.step(6, 1000.0, WINDOW, cause, WALL)
        assert [incident.kind for incident in braking.incidents(WALL)] == [told]
