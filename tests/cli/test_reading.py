"""The reading commands, each against a daemon that answers and against the ledger it left behind."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import Result

from crewd.cli.client import DEFAULT_URL
from crewd.config.load import load
from crewd.model.run import RunStatus
from crewd.model.snapshot import RunView
from crewd.model.verdict import Level
from tests.cli.world import crewd, daemon, event, run, snapshot, task, worker, write_ledger


@pytest.fixture
def state(tmp_path: Path) -> Path:
    write_ledger(tmp_path / "state")
    return tmp_path / "state"


def both(state: Path, *arguments: str, exit_code: int = 0) -> tuple[Result, Result]:
    """Ask the same of a daemon and of the ledger."""
    arguments = (*arguments, "--state-dir", str(state))
    with daemon(state):
        online = crewd(*arguments, folder=state)
    offline = crewd(*arguments, folder=state)
    for result in (online, offline):
        assert result.exit_code == exit_code, result.output
    return online, offline


def test_status_shows_trouble_first_with_words_and_not_colour_alone(state: Path) -> None:
    online, offline = both(state, "status")
    for result in (online, offline):
        lines = [line for line in result.stdout.splitlines() if line.startswith(("r-", " "))]
        assert [line.split()[0] for line in lines if line.startswith("r-")] == ["r-bad", "r-well"]
        assert lines[1].split()[1:3] == ["DEAD", "t2"]
        assert lines[2].split()[1:3] == ["warn", "t1"]
        assert "1 run more has ended" in result.stdout
        assert "\x1b" not in result.stdout
    assert online.stdout.startswith("crewd ready · round 7 · 3 runs · 3 workers · 1 dead · 1 warn · 1 healthy")
    assert "silent 6m40s" in online.stdout
    assert online.stderr == ""
    assert offline.stdout.startswith(
        "crewd not running · 3 runs · 3 workers with a level on record · 1 dead · 1 warn · 1 healthy"
    )
    assert "silent 6m40s" not in offline.stdout, "nobody measures silence while the daemon is down"
    assert "daemon unreachable: it is not running, or does not listen; showing the ledger as of " in offline.stderr


def test_status_tells_the_tool_of_a_worker_instead_of_its_reason_twice(tmp_path: Path) -> None:
    inside = msgspec.structs.replace(worker("t1", because="beating"), tool="Bash\x1b[31m")
    taken = snapshot(RunView(run("r-1", task("t1")), "root", (inside,)))
    write_ledger(tmp_path, taken)
    with daemon(tmp_path, taken):
        result = crewd("status", "--state-dir", str(tmp_path), folder=tmp_path)
    (line,) = [" ".join(each.split()) for each in result.stdout.splitlines() if " t1 " in each]
    assert line == "└ healthy t1 silent 3s beating in Bash\N{REPLACEMENT CHARACTER}[31m"


def test_status_json_says_who_answered(state: Path) -> None:
    online, offline = (json.loads(result.stdout) for result in both(state, "status", "--json"))
    assert (online["source"], offline["source"]) == ("daemon", "ledger")
    assert online["as_of"].endswith("Z")
    assert offline["as_of"].endswith("Z")
    assert offline["health"] is None
    assert online["runs"][0].keys() == offline["runs"][0].keys()
    assert online["runs"][0]["workers"][0]["worker"]["silence_seconds"] == 400.0
    assert offline["runs"][0]["workers"][0]["worker"]["silence_seconds"] is None
    assert offline["crews"] == online["crews"]


def test_status_all_shows_what_has_ended_too(state: Path) -> None:
    for result in both(state, "status", "--all"):
        assert "r-ended" in result.stdout


def test_a_run_that_has_ended_and_still_has_a_worker_is_not_hidden(tmp_path: Path) -> None:
    odd = RunView(run("r-odd", task("t1"), status=RunStatus.FAILED), "root", (worker("t1", Level.STALE, 99.0),))
    write_ledger(tmp_path, snapshot(odd))
    with daemon(tmp_path, snapshot(odd)):
        result = crewd("status", "--state-dir", str(tmp_path), folder=tmp_path)
    assert "STALE" in result.stdout


def test_status_says_when_crewd_doubts_itself(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    doubts = {"hold": "suspended", "hold_seconds_left": 12.0, "brake": "4 of 5 fell silent", "local_health": 2.5}
    doubts |= {"roots_stuck": ("/net/one",)}
    with daemon(tmp_path, snapshot(**doubts, degraded={"ledger": "the disk is full"})):
        result = crewd("status", "--state-dir", str(tmp_path), folder=tmp_path)
    for words in (
        "HOLD",
        "12s",
        "suspended",
        "MASS BRAKE",
        "4 of 5",
        "NO ANSWER /net/one",
        "DEGRADED ledger: the disk is full",
        "x 2.5",
    ):
        assert words in result.stdout


def test_show_tells_every_task(state: Path) -> None:
    for result in both(state, "show", "r-bad"):
        assert "r-bad  blue · pi_crew · running" in result.stdout
        assert [line.split()[0] for line in result.stdout.splitlines()[-3:]] == ["running", "running", "queued"]
        assert "pid 9 is gone" in result.stdout


def test_show_json_has_the_same_keys_from_both(state: Path) -> None:
    online, offline = (json.loads(result.stdout) for result in both(state, "show", "r-bad", "--json"))
    assert online.keys() == offline.keys()


def test_a_run_that_the_daemon_sees_no_more_is_shown_from_the_ledger(state: Path) -> None:
    with daemon(state, snapshot()):
        result = crewd("show", "r-bad", "--state-dir", str(state), folder=state)
    assert result.exit_code == 0
    assert "r-bad" in result.stdout
    assert "the daemon sees it no more" in result.stderr


def test_explain_marks_the_row_that_fitted(state: Path) -> None:
    for result in both(state, "explain", "r-bad", "t2"):
        assert "DEAD (exited)" in result.stdout
        marked = [line for line in result.stdout.splitlines() if line.startswith("->")]
        assert len(marked) == 1
        assert "2" in marked[0]
        assert "evidence" in result.stdout


def test_explain_of_a_task_without_a_worker_says_so(state: Path) -> None:
    for result in both(state, "explain", "r-bad", "t3"):
        assert "queued: nobody works on it" in result.stdout


@pytest.mark.parametrize(
    "arguments", [("show", "nope"), ("explain", "nope", "t1"), ("explain", "r-bad", "nope"), ("show", "../etc")]
)
def test_what_nobody_knows_leaves_with_3(state: Path, arguments: tuple[str, ...]) -> None:
    offline = crewd(*arguments, "--state-dir", str(state), folder=state)
    assert offline.exit_code == 3
    assert offline.stdout == ""
    if "../etc" not in arguments:
        with daemon(state):
            assert crewd(*arguments, "--state-dir", str(state), folder=state).exit_code == 3


def test_events_begin_with_the_newest_or_after_a_number(tmp_path: Path) -> None:
    write_ledger(tmp_path, events=[event(seq) for seq in range(1, 2501)])
    online, offline = both(tmp_path, "events", "--json")
    for result in (online, offline):
        assert [json.loads(line)["seq"] for line in result.stdout.splitlines()] == list(range(2481, 2501))
    for result in both(tmp_path, "events", "--json", "--after", "100"):
        assert [json.loads(line)["seq"] for line in result.stdout.splitlines()] == list(range(101, 2501))
    assert result.stderr.count("daemon unreachable") == 1, "told once, not for each page"
    for result in both(tmp_path, "events", "--json", "--after", "100", "--limit", "3"):
        assert [json.loads(line)["seq"] for line in result.stdout.splitlines()] == [101, 102, 103]


def test_events_of_one_task_are_chosen_from_by_the_daemon_and_in_the_ledger(tmp_path: Path) -> None:
    write_ledger(
        tmp_path, events=[msgspec.structs.replace(event(seq), task_id=f"t{seq % 3}") for seq in range(1, 1401)]
    )
    for more in ((), ("--after", "0", "--limit", "20"), ("--limit", "450")):
        for result in both(tmp_path, "events", "--json", "--task", "t2", *more):
            told = [json.loads(line) for line in result.stdout.splitlines()]
            assert {each["task_id"] for each in told} == {"t2"}
            assert len(told) == (450 if "450" in more else 20)
            assert (told[0]["seq"] == 2) is ("--after" in more)


def test_more_of_the_newest_events_than_one_answer_holds_are_shown(tmp_path: Path) -> None:
    write_ledger(tmp_path, events=[event(seq) for seq in range(1, 2501)])
    for result in both(tmp_path, "events", "--json", "--limit", "1500"):
        assert [json.loads(line)["seq"] for line in result.stdout.splitlines()] == list(range(1001, 2501))


@pytest.mark.parametrize("command", ["events", "events --after 0", "status", "show r-bad", "explain r-bad t2"])
def test_a_daemon_that_answers_is_enough(state: Path, tmp_path: Path, command: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with daemon(state):
        (elsewhere / "daemon.json").write_bytes((state / "daemon.json").read_bytes())
        result = crewd(*command.split(), "--state-dir", str(elsewhere), folder=state)
    assert result.exit_code == 0
    assert "r-bad" in result.stdout
    assert result.stderr == ""


def test_the_address_of_a_daemon_that_nobody_configured_is_the_default_of_the_settings() -> None:
    http = load(None, {}).settings.http
    assert f"http://{http.host}:{http.port}" == DEFAULT_URL


def test_settings_are_read_when_a_variable_says_something(tmp_path: Path) -> None:
    result = crewd("status", folder=tmp_path, environ={"CREWD_HTTP__PORT": "0", "CREWD_RUN": "r"})
    assert "daemon unreachable: it is not running" in result.stderr
    result = crewd("status", folder=tmp_path, environ={"CREWD_LEDGER__FOLDER": str(tmp_path / "x")})
    assert str(tmp_path / "x") in result.stderr


def test_events_can_be_chosen_by_type_and_run(tmp_path: Path) -> None:
    write_ledger(tmp_path, events=[event(1), event(2, "task.failed"), event(3)])
    for result in both(tmp_path, "events", "--json", "--type", "task.failed", "--run", "r-bad"):
        assert [json.loads(line)["seq"] for line in result.stdout.splitlines()] == [2]
    for result in both(tmp_path, "events", "--type", "task.failed"):
        assert result.stdout.split() == ["2026-01-01T00:00:02.000Z", "2", "task.failed", "r-bad/t1", "n=2"]


def test_metrics_are_printed_in_either_spelling(state: Path) -> None:
    with daemon(state):
        plain = crewd("metrics", "crew_runs", "--state-dir", str(state), folder=state)
        dotted = crewd("metrics", "--dotted", "crew.heartbeat.level*", "--state-dir", str(state), folder=state)
        as_json = crewd("metrics", "crew_runs", "--json", "--state-dir", str(state), folder=state)
        nothing = crewd("metrics", "nope*", "--state-dir", str(state), folder=state)
    assert 'crew_runs{crew="blue",runtime="pi_crew",status="running"} 2' in plain.stdout
    assert dotted.stdout.startswith("crew.heartbeat.level_total{")
    assert {"name": "crew_runs", "value": 2.0} in [
        {"name": each["name"], "value": each["value"]} for each in json.loads(as_json.stdout)["metrics"]
    ]
    assert nothing.exit_code == 3


def test_metrics_cannot_come_from_the_ledger_and_say_so(state: Path) -> None:
    result = crewd("metrics", "--state-dir", str(state), folder=state)
    assert result.exit_code == 69
    assert "metrics-DATE.jsonl" in result.stderr


@pytest.mark.parametrize("command", ["status", "show r", "explain r t", "events", "metrics"])
def test_without_daemon_and_ledger_every_reading_command_leaves_with_69(tmp_path: Path, command: str) -> None:
    result = crewd(*command.split(), "--state-dir", str(tmp_path / "none"), folder=tmp_path)
    assert result.exit_code == 69
    assert "daemon unreachable" in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "none").exists(), "reading makes nothing"


def test_a_daemon_that_was_killed_is_not_asked_although_its_file_is_there(state: Path) -> None:
    (state / "daemon.json").write_text('{"pid": 4194304, "url": "http://127.0.0.1:1"}')
    result = crewd("status", "--state-dir", str(state), folder=state)
    assert "it is not running" in result.stderr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"pid": "x", "url": 3}',
        "{",
        '{"pid": 1}',
        '{"pid": 1, "url": "http://x:9999999"}',
        '{"pid": 1, "url": 7}',
    ],
)
def test_a_broken_address_file_counts_as_none(state: Path, text: str) -> None:
    (state / "daemon.json").write_text(text)
    assert crewd("status", "--state-dir", str(state), folder=state).exit_code == 0


def test_a_broken_configuration_does_not_hide_what_happens(tmp_path: Path) -> None:
    config = tmp_path / ".config/crewd/crewd.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[http]\nprt = 1\n")
    write_ledger(tmp_path / ".local/state/crewd")
    result = crewd("status", folder=tmp_path)
    assert result.exit_code == 0
    assert "did you mean http.port?" in result.stderr
    named = crewd("status", "--config", str(config), folder=tmp_path)
    assert named.exit_code == 78


def test_the_configured_folder_is_where_the_ledger_is_looked_for(tmp_path: Path) -> None:
    write_ledger(tmp_path / "elsewhere")
    config = tmp_path / "crewd.toml"
    config.write_text(f'[ledger]\nfolder = "{tmp_path}/elsewhere"\n[http]\nport = 0\n')
    assert crewd("status", "--config", str(config), folder=tmp_path).exit_code == 0


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\r\nfake: line"


@pytest.mark.parametrize("command", ["status", "status --json", "show r1", "show r1 --json", "explain r1 t1"])
def test_hostile_names_cannot_act_on_a_terminal(tmp_path: Path, command: str) -> None:
    bad = worker("t1", Level.STALE, 99.0, because=HOSTILE)
    tasks = (task("t1", error=HOSTILE, title=HOSTILE),)
    taken = snapshot(RunView(run("r1", *tasks, crew=HOSTILE, goal=HOSTILE), "root", (bad,)))
    write_ledger(tmp_path, taken)
    online = ask_daemon(tmp_path, taken, command.split())
    offline = crewd(*command.split(), "--state-dir", str(tmp_path), folder=tmp_path)
    for result in (online, offline):
        assert result.exit_code == 0, result.output
        assert not set("\x1b\x07\x9b\u202e\r") & set(result.output)
        assert not any(line.startswith("fake: line") for line in result.output.splitlines())
        if "--json" in command:
            assert contains(json.loads(result.stdout), HOSTILE), "escaped, not changed"


def ask_daemon(folder: Path, taken: Any, command: list[str]) -> Result:
    with daemon(folder, taken):
        return crewd(*command, "--state-dir", str(folder), folder=folder)


def contains(value: Any, text: str) -> bool:
    match value:
        case dict():
            return any(contains(each, text) for each in value.values())
        case list():
            return any(contains(each, text) for each in value)
    return bool(value == text)


def test_configured_secrets_do_not_come_out_of_the_ledger(tmp_path: Path) -> None:
    taken = snapshot(RunView(run("r1", task("t1"), goal="use hunter2-hunter2"), "root", (worker("t1"),)))
    write_ledger(tmp_path, taken)
    environ = {"CREWD_REDACT__SECRETS": "hunter2-hunter2"}
    for command in (["status"], ["status", "--json"], ["show", "r1"]):
        result = crewd(*command, "--state-dir", str(tmp_path), folder=tmp_path, environ=environ)
        assert result.exit_code == 0
        assert "***" in result.output
        assert "hunter2" not in result.output
