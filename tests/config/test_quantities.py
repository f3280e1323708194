"""Durations and sizes, as tables and as round trips."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.config.quantities import duration_text, seconds, size, size_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 30.0), ("1m30s", 90.0), ("500ms", 0.5), ("1d2h", 93_600.0), ("1.5h", 5400.0), (7, 7.0), ("7", 7.0)],
)
def test_a_duration_is_read_in_every_way_people_write_it(text: object, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "s", "30 s", "1x", "-3s", "30s!", "nan", "inf", float("nan"), True, None, [3], 10**400, "9" * 400]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("16MiB", 16 * 2**20), ("500kB", 500_000), ("12", 12), (12, 12), ("1 GB", 10**9)]
)
def test_a_size_is_read_in_every_way_people_write_it(text: object, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "-1", -1, 1.5, "16 mibs", True, "9" * 400])
def test_what_is_no_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        size(text)


@given(st.integers(0, 10**12).map(lambda number: number / 1000))
def test_a_duration_that_is_written_reads_back(value: float) -> None:
    assert seconds(duration_text(value)) == pytest.approx(value, abs=1e-3)


@given(st.integers(0, 2**50))
def test_a_size_that_is_written_reads_back(value: int) -> None:
    assert size(size_text(value)) == value


def test_a_text_without_end_is_refused_at_once() -> None:
    start = time.process_time()
    for read in (seconds, size):
        with pytest.raises(ValueError, match="is not a"):
            read("1" * 4_000_000)
    assert time.process_time() - start < 1.0
