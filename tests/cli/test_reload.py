"""`crewd reload`: what changed, what waits for a restart, or every complaint."""

import json
from pathlib import Path

from tests.cli.contract import Contract, refusal, serving
from tests.cli.world import crewd

ROUTE = "POST /-/reload"
DONE = {
    "what": "the settings were read again",
    "ids": [],
    "details": {"changed": ["http.port", "log.level"], "need_restart": ["http.port"]},
}


def test_it_tells_what_changed_and_what_waits_for_a_restart(tmp_path: Path) -> None:
    with serving(tmp_path, Contract({ROUTE: DONE})):
        told = crewd("reload", "--state-dir", str(tmp_path), folder=tmp_path)
        assert json.loads(crewd("reload", "--json", "--state-dir", str(tmp_path), folder=tmp_path).stdout) == DONE
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout == (
        "the settings were read again\n  changed: http.port, log.level\n  waits for a restart: http.port\n"
    )


def test_settings_that_are_refused_leave_with_78_and_every_complaint(tmp_path: Path) -> None:
    details = [
        {"code": "reload_failed", "path": f"/x.toml: {key}", "message": "is no setting", "next_action": "remove it"}
        for key in ("one", "two")
    ]
    answer = 409, refusal("reload_failed", "the settings cannot be used, and the old ones stay", *details)
    with serving(tmp_path, Contract({ROUTE: answer})):
        told = crewd("reload", "--state-dir", str(tmp_path), folder=tmp_path)
    assert told.exit_code == 78
    assert told.stderr.splitlines() == [
        "crewd: the settings cannot be used, and the old ones stay",
        "  /x.toml: one: is no setting -> remove it",
        "  /x.toml: two: is no setting -> remove it",
    ]


def test_the_daemon_is_found_by_settings_that_are_refused(tmp_path: Path) -> None:
    """It must hear of them: its metric and its status are what tells everybody else."""
    state, file = tmp_path / "state", tmp_path / ".config/crewd/crewd.toml"
    for folder in (state, file.parent):
        folder.mkdir(parents=True)
    file.write_text(f'[http]\nprot = 1\n[ledger]\nfolder = "{state}"\n')
    detail = {"code": "reload_failed", "path": "x", "message": "heard by the daemon", "next_action": ""}
    with serving(state, Contract({ROUTE: (409, refusal("reload_failed", "the old ones stay", detail))})):
        told = crewd("reload", folder=tmp_path)
    assert told.exit_code == 78 and "heard by the daemon" in told.stderr


def test_no_daemon_is_69_unless_the_settings_themselves_are_what_is_wrong(tmp_path: Path) -> None:
    assert crewd("reload", "--state-dir", str(tmp_path), folder=tmp_path).exit_code == 69
    file = tmp_path / "crewd.toml"
    file.write_text("[http]\nprot = 1\n")
    told = crewd("reload", "--state-dir", str(tmp_path), folder=tmp_path, environ={"CREWD_CONFIG": str(file)})
    assert told.exit_code == 78 and "did you mean http.port" in told.stderr
