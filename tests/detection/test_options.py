"""What the judges may be told: values that make no sense are refused, with the remedy in the message."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.options import Override, Patience, Thresholds, thresholds_for
from crewd.model.run import Expectation
from tests.detection.evidence import thresholds


def test_the_defaults_are_the_names_that_dashboards_know() -> None:
    usual = Thresholds()
    assert (usual.warn_after, usual.stale_after, usual.dead_after, usual.hung_after) == (30.0, 60.0, 300.0, 900.0)
    patience = Patience()
    assert (patience.worse_rounds, patience.flapping_changes, patience.flapping_window) == (3, 4, 600.0)
    assert (patience.flapping_factor, patience.brake_minimum, patience.brake_share) == (2.0, 3, 0.5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"warn_after": 0.0}, "warn_after"),
        ({"warn_after": 60.0}, "60, 60, 300, 900"),
        ({"stale_after": 300.0}, "raise the later ones"),
        ({"dead_after": 901.0}, "hung_after"),
        ({"warn_after": float("nan")}, "nan"),
        ({"startup_grace": -1.0}, "use 0 for none"),
    ],
)
def test_thresholds_out_of_order_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Thresholds(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"worse_rounds": 0}, "worse_rounds"),
        ({"flapping_changes": 1}, "flapping_changes"),
        ({"brake_share": 0.0}, "brake_share"),
        ({"brake_share": 1.5}, "0.5 is half"),
    ],
)
def test_patience_that_makes_no_sense_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Patience(**wrong)


@settings(deadline=None)
@given(limits=thresholds(), factor=st.floats(min_value=1.0, max_value=10.0))
def test_stretching_keeps_order_and_grace(limits: Thresholds, factor: float) -> None:
    long = limits.stretched(factor)
    assert (long.warn_after, long.stale_after) == (limits.warn_after * factor, limits.stale_after * factor)
    assert (long.dead_after, long.hung_after) == (limits.dead_after * factor, limits.hung_after * factor)
    assert long.startup_grace == limits.startup_grace


def test_the_first_override_that_fits_wins() -> None:
    default, slow, slower = Thresholds(), Thresholds(warn_after=40.0), Thresholds(warn_after=50.0)
    overrides = (
        Override(slow, runtime="pi_crew", tool="bash"),
        Override(slower, task_type="review"),
        Override(Thresholds(warn_after=55.0), crew="night"),
    )

    def chosen(runtime: str = "", crew: str = "", task_type: str = "", tool: str = "") -> float:
        return thresholds_for(default, overrides, runtime, crew, task_type, tool).warn_after

    assert chosen(runtime="pi_crew", tool="bash", task_type="review") == 40.0
    assert chosen(runtime="beat", tool="bash", task_type="review") == 50.0
    assert chosen(runtime="pi_crew", crew="night") == 55.0
    assert chosen(runtime="pi_crew", crew="day") == 30.0


# --- what the owner of a task expects

EXPECTED = [
    (Expectation(), (30.0, 60.0, 300.0, 900.0)),
    (Expectation(warn_after=60.0, stale_after=240.0), (60.0, 240.0, 300.0, 900.0)),
    (Expectation(stale_after=600.0), (30.0, 600.0, 750.0, 900.0)),
    (Expectation(stale_after=3600.0), (30.0, 3600.0, 4500.0, 4500.0)),
    (Expectation(warn_after=100.0), (100.0, 200.0, 300.0, 900.0)),
    (Expectation(warn_after=1000.0), (1000.0, 1125.0, 1250.0, 1250.0)),
    (Expectation(dead_after=40.0), (10.0, 20.0, 40.0, 900.0)),
    (Expectation(hung_after=120.0), (30.0, 60.0, 120.0, 120.0)),
    (Expectation(5.0, 10.0, 20.0, 40.0), (5.0, 10.0, 20.0, 40.0)),
    (Expectation(stale_after=500.0, hung_after=400.0), (30.0, 60.0, 300.0, 900.0)),  # no order: nothing of it holds
]


@pytest.mark.parametrize(("wanted", "limits"), EXPECTED)
def test_what_is_not_named_gives_way_to_what_is(
    wanted: Expectation, limits: tuple[float, float, float, float]
) -> None:
    own = Thresholds().expecting(wanted)
    assert (own.warn_after, own.stale_after, own.dead_after, own.hung_after) == limits


times = st.none() | st.floats(min_value=0.5, max_value=1e5)


@settings(deadline=None)
@given(limits=thresholds(), one=times, other=times)
def test_what_is_named_in_order_always_holds(limits: Thresholds, one: float | None, other: float | None) -> None:
    warn, stale = (one, other) if one is None or other is None or one < other else (other, one)
    if warn is not None and warn == stale:
        return
    own = limits.expecting(Expectation(warn_after=warn, stale_after=stale))
    assert warn is None or own.warn_after == warn
    assert stale is None or own.stale_after == stale


@settings(deadline=None)
@given(limits=thresholds(), factor=st.floats(min_value=1.0, max_value=10.0))
def test_who_is_warned_of_later_is_stale_as_soon_as_ever(limits: Thresholds, factor: float) -> None:
    later = limits.warned_later(factor)
    assert limits.warn_after <= later.warn_after < later.stale_after == limits.stale_after
    assert (later.dead_after, later.hung_after) == (limits.dead_after, limits.hung_after)


def test_a_warning_is_put_off_as_far_as_the_next_threshold_allows() -> None:
    assert Thresholds(60.0, 240.0).warned_later(2.0).warn_after == 120.0
    assert Thresholds(60.0, 240.0).warned_later(9.0).warn_after == 120.0
    assert Thresholds(50.0, 60.0).warned_later(2.0).warn_after == 50.0
