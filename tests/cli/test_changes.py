"""Commands that change something: what is asked of the daemon, and what is told of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.cli.contract import Contract, letter, refusal, serving
from tests.cli.world import crewd

LETTERS = "GET /api/v1/deadletters"


def done(what: str = "done", *ids: str) -> dict[str, Any]:
    return {"what": what, "ids": list(ids), "details": {}}


def ask(tmp_path: Path, contract: Contract, *arguments: str) -> Result:
    with serving(tmp_path, contract):
        return crewd(*arguments, "--state-dir", str(tmp_path), folder=tmp_path)


@pytest.mark.parametrize(
    ("command", "path", "body"),
    [
        ("cancel r-1", "/api/v1/runs/r-1/cancel", {}),
        ("cancel r-1 a --reason late", "/api/v1/runs/r-1/tasks/a/cancel", {"reason": "late"}),
        ("retry r-1 a", "/api/v1/runs/r-1/tasks/a/retry", {}),
        ("pause", "/api/v1/pause", {"scope": "daemon", "drain": False}),
        ("pause --crew b --reason q", "/api/v1/pause", {"scope": "crew:b", "drain": False, "reason": "q"}),
        ("drain --executor e", "/api/v1/pause", {"scope": "executor:e", "drain": True}),
        ("resume --crew b", "/api/v1/resume", {"scope": "crew:b"}),
        ("handover", "/-/handover", {}),
        ("deadletter add r-1 a --reason no", "/api/v1/runs/r-1/tasks/a/bury", {"reason": "no"}),
        (
            "deadletter redrive k-1",
            "/api/v1/deadletters/redrive",
            {"keys": ["k-1"], "limit": 100, "dry_run": False},
        ),
        (
            "deadletter discard k-1 --reason no",
            "/api/v1/deadletters/discard",
            {"keys": ["k-1"], "reason": "no", "dry_run": False},
        ),
        (
            "deadletter redrive --fingerprint f --limit 3 --dry-run",
            "/api/v1/deadletters/redrive",
            {"fingerprint": "f", "limit": 3, "dry_run": True},
        ),
    ],
)
def test_each_command_asks_for_one_thing_and_tells_the_answer(
    tmp_path: Path, command: str, path: str, body: dict[str, Any]
) -> None:
    contract = Contract({f"POST {path}": done("it is so\x1b[2J", "x")})
    result = ask(tmp_path, contract, *command.split())
    assert contract.posted(path) == [body]
    assert (result.exit_code, result.stdout) == (0, "it is so\ufffd[2J\n")
    contract = Contract({f"POST {path}": done("so", "x", "y")})
    assert json.loads(ask(tmp_path, contract, *command.split(), "--json").stdout)["ids"] == ["x", "y"]


@pytest.mark.parametrize(
    "command",
    [
        "pause --crew a --executor b",
        "deadletter redrive",
        "deadletter redrive k --fingerprint f",
        "deadletter discard k",
        "deadletter add r a",
        "cancel",
    ],
)
def test_what_makes_no_sense_is_not_asked(tmp_path: Path, command: str) -> None:
    contract = Contract()
    assert ask(tmp_path, contract, *command.split()).exit_code == 2
    assert not contract.asked


@pytest.mark.parametrize(("status", "code"), [(404, 3), (409, 77), (503, 69)])
def test_a_refusal_is_told_and_leaves_with_its_code(tmp_path: Path, status: int, code: int) -> None:
    contract = Contract({"POST /api/v1/runs/r-1/tasks/a/retry": (status, refusal("c", "it is completed"))})
    result = ask(tmp_path, contract, "retry", "r-1", "a")
    assert (result.exit_code, result.stdout) == (code, "")
    assert "it is completed" in result.stderr


def test_without_a_daemon_nothing_is_changed_and_the_ledger_is_no_substitute(tmp_path: Path) -> None:
    result = crewd("cancel", "r-1", "--state-dir", str(tmp_path), folder=tmp_path)
    assert result.exit_code == 69


def test_more_than_one_letter_needs_a_yes_where_nobody_can_be_asked(tmp_path: Path) -> None:
    path = "/api/v1/deadletters/redrive"
    contract = Contract({f"POST {path}": done("2 would be redriven", "k-1", "k-2")})
    result = ask(tmp_path, contract, "deadletter", "redrive", "--fingerprint", "f")
    assert result.exit_code == 2
    assert "would redrive 2 letters: add --yes" in result.stderr
    assert [body["dry_run"] for body in contract.posted(path)] == [True], "nothing was done"
    contract = Contract({f"POST {path}": done("2 redriven", "k-1", "k-2")})
    result = ask(tmp_path, contract, "deadletter", "redrive", "k-1", "k-2", "--yes")
    assert [body["dry_run"] for body in contract.posted(path)] == [False]
    assert result.stdout.splitlines() == ["2 redriven", "  k-1", "  k-2"]


def test_one_letter_of_a_cause_needs_no_yes(tmp_path: Path) -> None:
    path = "/api/v1/deadletters/redrive"
    contract = Contract({f"POST {path}": done("1 redriven", "k-1")})
    assert ask(tmp_path, contract, "deadletter", "redrive", "--fingerprint", "f").exit_code == 0
    assert [body["dry_run"] for body in contract.posted(path)] == [True, False]


def test_a_task_can_be_named_instead_of_its_letter(tmp_path: Path) -> None:
    path = "/api/v1/deadletters/redrive"
    letters = {"dead_letters": [letter("managed:r-1/build/3"), letter("k-2", task_id="test")]}
    contract = Contract({f"POST {path}": done(), LETTERS: letters})
    ask(tmp_path, contract, "deadletter", "redrive", "r-1/test")
    ask(tmp_path, contract, "deadletter", "redrive", "managed:r-1/build/3")
    assert [body["keys"] for body in contract.posted(path)] == [["k-2"], ["managed:r-1/build/3"]]
    assert ask(tmp_path, contract, "deadletter", "redrive", "r-1/nope").exit_code == 3
