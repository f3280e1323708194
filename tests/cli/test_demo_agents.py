"""`crewd demo agents`: what it asks of the daemon, how it tells what happens, and one whole play."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from crewd.cli.demo import demo
from crewd.cli.demo_agents import ACTS, Act, Stage, task_id
from crewd.cli.demo_agents_screen import (
    Changes,
    Table,
    did,
    generic,
    picture,
    said_last,
    screen_for,
    summary_lines,
    told,
    verdict_of,
    words_of,
)
from crewd.cli.screen import plain
from crewd.config.load import load as load_settings
from crewd.demo.agent_cases import Case, load, names

WHOLE_SECONDS = 60.0  # for a whole play, on a busy machine


def task(name: str, state: str, *attempts: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {
        "task_id": name, "state": state, "attempt": max(1, len(attempts)), "attempts": list(attempts), "why": "",
        "usage": None, **others,
    }  # fmt: skip


def attempt(error: str | None = None, **details: Any) -> dict[str, Any]:
    return {"error_class": error, "details": details}


def used(**others: Any) -> dict[str, Any]:
    return {"input": 74, "output": 145, "cache_read": 9, "cache_write": 4096, "cost_usd": None, **others}


def test_every_case_but_the_resumed_ones_is_played_once() -> None:
    played = [act.case for act in ACTS]
    assert sorted(played) == [name for name in names() if not name.endswith("/resume")]
    assert {act.then for act in ACTS if act.then} <= set(names())


def test_what_is_played_is_a_run_file_with_profiles_and_settings_of_its_own(tmp_path: Path) -> None:
    stage = Stage(tmp_path, speed=10.0)
    tasks = stage.run()["tasks"]
    first = tasks[0]
    assert (first["id"], first["profile"]) == ("gemini-hang", "gemini")
    assert first["watch"] == {"stream_hang_after": 12.0, "park_after": 2.0, "on_stream_hang": "stop"}
    assert len({each["account"] for each in tasks}) == len(ACTS), "one is not to suffer for another"
    settings = load_settings(stage.settings, {"HOME": str(tmp_path)}).settings
    assert settings.sources.roots == ()
    assert (settings.heartbeat.warn_after, settings.heartbeat.stale_after) == (3.0, 6.0)


def test_a_play_of_any_speed_has_settings_that_are_sound(tmp_path: Path) -> None:
    for number, speed in enumerate((1.0, 50.0)):
        (tmp_path / str(number)).mkdir()
        stage = Stage(tmp_path / str(number), speed)
        assert load_settings(stage.settings, {"HOME": str(tmp_path)}).settings.tasks.max_parallel == 12


def test_a_program_of_the_play_passes_on_what_the_daemon_gives_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, speed=100.0)
    command = [str(stage.folder / "bin" / "codex"), "exec", "codex/429", "--speed", "1000", "--then", "codex/ok", "-"]
    environ = {"HOME": str(tmp_path / "home"), "CREWD_ATTEMPT_NUMBER": "2", "PATH": os.environ["PATH"]}
    ended = subprocess.run(command, capture_output=True, env=environ, timeout=20, check=False, cwd=tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.decode().split("\n")[:-1] == [
        line.text for line in load("codex/ok").lines if line.stream == "out"
    ]
    assert list((tmp_path / "home" / ".codex" / "sessions").rglob(f"rollout-*{load('codex/ok').session}.jsonl"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pi/429", "succeeded (exit 0)"),
        ("gemini/429", "failed (exit 173): start it again"),
        ("claude/401", "at work, after 150 s"),
        ("claude/sigkill_tool", "crashed (signal 9): start it again"),
        ("gemini/hang", "hung: silent for 302 s"),
        ("pi/long", "hung: silent for 60 s"),
        ("claude/long", "succeeded (exit 0)"),
    ],
)
def test_exit_codes_and_silence_say_what_they_say_of_the_recorded_run(name: str, words: str) -> None:
    assert generic(load(name)) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"type":"result","subtype":"success","result":"Done"}', "result success Done"),
        (b'{"type":"turn.failed","error":{"message":"no key"}}', "turn.failed no key"),
        (b'{"type":"item.completed","item":{"type":"agent_message","text":"Hi"}}', "item.completed agent_message Hi"),
        (b'{"type":"tool_use","tool_name":"shell","parameters":{}}', "tool_use shell"),
        (b'{"type":"tool_use","subtype":7,"content":[1]}', "tool_use"),
        (b"Attempt 1 failed", "Attempt 1 failed"),
        (b"[1, 2]", "[1, 2]"),
        (b'{"type":', '{"type":'),
        (b"\xff", "\ufffd"),
    ],
)
def test_a_line_is_summed_up_in_few_words(line: bytes, words: str) -> None:
    assert words_of(line) == words


def test_the_last_line_is_that_of_stdout_or_else_of_stderr(tmp_path: Path) -> None:
    assert said_last(tmp_path) == ""
    (tmp_path / "stdout").write_bytes(b"")
    (tmp_path / "stderr").write_bytes(b"one\ntwo\n")
    assert said_last(tmp_path) == "two"
    (tmp_path / "stdout").write_bytes(b"three\n")
    assert said_last(tmp_path) == "three"


DID = [
    (task("a", "running"), ""),
    (task("a", "completed", attempt(rung="fresh")), ""),
    (task("a", "dead_lettered", attempt("auth_error", refusals=1)),
     "stopped it at the first refusal; did not try again"),
    (task("a", "dead_lettered", attempt("task_error", code="denied", denied=["Bash"])),
     "noticed what was denied: Bash; did not try again"),
    (task("a", "completed", attempt("rate_limited", code="parked"), attempt(rung="resume", saved_tokens=2086)),
     "parked it: its slot was free meanwhile; resumed its session, 2,086 tokens saved"),
    (task("a", "retry_wait", attempt("worker_killed", cut=["Bash"]), why="tries again in 3 s after worker_killed: x"),
     "swept up what Bash left behind; tries again in 3 s"),
    (task("a", "completed", attempt("provider_error", code="stream_hang"), attempt(rung="fresh")),
     "stopped it: its model had fallen silent"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "words"), DID)
def test_what_crewd_did_is_told_attempt_by_attempt(told: dict[str, Any], words: str) -> None:
    assert did(told) == words


@pytest.mark.parametrize(
    ("state", "attempts", "worker", "words"),
    [
        ("waiting", (), {}, "waits for its turn"),
        ("running", (), {}, "starting"),
        ("running", (), {"worker": {"level": "healthy", "tool": "Bash", "wedge": None}}, "healthy in Bash"),
        ("running", (), {"worker": {"level": "stale", "tool": "", "wedge": "disk_full"}}, "stale (disk_full)"),
        ("retry_wait", (attempt("rate_limited"),), {}, "rate_limited: waits"),
        ("dead_lettered", (attempt("auth_error"),), {}, "auth_error"),
        ("completed", (attempt(),), {}, "completed"),
    ],
)  # fmt: skip
def test_the_verdict_of_a_task_is_one_word_or_two(state: str, attempts: Any, worker: Any, words: str) -> None:
    assert verdict_of(task("a", state, *attempts), worker)[0] == words


def test_the_picture_has_a_line_for_each_task_with_what_it_used(tmp_path: Path) -> None:
    (tmp_path / "r" / "a" / "1").mkdir(parents=True)
    (tmp_path / "r" / "a" / "1" / "stdout").write_bytes(b"hello\n")
    body = {"run_id": "r", "tasks": [task("a", "completed", attempt(), usage=used(cost_usd=0.0245154))]}
    _, line = (" ".join(plain(each).split()) for each in picture(body, {}, tmp_path))
    assert line == "a completed 4,315 $0.0245 hello"


def test_a_change_is_told_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    screen = Changes()
    body = {"run_id": "r", "tasks": [task("a", "waiting"), task("b", "running")]}
    for seconds in (0.5, 1.0):
        screen.show(None, body, {}, seconds)  # type: ignore[arg-type]  # its console is not asked for
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["0.5s", "b", "starting"]]


@pytest.mark.parametrize(
    ("error", "state", "as_expected"),
    [("auth_error", "dead_lettered", True), (None, "dead_lettered", False), ("auth_error", "completed", False)],
)
def test_a_verdict_is_right_where_class_and_end_are_those_expected(
    error: str | None, state: str, as_expected: bool
) -> None:
    cases: dict[str, Case] = {"pi/401": load("pi/401")}
    body = {"tasks": [task("pi-401", state, attempt(error))]}
    (found,) = told((Act("pi/401", ends="dead_lettered"),), cases, body)
    assert (found["as_expected"], found["expected"]) == (as_expected, "auth_error, dead_lettered")
    assert found["generic"] == "succeeded (exit 0)"


def result(**others: Any) -> dict[str, Any]:
    known = {"case": "pi/429", "shows": "a rate limit, and exit 0", "generic": "succeeded (exit 0)"}
    ended = {"error_class": "rate_limited", "state": "completed", "did": "resumed its session", "expected": "x"}
    return {**known, **ended, "as_expected": True, **others}


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (0, ["agent what it was exit codes and silence say crewd says",
             "pi/429 a rate limit, and exit 0 succeeded (exit 0) rate_limited, then completed resumed its session"]),
        (100, ["agent exit codes and silence say crewd says",
               "pi/429 succeeded (exit 0) rate_limited, then completed resumed its session"]),
        (80, ["pi/429 a rate limit, and exit 0", "others succeeded (exit 0)", "crewd rate_limited, then completed",
              "resumed its session"]),
    ],
)  # fmt: skip
def test_what_others_say_and_what_crewd_says_is_both_there_however_narrow_the_terminal(
    width: int, words: list[str]
) -> None:
    lines = [plain(line) for line in summary_lines([result()], 20.0, width)]
    assert not width or max(map(len, lines)) <= width
    assert [" ".join(line.split()) for line in lines if line] == [*words, "1 of 1 verdicts as expected, in 20 s"]


def test_a_verdict_that_was_not_expected_is_told_with_the_one_that_was() -> None:
    wrong = result(as_expected=False, expected="auth_error, dead_lettered")
    for width in (0, 60):
        text = "\n".join(plain(line) for line in summary_lines([wrong], 20.0, width))
        assert "expected: auth_error, dead_lettered" in text
        assert "0 of 1 verdicts as expected" in text


def test_what_was_said_last_gives_way_on_a_narrow_terminal(tmp_path: Path) -> None:
    body = {"run_id": "r", "tasks": [task("a", "completed", attempt())]}
    heads = [plain(picture(body, {}, tmp_path, with_said=wide)[0]) for wide in (True, False)]
    assert ["said last" in head for head in heads] == [True, False]
    assert all(head.endswith("what crewd did") for head in heads)


def test_no_colour_is_shown_where_the_environment_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    screen = screen_for(silent=False, no_color=False)
    try:
        assert isinstance(screen, Table)
        assert screen.console.no_color
    finally:
        screen.close()


def test_the_demo_without_a_word_is_what_it_was() -> None:
    shown = CliRunner().invoke(demo, ["--help"])
    assert {"--seconds", "--suspend-after"} <= set(re.findall(r"--[a-z-]+", shown.output))
    assert re.search(r"agents +Play recorded runs", shown.output)


@pytest.mark.slow
@pytest.mark.real_time
def test_every_verdict_of_a_whole_play_is_the_one_expected(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CREWD_")}
    # A person's own settings must not reach the play.
    environ |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "CREWD_TASKS__MAX_PARALLEL": "nonsense"}
    command = [sys.executable, "-m", "crewd", "demo", "agents", "--speed", "30", "--json"]
    ended = subprocess.run(command, capture_output=True, env=environ, timeout=WHOLE_SECONDS, check=False)
    found = json.loads(ended.stdout)
    assert {each["case"]: each["error_class"] for each in found["cases"] if not each["as_expected"]} == {}
    assert (ended.returncode, found["ok"]) == (0, True)
    by_case = {each["case"]: each for each in found["cases"]}
    assert by_case["claude/sigkill_tool"]["resumed"]
    assert by_case["codex/sigkill_tool"]["resumed"]
    assert by_case["claude/ok_partial"]["tokens"] == 74 + 145 + 4096
    assert by_case["claude/ok_partial"]["cost_usd"] == pytest.approx(0.0245154)
    assert by_case["claude/401"]["attempts"] == 1
    assert list(tmp_path.glob("crewd-demo-*")) == []


def test_a_task_is_called_as_its_case() -> None:
    assert task_id("claude/ok_partial") == "claude-ok_partial"
