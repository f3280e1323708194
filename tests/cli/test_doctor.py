import json
import threading
import time
from pathlib import Path

import pytest

from crewd.cli import findings
from crewd.cli.findings import FAIL, OK, WARN
from tests.cli.world import crewd, daemon, write_ledger


def test_a_sound_machine_passes_and_every_line_has_a_state(tmp_path: Path) -> None:
    result = crewd("doctor", "--root", str(tmp_path), folder=tmp_path)
    assert result.exit_code == 0, result.output
    assert {line.split()[0] for line in result.stdout.splitlines()} <= {OK, WARN}


def test_doctor_changes_nothing(tmp_path: Path) -> None:
    crewd("doctor", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_broken_settings_fail_with_every_complaint(tmp_path: Path) -> None:
    result = crewd("doctor", "--json", folder=tmp_path, environ={"CREWD_NOPE": "1", "CREWD_HTTP__PORT": "x"})
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert len([each for each in told["findings"] if each["name"] == "settings" and each["state"] == FAIL]) == 2


def test_a_running_daemon_is_found(tmp_path: Path) -> None:
    write_ledger(tmp_path)
    with daemon(tmp_path) as url:
        result = crewd("doctor", "--json", "--state-dir", str(tmp_path), folder=tmp_path)
    found = [each for each in json.loads(result.stdout)["findings"] if each["name"] == "daemon"]
    assert found == [{"name": "daemon", "state": OK, "what": f"{url}, round 7, ready", "remedy": ""}]


def test_a_state_folder_that_others_may_read_is_a_warning_with_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (first, _) = findings.state_folder(folder)
    assert first.state == WARN
    assert first.remedy == f"chmod 700 {folder}"
    folder.chmod(0o700)
    assert next(findings.state_folder(folder)).state == OK


def test_a_file_in_the_place_of_the_state_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert next(findings.state_folder(tmp_path / "state")).state == FAIL


def test_roots_are_expanded_and_a_missing_one_is_a_warning(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / ".crew").mkdir(parents=True)
    found = list(findings.roots([f"{tmp_path}/*/.crew", f"{tmp_path}/three"]))
    assert [each.state for each in found] == [OK, OK, WARN]


def test_a_root_on_a_disk_that_hangs_holds_the_doctor_up_for_a_moment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let, hung = threading.Event(), f"{tmp_path}/hung"
    expanded = findings._expanded

    def slow(text: str) -> list[Path]:
        assert text != hung or let.wait(20)
        return expanded(text)

    monkeypatch.setattr(findings, "_expanded", slow)
    monkeypatch.setattr(findings, "ROOT_PATIENCE", 0.2)
    began = time.monotonic()
    bad, good = findings.roots([hung, str(tmp_path)])
    assert time.monotonic() - began < 10
    let.set()
    assert (bad.state, good.state) == (FAIL, OK) and hung in bad.what and "umount" in bad.remedy


def test_a_user_service_that_a_logout_ends_is_a_warning(tmp_path: Path) -> None:
    unit, lingers = tmp_path / "crewd.service", tmp_path / "linger"
    lingers.mkdir()
    assert list(findings.lingering(unit, "ann", lingers)) == [], "crewd is no service of hers"
    unit.write_text("")
    (found,) = findings.lingering(unit, "ann", lingers)
    assert found.state == WARN and found.remedy == "loginctl enable-linger ann"
    (lingers / "ann").write_text("")
    (found,) = findings.lingering(unit, "ann", lingers)
    assert found.state == OK


def test_secrets_in_a_file_that_others_may_read_are_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "crewd.toml"
    path.write_text('[redact]\nsecrets = ["hunter2-hunter2"]\n')
    path.chmod(0o644)
    _, found = findings.settings(path, {})
    assert [each.state for each in found] == [OK, WARN]
    path.chmod(0o600)
    _, found = findings.settings(path, {})
    assert [each.state for each in found] == [OK]
