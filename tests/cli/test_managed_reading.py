"""Reading managed runs: of the daemon and of the ledger that it left behind."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from crewd.cli.managed_run import as_whole
from crewd.model.failure import ErrorClass
from tests.cli.contract import Contract, attempt, letter, managed, serving, task
from tests.cli.managed_ledger import write_managed
from tests.cli.test_agent_lines import agent
from tests.cli.world import crewd

RUN, MANAGED = "GET /api/v1/runs/r-1", "GET /api/v1/runs/r-1/managed"
LETTERS = "GET /api/v1/deadletters"


def ask(tmp_path: Path, routes: dict[str, Any], *arguments: str) -> Result:
    with serving(tmp_path, Contract(routes)):
        return crewd(*arguments, "--state-dir", str(tmp_path), folder=tmp_path)


def body() -> dict[str, Any]:
    return managed(
        "running",
        task("ok", "completed", attempt(1), attempt(2, None)),
        task("build", "dead_lettered", attempt(1), why="was given up (max-retries): exit 1"),
        task("test", "skipped", depends_on=["build"], why="build was given up"),
        task("late", "retry_wait", attempt(1, "rate_limited", "429"), due_at="2999-01-01T00:00:00.000Z"),
        task("last", "waiting"),
        held={"last": "circuit anthropic is open until 02:13"},
    )


def test_show_tells_attempts_due_times_and_what_holds_a_task(tmp_path: Path) -> None:
    result = ask(tmp_path, {MANAGED: body()}, "show", "r-1")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "r-1 blue · managed · running" in lines
    assert "dead_lettered build worker_crash: was given up (max-retries): exit 1" in lines
    assert any(line.startswith("retry_wait late retry in ") and line.endswith("rate_limited: 429") for line in lines)
    assert "waiting last circuit anthropic is open until 02:13" in lines
    assert "ok 1 worker_crash exit 1 1.5s exit 1" in lines
    assert "ok 2 ok exit 0 2.5s" in lines


def test_what_agents_do_resumed_and_used_is_told(tmp_path: Path) -> None:
    spent = {"input": 1000, "output": 20, "cache_read": 300, "cache_write": 0, "cost_usd": 0.5, "model": "m"}
    told = {"profile": "claude", "rung": "resume", "tokens": 900, "cost_usd": 0.25}
    whole = managed(
        "running",
        task("done", "completed", attempt(1), attempt(2, None, details=told), usage=spent),
        task("works", "running", profile="claude", agent=agent(tools=[{"name": "Bash", "for_seconds": 16.0}])),
        task("plain", "running", why="runs as process 7"),
        task("poor", "waiting"),
        held={"poor": "run:r-1 is paused: the run's budget of 500000 tokens is spent"},
    )
    show, why, explain = (
        [" ".join(line.split()) for line in ask(tmp_path, {MANAGED: whole}, *words.split()).stdout.splitlines()]
        for words in ("show r-1", "why r-1", "explain r-1 works")
    )
    assert "used 1000 tokens in, 20 out, 0.5000 USD" in show
    assert "completed done attempt 2 1,020 tokens, 0.5000 USD" in show
    assert "running works in Bash for 16s" in show
    assert "running plain runs as process 7" in show
    assert "done 2 ok exit 0 2.5s resumed 900 tokens, 0.2500 USD" in show
    assert "works in Bash for 16s" in why
    assert any("the run's budget of 500000 tokens is spent" in line for line in why)
    assert {"running: in Bash for 16s", "agent claude 2.1.3, model m-1", "session s-1"} <= set(explain)
    as_json = json.loads(ask(tmp_path, {MANAGED: whole}, "why", "r-1", "--json").stdout)
    assert as_json["agents"] == [{"task": "works", "does": "in Bash for 16s"}]


def test_the_head_of_a_run_is_of_the_moment_of_its_tasks(tmp_path: Path) -> None:
    """Two questions are asked, and the run may end in between."""
    worker = {
        "level": "stale", "reason": "silent", "because": "", "since": None, "silence_seconds": 9.0, "wedge": None,
        "progress_at": None, "held_by": "", "remedy": "", "tool": "",
        "process": {"state": "alive", "why": "", "pid": 1},
    }  # fmt: skip
    seen = {**as_whole(managed("failed")), "worst_level": "stale", "task_counts": {"running": 2}}
    seen["tasks"] = [
        {"task_id": name, "status": "running", "status_text": "running", "attempt": 1, "error": "", "worker": worker}
        for name in ("a", "b")
    ]
    now = managed("running", task("a", "completed", attempt(1, None)), task("b", "running"))
    routes = {RUN: seen, MANAGED: now}
    told = json.loads(ask(tmp_path, routes, "show", "r-1", "--json").stdout)
    assert (told["status"], told["status_text"], told["managed"]["status"]) == ("running", "running", "running")
    assert told["task_counts"] == {"completed": 1, "running": 1}
    assert [(each["status"], each["worker"] is None) for each in told["tasks"]] == [
        ("completed", True),
        ("running", False),
    ]
    lines = [" ".join(line.split()) for line in ask(tmp_path, routes, "show", "r-1").stdout.splitlines()]
    assert "r-1 blue · managed · running" in lines


def test_show_of_the_ledger_tells_the_same(tmp_path: Path) -> None:
    write_managed(tmp_path)
    result = crewd("show", "r-1", "--state-dir", str(tmp_path), folder=tmp_path)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "retry_wait late retry due; worker_crash: exit 1: AssertionError" in lines
    assert "skipped test build was given up" in lines
    assert "build 1 worker_crash exit 1 2.5s exit 1: AssertionError" in lines
    as_json = json.loads(crewd("show", "r-1", "--json", "--state-dir", str(tmp_path), folder=tmp_path).stdout)
    assert as_json["source"] == "ledger"
    assert as_json["managed"]["counts"]["retry_wait"] == 1
    assert as_json["managed"]["tasks"][0].keys() >= body()["tasks"][0].keys()


def test_why_tells_one_cause_what_it_means_what_to_do_and_whom_it_holds_up(tmp_path: Path) -> None:
    write_managed(tmp_path)
    online = ask(tmp_path, {MANAGED: body()}, "why", "r-1")
    offline = crewd("why", "r-1", "--state-dir", str(tmp_path), folder=tmp_path)
    for result in (online, offline):
        lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
        assert "cause build dead_lettered after 1 attempt" in lines
        assert any(line.startswith("error worker_crash: exit 1") for line in lines)
        assert any(line.startswith("means The program failed by itself.") for line in lines)
        assert any("crewd deadletter redrive r-1/build" in line for line in lines)
        assert "holds up 1 dependent: test" in lines
    assert "1 task waits last: circuit anthropic is open until 02:13" in " ".join(online.stdout.split())
    assert json.loads(crewd("why", "r-1", "--json", "--state-dir", str(tmp_path), folder=tmp_path).stdout)["cause"][
        "dependents"
    ] == ["test"]


@pytest.mark.parametrize("command", ["show r-1", "why r-1", "explain r-1 build", "wait r-1 --timeout 0"])
def test_a_run_that_the_daemon_knows_no_more_is_told_from_the_ledger(tmp_path: Path, command: str) -> None:
    write_managed(tmp_path)
    result = ask(tmp_path, {}, *command.split())
    assert "exit 1" in result.output or "retrying" in result.output
    assert "the daemon sees it no more" in result.stderr
    assert ask(tmp_path, {}, *command.replace("r-1", "r-2").split()).exit_code == 3


def test_why_of_a_run_in_which_nothing_is_wrong_says_so(tmp_path: Path) -> None:
    well = ask(tmp_path, {MANAGED: managed("running", task("a", "running"))}, "why", "r-1")
    assert "nothing stands in its way" in well.stdout
    ended = ask(tmp_path, {MANAGED: managed("completed", task("a", "completed"))}, "why", "r-1")
    assert "nothing went wrong" in ended.stdout


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_every_error_class_has_its_meaning(error_class: ErrorClass) -> None:
    from crewd.cli.why import guidance

    assert guidance(error_class.value)


def test_explain_tells_the_attempts_of_a_task_whose_worker_nobody_judged(tmp_path: Path) -> None:
    write_managed(tmp_path)
    online = ask(tmp_path, {MANAGED: body()}, "explain", "r-1", "late")
    offline = crewd("explain", "r-1", "late", "--state-dir", str(tmp_path), folder=tmp_path)
    for result, words in ((online, "retry in"), (offline, "retry due")):
        assert result.exit_code == 0, result.output
        assert f"retry_wait: {words}" in result.stdout
        assert "attempts that are over" in result.stdout
    assert ask(tmp_path, {MANAGED: body()}, "explain", "r-1", "nope").exit_code == 3


def test_status_tells_closed_doors_and_open_circuits(tmp_path: Path) -> None:
    write_managed(tmp_path)
    result = crewd("status", "--state-dir", str(tmp_path), folder=tmp_path)
    assert "DRAINING crew:blue since 2026-01-01T00:00:00.000Z: quota" in result.stdout
    assert "CIRCUIT anthropic is open after rate_limited; next try 2026-01-01T00:00:30.000Z" in result.stdout
    routes = {
        "GET /api/v1/status": {"taken_at": "", "health": None, "runs": 0, "never_read": {}, "crews": []},
        "GET /api/v1/runs": {"runs": [], "next": None},
        "GET /api/v1/pauses": {"pauses": [{"scope": "daemon", "mode": "pause", "reason": "", "since": 0.0}]},
        "GET /api/v1/circuits": {
            "circuits": [
                {"name": "x", "state": "closed", "opened_for": "", "probe_at": None},
                {"name": "y", "state": "half_open", "opened_for": "rate_limited", "probe_at": 30.0},
            ]
        },
    }
    online = ask(tmp_path, routes, "status")
    assert "PAUSED daemon since 1970-01-01T00:00:00.000Z" in online.stdout
    (line,) = [line for line in online.stdout.splitlines() if line.startswith("CIRCUIT")]
    assert line == "CIRCUIT y is half_open after rate_limited", "it is being tried: no next try is to come"


def test_dead_letters_are_listed_newest_first_and_grouped_by_cause(tmp_path: Path) -> None:
    made = [
        letter("k-1", at="2026-01-01T00:00:01.000Z"),
        letter("k-2", at="2026-01-01T00:00:03.000Z", run_id="r-2"),
        letter("k-3", at="2026-01-01T00:00:02.000Z", fingerprint="f-2", error="\x1b[2Jodd"),
    ]
    routes = {LETTERS: {"dead_letters": made}}
    listed = ask(tmp_path, routes, "deadletter", "list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["k-2", "k-3", "k-1"]
    assert "\x1b" not in listed.stdout
    grouped = ask(tmp_path, routes, "deadletter", "list", "--group")
    assert [line.split()[:3] for line in grouped.stdout.splitlines()] == [
        ["2", "letters", "f-1"],
        ["1", "letter", "f-2"],
    ]
    as_json = json.loads(ask(tmp_path, routes, "deadletter", "list", "--group", "--json").stdout)
    assert as_json["groups"][0]["keys"] == ["k-2", "k-1"]
    assert as_json["groups"][0]["runs"] == ["r-1", "r-2"]


def test_dead_letters_can_be_chosen_and_read_in_the_ledger(tmp_path: Path) -> None:
    asked: list[dict[str, str]] = []

    def answer(query: dict[str, str], _: Any) -> Any:
        asked.append(query)
        return {"dead_letters": []}

    result = ask(
        tmp_path, {LETTERS: answer}, "deadletter", "list", "--state", "all", "--crew", "blue", "--limit", "5"
    )
    assert result.stdout == "no dead letters\n"
    assert [query["state"] for query in asked] == ["open", "redriven", "discarded"]
    assert {(query["crew"], query["limit"]) for query in asked} == {("blue", "5")}
    ask(tmp_path, {LETTERS: answer}, "deadletter", "list", "--group", "--limit", "5")
    assert asked[-1]["limit"] == "1000", "a group is counted whole"
    write_managed(tmp_path)
    arguments = ("--state-dir", str(tmp_path))
    assert "managed:r-1/build/1" in crewd("deadletter", "list", *arguments, folder=tmp_path).stdout
    assert "no dead" in crewd("deadletter", "list", "--crew", "red", *arguments, folder=tmp_path).stdout
    for name in ("managed:r-1/build/1", "r-1/build"):
        shown = crewd("deadletter", "show", name, *arguments, folder=tmp_path)
        assert "assert 0" in shown.stdout
        assert "2026-01-01T00:00:03.000Z" in shown.stdout
    assert crewd("deadletter", "show", "nope", *arguments, folder=tmp_path).exit_code == 3
