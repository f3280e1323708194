"""How a wall time is written, and what is read as one."""

import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.model.moment import MOMENT_MAX, MOMENT_MIN, parse_rfc3339, rfc3339


@pytest.mark.parametrize(
    ("wall", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_767_225_600.0, "2026-01-01T00:00:00.000Z"),
        (1_767_225_600.25, "2026-01-01T00:00:00.250Z"),
        (1_767_225_599.001, "2025-12-31T23:59:59.001Z"),
        (1_767_225_600.0005, "2026-01-01T00:00:00.000Z"),  # down, never up
        (1_767_225_600.0019, "2026-01-01T00:00:00.001Z"),
        (1_767_225_599.9995, "2025-12-31T23:59:59.999Z"),  # not next year
        (1_709_164_800.0, "2024-02-29T00:00:00.000Z"),
        (4_102_444_799.5, "2099-12-31T23:59:59.500Z"),
    ],
)
def test_a_time_is_written_in_utc_with_milliseconds_rounded_down(wall: float, text: str) -> None:
    assert rfc3339(wall) == text


@settings(deadline=None)
@given(st.floats(min_value=0.0, max_value=4e9))
def test_what_was_written_reads_as_the_same_millisecond(wall: float) -> None:
    text = rfc3339(wall)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    read = parse_rfc3339(text)
    assert read is not None
    assert wall - 0.001 - 1e-6 < read <= wall + 1e-6
    assert rfc3339(read) == text


@settings(deadline=None)
@given(st.floats(min_value=0.0, max_value=4e9), st.floats(min_value=0.0, max_value=4e9))
def test_written_times_sort_as_the_times_do(one: float, other: float) -> None:
    assert (rfc3339(min(one, other)) <= rfc3339(max(one, other))) is True


@pytest.mark.parametrize(
    ("text", "wall"),
    [
        ("2026-01-01T00:00:00Z", 1_767_225_600.0),
        ("2026-01-01T00:00:00.250Z", 1_767_225_600.25),
        ("2026-01-01T00:00:00.123456Z", 1_767_225_600.123456),
        ("2026-01-01T02:00:00+02:00", 1_767_225_600.0),
        ("2025-12-31T19:00:00-05:00", 1_767_225_600.0),
        ("2026-01-01 00:00:00", 1_767_225_600.0),  # no zone: UTC
        ("2026-01-01", 1_767_225_600.0),
        ("0001-01-01T00:00:00Z", -62_135_596_800.0),
        ("9999-12-31T23:59:59Z", 253_402_300_799.0),
    ],
)
def test_what_runtimes_write_is_read_as_a_time(text: str, wall: float) -> None:
    assert parse_rfc3339(text) == pytest.approx(wall, abs=1e-6)


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_the_zone_of_the_machine_changes_nothing() -> None:
    assert rfc3339(1_767_225_600.0) == "2026-01-01T00:00:00.000Z"
    assert parse_rfc3339("2026-01-01T00:00:00") == 1_767_225_600.0


@pytest.mark.parametrize(
    "text",
    ["", "now", "yesterday", "1767225600", "2026-13-01T00:00:00Z", "2026-02-30", "2026-01-01T25:00:00Z", "\0", "Z"],
)
def test_what_is_no_time_is_read_as_none(text: str) -> None:
    assert parse_rfc3339(text) is None


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_at_all_is_too_strange_to_be_read(text: str) -> None:
    assert parse_rfc3339(text) is None or isinstance(parse_rfc3339(text), float)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"])
def test_a_time_that_its_zone_carries_out_of_the_calendar_is_none(text: str) -> None:
    assert parse_rfc3339(text) is None


@pytest.mark.parametrize("wall", [MOMENT_MIN, MOMENT_MAX])
def test_the_first_and_the_last_time_have_a_name(wall: float) -> None:
    assert parse_rfc3339(rfc3339(wall)) == wall
