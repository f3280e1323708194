"""Damping: what opens again and again is told a few times, then only recorded, until it has been quiet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.policy.damping import CEILING, REUSE_SHARE, Damping, Penalty, eased, opened

DAMPING = Damping(damp_above=3.0, half_life=600.0)
GAPS = st.lists(st.floats(0.0, 5000.0), max_size=40)
DAMPINGS = st.builds(Damping, st.floats(1.0, 50.0), st.floats(1.0, 10_000.0))


def after(gaps: list[float], damping: Damping = DAMPING) -> tuple[Penalty, float]:
    """Open once, and again after each gap."""
    penalty, now = opened(Penalty(), 0.0, damping), 0.0
    for gap in gaps:
        now += gap
        penalty = opened(penalty, now, damping)
    return penalty, now


@pytest.mark.parametrize(
    ("gaps", "damped"),
    [
        ([], False),
        ([0.0, 0.0], False),
        ([0.0, 0.0, 0.0], True),
        ([60.0, 60.0, 60.0, 60.0], True),
        ([600.0] * 50, False),
        ([1800.0] * 50, False),
        ([0.0] * 3 + [5.0], True),
        ([0.0] * 3 + [300.0], True),
        ([0.0] * 3 + [700.0], True),
        ([0.0] * 3 + [2000.0], False),
    ],
)
def test_only_what_opens_often_is_damped(gaps: list[float], damped: bool) -> None:
    assert after(gaps)[0].damped is damped


def test_what_is_damped_is_told_again_after_a_while_of_quiet() -> None:
    penalty, now = after([0.0] * 3)
    assert eased(penalty, now + 800.0, DAMPING) is penalty
    later = eased(penalty, now + 900.0, DAMPING)
    assert (later.damped, later.at) == (False, 900.0) and later.value <= 1.5
    assert eased(later, now + 901.0, DAMPING) is later, "nothing more happens to it"


@given(GAPS, DAMPINGS)
def test_a_penalty_is_bounded_and_says_whether_it_is_damped(gaps: list[float], damping: Damping) -> None:
    penalty, now = after(gaps, damping)
    assert 0.0 < penalty.value <= CEILING * damping.damp_above
    if penalty.value > damping.damp_above:
        assert penalty.damped
    if penalty.damped:
        assert penalty.value > REUSE_SHARE * damping.damp_above
    quiet = eased(penalty, now + 3.0 * damping.half_life + 1.0, damping)
    assert not quiet.damped, "three half-lives of quiet are enough, however often it opened"


@given(GAPS, DAMPINGS, st.floats(0.0, 1e9))
def test_time_alone_damps_nothing_and_easing_twice_is_easing_once(
    gaps: list[float], damping: Damping, wait: float
) -> None:
    penalty, now = after(gaps, damping)
    once = eased(penalty, now + wait, damping)
    assert once.damped <= penalty.damped and once.value <= penalty.value
    assert eased(once, now + wait, damping) == once


@given(GAPS, DAMPINGS, st.floats(0.0, 1e9))
def test_a_clock_that_was_set_back_proves_no_quiet(gaps: list[float], damping: Damping, back: float) -> None:
    penalty, now = after(gaps, damping)
    assert eased(penalty, now - back, damping) is penalty
    assert opened(penalty, now - back, damping).value >= penalty.value


@given(st.lists(st.floats(0.0, 100.0), max_size=20), st.floats(1.0, 10.0))
def test_who_opens_more_slowly_is_never_the_more_damped(gaps: list[float], slower: float) -> None:
    quick, _ = after(gaps)
    slow, _ = after([gap * slower for gap in gaps])
    assert slow.value <= quick.value + 1e-9
