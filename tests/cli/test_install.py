"""`crewd install`, as far as it goes without a systemd; tests/deploy/systemd boots one.

Nothing here may install anything: what is not a dry run meets an obstacle.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from crewd.cli import unit
from crewd.host import assets
from tests.cli.world import crewd

SHIPPED = assets.asset("systemd/crewd.service").read_text()


def test_the_unit_starts_this_crewd_and_says_who_wrote_it() -> None:
    text = unit.fitted(SHIPPED, ["/opt/my crewd/bin/crewd"], 257, "--user edit crewd")
    assert '\nExecStart="/opt/my crewd/bin/crewd" serve\nExecReload="/opt/my crewd/bin/crewd" reload\n' in text
    assert unit.COMMAND not in text and "systemctl --user edit crewd\n" in text.splitlines(keepends=True)[0]
    assert unit.is_ours(text) and not unit.is_changed(text)
    for other in (text + "# mine\n", text.replace("WatchdogSec=60", "WatchdogSec=0")):
        assert unit.is_changed(other) and not unit.is_ours(other)
    assert not unit.is_ours(SHIPPED) and not unit.is_changed(SHIPPED)


@pytest.mark.parametrize(("version", "there"), [(252, False), (253, False), (254, True), (0, True)])
def test_a_line_that_this_systemd_does_not_know_is_left_out(version: int, there: bool) -> None:
    text = unit.fitted(SHIPPED, ["/usr/bin/crewd"], version, "edit crewd")
    assert ("DelegateSubgroup=daemon" in text) is there
    assert ("second line" in text) is there


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/usr/bin/crewd"], "/usr/bin/crewd"),
        (["/a/python3", "-m", "crewd"], "/a/python3 -m crewd"),
        (["/100%/crewd"], '"/100%%/crewd"'),
        (["/a $x/crewd", "$x"], '"/a $x/crewd" "$$x"'),
        (['/a "b"\\c'], '"/a \\"b\\"\\\\c"'),
        (["/é/crewd"], '"/é/crewd"'),
    ],
)
def test_a_command_is_written_as_systemd_reads_it(command: list[str], words: str) -> None:
    assert unit.quoted(command) == words


def test_a_path_that_no_unit_can_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no unit can name"):
        unit.quoted(["/a\nb/crewd"])


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing: apt-get install systemd"
)
@pytest.mark.parametrize("name", ["crewd.service", "crewd@.service"])
def test_systemd_finds_nothing_wrong_with_the_units_and_their_drop_ins(name: str, tmp_path: Path) -> None:
    program = tmp_path / "my crewd 100%"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / name
    version = int(subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout.split()[1])
    path.write_text(unit.fitted(assets.asset(f"systemd/{name}").read_text(), [str(program)], version, "edit crewd"))
    if "@" in name:
        folder = tmp_path / f"{name}.d"
        folder.mkdir()
        for drop_in in sorted((assets.root() / "systemd/drop-ins").glob("*.conf")):
            shutil.copy(drop_in, folder)
    command = ["systemd-analyze", "verify", "--man=no", *([] if "@" in name else ["--user"]), str(path)]
    environ = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    told = [line for line in done.stderr.splitlines() if name in line or ".conf" in line]
    assert (done.returncode, told) == (0, [])


def test_a_dry_run_shows_everything_and_does_nothing(tmp_path: Path) -> None:
    told = crewd("install", "--user", "--dry-run", folder=tmp_path)
    assert told.exit_code == 0, told.stderr
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / ".config/systemd/user/crewd.service"
    for words in (
        f"would be written: {path}",
        "    ExecStart=",
        f"would be written: {tmp_path}/.config/crewd/crewd.toml",
        "would run: systemctl --user daemon-reload",
        "systemctl --user enable --now crewd",
        "loginctl enable-linger ",
        "if refused: sudo loginctl enable-linger ",
        "journalctl --user -u crewd -f",
    ):
        assert words in told.stdout, words
    laid_out = json.loads(crewd("install", "--user", "--dry-run", "--json", folder=tmp_path).stdout)
    assert (laid_out["dry_run"], laid_out["unit"], laid_out["scope"]) == (True, str(path), "user")
    assert unit.is_ours(laid_out["text"])


def test_the_settings_of_the_machine_are_never_given_to_an_account() -> None:
    # systemd 252 gives the folder of ConfigurationDirectory= to User=, who could then speak for everybody's crewd.
    lines = assets.asset("systemd/crewd@.service").read_text().splitlines()
    assert "Environment=CONFIGURATION_DIRECTORY=/etc/crewd" in lines
    assert not any(line.startswith("ConfigurationDirectory") for line in lines)


def test_settings_that_are_there_are_kept(tmp_path: Path) -> None:
    config = tmp_path / ".config/crewd/crewd.toml"
    config.parent.mkdir(parents=True)
    config.write_text("# mine\n")
    told = crewd("install", "--user", "--dry-run", "--json", folder=tmp_path)
    assert json.loads(told.stdout)["kept"] == [str(config)]


def test_a_unit_that_somebody_else_wrote_stays_and_every_obstacle_is_told(tmp_path: Path) -> None:
    path = tmp_path / ".config/systemd/user/crewd.service"
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/bin/true\n")
    for arguments, words in (((), "move it away"), (("--remove",), "remove it by hand")):
        told = crewd("install", "--user", *arguments, folder=tmp_path)
        assert told.exit_code == 77
        assert f"{path}: was not written by" in told.stderr and words in told.stderr
    path.write_text(unit.fitted(SHIPPED, ["/usr/bin/crewd"], 252, "edit crewd") + "\n[Install]\n")
    told = crewd("install", "--user", folder=tmp_path)
    assert told.exit_code == 77 and "was changed by hand" in told.stderr
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == ["crewd.service"]


def test_removing_what_is_not_there_is_refused(tmp_path: Path) -> None:
    told = crewd("install", "--user", "--remove", "--dry-run", folder=tmp_path)
    assert told.exit_code == 77 and "is not there" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--user for yourself, --system"),
        (("--user", "--user-name", "ann"), "--user-name goes with --system"),
        (("--system",), "--user-name NAME"),
        (("--system", "--user-name", "a b"), "cannot be the name of an account"),
        (("--system", "--user-name", "../x"), "cannot be the name of an account"),
    ],
)
def test_a_command_line_that_makes_no_sense_says_what_would(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    told = crewd("install", *arguments, folder=tmp_path, environ={"SUDO_USER": ""})
    assert told.exit_code == 2 and words in told.stderr
