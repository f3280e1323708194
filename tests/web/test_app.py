"""The application, asked without a socket."""

import gzip
import json
from math import inf, nan
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from crewd.ledger.errors import LedgerFailed
from crewd.model.run import Usage
from crewd.model.snapshot import Health
from crewd.model.verdict import Level
from tests.telemetry.pictures import event, snapshot, view, worker
from tests.web.world import WITH_TOKEN, State, ask, ask_all, change

GETS = (
    "/", "/plain", "/runbooks", "/assets/app.js",
    "/metrics", "/healthz", "/readyz", "/openapi.json", "/api/v1/status", "/api/v1/runs", "/api/v1/runs/r1",
    "/api/v1/runs/r1/tasks/t1", "/api/v1/runs/r1/events", "/api/v1/events", "/api/v1/runs/r1/managed",
    "/api/v1/deadletters", "/api/v1/deadletter?key=r1/t1:3", "/api/v1/circuits", "/api/v1/pauses",
)  # fmt: skip

TASK_KEYS = (
    "task_id", "status", "status_text", "attempt", "task_type", "agent", "model", "title", "depends_on", "started_at",
    "finished_at", "error", "waiting", "usage", "worker",
)  # fmt: skip


def test_every_page_answers_and_may_not_be_kept_framed_or_loaded_from_elsewhere() -> None:
    state = State()
    for answer in ask_all(state, [("GET", path, {}) for path in GETS]):
        assert answer.status_code == 200, answer.url
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


def test_head_answers_like_get_without_a_body() -> None:
    state = State()
    get, head = ask_all(state, [("GET", "/api/v1/status", {}), ("HEAD", "/api/v1/status", {})])
    assert head.status_code == 200 and head.content == b""
    assert head.headers["content-length"] == str(len(get.content))


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_every_other_method_is_refused_with_the_ones_that_exist(method: str) -> None:
    answer = ask(State(), "/api/v1/runs", method, WITH_TOKEN)
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD, POST"


def test_a_route_that_only_reads_says_so_to_whoever_may_change_things() -> None:
    state = State()
    answer = change(state, "/api/v1/status")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET"
    assert ask(state, "/api/v1/pause").headers["allow"] == "POST"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LocalHost.", "[::1]:9464", "crewd.example:80"])
def test_a_known_host_is_answered_whatever_its_port(host: str) -> None:
    state = State(allowed_hosts=("crewd.example:9464",))
    assert ask(state, "/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost:x", "[::1", "a b", "127.1"]
)
def test_a_foreign_host_is_refused_before_any_route(host: str) -> None:
    state = State()
    assert ask(state, "/no/such/route", headers={"host": host}).status_code == 403
    assert state.observed == [("refused", "GET", 403)]


@pytest.mark.parametrize(
    "header",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "file://localhost"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_a_page_of_another_site_gets_nothing(header: dict[str, str]) -> None:
    assert ask(State(), "/api/v1/runs", headers=header).status_code == 403


def test_crewds_own_page_may_ask() -> None:
    headers = {"origin": "http://127.0.0.1:9464", "sec-fetch-site": "same-origin"}
    assert ask(State(), "/api/v1/runs", headers=headers).status_code == 200


def test_everything_wrong_with_a_query_is_named_at_once() -> None:
    answer = ask(State(), "/api/v1/events?aftr=1&limit=0&after=1_0&type=NO&run=../x")
    assert answer.status_code == 400
    named = {detail["path"] for detail in answer.json()["error"]["details"]}
    assert named == {"query.aftr", "query.limit", "query.after", "query.type.0", "query.run"}
    assert all(detail["message"] and detail["next_action"] for detail in answer.json()["error"]["details"])


@pytest.mark.parametrize(
    "path",
    [
        "/healthz?x=1",
        "/metrics?name=crew_runs",
        "/api/v1/status?limit=1",
        "/openapi.json?x",
        "/api/v1/events?limit=1&limit=2",
        "/api/v1/events?after=9223372036854775808",
        "/api/v1/events?after=" + "9" * 5000,
        "/api/v1/events?limit=1001",
        "/api/v1/events?limit=NaN",
        "/api/v1/events?limit=",
        "/api/v1/events?newest=1",
        "/api/v1/events?newest=",
        "/api/v1/events?newest=true&newest=false",
        "/api/v1/runs?workers=yes",
        "/api/v1/runs/..%2f..%2fetc",
        "/api/v1/runs/%00",
        "/api/v1/runs/-r1",
        "/api/v1/runs/r1%0a",
        "/api/v1/runs/" + "r" * 129,
        "/api/v1/runs/r1/tasks/%20",
        "/api/v1/deadletters?state=shut",
        "/api/v1/deadletters?limit=0",
        "/api/v1/deadletter",
        "/api/v1/deadletter?key=",
        "/api/v1/deadletter?key=a&key=b",
        "/api/v1/circuits?x=1",
    ],
)
def test_what_is_not_understood_is_never_guessed(path: str) -> None:
    answer = ask(State(), path)
    assert answer.status_code == 400 and answer.json()["error"]["details"]


@pytest.mark.parametrize("path", ["/nothing", "/api/v1/runs/r9", "/api/v1/runs/r1/tasks/t9", "/healthz/", "/docs"])
def test_what_is_not_there_is_not_found_in_the_same_shape(path: str) -> None:
    answer = ask(State(), path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


def test_runs_are_listed_page_by_page_without_gap_or_repeat() -> None:
    state = State(snapshot(*(view(f"r{number}") for number in range(7))))
    seen, after = [], ""
    while True:
        body = ask(state, f"/api/v1/runs?limit=3{after}").json()
        seen += [run["run_id"] for run in body["runs"]]
        if body["next"] is None:
            break
        after = f"&after={body['next']}"
    assert seen == [f"r{number}" for number in range(7)]


def test_runs_can_be_narrowed() -> None:
    state = State()
    assert [run["run_id"] for run in ask(state, "/api/v1/runs?crew=red&status=running").json()["runs"]] == ["r2"]
    assert ask(state, "/api/v1/runs?status=failed").json() == {"runs": [], "next": None}


def test_a_task_is_told_with_its_worker_and_the_evidence() -> None:
    body = ask(State(), "/api/v1/runs/r1/tasks/t1").json()
    assert body["worker"]["level"] == "healthy" and body["worker"]["silence_seconds"] == 10.0
    assert body["explain"] == {"level": "healthy", "row": 1}
    body = ask(State(), "/api/v1/runs/r1/tasks/t0").json()
    assert body["worker"] is None and body["explain"] is None


def test_events_follow_a_position() -> None:
    state = State()
    body = ask(state, "/api/v1/events?after=1&limit=1").json()
    assert [each["seq"] for each in body["events"]] == [2] and body["next_after"] == 2
    assert [each["type"] for each in ask(state, "/api/v1/runs/r1/events?type=task.failed").json()["events"]] == [
        "task.failed"
    ]
    assert ask(state, "/api/v1/events?after=3").json() == {"events": [], "next_after": 3, "pruned_to": 0}


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/runs/r1/events"])
def test_the_newest_events_are_told_oldest_first_and_can_be_gone_on_from(path: str) -> None:
    state = State()
    body = ask(state, path + "?newest=true&limit=2").json()
    assert [each["seq"] for each in body["events"]] == [2, 3] and body["next_after"] == 3
    body = ask(state, path + "?newest=true&type=task.failed&after=3").json()
    assert body["events"] == [] and body["next_after"] == 3
    body = ask(state, path + "?newest=false&limit=2").json()
    assert [each["seq"] for each in body["events"]] == [1, 2]


def test_events_tell_up_to_where_they_were_deleted() -> None:
    state = State()
    state.history.pruned = 1
    assert ask(state, "/api/v1/events").json()["pruned_to"] == 1


def test_runs_can_be_told_with_those_at_work() -> None:
    state = State()
    with_workers, without = (ask(state, f"/api/v1/runs{query}").json()["runs"] for query in ("?workers=true", ""))
    assert [[task["task_id"] for task in run["workers"]] for run in with_workers] == [["t1"], []]
    assert with_workers[0]["workers"] == [
        {key: value for key, value in ask(state, "/api/v1/runs/r1/tasks/t1").json().items() if key in TASK_KEYS}
    ]
    assert [{key: value for key, value in run.items() if key != "workers"} for run in with_workers] == without


def test_a_full_page_of_rows_is_told_whole() -> None:
    state = State(snapshot(*(view(f"r{number:04}", "blue", worker("t1")) for number in range(1000))))
    state.history.kept = [event("x.y", seq, data={str(key): key for key in range(30)}) for seq in range(1, 1001)]
    for path, rows in (("/api/v1/events?limit=1000", "events"), ("/api/v1/runs?limit=1000&workers=true", "runs")):
        answer = ask(state, path)
        assert len(answer.json()[rows]) == 1000 and "[cut]" not in answer.text


def test_readiness_names_the_part_that_is_not_ready() -> None:
    health = Health(round_number=1, parts={"http": True, "sources": False}, degraded={"ledger": "disk is full"})
    answer = ask(State(snapshot(health=health)), "/readyz")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert parts["ledger"] == {"ready": False, "why": "disk is full"}
    assert not parts["sources"]["ready"] and parts["http"]["ready"] and parts["patrol"]["ready"]


def test_nothing_is_ready_before_the_first_round_yet_the_loop_is_alive() -> None:
    state = State(snapshot(health=Health()))
    ready, alive = ask_all(state, [("GET", "/readyz", {}), ("GET", "/healthz", {})])
    assert ready.status_code == 503 and alive.status_code == 200


def test_hostile_names_stay_text_on_the_page() -> None:
    evil = "<script>alert(1)</script>"
    state = State(snapshot(view("r1", evil, worker('"><b>', Level.DEAD), goal="\ud800" + evil)))
    html = ask(state, "/plain").text
    assert "<script" not in html and '"><b>' not in html and "&lt;script&gt;" in html


def test_secrets_appear_in_no_answer() -> None:
    state = State(
        snapshot(view("r1", "blue", worker(), goal="use sk-abcdefghijklmnopqrstuv and hunter2-9")),
        secrets=["hunter2-9"],
    )
    state.history.kept = [event("task.failed", 1, data={"error": "Bearer abcdefghijkl", "api_key": "zzz"})]
    for answer in ask_all(state, [("GET", path, {}) for path in GETS]):
        for secret in ("abcdefghijkl", "hunter2-9", "zzz"):
            assert secret not in answer.text, answer.url


def test_numbers_that_are_no_numbers_and_broken_text_stay_valid_json() -> None:
    used = Usage(input=2**80, cost_usd=nan)
    state = State(snapshot(view("r1", "blue", worker(), usage=used, goal="\ud800", created_at=inf, updated_at=1e300)))
    body = msgspec.json.decode(ask(state, "/api/v1/runs/r1").content)
    assert body["usage"]["cost_usd"] is None and body["created_at"] is None and body["updated_at"] is None


def test_metrics_come_in_the_form_and_encoding_asked_for() -> None:
    state = State()
    prometheus_3 = (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    )
    answer = ask(state, "/metrics", headers={"accept": prometheus_3, "accept-encoding": "gzip"})
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"
    names = {family.name for family in parse_openmetrics(answer.text)}
    assert {"crew_runs", "crewd_build_info", "process_cpu_seconds"} <= names


@pytest.mark.parametrize(
    "accept",
    [b"application/openmetrics-text; version=abc", b";;;q=,=", b"text/plain;q=banana", b"*/*", b"\xe9" * 9, b""],
)
def test_no_accept_header_makes_a_scrape_fail(accept: bytes) -> None:
    answer = ask(State(), "/metrics", headers={"accept": accept})
    assert answer.status_code == 200 and "crew_runs" in answer.text


def test_requests_are_counted_by_template_and_never_by_path() -> None:
    state = State()
    ask_all(state, [("GET", "/api/v1/runs/r1", {}), ("GET", "/wp-login.php", {}), ("BREW", "/", {})])
    assert state.observed == [
        ("/api/v1/runs/{run}", "GET", 200),
        ("unknown", "GET", 404),
        ("refused", "other", 405),
    ]


def test_a_failure_inside_is_answered_and_tells_nothing() -> None:
    state = State()
    state.history.kept = None  # type: ignore[assignment]
    answer = ask(state, "/api/v1/events")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal" and "NoneType" not in answer.text
    assert state.observed == [("/api/v1/events", "GET", 500)]


def test_the_description_loads_nothing_and_knows_every_route() -> None:
    told = ask(State(), "/openapi.json").json()
    assert routes_told(told) == {
        "GET /metrics", "GET /healthz", "GET /readyz", "GET /api/v1/status", "GET /api/v1/crews", "GET /api/v1/runs",
        "GET /api/v1/runs/{run}/why",
        "GET /api/v1/runs/{run}", "GET /api/v1/runs/{run}/tasks/{task}", "GET /api/v1/runs/{run}/events",
        "GET /api/v1/events", "GET /api/v1/runs/{run}/managed", "GET /api/v1/runs/{run}/tasks/{task}/output",
        "GET /api/v1/deadletters", "GET /api/v1/deadletter", "GET /api/v1/circuits", "GET /api/v1/pauses",
        "GET /api/v1/incidents",
        "POST /api/v1/incidents/ack", "POST /api/v1/incidents/snooze", "POST /api/v1/incidents/unsnooze",
        "GET /api/v1/recoveries", "GET /api/v1/recoveries/{plan}", "POST /api/v1/recoveries/{plan}/approve",
        "POST /api/v1/recoveries/{plan}/decline",
        "POST /api/v1/runs", "POST /api/v1/runs/{run}/cancel", "POST /api/v1/runs/{run}/tasks/{task}/cancel",
        "POST /api/v1/runs/{run}/tasks/{task}/retry", "POST /api/v1/runs/{run}/tasks/{task}/bury",
        "POST /api/v1/pause", "POST /api/v1/resume", "POST /api/v1/deadletters/redrive",
        "POST /api/v1/deadletters/discard", "POST /-/handover", "POST /-/reload",
        "GET /-/log-level", "POST /-/log-level",
        "GET /api/v1/history/runs", "GET /api/v1/history/tasks", "GET /api/v1/history/attempts",
        "GET /api/v1/history/stats", "GET /api/v1/metrics/summary", "POST /api/v1/history/prune",
        "GET /api/v1/runs/{run}/export", "GET /api/v1/runs/{run}/trace",
        "GET /api/v1/runs/{run}/plan", "GET /api/v1/runs/{run}/tasks/{task}/attempts",
    }  # fmt: skip
    assert "http" not in json.dumps(told["components"]["schemas"])


def test_the_description_names_the_token_wherever_one_is_needed() -> None:
    told = ask(State(), "/openapi.json").json()
    scheme = told["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer") and "unix socket" in scheme["description"]
    needed = {
        f"{method.upper()} {path}"
        for path, methods in told["paths"].items()
        for method, route in methods.items()
        if route.get("security") == [{"token": []}]
    }
    assert needed == {
        *(route for route in routes_told(told) if route.startswith("POST")),
        "GET /api/v1/runs/{run}/tasks/{task}/output",
    }


def routes_told(description: dict[str, Any]) -> set[str]:
    return {f"{method.upper()} {path}" for path, methods in description["paths"].items() for method in methods}


def test_gzip_is_left_out_where_it_would_not_pay() -> None:
    answer = ask(State(), "/metrics?name[]=crewd_hold", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert gzip.decompress(gzip.compress(answer.content)) == answer.content


def test_the_reference_page_tells_every_route_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "http.md").read_text()
    reads, _, changes = page.partition("## Changes")
    told = {f"GET {path}" for path in named(reads)} | {f"POST {path}" for path in named(changes)}
    assert told == routes_told(ask(State(), "/openapi.json").json()) | {
        "GET /", "GET /plain", "GET /runbooks", "GET /assets/{name}", "GET /openapi.json",
    }  # fmt: skip


def named(page: str) -> set[str]:
    return {line.split("`")[1] for line in page.splitlines() if line.startswith("| `/")}


@pytest.mark.parametrize("path", ["events", "runs/r1/events", "incidents?state=resolved"])
def test_a_ledger_that_cannot_be_read_is_503_and_neither_empty_nor_a_defect(path: str) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise LedgerFailed("the disk is gone; Bearer abcdefghijkl")

    state = State()
    state.history.events = state.history.incidents = fails  # type: ignore[method-assign]  # a stand-in
    answer = ask(state, f"/api/v1/{path}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "history_unreadable")
    assert "the disk is gone" in answer.text and "abcdefghijkl" not in answer.text
