"""Completion: what the Tab key offers, from the daemon and from the ledger, quickly and without a word."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from crewd.cli.completion import SHELLS
from crewd.cli.main import COMMANDS
from crewd.cli.man import man
from crewd.cli.suggestions import SECONDS_MAX, SOURCES, offered
from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.model.snapshot import RunView
from tests.cli.contract import Contract, letter, managed, serving, task
from tests.cli.managed_ledger import write_managed
from tests.cli.world import NOW, crewd, run, snapshot, write_ledger
from tests.cli.world import task as observed
from tests.fakes.clock import FakeClock
from tests.web.world import a_plan

PATIENCE = 10  # looks: a machine that is busy offers nothing in the first
TWO = {"subject": "r-1/build"}, {"subject": "crewd"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CREWD_") or name.endswith("_DIRECTORY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


def look(parameter: str, state: Path, incomplete: str = "", **said: Any) -> list[str]:
    for _ in range(PATIENCE):
        if found := offered(SOURCES[parameter], {"state_dir": state, **said}, incomplete):
            return found
    return []


ANSWERS: Mapping[str, Any] = {
    "GET /api/v1/runs": {"runs": [{"run_id": "r-1"}, {"run_id": "r-2"}], "next": None},
    "GET /api/v1/runs/r-1/managed": managed("running", task("build", "running"), task("test", "waiting")),
    "GET /api/v1/incidents": {"incidents": list(TWO)},
    "GET /api/v1/deadletters": {"dead_letters": [letter("managed:r-1/build/3")]},
    "GET /api/v1/recoveries": {"recoveries": [{"plan_id": "00000000000000ff"}]},
    "GET /api/v1/status": {"crews": [{"crew": "blue"}, {"crew": "red"}]},
    "GET /api/v1/circuits": {"circuits": [{"name": "anthropic"}]},
}


def test_the_manual_offers_the_commands_that_it_tells_of_and_a_worker_s_own_command_is_left_to_the_shell() -> None:
    assert look("about", Path("/nowhere"), "comp") == [name for name in COMMANDS if name.startswith("comp")]
    assert look("about", Path("/nowhere"), "comp") != []
    assert [each.name for each in man.params] == ["about", "folder"]
    assert "command" not in SOURCES, "so is called what `crewd worker` tries, which is anybody's program"


@pytest.mark.parametrize(
    ("parameter", "incomplete", "found"),
    [
        ("run", "", ["r-1", "r-2"]),
        ("run", "r-2", ["r-2"]),
        ("task", "", ["build", "test"]),
        ("task", "b", ["build"]),
        ("subject", "", ["r-1/build", "crewd"]),
        ("key", "", ["r-1/build"]),
        ("keys", "r", ["r-1/build"]),
        ("plan", "0", ["00000000000000ff"]),
        ("crew", "", ["blue", "red"]),
        ("circuit", "", ["anthropic"]),
    ],
)
def test_the_daemon_is_asked_for_names(tmp_path: Path, parameter: str, incomplete: str, found: list[str]) -> None:
    with serving(tmp_path, Contract(dict(ANSWERS))):
        assert look(parameter, tmp_path, incomplete, run="r-1") == found


def test_without_a_daemon_they_are_read_in_the_ledger(tmp_path: Path) -> None:
    write_managed(tmp_path)
    assert look("run", tmp_path) == ["r-1"]
    assert look("run", tmp_path, "r-2") == []
    assert "build" in look("task", tmp_path, run="r-1")
    assert look("keys", tmp_path) == ["r-1/build"]
    assert look("crew", tmp_path) == ["blue"]
    assert look("circuit", tmp_path)
    assert look("plan", _with_plan(tmp_path / "other")) == [a_plan().plan_id]


def _with_plan(state: Path) -> Path:
    async def write() -> None:
        ledger = Ledger.open(state, FakeClock(NOW))
        await ledger.commit(Batch(recoveries=(a_plan(),)))
        await ledger.close()

    asyncio.run(write())
    return state


def test_executors_and_channels_come_from_the_file_that_was_named(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_text('[executors.claude]\ncommand = ["claude"]\n[notifications.channels.mail]\nkind = "email"\n')
    assert look("executor", tmp_path, config_file=file) == ["claude"]
    assert look("channel", tmp_path, config_file=file) == ["mail"]
    assert look("executor", tmp_path, config_file=tmp_path / "none.toml") == []


def test_alerts_come_from_the_runbooks(tmp_path: Path) -> None:
    assert look("alert", tmp_path, "CrewdWorkerD") == ["CrewdWorkerDead"]


def test_hostile_names_are_not_offered_for_a_shell_would_act_on_them(tmp_path: Path) -> None:
    names = ["ok", "$(reboot)", "a;b", "a b", "\x1b[2J", "-rf", "`x`", "a:b", "'", "ü", "x" * 300]
    write_ledger(tmp_path, snapshot(RunView(run("r-1", *(observed(name) for name in names)), "root")))
    assert look("task", tmp_path, run="r-1") == ["ok"]


def test_whatever_fails_offers_nothing_and_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "crewd.toml").write_text("this is no TOML")
    (tmp_path / "ledger.sqlite3").write_text("this is no ledger")
    for parameter in SOURCES.keys() - {"types", "alert", "about"}:  # these come from no file of anybody's
        assert offered(SOURCES[parameter], {"state_dir": tmp_path, "run": "r-1"}, "") == []
        said = {"state_dir": tmp_path, "config_file": tmp_path / "crewd.toml", "run": "r-1"}
        assert offered(SOURCES[parameter], said, "") == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.real_time
def test_a_daemon_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    def hang(*_: Any) -> Any:
        time.sleep(1.0)
        return {"runs": [], "next": None}

    with serving(tmp_path, Contract({"GET /api/v1/runs": hang})):
        began = time.monotonic()
        assert offered(SOURCES["run"], {"state_dir": tmp_path}, "") == []
        assert SECONDS_MAX <= time.monotonic() - began < 0.9


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_script(tmp_path: Path, shell: str) -> None:
    result = crewd("completion", shell, folder=tmp_path)
    assert result.exit_code == 0
    assert f"_CREWD_COMPLETE={shell}_complete" in result.stdout
    assert crewd("completion", "tcsh", folder=tmp_path).exit_code == 2


# What a shell does when the Tab key is pressed behind these words; it prints what would be offered, one a line.
PRESS = {
    "bash": """
eval "$(crewd completion bash)"
COMP_WORDS=("$@" ""); COMP_CWORD=$#; COMP_WORDS[$#]=""
_crewd_completion crewd
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "zsh": """
compdef() { :; }
compadd() { :; }
_describe() { for each in ${(P)2:-} ${(P)3:-}; do print -r -- "${each%%:*}"; done }
functions[crewd_script]="$(crewd completion zsh)"; crewd_script
words=("$@" ""); CURRENT=$(($# + 1))
(( $+functions[_crewd_completion] )) && _crewd_completion
""",
    "fish": """
crewd completion fish | source
complete -C (string join ' ' -- $argv)' ' | string split -f1 \\t
""",
}


@pytest.mark.real_time
@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_offers_commands_options_and_runs_of_the_folder_that_was_named(
    tmp_path: Path, shell: str
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed here: its script is printed, and not tried")
    state = tmp_path / "state"
    write_ledger(state)
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "crewd").write_text(f'#!/bin/sh\nexec {sys.executable} -m crewd "$@"\n')
    (bin / "crewd").chmod(0o755)

    def press(*words: str) -> list[str]:
        end = [] if shell == "fish" else [shell]
        done = subprocess.run(
            [program, "-c", PRESS[shell], *end, "crewd", *words],
            env={"PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stderr == ""
        return [line.removeprefix("plain,") for line in done.stdout.split()]

    def until(*words: str) -> list[str]:
        for _ in range(PATIENCE):
            if found := press(*words):
                return found
        return []

    assert {"status", "why", "log-level", "deadletter"} <= set(press())
    assert {"list", "redrive"} <= set(press("deadletter"))
    assert until("show", "--state-dir", str(state)) == ["r-bad", "r-ended", "r-well"]
    assert until("explain", "--state-dir", str(state), "r-bad") == ["t1", "t2", "t3"]
