"""`crewd incidents`: what is told of them, and what is asked of the daemon."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result

from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.model.incident import portrait
from crewd.model.verdict import Incident
from tests.cli.contract import Contract, serving
from tests.cli.world import NOW, crewd, daemon, picture, write_ledger
from tests.fakes.clock import FakeClock

ROUTE = "GET /api/v1/incidents"
DEAD = Incident(
    "r-bad/t2", "dead", "critical", "t2 is dead\x1b[2J", NOW, "blue", "r-bad", "t2", openings=3, damped=True
)
BUDGET = Incident("crewd", "budget", "warning", "nearly used", NOW - 9, acknowledged_by="bo", acknowledged_at=NOW)
OVER = Incident("r-bad/t2", "silent", "warning", "was silent", NOW - 99, "blue", "r-bad", "t2", NOW - 9)


def write(folder: Path, *incidents: Incident) -> None:
    """Leave a ledger behind that holds these."""
    write_ledger(folder)

    async def more() -> None:
        ledger = Ledger.open(folder, FakeClock(NOW))
        await ledger.commit(Batch(incidents=incidents))
        await ledger.close()

    asyncio.run(more())


def ask(folder: Path, *arguments: str) -> Result:
    return crewd("incidents", *arguments, "--state-dir", str(folder), folder=folder)


def told(result: Result) -> list[tuple[str, str]]:
    return [(each["cause"], each["state"]) for each in json.loads(result.stdout)["incidents"]]


def test_the_daemon_is_asked_and_without_it_the_ledger(tmp_path: Path) -> None:
    write(tmp_path, BUDGET, DEAD, OVER)
    with daemon(tmp_path, msgspec.structs.replace(picture(), incidents=(DEAD, BUDGET))):
        online = {state: ask(tmp_path, "list", "--state", state, "--json") for state in ("open", "resolved", "all")}
    offline = {state: ask(tmp_path, "list", "--state", state, "--json") for state in online}
    for state, result in online.items():
        assert told(result) == told(offline[state]), state
        assert (json.loads(result.stdout)["source"], result.stderr) == ("daemon", "")
        assert json.loads(offline[state].stdout)["source"] == "ledger"
        assert "showing the ledger" in offline[state].stderr
    assert told(online["all"]) == [("dead", "open"), ("budget", "acknowledged"), ("silent", "resolved")]


def test_they_are_laid_out_for_a_person(tmp_path: Path) -> None:
    write(tmp_path, BUDGET, DEAD)
    first, second = ask(tmp_path, "list").stdout.splitlines()
    assert first.split()[:3] == ["critical", "r-bad/t2", "dead"] and "opened 3 times, damped" in first
    assert "\x1b" not in first
    assert second.split()[:4] == ["warning", "crewd", "budget", "acknowledged"]
    assert ask(tmp_path, "list", "--crew", "red").stdout == "no incidents\n"


def test_one_is_shown_whole_with_what_was_before(tmp_path: Path) -> None:
    write(tmp_path, BUDGET, DEAD, OVER)
    shown = ask(tmp_path, "show", "r-bad/t2").stdout
    assert "t2 is dead" in shown and "was silent" in shown and "budget" not in shown
    assert "acknowledged" in ask(tmp_path, "show", "crewd", "budget").stdout
    assert len(told(ask(tmp_path, "show", "r-bad/t2", "silent", "--json"))) == 1
    assert ask(tmp_path, "show", "r-none").exit_code == 3


@pytest.mark.parametrize(
    ("command", "path", "body"),
    [
        ("ack r/t", "ack", {"subject": "r/t"}),
        (
            "ack r/t dead --by anna --note seen",
            "ack",
            {"subject": "r/t", "cause": "dead", "by": "anna", "note": "seen"},
        ),
        ("snooze r/t --for 2h", "snooze", {"subject": "r/t", "for_seconds": 7200.0}),
        (
            "snooze crewd budget --for 90s --by bo",
            "snooze",
            {"subject": "crewd", "cause": "budget", "by": "bo", "for_seconds": 90.0},
        ),
        ("unsnooze r/t dead", "unsnooze", {"subject": "r/t", "cause": "dead"}),
    ],
)
def test_each_word_asks_for_one_thing(tmp_path: Path, command: str, path: str, body: dict[str, Any]) -> None:
    contract = Contract({f"POST /api/v1/incidents/{path}": {"what": "it is so", "ids": ["x"], "details": {}}})
    with serving(tmp_path, contract):
        result = ask(tmp_path, *command.split())
    assert contract.posted(f"/api/v1/incidents/{path}") == [body]
    assert (result.exit_code, result.stdout) == (0, "it is so\n")


@pytest.mark.parametrize("command", ["ack", "snooze r/t", "snooze r/t --for soon", "unsnooze r/t --by a"])
def test_what_makes_no_sense_is_not_asked(tmp_path: Path, command: str) -> None:
    contract = Contract()
    with serving(tmp_path, contract):
        assert ask(tmp_path, *command.split()).exit_code == 2
    assert not contract.asked


def test_without_a_daemon_nothing_is_changed(tmp_path: Path) -> None:
    write(tmp_path, DEAD)
    assert ask(tmp_path, "ack", "r-bad/t2").exit_code == 69


def test_what_the_daemon_tells_is_shown_as_it_is(tmp_path: Path) -> None:
    contract = Contract({ROUTE: {"incidents": [portrait(DEAD, NOW)]}})
    with serving(tmp_path, contract):
        assert told(ask(tmp_path, "list", "--json")) == [("dead", "open")]
