import json
import tomllib
from pathlib import Path

from crewd.config.load import load
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
