from pathlib import Path

import pytest

from crewd.config.folders import ConfigPlace, config_place, is_configured, logs_folder, state_folder


def test_the_state_folder_is_systemds_else_the_persons_own() -> None:
    environ = {"HOME": "/home/x"}
    assert state_folder(environ) == Path("/home/x/.local/state/crewd")
    environ["XDG_STATE_HOME"] = "/s"
    assert state_folder(environ) == Path("/s/crewd")
    environ["XDG_STATE_HOME"] = "relative"
    assert state_folder(environ) == Path("/home/x/.local/state/crewd")
    environ["STATE_DIRECTORY"] = "/var/lib/crewd:/var/lib/other"
    assert state_folder(environ) == Path("/var/lib/crewd")
    assert state_folder(environ, "/elsewhere") == Path("/elsewhere")


def test_the_logs_folder_is_systemds_else_in_the_state_folder() -> None:
    assert logs_folder({}, Path("/s")) == Path("/s/logs")
    assert logs_folder({"LOGS_DIRECTORY": "/var/log/crewd"}, Path("/s")) == Path("/var/log/crewd")
    assert logs_folder({"LOGS_DIRECTORY": "/var/log/crewd"}, Path("/s"), "/mine") == Path("/mine")


def test_the_configuration_file_is_looked_for_in_order(tmp_path: Path) -> None:
    home, system = tmp_path / "home", tmp_path / "etc"
    own = home / ".config/crewd/crewd.toml"
    own.parent.mkdir(parents=True)
    system.mkdir()
    environ = {"HOME": str(home)}
    assert config_place(environ) == ConfigPlace(None)
    own.write_text("")
    assert config_place(environ) == ConfigPlace(own)
    environ["CONFIGURATION_DIRECTORY"] = str(system)
    assert config_place(environ) == ConfigPlace(own), "systemd names the folder whether or not it holds a file"
    (system / "crewd.toml").write_text("")
    assert config_place(environ) == ConfigPlace(system / "crewd.toml")
    environ["CREWD_CONFIG"] = "/named"
    assert config_place(environ) == ConfigPlace(Path("/named"), demanded=True)
    assert config_place(environ, Path("/option")) == ConfigPlace(Path("/option"), demanded=True)


@pytest.mark.parametrize(
    ("variables", "configured"),
    [
        ({}, False),
        ({"CREWD_STATE_DIR": "/x", "CREWD_RUN": "r", "PATH": "/bin"}, False),
        ({"CREWD_HTTP__PORT": "1"}, True),
        ({"crewd_http__port": "1"}, True),
        ({"CREWD_CONFIG": "/missing"}, True),
        ({"CREDENTIALS_DIRECTORY": "/run/credentials/x"}, True),
    ],
)
def test_nothing_is_configured_unless_a_place_of_settings_is_there(
    tmp_path: Path, variables: dict[str, str], configured: bool
) -> None:
    assert is_configured({"HOME": str(tmp_path), **variables}) is configured


def test_a_file_of_ones_own_configures(tmp_path: Path) -> None:
    path = tmp_path / ".config/crewd/crewd.toml"
    path.parent.mkdir(parents=True)
    path.touch()
    assert is_configured({"HOME": str(tmp_path)})


def test_a_folder_that_may_not_be_entered_is_no_reason_to_pass_over_its_settings(tmp_path: Path) -> None:
    # A loop of links fails for everybody, root included, as a folder without the right to enter fails for others.
    (tmp_path / "crewd.toml").symlink_to(tmp_path / "crewd.toml")
    assert config_place({"CONFIGURATION_DIRECTORY": str(tmp_path)}) == ConfigPlace(tmp_path / "crewd.toml")
