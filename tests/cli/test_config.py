import json
import tomllib
from pathlib import Path

import pytest

from crewd.config.load import load
from crewd.config.run_file.page import as_markdown
from crewd.config.run_file.schema import run_schema
from crewd.config.settings import Settings
from tests.cli.world import crewd


def test_check_says_ok_and_which_file(tmp_path: Path) -> None:
    assert crewd("config", "check", folder=tmp_path).stdout == "built-in defaults: ok\n"
    path = tmp_path / "crewd.toml"
    path.write_text("[http]\nport = 1\n")
    assert crewd("config", "check", str(path), folder=tmp_path).stdout == f"{path}: ok\n"


def test_check_tells_everything_one_line_each_and_leaves_with_78(tmp_path: Path) -> None:
    path = tmp_path / "crewd.toml"
    path.write_text("[http]\nprt = 1\n[lgo]\nlevel = 3\n")
    result = crewd("config", "check", str(path), folder=tmp_path, environ={"CREWD_NOPE": "1"})
    assert result.exit_code == 78
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 3
    as_json = crewd("config", "check", str(path), "--json", folder=tmp_path, environ={"CREWD_NOPE": "1"})
    assert as_json.exit_code == 78
    told = json.loads(as_json.stdout)
    assert told["ok"] is False
    assert {"file": str(path), "key": "lgo", "message": "is no setting", "remedy": "did you mean log?"} in told[
        "complaints"
    ]


def test_show_is_toml_that_says_the_same_again(tmp_path: Path) -> None:
    source = tmp_path / "crewd.toml"
    source.write_text('[heartbeat.overrides.x]\ntool = "a\\"b"\nhung_after = "1h"\n[sources]\nroots = ["~/a", "b"]\n')
    shown = crewd("config", "show", "--config", str(source), folder=tmp_path)
    assert shown.exit_code == 0
    again = tmp_path / "again.toml"
    again.write_text(shown.stdout)
    assert load(again, {}).settings == load(source, {}).settings
    assert tomllib.loads(shown.stdout)["http"]["port"] == 9464


def test_show_with_origin_says_where_each_value_came_from(tmp_path: Path) -> None:
    source = tmp_path / "crewd.toml"
    source.write_text("[http]\nport = 1\n")
    environ = {"CREWD_LOG__LEVEL": "debug"}
    arguments = ("config", "show", "--origin", "--config", str(source))
    lines = crewd(*arguments, folder=tmp_path, environ=environ).stdout.splitlines()
    assert any(line.startswith("port = 1 ") and line.endswith(f"# file {source}") for line in lines)
    assert any(
        line.startswith('level = "debug" ') and line.endswith("# environment CREWD_LOG__LEVEL") for line in lines
    )
    assert any(line.startswith("enabled = true ") and line.endswith("# default") for line in lines)
    told = json.loads(crewd(*arguments, "--json", folder=tmp_path, environ=environ).stdout)
    assert told["settings"]["http.port"] == 1
    assert told["settings"]["heartbeat.dead_after"] == 300.0
    assert told["origins"]["http.port"] == {"kind": "file", "where": str(source)}


def test_show_masks_secrets(tmp_path: Path) -> None:
    environ = {"CREWD_REDACT__SECRETS": "hunter2-hunter2"}
    for arguments in (("--origin",), ("--json", "--origin")):
        output = crewd("config", "show", *arguments, folder=tmp_path, environ=environ).output
        assert "hunter2" not in output
        assert "**********" in output


def test_schema_is_json_schema(tmp_path: Path) -> None:
    assert json.loads(crewd("config", "schema", folder=tmp_path).stdout) == Settings.model_json_schema()


def test_schema_of_run_files_is_json_schema_or_the_page(tmp_path: Path) -> None:
    printed = crewd("config", "schema", "--run", folder=tmp_path)
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == run_schema()
    assert crewd("config", "schema", "--run", "--format", "markdown", folder=tmp_path).stdout == as_markdown()
    refused = crewd("config", "schema", "--run", "--format", "toml", folder=tmp_path)
    assert refused.exit_code == 2
    assert "config/examples" in refused.stderr


def test_show_prints_executors_as_toml_that_says_the_same_again(tmp_path: Path) -> None:
    source = tmp_path / "crewd.toml"
    source.write_text(
        '[executors.x]\ncommand = ["a", "{model}"]\ntimeout = "1h"\nenv = { A = "1" }\n'
        "[executors.x.retry]\nmax_attempts = 5\n"
        'classes = { timeout = { retry = false }, rate_limited = { cap = "1h" } }\n'
        '[executors.x.stop]\nsteps = [{ signal = "INT", wait = "2s" }]\n[executors.x.success]\n'
        'files = ["a", { path = "b", bytes_min = 7 }]\n[executors.y]\nmode = "protocol"\n'
    )
    shown = crewd("config", "show", "--config", str(source), folder=tmp_path)
    assert shown.exit_code == 0, shown.output
    again = tmp_path / "again.toml"
    again.write_text(shown.stdout)
    assert load(again, {}).settings == load(source, {}).settings
    told = json.loads(crewd("config", "show", "--json", "--config", str(source), folder=tmp_path).stdout)
    assert told["settings"]["executors.x.stop.steps"] == [{"signal": "INT", "wait": 2.0}]


@pytest.mark.parametrize("more", [[], ["--json"], ["--origin"]])
def test_show_masks_the_variables_of_an_executor_that_are_secrets_by_their_name(
    tmp_path: Path, more: list[str]
) -> None:
    source = tmp_path / "crewd.toml"
    source.write_text('[executors.odd]\ncommand = ["true"]\nenv = { ODD_TOKEN = "canary-1234", LEVEL = "seven" }\n')
    shown = crewd("config", "show", *more, "--config", str(source), folder=tmp_path)
    assert shown.exit_code == 0
    assert "canary-1234" not in shown.stdout and "seven" in shown.stdout


def test_a_name_of_settings_that_moves_the_cursor_is_not_printed_as_it_is(tmp_path: Path) -> None:
    told = crewd("config", "check", "a\u202eb", folder=tmp_path)
    assert told.exit_code == 78 and "\u202e" not in told.output
