"""Changes and what is told of managed runs, asked without a socket."""

from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs

from crewd import errors
from crewd.errors import Complaint, CrewdError
from crewd.ledger.errors import LedgerFailed
from crewd.model.asking import Actions
from crewd.model.reloading import Reloaded
from tests.web.world import ANNA, WITH_TOKEN, Deeds, State, ask, ask_all, change

WHO = "operator:anna"
SOCKET = "a request through the unix socket"
CHANGES: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("/api/v1/runs", {"run": {"tasks": [1]}}, ("submit", {"tasks": [1]}, "", "", WHO, SOCKET)),
    (
        "/api/v1/runs",
        {"run": {}, "base": "/srv/blue", "key": "k/1"},
        ("submit", {}, "/srv/blue", "k/1", WHO, SOCKET),
    ),
    ("/api/v1/runs/r1/cancel", {}, ("cancel", "r1", "", "", WHO)),
    ("/api/v1/runs/r1/cancel", {"reason": "no more"}, ("cancel", "r1", "", "no more", WHO)),
    ("/api/v1/runs/r1/tasks/t1/cancel", {"reason": "x"}, ("cancel", "r1", "t1", "x", WHO)),
    ("/api/v1/runs/r1/tasks/t1/retry", {}, ("retry", "r1", "t1", WHO)),
    ("/api/v1/runs/r1/tasks/t1/bury", {"reason": "hopeless"}, ("bury", "r1", "t1", "hopeless", WHO)),
    ("/api/v1/pause", {"scope": "crew:Größe 7"}, ("pause", "crew:Größe 7", False, "", WHO)),
    (
        "/api/v1/pause",
        {"scope": "executor:pi", "drain": True, "reason": "x"},
        ("pause", "executor:pi", True, "x", WHO),
    ),
    ("/api/v1/resume", {"scope": "daemon"}, ("resume", "daemon", WHO)),
    ("/api/v1/deadletters/redrive", {"keys": ["r1/t1:3"]}, ("redrive", ["r1/t1:3"], "", False, 100, WHO)),
    (
        "/api/v1/deadletters/redrive",
        {"fingerprint": "ab12", "dry_run": True, "limit": 5},
        ("redrive", [], "ab12", True, 5, WHO),
    ),
    (
        "/api/v1/deadletters/discard",
        {"keys": ["a", "b"], "reason": "known", "dry_run": True},
        ("discard", ["a", "b"], "", "known", True, WHO),
    ),
    ("/-/handover", {}, ("handover", WHO)),
]


@pytest.mark.parametrize(("path", "body", "asked"), CHANGES, ids=[path for path, _, _ in CHANGES])
def test_each_change_reaches_who_makes_it(path: str, body: dict[str, Any], asked: tuple[Any, ...]) -> None:
    state = State()
    answer = change(state, path, body)
    assert answer.status_code in (200, 201), answer.text
    assert state.actions is not None and state.actions.asked == [asked]


def test_a_change_says_what_was_done_and_keeps_secrets_to_itself() -> None:
    answer = change(State(), "/api/v1/runs/r1/cancel")
    assert answer.json() == {"what": "cancel is done", "ids": ["r1"], "details": {"note": "Bearer ***"}}


@pytest.mark.parametrize("path", [path for path, _, _ in CHANGES])
def test_a_field_that_is_not_known_is_refused_with_its_place(path: str) -> None:
    state = State()
    answer = change(state, path, {"nonsense": 1})
    assert answer.status_code == 400
    details = {detail["path"]: detail for detail in answer.json()["error"]["details"]}
    assert details["/nonsense"]["code"] == "unknown_field" and details["/nonsense"]["next_action"]
    assert state.actions is not None and not state.actions.asked


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"x"', b"true"])
@pytest.mark.parametrize("path", ["/api/v1/runs", "/api/v1/runs/r1/cancel", "/-/handover"])
def test_a_body_that_is_no_object_is_refused(path: str, body: bytes) -> None:
    state = State()
    assert change(state, path, body).status_code == 400
    assert state.actions is not None and not state.actions.asked


def test_everything_wrong_with_path_header_and_body_is_named_at_once() -> None:
    answer = change(State(), "/api/v1/runs/-r/tasks/t!/bury", {"reason": "", "x/y": 1})
    assert {detail["path"] for detail in answer.json()["error"]["details"]} == {
        "path.run", "path.task", "/reason", "/x~1y",
    }  # fmt: skip
    answer = change(State(), "/api/v1/runs", {"base": "blue", "key": "", "extra": 1}, {"idempotency-key": "a b"})
    assert {detail["path"] for detail in answer.json()["error"]["details"]} == {
        "header.Idempotency-Key", "/run", "/base", "/key", "/extra",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/api/v1/runs", {"run": []}, "/run"),
        ("/api/v1/runs", {"run": "x"}, "/run"),
        ("/api/v1/runs", {"run": {}, "base": "relative"}, "/base"),
        ("/api/v1/runs", {"run": {}, "base": "/a\0b"}, "/base"),
        ("/api/v1/runs", {"run": {}, "key": "k" * 129}, "/key"),
        ("/api/v1/runs", {"run": {}, "key": "a b"}, "/key"),
        ("/api/v1/runs/r1/cancel", {"reason": 7}, "/reason"),
        ("/api/v1/runs/r1/cancel", {"reason": "a\nb"}, "/reason"),
        ("/api/v1/runs/r1/cancel", {"reason": "x" * 1001}, "/reason"),
        ("/api/v1/runs/r1/tasks/t1/bury", {}, "/reason"),
        ("/api/v1/pause", {}, "/scope"),
        ("/api/v1/pause", {"scope": "crew:"}, "/scope"),
        ("/api/v1/pause", {"scope": "Daemon"}, "/scope"),
        ("/api/v1/pause", {"scope": "daemon\n"}, "/scope"),
        ("/api/v1/pause", {"scope": "executor:../x"}, "/scope"),
        ("/api/v1/pause", {"scope": "daemon", "drain": "true"}, "/drain"),
        ("/api/v1/pause", {"scope": "daemon", "drain": 1}, "/drain"),
        ("/api/v1/deadletters/redrive", {}, ""),
        ("/api/v1/deadletters/redrive", {"keys": []}, ""),
        ("/api/v1/deadletters/redrive", {"keys": ["a"], "fingerprint": "f"}, ""),
        ("/api/v1/deadletters/redrive", {"keys": "a"}, "/keys"),
        ("/api/v1/deadletters/redrive", {"keys": ["a", ""]}, "/keys/1"),
        ("/api/v1/deadletters/redrive", {"keys": ["a"] * 1001}, "/keys"),
        ("/api/v1/deadletters/redrive", {"keys": ["a"], "limit": True}, "/limit"),
        ("/api/v1/deadletters/redrive", {"keys": ["a"], "limit": 0}, "/limit"),
        ("/api/v1/deadletters/redrive", {"keys": ["a"], "limit": 1.5}, "/limit"),
        ("/api/v1/deadletters/discard", {"keys": ["a"]}, "/reason"),
    ],
)
def test_a_value_that_is_none_is_refused_with_its_place(path: str, body: dict[str, Any], place: str) -> None:
    state = State()
    answer = change(state, path, body)
    assert answer.status_code == 400
    assert [detail["path"] for detail in answer.json()["error"]["details"]] == [place]
    assert state.actions is not None and not state.actions.asked


def test_a_query_has_no_place_in_a_change() -> None:
    state = State()
    assert change(state, "/api/v1/runs/r1/cancel?reason=x").status_code == 400
    assert state.actions is not None and not state.actions.asked


def test_a_new_run_is_201_and_the_same_again_200_with_its_address() -> None:
    state = State()
    first, second = (
        change(state, "/api/v1/runs", {"run": {"tasks": [1, 2]}}, {"idempotency-key": "k1"}) for _ in range(2)
    )
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["location"] == second.headers["location"] == "/api/v1/runs/run-7"
    assert first.json() == {"run_id": "run-7", "duplicate": False, "tasks": 2}
    assert second.json()["duplicate"] is True


@pytest.mark.parametrize(("header", "field", "status"), [("a", "a", 201), ("a", "b", 400), ("a", None, 201)])
def test_an_idempotency_key_is_one(header: str, field: str | None, status: int) -> None:
    state = State()
    answer = change(state, "/api/v1/runs", {"run": {}, "key": field}, {"idempotency-key": header})
    assert answer.status_code == status
    assert state.actions is not None
    assert [asked[3] for asked in state.actions.asked] == (["a"] if status == 201 else [])


def test_over_tcp_the_token_is_named_as_the_one_who_asked() -> None:
    state = State()
    assert change(state, "/api/v1/runs", {"run": {}}, WITH_TOKEN, None).status_code == 201
    assert state.actions is not None
    assert state.actions.asked == [("submit", {}, "", "", "operator:token", "a request through TCP with a token")]


class Outlandish(CrewdError):
    """What crewd cannot do just now."""


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (errors.NothingMatched("no task t9 in run r1"), 404, "not_found"),
        (errors.Refused("t1 is completed: completed is final"), 409, "conflict"),
        (errors.UsageProblem("give keys"), 400, "bad_request"),
        (LedgerFailed("disk is full"), 503, "unavailable"),
        (Outlandish("degraded"), 503, "unavailable"),
    ],
)
def test_what_goes_wrong_is_told_in_its_own_words(failure: CrewdError, status: int, code: str) -> None:
    state = State()
    assert state.actions is not None
    state.actions.failure = failure
    answer = change(state, "/api/v1/runs/r1/cancel")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["message"]) == (status, code, str(failure))
    assert error["details"][0]["next_action"]


def test_a_refused_run_names_every_problem_at_its_place_in_the_body() -> None:
    class RunRefused(CrewdError):
        problems = (
            SimpleNamespace(pointer="/tasks/0/id", code="bad_id", message="../x is no id", next_action="correct it"),
            SimpleNamespace(pointer="", code="no_tasks", message="has sk-abcdefghijklmnopqrstuv", next_action="add"),
        )

    state = State()
    assert state.actions is not None
    state.actions.failure = RunRefused("2 problems")
    answer = change(state, "/api/v1/runs", {"run": {}})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "run_refused"
    details = answer.json()["error"]["details"]
    assert [(each["path"], each["code"]) for each in details] == [("/run/tasks/0/id", "bad_id"), ("/run", "no_tasks")]
    assert "sk-abc" not in answer.text


def test_an_unforeseen_failure_tells_nothing() -> None:
    state = State()
    assert state.actions is not None
    state.actions.failure = RuntimeError("secret inside")
    with capture_logs() as logged:
        answer = change(state, "/api/v1/runs/r1/cancel")
    assert [each["event"] for each in logged] == ["web.request_failed"]
    assert answer.status_code == 500 and "secret inside" not in answer.text
    assert state.observed == [("/api/v1/runs/{run}/cancel", "POST", 500)]


def test_where_crewd_only_watches_it_says_so() -> None:
    state = State()
    state.actions = None
    for answer in (change(state, "/api/v1/pause", {"scope": "daemon"}), ask(state, "/api/v1/deadletters")):
        assert answer.status_code == 503
        assert "tasks.enabled" in answer.json()["error"]["details"][0]["next_action"]
    assert ask(state, "/api/v1/runs/r1/managed").status_code == 404


def test_settings_are_read_again_also_where_crewd_only_watches() -> None:
    state = State()
    state.actions, state.reloads = None, [Reloaded(("http.port", "log.level"), ("http.port",)), Reloaded()]
    first, second = change(state, "/-/reload"), change(state, "/-/reload")
    assert first.status_code == second.status_code == 200 and not state.reloads
    assert first.json()["details"] == {"changed": ["http.port", "log.level"], "need_restart": ["http.port"]}
    assert second.json()["what"].endswith("nothing has changed")


def test_settings_that_are_refused_are_told_with_every_complaint_and_without_secrets() -> None:
    state = State()
    complaints = (
        Complaint("/etc/crewd/crewd.toml", "http.prot", "there is no such key", "did you mean http.port?"),
        Complaint("/etc/crewd/crewd.toml", "", "Bearer abcdefghijklmnop is no TOML"),
    )
    state.reloads = [Reloaded(complaints=complaints)]
    answer = change(state, "/-/reload")
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "reload_failed"
    assert [(each["path"], each["next_action"]) for each in error["details"]] == [
        ("/etc/crewd/crewd.toml: http.prot", "did you mean http.port?"),
        ("/etc/crewd/crewd.toml", "run `crewd config check`"),
    ]
    assert "abcdefghijklmnop" not in answer.text


def test_managed_runs_and_dead_letters_are_told_to_everybody_on_this_machine() -> None:
    state = State()
    assert ask(state, "/api/v1/runs/r1/managed").json()["tasks"] == [{"state": "waiting", "reason": "a slot"}]
    assert ask(state, "/api/v1/runs/r9/managed").status_code == 404
    assert ask(state, "/api/v1/deadletters").json() == {"deadletters": [{"key": "r1/t1:3", "error": "Bearer ***"}]}
    assert ask(state, "/api/v1/circuits").json() == {"circuits": [{"name": "default", "state": "open"}]}
    assert ask(state, "/api/v1/pauses").json() == {"pauses": [{"scope": "daemon"}]}


def test_dead_letters_can_be_narrowed() -> None:
    state = State()
    ask(state, "/api/v1/deadletters")
    ask(state, "/api/v1/deadletters?state=all&crew=blue%2Fred&limit=7")
    assert state.actions is not None
    assert state.actions.asked == [("letters", "open", "", 100), ("letters", "", "blue/red", 7)]


@pytest.mark.parametrize("key", ["r1/t1:3", "r1/t1:3?x=1&y#z", "a/%2f/../b"])
def test_any_key_finds_its_dead_letter_and_what_is_in_it_is_looked_at_for_secrets(key: str) -> None:
    answer = ask(State(), f"/api/v1/deadletter?key={quote(key, safe='')}")
    assert answer.status_code == 200 and answer.json()["key"] == key
    assert "sk-abc" not in answer.text and answer.json()["history"][0]["what"] == "an attempt, with ***"


def test_a_dead_letter_that_is_none_is_not_found() -> None:
    assert ask(State(), "/api/v1/deadletter?key=nothing").status_code == 404


# Output

OUTPUT = "/api/v1/runs/r1/tasks/t1/output"


def test_output_is_for_those_who_may_change_things() -> None:
    state = State()
    state.written["stdout"] = b"hello\n"
    assert ask(state, OUTPUT).status_code == 403
    assert ask(state, OUTPUT, headers=WITH_TOKEN).content == b"hello\n"
    (answer,) = ask_all(state, [("GET", OUTPUT, {})], ANNA)
    assert answer.content == b"hello\n" and answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-crewd-attempt"] == "2"


@pytest.mark.parametrize("limit", [7, 24, 1000])
def test_output_is_told_whole_piece_by_piece_without_its_secrets(limit: int) -> None:
    state = State()
    lines = [b"line %d\n" % number for number in range(20)] + [b"\xff\xfe\x00\n", b"api_key=zzzzzzzz\n", b"no end"]
    state.written["stderr"], state.over = b"".join(lines), True
    seen, offset = b"", 0
    while True:
        path = f"{OUTPUT}?stream=stderr&offset={offset}&limit={limit}"
        answer = ask(state, path, headers=WITH_TOKEN)
        assert int(answer.headers["x-crewd-offset"]) == offset
        seen, offset = seen + answer.content, int(answer.headers["x-crewd-next-offset"])
        if answer.headers["x-crewd-ended"] == "true":
            break
    assert offset == len(state.written["stderr"])
    if limit > 20:
        assert seen == state.written["stderr"].replace(b"zzzzzzzz", b"***")


def test_an_unfinished_line_waits_for_its_end_unless_it_is_asked_for() -> None:
    state = State()
    state.written["stdout"] = b"done\nGo on? [y/N]"
    answer, unfinished = ask_all(
        state, [("GET", OUTPUT, WITH_TOKEN), ("GET", f"{OUTPUT}?unfinished=true", WITH_TOKEN)]
    )
    assert answer.content == b"done\n" and unfinished.content == b"done\nGo on? [y/N]"
    for each in (answer, unfinished):
        assert each.headers["x-crewd-next-offset"] == "5" and each.headers["x-crewd-ended"] == "false"


@pytest.mark.parametrize("path", ["/api/v1/runs/r9/tasks/t1/output", "/api/v1/runs/r1/tasks/t9/output"])
def test_output_of_nobody_is_not_found(path: str) -> None:
    assert ask(State(), path, headers=WITH_TOKEN).status_code == 404


@pytest.mark.parametrize(
    "query",
    ["stream=stdin", "stream=../x", "attempt=-1", "offset=-1", "offset=1_0", "limit=0", "limit=262145", "x=1"],
)
def test_a_piece_that_makes_no_sense_is_refused(query: str) -> None:
    assert ask(State(), f"{OUTPUT}?{query}", headers=WITH_TOKEN).status_code == 400


def test_deeds_are_what_the_engine_offers() -> None:
    offered: Actions = Deeds()
    assert offered.managed("r9") is None
