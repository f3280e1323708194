import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.telemetry.rates import SlidingWindow


def test_what_has_left_the_window_no_longer_counts() -> None:
    window = SlidingWindow(10)
    for at in (0.0, 5.0, 9.0):
        window.add("blue", at)
    assert window.count("blue", 9.0) == 3
    assert window.count("blue", 10.0) == 2
    assert window.count("blue", 15.0) == 1
    assert window.count("blue", 19.0) == 0
    assert window.count("red", 9.0) == 0


def test_a_clock_set_back_neither_forgets_nor_counts_the_future() -> None:
    window = SlidingWindow(10)
    window.add("blue", 100.0)
    window.add("blue", 50.0)
    assert window.count("blue", 51.0) == 1
    assert window.count("blue", 101.0) == 1


@given(st.lists(st.floats(0, 1000), max_size=50), st.floats(1000, 2000))
def test_the_count_is_that_of_the_moments_inside_the_window(moments: list[float], now: float) -> None:
    window = SlidingWindow(100)
    for at in sorted(moments):
        window.add("blue", at)
    assert window.count("blue", now) == sum(now - 100 < at <= now for at in moments)


def test_memory_is_bounded_per_key_and_in_keys() -> None:
    window = SlidingWindow(10, limit=5)
    for number in range(100):
        window.add("blue", 1.0)
        window.add(f"crew {number}", float(number * 20))
    assert window.count("blue", 1.0) <= 5
    assert window.count("crew 0", 0.0) == 0


def test_a_window_without_width_is_refused() -> None:
    with pytest.raises(ValueError, match="window_seconds is 0"):
        SlidingWindow(0)
