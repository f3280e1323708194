"""`crewd replay`: a recorded period through other settings, from a ledger and from day files."""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.model.event import Event, as_record
from tests.cli.world import NOW, crewd
from tests.fakes.clock import FakeClock

DATA = {
    "from_level": "stale",
    "to_level": "dead",
    "reason": "presumed",
    "because": "silent, no process is named",
    "silence_seconds": 305.0,
    "row": 13,
}
DEAD = Event("worker.level_changed", NOW, DATA, "r-1", "t\x1b[31m", 1, "pi_crew", "blue", seq=7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old.toml").write_text("")
    (tmp_path / "new.toml").write_text('[heartbeat]\nwarn_after = "10s"\ndead_after = "10m"\n')
    return tmp_path


def replayed(folder: Path, events: Path, *more: str, new: str = "new.toml") -> Result:
    named = ("--config", str(folder / new), "--base", str(folder / "old.toml"))
    return crewd("replay", str(events), *named, *more, folder=folder)


def write_day(folder: Path, *lines: str) -> Path:
    path = folder / "events-2026-01-01.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def told(result: Result) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(result.stdout)
    return value


def test_a_day_file_is_replayed_and_what_is_no_event_is_counted(folder: Path) -> None:
    line = json.dumps(as_record(DEAD))
    path = write_day(folder, line, line, "{torn", "[]", '{"ts":"x","type":"y"}', "")
    result = replayed(folder, path, "--json")
    assert result.exit_code == 1
    answer = told(result)
    assert [each["kind"] for each in answer["differences"]] == ["incident", "verdict"]
    assert (answer["events"], answer["broken_lines"], answer["looked_at"]["silences"]) == (1, 3, 1)
    assert any("unknown below 30 s" in each for each in answer["unknown"])


def test_the_same_settings_leave_with_0(folder: Path) -> None:
    result = replayed(folder, write_day(folder, json.dumps(as_record(DEAD))), new="old.toml")
    assert result.exit_code == 0
    assert "nothing differs" in result.stdout


def test_the_table_names_what_differs_without_control_characters(folder: Path) -> None:
    result = replayed(folder, write_day(folder, json.dumps(as_record(DEAD))))
    assert "dead(presumed) after 300 s" in result.stdout
    assert "not to be known from the record" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_folder_of_day_files_is_read_packed_ones_too(folder: Path) -> None:
    line = json.dumps(as_record(DEAD)).encode() + b"\n"
    (folder / "events-2026-01-01.jsonl.gz").write_bytes(gzip.compress(line))
    write_day(folder)
    (folder / "events-2026-01-02.jsonl").write_bytes(line)
    (folder / "events-2026-01-01.jsonl").unlink()
    assert told(replayed(folder, folder, "--json"))["events"] == 1


def test_a_ledger_is_replayed(folder: Path) -> None:
    async def write() -> None:
        ledger = Ledger.open(folder / "state", FakeClock(NOW))
        await ledger.commit(Batch(events=(DEAD,)))
        await ledger.close()

    asyncio.run(write())
    result = replayed(folder, folder / "state", "--json")
    assert [each["kind"] for each in told(result)["differences"]] == ["incident", "verdict"]


def test_a_folder_without_a_record_leaves_with_3(folder: Path) -> None:
    (folder / "empty").mkdir()
    result = replayed(folder, folder / "empty")
    assert result.exit_code == 3
    assert "events-DATE.jsonl" in result.stderr


def test_a_damaged_packed_file_is_told(folder: Path) -> None:
    path = folder / "events-2026-01-01.jsonl.gz"
    path.write_bytes(gzip.compress(b"x" * 9999)[:20])
    assert replayed(folder, path).exit_code == 3


def test_unusable_settings_leave_with_78(folder: Path) -> None:
    (folder / "new.toml").write_text("[heartbeat]\nwarn_after = 0\n")
    assert replayed(folder, write_day(folder)).exit_code == 78


def test_a_channel_that_hears_more_is_told(folder: Path) -> None:
    (folder / "new.toml").write_text('[notifications.channels.chat]\nkind = "log"\n')
    data = {"subject": "crewd", "cause": "sink", "severity": "warning", "opened_at": NOW, "summary": "x"}
    opened = Event("incident.opened", NOW, data, seq=8)
    answer = told(replayed(folder, write_day(folder, json.dumps(as_record(opened))), "--json"))
    assert [(each["kind"], each["new"]) for each in answer["differences"]] == [("notification", "sent (warning)")]
