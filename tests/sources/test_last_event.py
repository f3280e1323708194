"""The end of an event log: its last number, whether the run ended, and what is no log."""

import json
from pathlib import Path

import pytest

from crewd.model.recovery import LogSeen
from crewd.sources.pi_crew import last_event as module
from crewd.sources.pi_crew.last_event import last_event


def line(seq: int | None, type: str = "task.progress") -> str:
    return json.dumps({"type": type, "metadata": {} if seq is None else {"seq": seq}}) + "\n"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (line(1) + line(3) + line(2), LogSeen(3)),
        (line(1) + line(2)[:-9], LogSeen(1)),  # a torn append
        (line(1) + line(2, "run.failed"), LogSeen(2, "run.failed")),
        (line(1, "run.failed") + line(2, "task.started"), LogSeen(2)),  # resumed
    ],
)
def test_the_last_number_and_the_end_are_found(text: str, seen: LogSeen, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(text)
    assert last_event(str(tmp_path)) == seen


@pytest.mark.parametrize("text", ["", "\n", "not json\n" + line(2), line(None), '["a list"]\n', '{"type": 7}\n'])
def test_what_is_no_log_has_no_number_and_says_why(text: str, tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text(text)
    seen = last_event(str(tmp_path))
    assert seen.seq is None and "events.jsonl" in seen.why


def test_a_missing_log_and_a_link_are_no_logs(tmp_path: Path) -> None:
    assert last_event(str(tmp_path)).seq is None
    (tmp_path / "elsewhere").write_text(line(1))
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "elsewhere")
    assert last_event(str(tmp_path)).seq is None


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END", 200)
    monkeypatch.setattr(module, "READ_MAX", 500)
    (tmp_path / "events.jsonl").write_text("no json, and long ago\n" + "".join(line(seq) for seq in range(1, 99)))
    assert last_event(str(tmp_path)) == LogSeen(98)


@pytest.mark.parametrize(
    ("before", "ended"),
    [
        (line(1, "run.failed"), "run.failed"),
        (line(1, "task.started") + line(2, "run.failed"), "run.failed"),
        (line(1, "run.failed") + line(2, "task.started"), ""),
        (line(1, "run.failed") + line(2, "crew.run.resumed"), ""),
        (
            line(1, "run.failed") + json.dumps({"type": "x", "data": "run.", "of": "task.started"}) + "\n",
            "run.failed",
        ),
        (line(1, "run.failed") + 'no json, with "run. in it\n', "run.failed"),
        (line(1), ""),
    ],
)
def test_the_latest_word_on_the_run_is_found_behind_what_its_agents_did(
    before: str, ended: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = "".join(line(seq) for seq in range(3, 60))
    (tmp_path / "events.jsonl").write_text(before + progress)
    for end in (60, 100, len(line(59)) * 3, len(progress), len(progress) + 1):
        monkeypatch.setattr(module, "END", end)
        assert last_event(str(tmp_path)) == LogSeen(59, ended)


def test_a_last_line_longer_than_the_end_that_is_read_first_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "END", 10)
    (tmp_path / "events.jsonl").write_text(line(1) + line(2, "run.completed"))
    assert last_event(str(tmp_path)) == LogSeen(2, "run.completed")
