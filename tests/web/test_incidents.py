"""Incidents over HTTP: what is told of them, and what a person may say."""

from typing import Any

import msgspec
import pytest

from crewd import errors
from crewd.model.verdict import Incident
from tests.telemetry.pictures import NOW, snapshot, view
from tests.web.world import State, ask, change

WHO = "operator:anna"
DEAD = Incident("r1/t1", "dead", "critical", "t1 is dead", NOW - 60, "blue", "r1", "t1")
QUIET = Incident("crewd", "budget", "warning", "nearly used", NOW - 90, snoozed_until=NOW + 60, snoozed_by="bo")
OVER = Incident("r2/t1", "silent", "warning", "is sk-abcdefghijklmnopqrstuv", NOW - 99, "red", "r2", "t1", NOW - 9)
OLDER = msgspec.structs.replace(OVER, cause="stopped", resolved_at=NOW - 50)


def state() -> State:
    made = State(msgspec.structs.replace(snapshot(view("r1", "blue")), incidents=(DEAD, QUIET)))
    made.history.incidents_kept = [OLDER, DEAD, QUIET, OVER]
    return made


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", [("dead", "open"), ("budget", "snoozed")]),
        ("?state=resolved", [("silent", "resolved"), ("stopped", "resolved")]),
        (
            "?state=all",
            [("dead", "open"), ("budget", "snoozed"), ("silent", "resolved"), ("stopped", "resolved")],
        ),
        ("?crew=blue", [("dead", "open")]),
        ("?run=r2&state=all&limit=1", [("silent", "resolved")]),
        ("?run=r9", []),
    ],
)
def test_incidents_are_told_as_they_are_asked_for(query: str, told: list[tuple[str, str]]) -> None:
    body = ask(state(), f"/api/v1/incidents{query}").json()
    assert [(each["cause"], each["state"]) for each in body["incidents"]] == told


def test_one_is_told_whole_and_keeps_secrets_to_itself() -> None:
    [silent, _] = ask(state(), "/api/v1/incidents?state=resolved").json()["incidents"]
    assert silent["summary"] == "is ***"
    assert (silent["subject"], silent["openings"], silent["acknowledged_by"]) == ("r2/t1", 1, None)
    assert silent["resolved_at"].endswith("Z")


@pytest.mark.parametrize("query", ["?state=closed", "?limit=0", "?run=a/b", "?cause=dead", "?crew=a&crew=b"])
def test_a_question_that_is_not_understood_is_refused(query: str) -> None:
    assert ask(state(), f"/api/v1/incidents{query}").status_code == 400


CHANGES: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("ack", {"subject": "r1/t1"}, ("ack", "r1/t1", "", "", "", WHO)),
    (
        "ack",
        {"subject": "r1/t1", "cause": "dead", "by": "Anna B.", "note": "on it"},
        ("ack", "r1/t1", "dead", "Anna B.", "on it", WHO),
    ),
    ("snooze", {"subject": "crewd", "for_seconds": 7200}, ("snooze", "crewd", "", "", "", 7200.0, WHO)),
    ("unsnooze", {"subject": "crewd", "cause": "budget"}, ("unsnooze", "crewd", "budget", WHO)),
]


@pytest.mark.parametrize(("verb", "body", "asked"), CHANGES)
@pytest.mark.parametrize("watches_only", [False, True])
def test_each_word_reaches_the_desk_also_where_crewd_only_watches(
    verb: str, body: dict[str, Any], asked: tuple[Any, ...], watches_only: bool
) -> None:
    made = state()
    if watches_only:
        made.actions = None
    answer = change(made, f"/api/v1/incidents/{verb}", body)
    assert answer.json() == {"what": f"{asked[0]} is done", "ids": ["r1/t1 dead"], "details": {}}
    assert made.incidents.asked == [asked]


@pytest.mark.parametrize(
    ("verb", "body", "places"),
    [
        ("ack", {}, {"/subject"}),
        ("ack", {"subject": "", "by": "a\nb", "for_seconds": 1}, {"/subject", "/by", "/for_seconds"}),
        ("snooze", {"subject": "r1"}, {"/for_seconds"}),
        ("snooze", {"subject": "r1", "for_seconds": 0}, {"/for_seconds"}),
        ("snooze", {"subject": "r1", "for_seconds": 2_592_001}, {"/for_seconds"}),
        ("snooze", {"subject": "r1", "for_seconds": "2h"}, {"/for_seconds"}),
        ("unsnooze", {"subject": "r1", "note": "x"}, {"/note"}),
    ],
)
def test_everything_wrong_with_a_word_is_named(verb: str, body: dict[str, Any], places: set[str]) -> None:
    made = state()
    answer = change(made, f"/api/v1/incidents/{verb}", body)
    assert answer.status_code == 400 and not made.incidents.asked
    assert {detail["path"] for detail in answer.json()["error"]["details"]} == places


@pytest.mark.parametrize("verb", ["ack", "snooze", "unsnooze"])
def test_nobody_speaks_through_the_open_door(verb: str) -> None:
    made = state()
    answer = change(made, f"/api/v1/incidents/{verb}", {"subject": "r1", "for_seconds": 60}, peer=None)
    assert answer.status_code == 403 and not made.incidents.asked


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (errors.NothingMatched("there is none"), 404),
        (errors.UsageProblem("too long"), 400),
        (errors.CrewdError("the ledger cannot write it down"), 503),
    ],
)
def test_what_is_not_done_is_told_with_its_reason(failure: Exception, status: int) -> None:
    made = state()
    made.incidents.failure = failure
    answer = change(made, "/api/v1/incidents/ack", {"subject": "r1"})
    assert answer.status_code == status and str(failure) in answer.text
