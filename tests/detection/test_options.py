"""What the judges may be told: values that make no sense are refused, with the remedy in the message."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.options import Override, Patience, Thresholds, thresholds_for
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
