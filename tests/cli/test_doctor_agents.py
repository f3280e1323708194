"""Looking at agents: real programs that stand in for them, asked for their version and nothing else. Real time."""

import json
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from crewd.cli import agent_findings
from crewd.cli.agent_findings import Wanted, ask_version, planned, recorded, understanding, wanted_of
from crewd.cli.findings import FAIL, OK, WARN
from crewd.config.load import load
from crewd.demo.agent_cases import load as load_case
from crewd.errors import UsageProblem
from crewd.model.failure import ErrorClass
from crewd.policy.profiles import PROFILES
from tests.cli.world import crewd

AGENTS = [name for name, profile in PROFILES.items() if profile.program]


def program(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport os, subprocess, sys, time\n{text}\n")
    path.chmod(0o755)
    return path


def findings(tmp_path: Path, *arguments: str, environ: dict[str, str] | None = None) -> list[tuple[str, str, str]]:
    """What doctor says of agents: state, name, words."""
    given = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", **dict.fromkeys(CREDENTIALS, ""), **(environ or {})}
    result = crewd("doctor", "--json", *arguments, folder=tmp_path, environ=given)
    assert result.exit_code in (0, 1), result.output
    told = json.loads(result.stdout)["findings"]
    return [(each["state"], each["name"], each["what"]) for each in told if each["name"].split()[0] in AGENTS]


CREDENTIALS = {name for profile in PROFILES.values() for name in profile.signed_in_by}
SAYS_VERSION = 'print("codex-cli 0.169.0" if sys.argv[1:] == ["--version"] else "?")'


@pytest.mark.real_time
def test_an_agent_that_is_there_known_and_logged_in_is_well(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "codex", SAYS_VERSION)
    found = findings(tmp_path, "--agent", "codex", environ={"CODEX_API_KEY": "hunter2-hunter2"})
    assert found[:3] == [
        (OK, "codex", str(path)),
        (OK, "codex", "version 0.169.0, with which crewd was tried"),
        (OK, "codex", "logged in by CODEX_API_KEY"),
    ]
    assert "understood as they were" in found[3][2]
    assert len(found) == 4
    assert "hunter2" not in str(found)


@pytest.mark.real_time
def test_another_version_is_a_warning_that_says_what_follows(tmp_path: Path) -> None:
    program(tmp_path / "bin", "claude", 'print("9.0.1 (Claude Code)")')
    result = crewd("doctor", "--agent", "claude", folder=tmp_path, environ={"PATH": f"{tmp_path}/bin"})
    line = next(line for line in result.stdout.splitlines() if "9.0.1" in line)
    assert line.startswith("warn  claude")
    assert "version 9.0.1; crewd was tried with 2.1.329; if its output is no longer understood" in line


@pytest.mark.real_time
def test_a_program_that_is_not_there_fails_and_nothing_is_run(tmp_path: Path) -> None:
    found = findings(tmp_path, "--agent", "pi", "--agent", "gemini")
    assert [each for each in found if each[0] == FAIL] == [
        (FAIL, "pi", "the program pi was not found, or may not be executed"),
        (FAIL, "gemini", "the program gemini was not found, or may not be executed"),
    ]


@pytest.mark.real_time
def test_a_program_that_says_no_version_is_a_warning_with_what_to_run(tmp_path: Path) -> None:
    program(tmp_path / "bin", "pi", "sys.exit(3)")
    assert (WARN, "pi", "told no version: it ended with 3") in findings(tmp_path, "--agent", "pi")


@pytest.mark.real_time
def test_a_program_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    text = f'child = subprocess.Popen(["sleep", "60"])\nopen("{note}", "w").write(f"{{os.getpid()}} {{child.pid}}")\n'
    path = program(tmp_path / "bin", "pi", text + "time.sleep(60)")
    began = time.monotonic()
    said, trouble = ask_version((str(path), "--version"), {"PATH": os.defpath}, seconds=1.0)
    assert (said, trouble) == ("", "1 s were not enough")
    assert time.monotonic() - began < 20
    for pid in note.read_text().split():
        until = time.monotonic() + 5
        while is_running(int(pid)) and time.monotonic() < until:
            time.sleep(0.01)
        assert not is_running(int(pid))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.real_time
def test_a_program_that_never_stops_talking_is_heard_for_as_long_as_a_version_needs(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "pi", 'while True: sys.stdout.write("x" * 65536)')
    said, _ = ask_version((str(path), "--version"), {}, seconds=30.0)
    assert len(said) == agent_findings.VERSION_BYTES


@pytest.mark.real_time
def test_a_program_is_asked_in_an_empty_folder_that_is_gone_afterwards_and_keeps_its_notes_there(
    tmp_path: Path,
) -> None:
    text = 'print(os.getcwd(), os.environ["GEMINI_CLI_HOME"], os.listdir(), sys.stdin.read() == "")'
    path = program(tmp_path / "bin", "gemini", text)
    said, _ = ask_version((str(path),), {"PATH": os.defpath}, ("GEMINI_CLI_HOME",))
    folder, moved, *rest = said.split()
    assert (folder, rest) == (moved, ["[]", "True"])
    assert not Path(folder).exists()


@pytest.mark.real_time
def test_what_cannot_be_started_is_told() -> None:
    assert ask_version(("/dev/null", "--version"), {}) == ("", "it cannot be started: Permission denied")


# Whether somebody is logged in.


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.real_time
def test_nobody_logged_in_is_a_warning_and_each_file_of_a_login_is_enough(tmp_path: Path, name: str) -> None:
    profile = PROFILES[name]
    environ = {each[1:].partition("/")[0]: f"{tmp_path}/moved" for each in profile.login_files if each[0] == "$"}

    def login(env: dict[str, str]) -> tuple[str, str]:
        found = findings(tmp_path, "--agent", name, environ={**dict.fromkeys(environ, ""), **env})
        return next((state, what) for state, _, what in found if "logged in" in what)

    assert login({})[0] == WARN
    for file in profile.login_files:
        first, _, rest = file.partition("/")
        moved = first[1:] if first[0] == "$" else ""
        path = tmp_path / "moved" / rest if moved else tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        env = {moved: environ[moved]} if moved else {}
        path.write_text("{}")
        assert login(env)[0] == WARN, "an empty one is no login"
        path.write_text('{"token": "hunter2"}')
        assert login(env) == (OK, f"logged in by {path}")
        path.unlink()


SETTINGS = """
[executors.writer]
profile = "codex"
command = ["{bin}/my-codex", "exec", "-s", "read-only", "{{model}}"]
secrets = {{ CODEX_API_KEY = "openai" }}
env = {{ PATH = "/nowhere" }}
[executors.shell]
command = ["sh"]
[executors.hidden]
profile = "pi"
command = ["sh", "-c", "pi"]
"""


@pytest.mark.real_time
def test_an_executor_is_looked_at_with_its_own_command_and_credentials(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "my-codex", SAYS_VERSION)
    config = tmp_path / "crewd.toml"
    config.write_text(SETTINGS.format(bin=tmp_path / "bin"))
    arguments = ("--executor", "writer", "--agent", "codex", "--config", str(config))
    environ = {"CREWD_SECRETS__FOLDER": str(tmp_path / "credentials"), "CODEX_API_KEY": "crewd's own"}
    first, second, third, _ = findings(tmp_path, *arguments, environ=environ)
    assert first == (OK, "codex (writer)", str(path))
    assert second == (OK, "codex (writer)", "version 0.169.0, with which crewd was tried")
    file = tmp_path / "credentials/openai"
    assert third[0] == FAIL
    assert f"{file} cannot be read, or is empty" in third[2]
    file.parent.mkdir()
    file.write_text("hunter2")
    found = findings(tmp_path, *arguments, environ=environ)
    assert found[2] == (OK, "codex (writer)", "logged in by CODEX_API_KEY, from the credential openai")
    without = findings(tmp_path, *arguments, environ={"CREDENTIALS_DIRECTORY": ""})
    assert "there is no credentials folder" in without[2][2]


def test_an_executor_that_cannot_be_planned_is_told_with_the_remedy(tmp_path: Path) -> None:
    config = tmp_path / "crewd.toml"
    config.write_text(SETTINGS.format(bin="/bin"))
    found = findings(tmp_path, "--executor", "hidden", "--config", str(config))
    assert found == [(FAIL, "pi (hidden)", "a text for 'sh' hides the program of profile pi")]


@pytest.mark.parametrize(
    ("agents", "executors", "words"),
    [
        ((), ("nobody",), "no executor is called 'nobody'"),
        ((), ("shell",), "executor shell is no agent's"),
        (("claude",), ("writer",), "executor writer is of profile codex, and not of claude"),
        (("codex", "pi"), ("writer",), "none of the executors writer is of profile pi"),
    ],
)
def test_an_executor_that_cannot_be_meant_is_refused(
    tmp_path: Path, agents: tuple[str, ...], executors: tuple[str, ...], words: str
) -> None:
    config = tmp_path / "crewd.toml"
    config.write_text(SETTINGS.format(bin="/bin"))
    with pytest.raises(UsageProblem, match=words):
        wanted_of(agents, executors, load(config, {}).settings)


def test_an_executor_without_usable_settings_is_refused(tmp_path: Path) -> None:
    result = crewd("doctor", "--executor", "x", folder=tmp_path, environ={"CREWD_NOPE": "1"})
    assert result.exit_code == 2
    assert "crewd config check" in result.stderr


def test_an_agent_named_twice_is_looked_at_once() -> None:
    assert wanted_of(("pi", "codex", "pi"), (), None) == [Wanted("pi"), Wanted("codex")]


@pytest.mark.parametrize("name", AGENTS)
def test_without_settings_an_agent_is_planned_as_a_task_that_names_no_executor(name: str) -> None:
    asked = planned(Wanted(name), None, {"PATH": "/x", "HOME": "/h", "OTHER": "o"})
    assert asked.command[0] == name
    assert asked.env == {"PATH": "/x", "HOME": "/h", **PROFILES[name].env}


# Recorded runs.


@pytest.mark.parametrize("name", AGENTS)
def test_recorded_runs_of_every_agent_are_understood(name: str) -> None:
    cases = recorded(PROFILES[name])
    assert len(cases) >= 3
    assert understanding(PROFILES[name], cases, name).state == OK


def test_what_is_misread_fails_and_is_named() -> None:
    case = load_case("codex/ok")
    mute = [msgspec.structs.replace(line, text=line.text.replace('"type"', '"kind"')) for line in case.lines]
    changed = msgspec.structs.replace(case, lines=tuple(mute))
    found = understanding(PROFILES["codex"], [case, changed], "codex")
    assert found.state == FAIL
    assert "codex/ok: session none instead of" in found.what
    assert "codex/ok: usage" in found.what
    failed = msgspec.structs.replace(case, expected_class=ErrorClass.AUTH_ERROR)
    assert "success instead of auth_error" in understanding(PROFILES["codex"], [failed], "codex").what


def test_without_recorded_runs_nothing_is_claimed() -> None:
    assert understanding(PROFILES["codex"], [], "codex").state == WARN


def test_doctor_without_agents_looks_at_none(tmp_path: Path) -> None:
    assert findings(tmp_path) == []
