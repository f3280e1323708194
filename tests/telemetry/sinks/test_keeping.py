import gzip
from pathlib import Path

import pytest

from crewd.telemetry.sinks.keeping import keep
from crewd.telemetry.sinks.options import SinkOptions
from tests.telemetry.sinks.world import DAY, NOON, names


def options(folder: Path, **changes: int | bool) -> SinkOptions:
    return SinkOptions(str(folder), **changes)  # type: ignore[arg-type]  # one of several fields, by name


def fill(folder: Path, *days: int, sink: str = "events", size: int = 100) -> None:
    for day in days:
        (folder / f"{sink}-2026-01-{day:02d}.jsonl").write_bytes(b"x" * (size - 1) + b"\n")


def in_use(*names: str) -> set[str]:
    return set(names)


def test_closed_days_are_compressed_but_for_yesterday_and_the_open_one(tmp_path: Path) -> None:
    fill(tmp_path, 1, 2, 3)
    keep(options(tmp_path), lambda: in_use("events-2026-01-03.jsonl"), NOON + 2 * DAY)
    assert names(tmp_path) == {"events-2026-01-01.jsonl.gz", "events-2026-01-02.jsonl", "events-2026-01-03.jsonl"}
    assert gzip.decompress((tmp_path / "events-2026-01-01.jsonl.gz").read_bytes()) == b"x" * 99 + b"\n"


def test_without_gzip_days_stay_as_they_are(tmp_path: Path) -> None:
    fill(tmp_path, 1, 2)
    keep(options(tmp_path, gzip=False), lambda: in_use("events-2026-01-02.jsonl"), NOON + 9 * DAY)
    assert names(tmp_path) == {"events-2026-01-01.jsonl", "events-2026-01-02.jsonl"}


def test_days_past_the_retention_go_with_what_was_torn_off_them(tmp_path: Path) -> None:
    fill(tmp_path, 1, 5, 9)
    (tmp_path / "events-2026-01-01.jsonl.torn").write_bytes(b"half")
    fill(tmp_path, 2, 9, sink="metrics")
    open_files = in_use("events-2026-01-09.jsonl", "metrics-2026-01-09.jsonl")
    keep(options(tmp_path, retention_days=4), lambda: open_files, NOON + 8 * DAY)
    assert names(tmp_path) == {"events-2026-01-05.jsonl.gz", *open_files}


def test_the_open_file_outlives_any_retention(tmp_path: Path) -> None:
    fill(tmp_path, 1, size=5000)
    keep(options(tmp_path, retention_days=1, retention_bytes=1), lambda: in_use("events-2026-01-01.jsonl"), NOON * 2)
    assert names(tmp_path) == {"events-2026-01-01.jsonl"}


def test_the_oldest_of_all_sinks_go_first_until_all_together_fit(tmp_path: Path) -> None:
    fill(tmp_path, 1, 3, 4)
    fill(tmp_path, 2, 4, sink="metrics")
    open_files = in_use("events-2026-01-04.jsonl", "metrics-2026-01-04.jsonl")
    kept = keep(options(tmp_path, retention_bytes=300, gzip=False), lambda: open_files, NOON + 3 * DAY)
    assert kept.removed == ["events-2026-01-01.jsonl", "metrics-2026-01-02.jsonl"]
    assert names(tmp_path) == {"events-2026-01-03.jsonl", *open_files}


def test_nothing_that_is_not_crewds_is_touched(tmp_path: Path) -> None:
    others = {"events-2020-01-01.jsonl.bak", "other-2020-01-01.jsonl", "events-position.json", "notes.txt"}
    for name in others:
        (tmp_path / name).write_bytes(b"x" * 500)
    (tmp_path / "events-2020-01-02.jsonl").symlink_to("notes.txt")
    keep(options(tmp_path, retention_days=1, retention_bytes=1), set, NOON)
    assert names(tmp_path) == others and (tmp_path / "events-2020-01-02.jsonl").is_symlink()


def test_what_an_interrupted_compression_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".events-2026-01-01.jsonl.gz.tmp").write_bytes(b"half")
    fill(tmp_path, 1)
    (tmp_path / "events-2026-01-01.jsonl.gz").write_bytes(b"renamed, and killed before the plain file went")
    keep(options(tmp_path), set, NOON + 2 * DAY)
    assert names(tmp_path) == {"events-2026-01-01.jsonl.gz"}
    assert gzip.decompress((tmp_path / "events-2026-01-01.jsonl.gz").read_bytes()) == b"x" * 99 + b"\n"


def test_options_out_of_bounds_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sinks\.retention_days is 0"):
        options(tmp_path, retention_days=0)
    with pytest.raises(ValueError, match=r"sinks\.folder is empty"):
        SinkOptions("")
