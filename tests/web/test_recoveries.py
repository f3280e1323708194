"""Recovery plans, asked without a socket: told whole, changed only by those who may, and only with a name."""

from typing import Any

import pytest

from crewd import errors
from crewd.ledger.errors import LedgerFailed
from tests.web.world import WITH_TOKEN, State, ask, change

PLAN = "0123456789abcdef"
API = "/api/v1/recoveries"


def test_plans_are_told_by_state_and_without_secrets() -> None:
    told = ask(State(), API).json()["recoveries"]
    assert [plan["state"] for plan in told] == ["planned", "declined"]
    assert told[0]["created_at"] == "2026-01-01T00:00:00.000Z" and told[0]["decided_at"] is None
    assert told[0]["output"] is None and "mark" not in told[0]
    assert [plan["plan_id"] for plan in ask(State(), f"{API}?state=declined").json()["recoveries"]] == [
        "00000000000000ff"
    ]
    assert len(ask(State(), f"{API}?limit=1").json()["recoveries"]) == 1
    assert ask(State(), f"{API}/{PLAN}").json()["resumable"] == ["t1"]


@pytest.mark.parametrize(
    ("path", "status"),
    [(f"{API}?state=lost", 400), (f"{API}?stat=planned", 400), (f"{API}/{'0' * 16}", 404), (f"{API}/lost", 400)],
)
def test_what_is_not_there_is_refused(path: str, status: int) -> None:
    assert ask(State(), path).status_code == status


@pytest.mark.parametrize(
    ("verb", "body", "asked"),
    [
        ("approve", {"by": "ann"}, ("approve", PLAN, "", "ann", "", "operator:anna")),
        (
            "approve",
            {"by": "ann", "reason": "go", "action": "cancel"},
            ("approve", PLAN, "cancel", "ann", "go", "operator:anna"),
        ),
        ("decline", {"by": "ann", "reason": "old"}, ("decline", PLAN, "ann", "old", "operator:anna")),
    ],
)
def test_a_word_reaches_the_plan(verb: str, body: dict[str, Any], asked: tuple[Any, ...]) -> None:
    state = State()
    answer = change(state, f"{API}/{PLAN}/{verb}", body)
    assert answer.status_code == 200 and answer.json()["ids"] == [PLAN]
    assert state.recoveries.asked == [asked]


@pytest.mark.parametrize("verb", ["approve", "decline"])
@pytest.mark.parametrize("body", [{}, {"by": ""}, {"by": 7}, {"by": "ann", "action": "explode"}, {"by": "a", "x": 1}])
def test_a_word_without_a_name_or_with_more_than_is_known_changes_nothing(verb: str, body: dict[str, Any]) -> None:
    state = State()
    assert change(state, f"{API}/{PLAN}/{verb}", body).status_code == 400
    assert state.recoveries.asked == []


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (errors.Refused("it is approved"), 409),
        (errors.NothingMatched("no such plan"), 404),
        (errors.UsageProblem("not offered"), 400),
        (LedgerFailed("disk full"), 503),
    ],
)
def test_why_it_was_not_done_is_told(failure: Exception, status: int) -> None:
    state = State()
    state.recoveries.failure = failure
    answer = change(state, f"{API}/{PLAN}/approve", {"by": "ann"})
    assert answer.status_code == status and str(failure) in answer.json()["error"]["message"]


def test_what_a_command_said_is_told_only_to_the_owner_and_without_secrets() -> None:
    path = f"{API}/{PLAN}"
    assert ask(State(), path).json()["output"] is None
    assert ask(State(), f"{path}?output=true").status_code == 403
    told = ask(State(), f"{path}?output=true", headers=WITH_TOKEN).json()["output"]
    assert told and "abcdefghijkl" not in told


def test_a_get_changes_nothing() -> None:
    state = State()
    assert ask(state, f"{API}/{PLAN}/approve").status_code == 405
    assert state.recoveries.asked == []
