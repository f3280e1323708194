"""Submitting: the file, the key, and what is printed of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.cli.contract import Contract, managed, refusal, serving, task
from tests.cli.world import crewd

RUN = 'name = "nightly"\n[[tasks]]\nid = "a"\ncommand = ["true"]\n'
ACCEPTED = {"run_id": "r-1", "duplicate": False, "tasks": 1}


def submit(
    tmp_path: Path, *arguments: str, contract: Contract | None = None, text: str = RUN
) -> tuple[Result, Contract]:
    (tmp_path / "folder").mkdir(exist_ok=True)
    (tmp_path / "folder/run.toml").write_text(text)
    contract = contract or Contract({"POST /api/v1/runs": (201, ACCEPTED)})
    with serving(tmp_path / "state", contract):
        result = crewd(
            "submit",
            str(tmp_path / "folder/run.toml"),
            *arguments,
            "--state-dir",
            str(tmp_path / "state"),
            folder=tmp_path,
        )
    return result, contract


def test_the_run_goes_with_the_folder_of_its_file_and_a_key(tmp_path: Path) -> None:
    result, contract = submit(tmp_path)
    assert (result.exit_code, result.stdout) == (0, "r-1: accepted, 1 task\n")
    (sent,) = contract.posted("/api/v1/runs")
    assert sent["run"] == {"name": "nightly", "tasks": [{"id": "a", "command": ["true"]}]}
    assert sent["base"] == str(tmp_path / "folder")
    assert len(sent["key"]) >= 32
    again = submit(tmp_path)[1].posted("/api/v1/runs")[0]
    assert again["key"] != sent["key"], "two commands are two runs"


def test_quiet_prints_the_id_and_nothing_else(tmp_path: Path) -> None:
    assert submit(tmp_path, "--quiet")[0].stdout == "r-1\n"
    assert json.loads(submit(tmp_path, "--json")[0].stdout) == ACCEPTED


def test_a_key_that_was_known_is_told(tmp_path: Path) -> None:
    contract = Contract({"POST /api/v1/runs": {**ACCEPTED, "duplicate": True}})
    result, _ = submit(tmp_path, "--key", "k", contract=contract)
    assert contract.posted("/api/v1/runs")[0]["key"] == "k"
    assert "was accepted before under this key" in result.stdout
    quiet, _ = submit(tmp_path, "--key", "k", "-q", contract=contract)
    assert (quiet.stdout, quiet.exit_code) == ("r-1\n", 0)
    assert "accepted before" in quiet.stderr


def test_a_connection_that_breaks_off_is_tried_once_more_with_the_same_key(tmp_path: Path) -> None:
    contract = Contract({"POST /api/v1/runs": {**ACCEPTED, "duplicate": True}}, hang_up=1)
    result, _ = submit(tmp_path, contract=contract)
    first, second = contract.posted("/api/v1/runs")
    assert first["key"] == second["key"]
    assert result.stdout == "r-1: accepted, 1 task\n", "it is the run that we made"
    gone = Contract({"POST /api/v1/runs": ACCEPTED}, hang_up=9)
    result, _ = submit(tmp_path, contract=gone)
    assert (result.exit_code, len(gone.asked)) == (69, 2)


def test_a_refused_run_file_names_every_problem_and_leaves_with_78(tmp_path: Path) -> None:
    details = [
        {"code": "CYCLE", "path": "/run/tasks/0", "message": "depends on itself\nfake", "next_action": "break it"},
        {"code": "UNKNOWN_TASK", "path": "/run/tasks/1/depends_on/0", "message": "no task 'x'", "next_action": ""},
    ]
    contract = Contract({"POST /api/v1/runs": (400, refusal("run_refused", "the run is not accepted", *details))})
    result, _ = submit(tmp_path, contract=contract)
    assert result.exit_code == 78
    assert result.stderr.splitlines()[1:] == [
        "  /tasks/0: depends on itself fake -> break it",
        "  /tasks/1/depends_on/0: no task 'x'",
    ]
    assert "run.toml: the run is not accepted" in result.stderr


def test_a_request_that_is_wrong_otherwise_is_no_fault_of_the_file(tmp_path: Path) -> None:
    detail = {"code": "pattern", "path": "/key", "message": "is no key", "next_action": "correct it"}
    contract = Contract({"POST /api/v1/runs": (400, refusal("bad_request", "not understood", detail))})
    assert submit(tmp_path, "--key", "a b", contract=contract)[0].exit_code == 2


@pytest.mark.parametrize(
    ("name", "text", "code", "words"),
    [
        ("run.toml", "a = [", 78, "run.toml"),
        ("run.json", '{"a": 1, "a": 2}', 78, "a"),
        ("run.txt", "x", 78, ".toml, .json"),
        ("missing.toml", None, 2, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_without_a_daemon(
    tmp_path: Path, name: str, text: str | None, code: int, words: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    result = crewd("submit", str(tmp_path / name), "--state-dir", str(tmp_path / "none"), folder=tmp_path)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stdout == ""


def test_stdin_needs_a_format(tmp_path: Path) -> None:
    result = crewd("submit", "-", "--state-dir", str(tmp_path), folder=tmp_path)
    assert result.exit_code == 2
    assert "--format" in result.stderr


def test_without_a_daemon_nothing_is_submitted(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    result = crewd("submit", str(tmp_path / "run.toml"), "--state-dir", str(tmp_path / "none"), folder=tmp_path)
    assert result.exit_code == 69


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1)])
def test_waiting_leaves_as_the_run_ends(tmp_path: Path, status: str, code: int) -> None:
    state = "completed" if status == "completed" else "dead_lettered"
    routes: dict[str, Any] = {
        "POST /api/v1/runs": (201, ACCEPTED),
        "GET /api/v1/runs/r-1/managed": managed(status, task("a", state)),
    }
    result, _ = submit(tmp_path, "--wait", contract=Contract(routes))
    assert result.exit_code == code
    assert f"r-1 {status}: 1 of 1 done" in result.stdout


# Without starting anything.

AGENT = """
name = "nightly"
crew = "blue"
budget = { tokens = 5000 }

[[tasks]]
id = "a"
executor = "writer"
prompt = "hunter2 is no word of a command. {long}"
"""
SETTINGS = """
[executors.writer]
profile = "codex"
command = ["codex", "exec", "-s", "workspace-write", "--api-key", "hunter3"]
model = "gpt-5.1-codex"
account = "team-a"
env = { RUST_LOG = "warn", GITHUB_TOKEN = "ghp_hunter2hunter2hunter2" }
secrets = { CODEX_API_KEY = "openai-team-a" }
budget = { cost_usd = 2.5, on_exceeded = "park" }
"""


def dry_run(tmp_path: Path, *arguments: str, text: str = AGENT, settings: str = SETTINGS) -> Result:
    (tmp_path / "run.toml").write_text(text.replace("{long}", "x" * 1000))
    (tmp_path / "crewd.toml").write_text(settings)
    (tmp_path / "credentials").mkdir(exist_ok=True)
    (tmp_path / "credentials/openai-team-a").write_text("hunter4-hunter4")
    return crewd(
        "submit", str(tmp_path / "run.toml"), "--dry-run", *arguments, "--config", str(tmp_path / "crewd.toml"),
        folder=tmp_path, environ={"CREWD_SECRETS__FOLDER": str(tmp_path / "credentials")},
    )  # fmt: skip


def test_a_dry_run_shows_what_would_be_run_and_how_without_a_daemon(tmp_path: Path) -> None:
    result = dry_run(tmp_path)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == ["nightly of crew blue: 1 task; nothing was started", "  budget    5000 tokens, then stop"]
    shown = {line[2:11].strip(): line[12:] for line in lines[4:] if not line.startswith("  env")}
    assert shown["command"] == "codex exec --json -m gpt-5.1-codex -s workspace-write --api-key '***'"
    assert shown["prompt"].endswith(", 1033 characters, on stdin")
    assert len(shown["prompt"]) < 200
    assert shown["folder"] == str(tmp_path)
    assert shown["profile"] == "codex (executor writer)"
    assert "CODEX_API_KEY" not in shown["passed on"], "crewd's own is not for this account"
    assert "HTTPS_PROXY" in shown["passed on"]
    assert shown["stop"] == "INT, 10 s; TERM, 5 s; KILL to all that is left"
    assert shown["circuit"] == "openai/team-a/gpt-5"
    assert shown["budget"] == "2.5 USD, then park"
    assert shown["resume"] == "2 attempts in a row go on with one session, where the working tree is as it was left"
    assert [line.strip() for line in lines if line.startswith("  env")] == [
        "env       RUST_LOG=warn",
        "env       GITHUB_TOKEN=***",
        "env       CODEX_API_KEY from the credential openai-team-a",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["credentials", "crewd.toml", "run.toml"]


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_no_secret_is_ever_part_of_a_dry_run(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    text = AGENT + 'env = { WITHIN = "before hunter4-hunter4 behind" }\n'
    told = dry_run(tmp_path, *arguments, text=text).stdout
    assert "before *** behind" in told
    for secret in ("hunter3", "ghp_hunter2", "hunter4"):
        assert secret not in told


def test_a_dry_run_is_told_to_programs_too(tmp_path: Path) -> None:
    told = json.loads(dry_run(tmp_path, "--json").stdout)
    (task_told,) = told.pop("tasks")
    assert told == {
        "run_id": None,
        "crew": "blue",
        "name": "nightly",
        "budget": {"tokens": 5000, "cost_usd": None, "warn_ratio": 0.8, "on_exceeded": "stop"},
    }
    assert task_told["command"][-2:] == ["--api-key", "***"]
    assert (task_told["profile"], task_told["circuit"], task_told["stdin"]) == (
        "codex", "openai/team-a/gpt-5", "prompt",
    )  # fmt: skip
    assert task_told["env_from_credentials"] == {"CODEX_API_KEY": "openai-team-a"}
    assert task_told["resume"] == {"attempts_max": 2, "tree": "same"}


def test_a_profiles_own_variables_are_told_apart(tmp_path: Path) -> None:
    text = '[[tasks]]\nid = "a"\nprofile = "gemini"\nprompt = "p"\nresume = { mode = "never" }\nidempotent = false\n'
    told = dry_run(tmp_path, text=text).stdout
    assert "  env       GEMINI_CLI_NO_RELAUNCH=true (profile)\n" in told
    assert "  resume    no: each attempt begins afresh; never carried out twice\n" in told
    told = dry_run(tmp_path, text=text + 'env = { GEMINI_CLI_NO_RELAUNCH = "false" }\n').stdout
    assert "  env       GEMINI_CLI_NO_RELAUNCH=false\n" in told


def test_a_dry_run_of_a_plain_command_says_that_nothing_is_added(tmp_path: Path) -> None:
    told = dry_run(tmp_path, text=RUN, settings="").stdout
    assert "  command   true\n" in told
    assert "  profile   plain (executor default)\n" in told
    assert "  circuit   none\n" in told


def test_a_dry_run_of_a_refused_file_names_every_problem_and_leaves_with_78(tmp_path: Path) -> None:
    text = '[[tasks]]\nid = "a"\nprompt = "p"\n[[tasks]]\nid = "b"\ndepends_on = ["c"]\nexecutor = "nobody"\n'
    result = dry_run(tmp_path, text=text)
    assert (result.exit_code, result.stdout) == (78, "")
    for pointer in ("/tasks/0/command", "/tasks/0/prompt", "/tasks/1/depends_on/0", "/tasks/1/executor"):
        assert pointer in result.stderr


def test_a_dry_run_starts_nothing_that_could_be_waited_for(tmp_path: Path) -> None:
    result = dry_run(tmp_path, "--wait")
    assert result.exit_code == 2
    assert "--wait" in result.stderr


def test_a_dry_run_with_settings_that_are_not_usable_says_so(tmp_path: Path) -> None:
    result = dry_run(tmp_path, settings="[nope]\n")
    assert result.exit_code == 78
    assert "nope" in result.stderr
