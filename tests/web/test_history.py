"""Routes on the past, answered from a real ledger."""

import asyncio
import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import apsw
import pytest

import crewd.ledger.summary
import crewd.web.history
from crewd.ledger.errors import LedgerError
from crewd.ledger.opening import NAME
from crewd.ledger.reader import Reader
from crewd.model.event import Event
from crewd.model.history import HistoryQuery
from crewd.model.run import Usage
from crewd.web.app import build_app
from crewd.web.export import pieces
from tests.ledger.past import NOW, attempt, run, task, write_past
from tests.web.world import ANNA, WITH_TOKEN, State, ask, ask_all, change

API = "/api/v1"
SECRET = "Bearer abcdefghijkl"


def world(folder: Path, **past: Any) -> State:
    write_past(folder, **past)
    state = State()
    state.ledger, state.wall = folder, NOW
    return state


def told(state: State, path: str) -> Any:
    answer = ask(state, f"{API}/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(state: State, path: str, status: int = 400) -> dict[str, str]:
    """Path and code of everything that is wrong."""
    answer = ask(state, f"{API}/{path}")
    assert answer.status_code == status, answer.text
    return {each["path"]: each["code"] for each in answer.json()["error"]["details"]}


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("limit=abc", {"query.limit"}),
        ("limit=0", {"query.limit"}),
        ("limit=501", {"query.limit"}),
        ("cursor=zzz", {"query.cursor"}),
        ("cursor=0", {"query.cursor"}),
        ("since=yesterday", {"query.since"}),
        ("since=2026-01-01T00:00:00", {"query.since"}),
        ("since=2026-01-01T00:00:00%2B01:00", {"query.since"}),
        ("since=2026-02-30T00:00:00Z", {"query.since"}),
        ("until=12345", {"query.until"}),
        ("unknown=1", {"query.unknown"}),
        ("state=done", {"query.state.0"}),
        ("variant=prompt", {"query.variant"}),
        ("label==x", {"query.label"}),
        ("run=..%2f..%2fx", {"query.run"}),
        ("limit=1&limit=2", {"query.limit"}),
        (
            "limit=abc&cursor=zzz&since=yesterday&unknown=1",
            {"query.limit", "query.cursor", "query.since", "query.unknown"},
        ),
    ],
)
@pytest.mark.parametrize("name", ["runs", "tasks", "attempts"])
def test_everything_that_is_wrong_with_a_query_is_told_at_once(
    tmp_path: Path, name: str, query: str, paths: set[str]
) -> None:
    found = refused(world(tmp_path), f"history/{name}?{query}")
    assert found.keys() == paths
    assert all(found.values())


def test_a_time_span_that_runs_backwards_is_refused(tmp_path: Path) -> None:
    assert refused(world(tmp_path), "history/runs?since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z")


def test_pages_hold_every_run_once_also_when_one_comes_meanwhile(tmp_path: Path) -> None:
    state = world(tmp_path, runs=[run(seq) for seq in range(1, 1206)])
    seen, sizes, cursor = [], [], ""
    while cursor is not None:
        body = told(state, f"history/runs?limit=500{cursor and f'&cursor={cursor}'}")
        sizes.append(len(body["runs"]))
        seen.extend(each["run_id"] for each in body["runs"])
        cursor = body["next_cursor"]
        write_past(tmp_path, runs=[run(2000 + len(sizes))])
    assert sizes == [500, 500, 205]
    assert seen == [f"r-{seq}" for seq in range(1205, 0, -1)]


def test_only_what_fits_is_told_and_nothing_is_an_empty_page(tmp_path: Path) -> None:
    rows = [
        attempt(1, "failed", executor="x", ended_at=NOW - 100),
        attempt(2, "failed", executor="x", ended_at=NOW - 10),
        attempt(3, "failed", executor="y", ended_at=NOW - 10),
        attempt(4, "completed", executor="x", ended_at=NOW - 10),
        attempt(5, "timed_out", executor="x", ended_at=NOW - 10, variants={"prompt": "b=c"}),
    ]
    state = world(tmp_path, attempts=rows)
    since = "since=2025-12-31T23:59:20.000Z"
    assert _ids(told(state, f"history/attempts?state=failed&executor=x&{since}")) == ["r-2"]
    assert _ids(told(state, f"history/attempts?state=failed&state=timed_out&executor=x&{since}")) == ["r-5", "r-2"]
    assert _ids(told(state, "history/attempts?variant=prompt=b=c")) == ["r-5"]
    assert told(state, "history/attempts?crew=nobody") == {"attempts": [], "next_cursor": None}
    assert told(state, "history/runs?run=nobody") == {"runs": [], "next_cursor": None}
    assert told(state, "history/tasks") == {"tasks": [], "next_cursor": None}


def _ids(body: Mapping[str, Any]) -> list[str]:
    return [each["run_id"] for each in body["attempts"]]


def test_a_row_tells_times_usage_and_nothing_that_is_not_known(tmp_path: Path) -> None:
    state = world(
        tmp_path,
        attempts=[
            attempt(1, "failed", usage=Usage(1, 2, model="opus"), error=f"said {SECRET}"),
            attempt(2, "", None),
        ],
    )
    working, failed = told(state, "history/attempts")["attempts"]
    assert (working["outcome"], working["ended_at"], working["usage"]) == (None, None, None)
    assert failed["ended_at"] == "2025-12-31T23:59:00.000Z"
    assert failed["usage"] == {"input": 1, "output": 2, "cache_read": 0, "cache_write": 0, "cost_usd": None}
    assert failed["error"] == "said Bearer ***"


def test_how_much_history_there_is(tmp_path: Path) -> None:
    lost = Event("daemon.recovered", NOW, {"part": "ledger", "events_dropped": 3})
    state = world(tmp_path, attempts=[attempt(1)], events=[Event("run.started", NOW, run_id="r-1"), lost])
    body = told(state, "history/stats")
    assert (body["attempts"], body["events"], body["corrupt"], body["last_seq"], body["dropped"]) == (1, 2, 0, 2, 3)
    assert body["first_at"] == "2026-01-01T00:00:00.000Z"


def test_no_records_are_a_summary_of_nothing(tmp_path: Path) -> None:
    body = told(world(tmp_path), "metrics/summary?window=1h")
    assert (body["total"], body["success_rate"], body["completed"]["p50_seconds"]) == (0, None, None)


def test_a_summary_of_what_ended_in_the_window(tmp_path: Path) -> None:
    rows = [*(attempt(n, model="opus") for n in range(1, 9)), *(attempt(n, "timed_out", 900) for n in (9, 10))]
    state = world(tmp_path, attempts=[*rows, attempt(11, ended_at=NOW - 3601)])
    body = told(state, "metrics/summary?window=1h&group_by=model,executor")
    assert (body["success_rate"], body["ci95"]) == (0.8, [0.4902, 0.9433])
    assert (body["completed"]["p95_seconds"], body["ended"]["p95_seconds"]) == (10, 900)
    assert (body["from"], body["to"]) == ("2025-12-31T23:00:00.000Z", "2026-01-01T00:00:00.000Z")
    assert [each["key"] for each in body["groups"]] == [{"model": "opus"}, {"model": "unknown"}]
    assert body["groups"][1]["groups"][0]["key"] == {"model": "unknown", "executor": "unknown"}
    assert body["groups"][1]["success_rate"] == 0.0
    assert told(state, "metrics/summary?window=1h&model=opus")["total"] == 8
    assert told(state, "metrics/summary?window=1h&level=task")["total"] == 0


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("group_by=colour", {"query.group_by"}),
        ("window=91d", {"query.window"}),
        ("window=-1h", {"query.window"}),
        ("window=7", {"query.window"}),
        ("level=run&window=7&group_by=colour&x=1", {"query.level", "query.window", "query.group_by", "query.x"}),
    ],
)
def test_a_summary_of_what_is_not_known_is_refused(tmp_path: Path, query: str, paths: set[str]) -> None:
    assert refused(world(tmp_path), f"metrics/summary?{query}").keys() == paths


PATHS = ("history/runs", "history/tasks", "history/attempts", "history/stats", "metrics/summary", "runs/r-1/trace",
         "runs/r-1/export")  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_history_that_cannot_be_read_is_503_and_not_empty(tmp_path: Path, path: str) -> None:
    state = State()
    state.ledger = tmp_path  # there is none
    assert refused(state, path, 503) == {"": "history_unreadable"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["history/runs", "runs/r-1/trace", "runs/r-1/export"])
def test_a_row_that_is_not_what_was_written_is_503(tmp_path: Path, path: str) -> None:
    state = world(tmp_path, runs=[run(1)])
    connection = apsw.Connection(str(tmp_path / NAME))
    connection.execute("UPDATE run_history SET status = 'failed'")
    connection.close()
    assert refused(state, path, 503) == {"": "history_unreadable"}


@pytest.mark.parametrize("what", ["trace", "export", "export?format=csv"])
def test_an_unknown_run_is_404_and_nothing_is_created(tmp_path: Path, what: str) -> None:
    state = world(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert refused(state, f"runs/nobody/{what}", 404) == {"path.run": "run_unknown"}
    assert refused(state, f"runs/.hidden/{what}", 400)
    assert sorted(each for each in tmp_path.iterdir() if not each.name.endswith(("-shm", "-wal"))) == before


# Exports


def export_world(folder: Path) -> State:
    tricky = {"run_id": "r-1", "crew": "=cmd|' /C calc'!A0", "error": f"| a\n<b> *c* {SECRET}", "model": "+1"}
    return world(
        folder,
        runs=[run(1, goal=f"# ship | it {SECRET}", crew="@x")],
        tasks=[task(2, run_id="r-1", task_id="a"), task(3, "failed", run_id="r-1", task_id="b")],
        attempts=[attempt(2, run_id="r-1", task_id="a"), attempt(3, "failed", **tricky, variants={"prompt": "b"})],
        events=[Event("run.started", NOW, {"why": SECRET}, run_id="r-1"), Event("x.y", NOW, run_id="r-2")],
    )


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "md"])
def test_an_export_is_an_attachment_with_the_name_of_the_run(tmp_path: Path, form: str) -> None:
    answer = ask(export_world(tmp_path), f"{API}/runs/r-1/export?format={form}")
    assert answer.headers["content-disposition"] == f'attachment; filename="r-1.{form}"'
    assert answer.status_code == 200
    assert "abcdefghijkl" not in answer.text


def test_another_format_is_refused_with_the_list_of_those_there_are(tmp_path: Path) -> None:
    answer = ask(export_world(tmp_path), f"{API}/runs/r-1/export?format=pdf")
    (detail,) = answer.json()["error"]["details"]
    assert (answer.status_code, detail["path"]) == (400, "query.format")
    assert all(form in detail["message"] for form in ("json", "jsonl", "csv", "md"))


def test_json_and_jsonl_hold_the_run_its_tasks_attempts_and_events(tmp_path: Path) -> None:
    state = export_world(tmp_path)
    whole = ask(state, f"{API}/runs/r-1/export").json()
    assert (whole["run"]["run_id"], len(whole["tasks"]), len(whole["attempts"])) == ("r-1", 2, 2)
    assert [(each["type"], each["data"]) for each in whole["events"]] == [("run.started", {"why": "Bearer ***"})]
    lines = [json.loads(line) for line in ask(state, f"{API}/runs/r-1/export?format=jsonl").text.splitlines()]
    assert [each["kind"] for each in lines] == ["run", "task", "task", "attempt", "attempt", "event"]
    assert [{"kind": "attempt", **row} for row in whole["attempts"]] == lines[3:5]


def test_a_spreadsheet_finds_no_formula_in_a_cell(tmp_path: Path) -> None:
    text = ask(export_world(tmp_path), f"{API}/runs/r-1/export?format=csv").text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["kind"] for row in rows] == ["run", "task", "task", "attempt", "attempt"]
    failed = rows[3]
    assert failed["crew"] == "'=cmd|' /C calc'!A0"
    assert (failed["model"], rows[0]["crew"], failed["variants"]) == ("'+1", "'@x", "prompt=b")
    assert failed["error"] == "| a\n<b> *c* Bearer ***"
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("sign", ["\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_a_formula_of_full_width_is_none_either(tmp_path: Path, sign: str) -> None:
    state = world(tmp_path, runs=[run(1)], attempts=[attempt(1, run_id="r-1", model=f"{sign}1+1")])
    text = ask(state, f"{API}/runs/r-1/export?format=csv").text
    assert f"'{sign}1+1" in text


def test_a_table_to_read_keeps_its_columns_whatever_a_text_holds(tmp_path: Path) -> None:
    text = ask(export_world(tmp_path), f"{API}/runs/r-1/export?format=md").text
    assert "- goal: \\# ship \\| it Bearer \\*\\*\\*" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} == {8}
    assert "\\| a \\<b\\> \\*c\\*" in text


@pytest.mark.parametrize("form", ["csv", "md"])
def test_what_people_read_hides_nothing_and_turns_no_line_around(tmp_path: Path, form: str) -> None:
    turned = "paid \u202egnirts\u202c \x1b[31mred \u200b=1"
    state = world(
        tmp_path, runs=[run(1, goal=turned)], attempts=[attempt(1, run_id="r-1", error=turned, crew=turned)]
    )
    text = ask(state, f"{API}/runs/r-1/export?format={form}").text
    assert "paid \ufffdgnirts\ufffd " in text
    assert not set(text) & set("\u202e\u202c\u200b\x1b")


def test_a_run_of_many_events_is_written_page_by_page(tmp_path: Path) -> None:
    events = [Event("task.progressed", NOW, {"n": n}, run_id="r-1", task_id="a") for n in range(1700)]
    state = world(
        tmp_path, runs=[run(1)], attempts=[attempt(n, run_id="r-1", attempt=n) for n in range(1, 1002)], events=events
    )
    with Reader.open(tmp_path) as past:
        row = past.past_runs(HistoryQuery(run_id="r-1")).rows[0]
        made = list(pieces(past, row, "jsonl", state.redactor.value))
    assert max(piece.count(b"\n") for piece in made) <= 500
    assert b"".join(made) == ask(state, f"{API}/runs/r-1/export?format=jsonl").content
    kinds = [json.loads(line)["kind"] for line in b"".join(made).splitlines()]
    assert (kinds.count("attempt"), kinds.count("event")) == (1001, 1700)
    whole = ask(state, f"{API}/runs/r-1/export").json()
    assert [event["data"]["n"] for event in whole["events"]] == list(range(1700))


def test_questions_that_wait_and_exports_under_way_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = world(tmp_path, runs=[run(1)])
    monkeypatch.setattr(crewd.web.history, "WAITING_MAX", 0)
    assert refused(state, "history/stats", 503) == {"": "too_many_questions"}
    assert ask(state, f"{API}/runs/r-1/export").status_code == 200
    monkeypatch.setattr(crewd.web.history, "EXPORTS_MAX", 0)
    answer = ask(state, f"{API}/runs/r-1/export")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_an_export_that_nobody_takes_is_cut_off_and_lets_go_of_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = world(tmp_path, runs=[run(1)])
    opened = [Reader.open(tmp_path)]
    monkeypatch.setattr(state, "look_back", lambda: opened[0])
    monkeypatch.setattr(crewd.web.history, "STALLED_SECONDS", 0.05)
    scope = {
        "type": "http", "method": "GET", "path": f"{API}/runs/r-1/export", "raw_path": b"", "query_string": b"",
        "headers": [(b"host", b"localhost")], "state": {},
    }  # fmt: skip

    async def stuck(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def never() -> Any:
        await asyncio.Event().wait()

    asyncio.run(asyncio.wait_for(build_app(state)(scope, never, stuck), 10))
    with pytest.raises(LedgerError, match="closed"):
        opened[0].last_seq()


def test_a_summary_of_too_many_groups_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crewd.ledger.summary, "KINDS_MAX", 2)
    state = world(tmp_path, attempts=[attempt(n, task_type=f"type-{n}") for n in range(1, 4)])
    assert told(state, "metrics/summary")["total"] == 3
    assert refused(state, "metrics/summary?group_by=task_type") == {"": "too_many_groups"}


# Traces


def test_a_trace_is_a_tree_whose_ids_are_those_of_the_events(tmp_path: Path) -> None:
    state = world(
        tmp_path,
        runs=[run(1, "failed", run_id="run-1")],
        tasks=[task(2, "failed", run_id="run-1", task_id="a", attempts=2)],
        attempts=[
            attempt(2, "failed", run_id="run-1", task_id="a"),
            attempt(3, "timed_out", run_id="run-1", task_id="a", attempt=2, error=SECRET),
        ],
        events=[
            Event("run.started", NOW, run_id="run-1"),
            Event("task.queued", NOW, run_id="run-1", task_id="a"),
            *(Event("task.progressed", NOW, {"n": n}, "run-1", "a", 2) for n in range(103)),
        ],
    )
    body = told(state, "runs/run-1/trace")
    assert (body["trace_id"], body["status"], body["truncated"]) == (
        "8b22ad48d117810497ab5c3a5878a5b0",
        "error",
        False,
    )
    assert [event["name"] for event in body["events"]] == ["run.started"]
    (one,) = body["tasks"]
    assert one["parent_span_id"] == body["span_id"]
    assert [event["name"] for event in one["events"]] == ["task.queued"]
    first, second = one["attempts"]
    assert (first["span_id"], second["span_id"]) == ("3be10d230cb33803", "497cad3e771ef4b5")
    assert {first["parent_span_id"], second["parent_span_id"]} == {one["span_id"]}
    assert (len(second["events"]), second["events_left_out"], second["error"]) == (100, 3, "Bearer ***")
    assert body == told(state, "runs/run-1/trace")


# Pruning


def test_only_who_is_trusted_makes_crewd_forget(tmp_path: Path) -> None:
    state = world(tmp_path)
    body = {"before": "2026-01-01T00:00:00Z"}
    sent = {"content-type": "application/json"}
    assert change(state, f"{API}/history/prune", body, peer=None).status_code == 403
    assert state.pruned == []
    assert change(state, f"{API}/history/prune", body, WITH_TOKEN, peer=None).json()["details"] == {"rows": 7}
    done = ask_all(state, [("POST", f"{API}/history/prune", sent, json.dumps(body))], ANNA)[0].json()
    assert done["what"] == "7 rows from before 2026-01-01T00:00:00.000Z are forgotten"
    assert state.pruned == [(NOW, "operator:token"), (NOW, "operator:anna")]


def test_what_would_be_forgotten_is_told_and_stays(tmp_path: Path) -> None:
    state = world(tmp_path, events=[Event("run.started", NOW - 1, run_id="r"), Event("run.started", NOW, run_id="r")])
    answer = change(state, f"{API}/history/prune", {"before": "2026-01-01T00:00:00Z", "dry_run": True}).json()
    assert (answer["details"]["events"], state.pruned) == (1, [])


@pytest.mark.parametrize("before", ["tomorrow", "2026-02-30T00:00:00Z", 7, None])
def test_a_time_that_is_none_forgets_nothing(tmp_path: Path, before: Any) -> None:
    state = world(tmp_path)
    assert change(state, f"{API}/history/prune", {"before": before}).status_code == 400
    assert state.pruned == []


def test_whoever_was_answered_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = world(tmp_path, runs=[run(1)])
    monkeypatch.setattr(crewd.web.history, "WAITING_MAX", 1)
    monkeypatch.setattr(crewd.web.history, "EXPORTS_MAX", 1)
    paths = ["history/stats", "runs/r-1/export"] * 2
    assert {answer.status_code for answer in ask_all(state, [("GET", f"{API}/{path}", {}) for path in paths])} == {
        200
    }


@pytest.mark.parametrize("path", ["metrics/summary?group_by=model", "runs/r-1/trace"])
def test_names_of_groups_and_of_a_run_hold_no_secret(tmp_path: Path, path: str) -> None:
    state = world(tmp_path, runs=[run(1, crew=SECRET)], attempts=[attempt(1, model=SECRET, crew=SECRET)])
    answer = ask(state, f"{API}/{path}")
    assert answer.status_code == 200 and "***" in answer.text and SECRET not in answer.text
