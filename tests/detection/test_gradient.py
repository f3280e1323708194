"""How a standing follows the verdicts: worse slowly and one level at a time, better at once, never against a hold."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.gradient import FREE, Restraint, follow, is_flapping
from crewd.detection.options import Patience
from crewd.model.verdict import LEVEL_AT, RANK, Level, Reason, Standing, Verdict, Wedge
from tests.detection.evidence import degrees, verdict, verdicts

PATIENCE = Patience()
HELD = Restraint(hold="the machine slept 60 s")
BRAKED = Restraint(brake="9 workers fell silent together")

WELL = verdict(Level.HEALTHY, Reason.BEATING, 6)
LATE = verdict(Level.WARN, Reason.SILENT, 8)
STALE = verdict(Level.STALE, Reason.SILENT, 9)
PRESUMED = verdict(Level.DEAD, Reason.PRESUMED, 13)
HUNG = verdict(Level.DEAD, Reason.HUNG, 12)
GONE = verdict(Level.DEAD, Reason.EXITED, 2)
WAITS = verdict(Level.WAITING, Reason.HUMAN, 1)
UNREADABLE = verdict(Level.UNREADABLE, Reason.UNREADABLE, 3)


def at(level: Level, reason: Reason = Reason.SILENT) -> Standing:
    return Standing(level=level, reason=reason)


def step(
    standing: Standing,
    said: Verdict,
    restraint: Restraint = FREE,
    observed: float = 1000.0,
    progressed: bool = False,
    regular: bool = True,
    patience: Patience = PATIENCE,
) -> Standing:
    return follow(standing, said, restraint, patience, observed, 1e9 + observed, progressed, regular)


def walk(standing: Standing, *said: Verdict, restraint: Restraint = FREE) -> list[Level]:
    levels = []
    for number, each in enumerate(said):
        standing = step(standing, each, restraint, observed=1000.0 + 5 * number)
        levels.append(standing.level)
    return levels


# --- worse


def test_a_silent_worker_walks_through_every_level() -> None:
    rounds = walk(Standing(), *[PRESUMED] * 9)
    h, w, s, d = LEVEL_AT
    assert rounds == [h, h, w, w, w, s, s, s, d]


def test_two_bad_rounds_are_forgotten_by_one_that_agrees() -> None:
    assert walk(Standing(), LATE, LATE, WELL, LATE, LATE)[-1] is Level.HEALTHY
    assert walk(Standing(), LATE, LATE, WELL, LATE, LATE, LATE)[-1] is Level.WARN


def test_a_proven_exit_jumps_to_dead_at_once_from_every_level() -> None:
    for level in (*LEVEL_AT[:3], Level.WAITING, Level.UNREADABLE):
        standing = step(at(level), GONE, regular=False)
        assert (standing.level, standing.reason, standing.held_by) == (Level.DEAD, Reason.EXITED, "")


def test_a_worker_presumed_dead_whose_exit_is_then_proven_is_dead_by_exit() -> None:
    standing = step(at(Level.DEAD, Reason.PRESUMED), GONE)
    assert (standing.level, standing.reason, standing.because) == (Level.DEAD, Reason.EXITED, GONE.because)


def test_what_holds_a_level_back_is_named() -> None:
    assert step(Standing(), LATE).held_by == "hysteresis"
    assert step(Standing(), LATE, HELD).held_by == "hold: the machine slept 60 s"
    assert step(at(Level.STALE), PRESUMED, BRAKED).held_by == "brake: 9 workers fell silent together"
    assert step(msgspec.structs.replace(at(Level.WARN), held_by="hysteresis"), LATE).held_by == ""


@settings(deadline=None)
@given(
    level=st.sampled_from(LEVEL_AT[:3]),
    worse_rounds=st.integers(min_value=1, max_value=6),
    regular=st.lists(st.booleans(), max_size=40),
)
def test_a_level_rises_by_one_after_exactly_so_many_regular_rounds_and_early_rounds_never_count(
    level: Level, worse_rounds: int, regular: list[bool]
) -> None:
    patience = Patience(worse_rounds=worse_rounds)
    standing, counted = at(level), 0
    for each in regular:
        standing = step(standing, PRESUMED, regular=each, patience=patience)
        counted += each
        assert RANK[standing.level] == min(3, RANK[level] + counted // worse_rounds)


# --- hold and brake


@pytest.mark.parametrize("said", [LATE, STALE, PRESUMED, HUNG, GONE, UNREADABLE])
def test_a_hold_lets_nobody_get_worse(said: Verdict) -> None:
    standing = Standing()
    for _ in range(20):
        standing = step(standing, said, HELD)
        assert standing.level is Level.HEALTHY
    assert standing.held_by.startswith("hold: ")


@pytest.mark.parametrize("restraint", [HELD, Restraint(hold="h", brake="b")])
def test_what_was_counted_before_a_hold_does_not_count_after_it(restraint: Restraint) -> None:
    standing = step(step(at(Level.STALE), PRESUMED), PRESUMED)
    standing = step(standing, PRESUMED, restraint)
    assert walk(standing, PRESUMED, PRESUMED, PRESUMED) == [Level.STALE, Level.STALE, Level.DEAD]


def test_a_hold_lets_everybody_get_better() -> None:
    assert step(at(Level.DEAD, Reason.PRESUMED), WELL, HELD, progressed=True).level is Level.HEALTHY


def test_an_exit_that_a_hold_kept_back_is_told_as_soon_as_the_hold_ends() -> None:
    standing = step(Standing(), GONE, HELD)
    assert standing.level is Level.HEALTHY
    assert step(standing, GONE).level is Level.DEAD


@pytest.mark.parametrize("said", [PRESUMED, HUNG])
def test_under_the_brake_nobody_dies_of_silence(said: Verdict) -> None:
    assert set(walk(at(Level.STALE), *[said] * 20, restraint=BRAKED)) == {Level.STALE}


def test_the_brake_stops_neither_an_exit_nor_what_lies_short_of_dead() -> None:
    assert step(at(Level.STALE), GONE, BRAKED).level is Level.DEAD
    assert walk(Standing(), *[STALE] * 6, restraint=BRAKED)[-1] is Level.STALE


# --- better


@pytest.mark.parametrize("level", LEVEL_AT[1:])
@pytest.mark.parametrize("said", [WELL, LATE, STALE])
def test_progress_makes_better_at_once(level: Level, said: Verdict) -> None:
    standing = step(at(level), said, progressed=True, regular=False)
    assert standing.level is min(level, said.level, key=RANK.__getitem__)


@pytest.mark.parametrize("standing", [at(Level.STALE), at(Level.DEAD, Reason.PRESUMED), at(Level.DEAD, Reason.HUNG)])
@pytest.mark.parametrize("said", [WELL, LATE])
def test_longer_thresholds_alone_make_nobody_better(standing: Standing, said: Verdict) -> None:
    after = step(standing, said)
    assert after.level is standing.level
    assert after.held_by == "hysteresis"


def test_other_evidence_than_silence_makes_better_without_progress() -> None:
    busy = verdict(Level.STALE, Reason.BUSY, 10)
    leased = verdict(Level.HEALTHY, Reason.LEASED, 5)
    assert step(at(Level.DEAD, Reason.HUNG), busy).level is Level.STALE
    assert step(at(Level.STALE), leased).level is Level.HEALTHY


def test_a_tool_that_turns_out_to_run_makes_well_and_longer_thresholds_do_not() -> None:
    inside = verdict(Level.HEALTHY, Reason.BUSY, 7)
    assert step(at(Level.WARN), inside).level is Level.HEALTHY
    assert step(at(Level.STALE), inside).level is Level.HEALTHY
    stretched = step(at(Level.STALE, Reason.BUSY), inside)
    assert (stretched.level, stretched.held_by) == (Level.STALE, "hysteresis")
    assert step(at(Level.STALE, Reason.BUSY), inside, progressed=True).level is Level.HEALTHY


def test_a_process_that_turns_out_to_live_is_no_longer_dead_by_exit() -> None:
    assert step(at(Level.DEAD, Reason.EXITED), WELL).level is Level.HEALTHY


def test_a_diagnosis_is_kept_while_it_is_silent_and_dropped_when_it_is_well() -> None:
    wedged = msgspec.structs.replace(at(Level.STALE), wedge=Wedge.CPU_LOOP, worse_rounds=2)
    assert step(wedged, HUNG).wedge is Wedge.CPU_LOOP
    assert step(wedged, WELL, progressed=True).wedge is None


# --- facts


@pytest.mark.parametrize("level", LEVEL_AT)
@pytest.mark.parametrize("fact", [WAITS, UNREADABLE])
def test_waiting_and_unreadable_are_facts_and_need_no_patience(level: Level, fact: Verdict) -> None:
    standing = step(at(level), fact, regular=False)
    assert (standing.level, standing.reason) == (fact.level, fact.reason)


def test_a_hold_stops_unreadable_and_lets_waiting_through() -> None:
    held = step(Standing(), UNREADABLE, HELD)
    assert held.level is Level.HEALTHY
    assert held.held_by.startswith("hold: ")
    assert step(Standing(), WAITS, HELD).level is Level.WAITING


@pytest.mark.parametrize("said", [WELL, LATE, STALE, PRESUMED])
def test_who_comes_back_from_a_wait_begins_as_healthy(said: Verdict) -> None:
    standing = step(at(Level.WAITING, Reason.HUMAN), said)
    assert standing.level is Level.HEALTHY
    assert standing.worse_rounds == 0
    assert walk(standing, PRESUMED, PRESUMED, PRESUMED)[-1] is Level.WARN


def test_a_wait_for_something_else_is_told_without_a_change_of_level() -> None:
    before = Standing(level=Level.WAITING, reason=Reason.HUMAN, since=7.0)
    after = step(before, verdict(Level.WAITING, Reason.THROTTLED, 1))
    assert (after.reason, after.since, after.changes) == (Reason.THROTTLED, 7.0, before.changes)


def test_a_standing_that_nothing_touches_is_the_same_object() -> None:
    standing = step(at(Level.WARN), LATE)
    assert step(standing, LATE) is standing


# --- flapping


def changed_at(*times: float) -> Standing:
    """A worker whose level changed at each of these moments."""
    standing = Standing()
    for number, observed in enumerate(times):
        standing = step(standing, WELL if number % 2 else GONE, observed=observed, progressed=True)
        assert standing.level is (Level.HEALTHY if number % 2 else Level.DEAD)
    return standing


@pytest.mark.parametrize(
    ("times", "flapping"),
    [
        ((1000.0, 1100.0, 1200.0), False),
        ((1000.0, 1100.0, 1200.0, 1300.0), True),
        ((1000.0, 1200.0, 1400.0, 1599.9), True),
        ((1000.0, 1200.0, 1400.0, 1600.0), False),  # the first is 600 s ago
        ((1000.0, 1500.0, 2000.0, 2500.0, 3000.0, 3500.0), False),
        ((1000.0, 1500.0, 1510.0, 1520.0, 1530.0), True),
    ],
)
def test_four_changes_in_ten_minutes_are_flapping(times: tuple[float, ...], flapping: bool) -> None:
    assert is_flapping(changed_at(*times), times[-1]) is flapping


def test_flapping_ends_a_window_after_the_last_change() -> None:
    standing = changed_at(1000.0, 1001.0, 1002.0, 1003.0)
    assert is_flapping(standing, 1602.9)
    assert not is_flapping(standing, 1603.0)


def test_a_change_of_reason_alone_is_no_change_of_level() -> None:
    standing = at(Level.STALE)
    for number in range(10):
        reason = Reason.BUSY if number % 2 else Reason.SILENT
        standing = step(standing, verdict(Level.STALE, reason))
    assert standing.changes == ()


def test_waits_come_and_go_without_anyone_flapping() -> None:
    standing = Standing()
    for number in range(20):
        standing = step(standing, WELL if number % 2 else WAITS, observed=1000.0 + number)
    assert standing.changes == ()
    assert not is_flapping(standing, 1020.0)


# --- for any sequence of rounds

rounds = st.lists(
    st.tuples(
        verdicts,
        st.sampled_from([FREE, HELD, BRAKED, Restraint(hold="h", brake="b")]),
        st.booleans(),
        st.booleans(),
        st.floats(min_value=0.0, max_value=400.0),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(rounds)
def test_no_sequence_of_rounds_breaks_the_rules(
    rounds: list[tuple[Verdict, Restraint, bool, bool, float]],
) -> None:
    standing, observed, changes = Standing(), 0.0, 0
    for said, restraint, progressed, regular, passed in rounds:
        observed += passed
        before, standing = standing, step(standing, said, restraint, observed, progressed, regular)
        if standing.level is not before.level:
            if before.level in RANK and standing.level in RANK:
                changes += 1
                assert standing.changes[-1] == observed
            assert standing.since == 1e9 + observed
            assert standing.held_by == ""
            assert standing.worse_rounds == 0
        assert len(standing.changes) <= min(changes, PATIENCE.flapping_changes)
        assert 0 <= standing.worse_rounds < PATIENCE.worse_rounds
        if before.level in RANK and standing.level in RANK:
            _assert_fair(before, standing, said, restraint, progressed, regular)
        if restraint.hold:
            assert standing.level in (before.level, Level.WAITING) or _is_better(standing.level, before.level)


def _assert_fair(
    before: Standing, after: Standing, said: Verdict, restraint: Restraint, progressed: bool, regular: bool
) -> None:
    rise = RANK[after.level] - RANK[before.level]
    by_exit = said.reason is Reason.EXITED
    if rise > 0:
        assert not restraint.hold
        assert RANK[after.level] <= RANK[said.level]
        assert by_exit or rise == 1
        assert by_exit or (regular and before.worse_rounds == PATIENCE.worse_rounds - 1)
        assert not (restraint.brake and after.level is Level.DEAD and not by_exit)
    if rise < 0:
        assert after.level is said.level
    if progressed and said.level in RANK and RANK[said.level] < RANK[before.level]:
        assert after.level is said.level


def _is_better(now: Level, before: Level) -> bool:
    # Leaving a wait or unreadable files behind begins anew as healthy.
    return now is Level.HEALTHY if before not in RANK else now in RANK and RANK[now] < RANK[before]


@settings(deadline=None)
@given(st.lists(degrees, min_size=1, max_size=40))
def test_a_standing_is_never_worse_than_the_worst_of_its_last_three_verdicts(said: list[Verdict]) -> None:
    standing = Standing()
    for number, each in enumerate(said):
        standing = step(standing, each, progressed=True)
        recent = said[max(0, number - PATIENCE.worse_rounds + 1) : number + 1]
        assert RANK[standing.level] <= max(RANK[one.level] for one in recent)
