"""`crewd history`, `crewd export`, `crewd metrics --window`: with a daemon, without one, and what they never do."""

import asyncio
import csv
import io
import json
from pathlib import Path
from typing import Any

import apsw
import pytest
from click.testing import Result
from structlog.testing import capture_logs

from crewd.cli.dates import wall_time
from crewd.cli.history import _run_cells
from crewd.cli.summary import sparkline
from crewd.ledger.ledger import Ledger
from crewd.ledger.opening import NAME
from crewd.ledger.reader import Reader
from crewd.model.event import Event
from tests.cli.contract import Contract, serving
from tests.cli.world import NOW, crewd, daemon, write_ledger
from tests.fakes.clock import FakeClock
from tests.ledger.past import attempt, run, task, write_past

SECRET = "Bearer abcdefghijkl"


def past(folder: Path, now: float = NOW) -> None:
    """Leave a ledger behind with a run that failed a minute ago, after a retry."""
    write_ledger(folder, events=[Event("incident.opened", NOW, {"why": SECRET}, run_id="r-1", crew="blue")])
    ended: dict[str, Any] = {"run_id": "r-1", "crew": "blue", "ended_at": now - 60, "started_at": now - 70}
    write_past(
        folder,
        runs=[
            run(
                5,
                "failed",
                run_id="r-1",
                last_seq=1,
                crew="blue",
                goal="ship\x1b[2J",
                tasks={"failed": 1, "completed": 1},
            )
        ],
        tasks=[task(6, **ended, task_id="a"), task(7, "failed", **ended, task_id="b", attempts=2)],
        attempts=[
            attempt(6, **ended, task_id="a", model="opus"),
            attempt(7, "failed", **ended, task_id="b", error_class="timeout", error=SECRET),
            attempt(8, "timed_out", **ended, task_id="b", attempt=2),
        ],
    )


def ask(folder: Path, *arguments: str) -> Result:
    return crewd(*arguments, "--state-dir", str(folder), folder=folder)


def read(folder: Path, *arguments: str) -> Any:
    result = ask(folder, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


QUESTIONS = (
    ("history", "runs"),
    ("history", "runs", "--state", "failed", "--crew", "blue", "--since", "2020-01-01"),
    ("history", "tasks", "--run", "r-1", "--task", "b"),
    ("history", "attempts", "--state", "failed", "--state", "timed_out", "--limit", "1"),
    ("history", "attempts", "--model", "opus", "--until", "2030-01-01T00:00:00Z"),
    ("history", "attempts", "--cursor", "7"),
    ("history", "attempts", "--variant", "prompt=b"),
)


def test_the_daemon_and_its_ledger_give_the_same_answers(tmp_path: Path) -> None:
    past(tmp_path)
    with daemon(tmp_path):
        online = [read(tmp_path, *question) for question in QUESTIONS]
    for question, one in zip(QUESTIONS, online, strict=True):
        other = read(tmp_path, *question)
        assert (one.pop("source"), other.pop("source")) == ("daemon", "ledger")
        assert one.pop("as_of") is None
        assert other.pop("as_of") is not None
        assert one == other, question
    assert [len(each.get("runs", each.get("tasks", each.get("attempts")))) for each in online] == [
        1,
        1,
        1,
        1,
        1,
        1,
        0,
    ]
    assert online[3]["next_cursor"] == "8"


def test_rows_are_told_without_secrets_and_control_characters(tmp_path: Path) -> None:
    past(tmp_path)
    result = ask(tmp_path, "history", "attempts")
    assert "timeout: Bearer ***" in result.stdout
    assert "r-1/b  #2  timed_out  10.0s" in result.stdout
    runs = ask(tmp_path, "history", "runs")
    assert "1 failed, 1 completed" in runs.stdout
    assert "\x1b" not in runs.stdout
    assert ask(tmp_path, "history", "tasks", "--crew", "nobody").stdout == "no tasks\n"


def test_people_read_words_and_programs_the_names_of_states() -> None:
    row = {
        "created_at": None, "run_id": "r", "status": "running", "duration_seconds": None, "crew": "blue", "goal": "",
        "tasks": {"at_work": 1, "dead_lettered": 2},
    }  # fmt: skip
    assert ("1 at work, 2 dead lettered", "") in _run_cells(row)


def test_a_page_that_is_not_the_last_names_the_next(tmp_path: Path) -> None:
    past(tmp_path)
    result = ask(tmp_path, "history", "attempts", "--limit", "1")
    assert "--cursor 8" in result.stderr
    assert "#1" in ask(tmp_path, "history", "attempts", "--cursor", "8", "--limit", "1").stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ("--limit", "0"),
        ("--limit", "501"),
        ("--cursor", "zzz"),
        ("--since", "whenever"),
        ("--state", "done"),
        ("--variant", "prompt"),
        ("--since", "2026-01-02", "--until", "2026-01-01"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    assert ask(tmp_path, "history", "attempts", *wrong).exit_code == 2


def test_how_much_there_is(tmp_path: Path) -> None:
    past(tmp_path)
    body = read(tmp_path, "history", "stats")
    assert (body["runs"], body["tasks"], body["attempts"], body["events"], body["corrupt"]) == (1, 2, 3, 1, 0)
    assert "1 run, 2 tasks" in ask(tmp_path, "history", "stats").stdout


def test_a_sound_history_is_said_to_be_sound(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    result = ask(tmp_path, "history", "verify")
    assert (result.exit_code, result.stdout) == (0, "the history is what the events tell\n")


def test_a_history_that_differs_from_its_events_ends_with_1_and_says_where(tmp_path: Path) -> None:
    past(tmp_path)  # rows of which no event tells
    result = ask(tmp_path, "history", "verify")
    assert result.exit_code == 1
    assert "attempts: " in result.stdout
    problems = json.loads(ask(tmp_path, "history", "verify", "--json").stdout)["problems"]
    assert problems == result.stdout.splitlines()


def test_verifying_needs_a_ledger_and_makes_none(tmp_path: Path) -> None:
    assert ask(tmp_path, "history", "verify").exit_code == 69
    assert list(tmp_path.iterdir()) == []


# Letting go of what is old


def events(folder: Path) -> list[str]:
    with Reader.open(folder) as reader:
        return [event.type for event in reader.events()]


def test_pruning_without_yes_says_what_would_go_and_keeps_it(tmp_path: Path) -> None:
    past(tmp_path)
    result = ask(tmp_path, "history", "prune", "--before", "tomorrow")
    assert result.exit_code == 77
    assert "  1 event\n" in result.stdout
    assert "  1 history run\n  2 history tasks\n  3 history attempts\n" in result.stdout
    assert "--yes" in result.stderr
    assert events(tmp_path) == ["incident.opened"]


def test_pruning_without_a_daemon_is_done_here_and_told(tmp_path: Path) -> None:
    past(tmp_path)
    result = ask(tmp_path, "history", "prune", "--before", "tomorrow", "--yes")
    assert result.exit_code == 0, result.output
    assert "are forgotten" in result.stdout
    assert events(tmp_path) == ["history.pruned"]
    assert read(tmp_path, "history", "attempts", "--run", "r-1")["attempts"] == []


def test_who_prunes_asks_the_daemon_that_runs(tmp_path: Path) -> None:
    said = {"what": "7 rows are forgotten", "ids": [], "details": {"rows": 7}}
    contract = Contract({"POST /api/v1/history/prune": said})
    with serving(tmp_path, contract):
        result = ask(tmp_path, "history", "prune", "--before", "2026-01-01", "--yes")
    assert (result.exit_code, result.stdout) == (0, "7 rows are forgotten\n")
    assert contract.posted("/api/v1/history/prune") == [{"before": "2026-01-01T00:00:00.000Z", "dry_run": False}]


def test_who_prunes_does_not_touch_the_ledger_of_another_who_writes(tmp_path: Path) -> None:
    past(tmp_path)

    async def beside() -> Result:
        ledger = Ledger.open(tmp_path, FakeClock(NOW))
        try:
            return await asyncio.to_thread(ask, tmp_path, "history", "prune", "--before", "tomorrow", "--yes")
        finally:
            await ledger.close()

    result = asyncio.run(beside())
    assert result.exit_code == 77
    assert "already keeps this ledger" in result.stderr
    assert events(tmp_path) == ["incident.opened"]


def test_pruning_makes_no_ledger_where_none_is(tmp_path: Path) -> None:
    for yes in ((), ("--yes",)):
        assert ask(tmp_path, "history", "prune", "--before", "today", *yes).exit_code == 69
    assert list(tmp_path.iterdir()) == []


def test_a_time_is_a_day_a_moment_how_long_ago_or_a_word() -> None:
    now = 1_767_225_600.0 + 3600  # 2026-01-01T01:00:00Z
    told = {
        "today": now - 3600,
        "tomorrow": now - 3600 + 86_400,
        "yesterday": now - 3600 - 86_400,
        "2026-01-01": now - 3600,
        "2026-01-01T01:00:00Z": now,
        "2026-01-01T02:00:00+01:00": now,
        "2h": now - 7200,
        "30d": now - 30 * 86_400,
    }
    assert {text: wall_time(text, now) for text in told} == told
    assert [wall_time(text, now) for text in ("soon", "2026-13-01", "", "-1h")] == [None] * 4


# Exports


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "md"])
def test_the_daemon_and_its_ledger_export_the_same(tmp_path: Path, form: str) -> None:
    past(tmp_path)
    with daemon(tmp_path):
        online = ask(tmp_path, "export", "r-1", "--format", form)
    offline = ask(tmp_path, "export", "r-1", "--format", form)
    assert (online.exit_code, offline.exit_code) == (0, 0)
    assert online.stdout == offline.stdout != ""
    assert "abcdefghijkl" not in online.stdout
    assert (online.stderr, "as of" in offline.stderr) == ("", True)


def test_an_export_goes_to_a_file_of_its_own_name_and_kind(tmp_path: Path) -> None:
    past(tmp_path)
    folder = tmp_path / "out"
    folder.mkdir()
    assert ask(tmp_path, "export", "r-1", "-o", str(folder), "--format", "md").exit_code == 0
    assert ask(tmp_path, "export", "r-1", "-o", str(folder / "x.csv")).exit_code == 0
    assert sorted(each.name for each in folder.iterdir()) == ["r-1.md", "x.csv"]
    rows = list(csv.DictReader(io.StringIO((folder / "x.csv").read_text())))
    assert [row["kind"] for row in rows] == ["run", "task", "task", "attempt", "attempt", "attempt"]


def test_a_file_that_is_there_is_replaced_only_by_force(tmp_path: Path) -> None:
    past(tmp_path)
    file = tmp_path / "r.json"
    file.write_text("mine")
    result = ask(tmp_path, "export", "r-1", "-o", str(file))
    assert (result.exit_code, file.read_text()) == (77, "mine")
    assert "--force" in result.stderr
    assert ask(tmp_path, "export", "r-1", "-o", str(file), "--force").exit_code == 0
    assert json.loads(file.read_text())["run"]["run_id"] == "r-1"


def test_an_export_of_nothing_leaves_no_file_behind(tmp_path: Path) -> None:
    past(tmp_path)
    file = tmp_path / "r.json"
    with daemon(tmp_path):
        assert ask(tmp_path, "export", "nobody", "-o", str(file)).exit_code == 3
    assert ask(tmp_path, "export", "nobody", "-o", str(file)).exit_code == 3
    assert ask(tmp_path, "export", "r-1", "-o", str(tmp_path / "no" / "r.json")).exit_code == 1
    assert not file.exists()


def test_an_export_that_breaks_off_leaves_no_file_behind(tmp_path: Path) -> None:
    past(tmp_path)
    connection = apsw.Connection(str(tmp_path / NAME))
    connection.execute("UPDATE attempts SET model = 'other' WHERE first_seq = 6")
    connection.close()
    file = tmp_path / "r.json"
    before = sorted(each.name for each in tmp_path.iterdir())
    assert ask(tmp_path, "export", "r-1", "-o", str(file)).exit_code == 1
    with daemon(tmp_path), capture_logs() as logged:
        result = ask(tmp_path, "export", "r-1", "-o", str(file))
        assert result.exit_code == 69, result.output
    assert [each["event"] for each in logged] == ["web.request_failed"]
    assert sorted(each.name for each in tmp_path.iterdir() if not each.name.endswith(("-shm", "-wal"))) == before


# Summaries


def test_a_window_is_summed_up_by_the_daemon_and_by_its_ledger(tmp_path: Path) -> None:
    from crewd.cli.times import wall_now

    past(tmp_path, wall_now())
    offline = read(tmp_path, "metrics", "--window", "7d", "--group-by", "model,task_type")
    assert (offline["total"], offline["success_rate"], offline["source"]) == (3, 0.3333, "ledger")
    assert [each["key"]["model"] for each in offline["groups"]] == ["unknown", "opus"]
    by_task = read(tmp_path, "metrics", "--window", "7d", "--level", "task", "--crew", "blue")
    assert (by_task["total"], by_task["success_rate"]) == (2, 0.5)
    assert read(tmp_path, "metrics", "--window", "7d", "--crew", "red")["success_rate"] is None


def test_the_daemon_is_asked_for_a_window_first(tmp_path: Path) -> None:
    past(tmp_path)
    with daemon(tmp_path):
        body = read(tmp_path, "metrics", "--window", "1h", "--group-by", "model")
        words = ask(tmp_path, "metrics", "--window", "1h", "--group-by", "model").stdout.splitlines()
    assert (body["source"], body["total"], body["to"]) == ("daemon", 3, "2026-01-01T00:00:00.000Z")
    assert words[0] == "attempts that ended in the last 1h"
    assert words[2].split()[:3] == ["all", "3", "33.3%"]
    assert [line.split()[0] for line in words[3:]] == ["unknown", "opus"]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--window", "91d"),
        ("--window", "7"),
        ("--window", "7d", "--group-by", "colour"),
        ("--window", "7d", "crew_*"),
        ("--window", "7d", "--dotted"),
        ("--group-by", "model"),
        ("--type", "code"),
        ("--window", "7d", "--level", "run"),
    ],
)
def test_a_summary_that_makes_no_sense_is_refused(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    past(tmp_path)
    assert ask(tmp_path, "metrics", *wrong).exit_code == 2


def test_a_sparkline_has_a_place_for_each_count() -> None:
    assert sparkline([0, 1, 4, 8]) == " ▂▅█"
    assert sparkline([3, 3]) == "██"
    assert sparkline([0, 0]) == "  "
    assert sparkline([]) == ""
