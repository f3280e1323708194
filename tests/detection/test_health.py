"""Local health: when crewd is slow itself, thresholds stretch, within bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.detection.health import PRESSURE_BAD, local_health

numbers = st.floats(min_value=0.0, max_value=1e9)
percents = st.floats(min_value=0.0, max_value=100.0)


@pytest.mark.parametrize(
    ("lag", "pressure", "factor"),
    [
        (0.0, 0.0, 1.0),
        (0.25, 0.0, 1.0),  # rounds are never exact
        (-3.0, 0.0, 1.0),  # woken early
        (0.0, PRESSURE_BAD, 1.0),  # a busy machine
        (0.0, (PRESSURE_BAD + 100.0) / 2, 1.5),
        (0.0, 100.0, 2.0),
        (1e6, 0.0, 5.0),
        (1e6, 100.0, 5.0),
    ],
)
def test_how_slowness_stretches_the_thresholds(lag: float, pressure: float, factor: float) -> None:
    assert local_health(lag, 5.0, pressure) == pytest.approx(factor)


def test_a_round_that_takes_twice_its_time_about_doubles_them() -> None:
    assert local_health(5.0, 5.0) == pytest.approx(2.0, abs=0.15)


@settings(deadline=None)
@given(lag=numbers, more=numbers, interval=st.floats(min_value=1.0, max_value=60.0), pressure=percents)
def test_slower_is_never_stricter(lag: float, more: float, interval: float, pressure: float) -> None:
    factor, slower = local_health(lag, interval, pressure), local_health(lag + more, interval, pressure)
    assert 1.0 <= factor <= slower <= 5.0


@settings(deadline=None)
@given(lag=numbers, pressures=st.tuples(percents, percents))
def test_more_pressure_is_never_stricter(lag: float, pressures: tuple[float, float]) -> None:
    calm, pressed = sorted(pressures)
    assert local_health(lag, 5.0, calm) <= local_health(lag, 5.0, pressed)
