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
