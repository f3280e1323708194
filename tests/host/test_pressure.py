"""Pressure is the worst of the three resources, and nothing where the kernel tells nothing."""

from pathlib import Path

import pytest

from crewd.host.pressure import oom_kills, pressure


def write(folder: Path, resource: str, some: str) -> None:
    lines = f"some {some} avg60=90.00 avg300=90.00 total=1\nfull avg10=95.00 avg60=0.00 avg300=0.00 total=1\n"
    (folder / resource).write_text(lines)


def test_the_worst_resource_counts(tmp_path: Path) -> None:
    write(tmp_path, "cpu", "avg10=3.50")
    write(tmp_path, "memory", "avg10=41.25")
    write(tmp_path, "io", "avg10=7.00")
    assert pressure(tmp_path) == 41.25


def test_a_kernel_without_pressure_is_under_none(tmp_path: Path) -> None:
    assert pressure(tmp_path) == 0.0
    write(tmp_path, "io", "avg10=2.00")
    assert pressure(tmp_path) == 2.0


@pytest.mark.parametrize("some", ["avg10=much", "avg60=1.00", "", "avg10="])
def test_a_line_that_is_not_understood_is_no_pressure(some: str, tmp_path: Path) -> None:
    write(tmp_path, "cpu", some)
    assert pressure(tmp_path) == 0.0


def test_this_machine_answers_within_bounds() -> None:
    assert 0.0 <= pressure() <= 100.0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("nr_free_pages 7\noom_kill 12\nnuma_hit 3\n", 12),
        ("oom_kill_x 5\n", None),
        ("oom_kill\n", None),
        ("oom_kill -1\n", None),
        ("", None),
    ],
)
def test_who_died_of_want_of_memory_is_counted_where_the_kernel_tells(
    tmp_path: Path, text: str, count: int | None
) -> None:
    (tmp_path / "vmstat").write_text(text)
    assert oom_kills(tmp_path / "vmstat") == count
    assert oom_kills(tmp_path / "none") is None
