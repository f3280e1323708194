"""`crewd log-level`: shown and changed in a running daemon."""

import json
from pathlib import Path

from tests.cli.contract import Contract, serving
from tests.cli.world import crewd

GET, POST = "GET /-/log-level", "POST /-/log-level"
DONE = {"what": "crewd logs from debug on", "ids": [], "details": {"level": "debug", "configured": "info"}}


def test_it_is_shown_with_what_the_settings_say(tmp_path: Path) -> None:
    def shown(level: str, *options: str) -> str:
        with serving(tmp_path, Contract({GET: {"level": level, "configured": "info"}})):
            return crewd("log-level", *options, "--state-dir", str(tmp_path), folder=tmp_path).stdout

    assert shown("info") == "info\n"
    assert shown("debug") == "debug (the settings say info: until they are read again)\n"
    assert json.loads(shown("debug", "--json")) == {"level": "debug", "configured": "info"}


def test_it_is_changed_through_the_socket(tmp_path: Path) -> None:
    with serving(tmp_path, Contract({POST: DONE})) as contract:
        result = crewd("log-level", "debug", "--state-dir", str(tmp_path), folder=tmp_path)
    assert (result.exit_code, result.stdout) == (0, "crewd logs from debug on\n")
    assert contract.posted("/-/log-level") == [{"level": "debug"}]


def test_no_level_leaves_with_2_and_no_daemon_with_69(tmp_path: Path) -> None:
    assert crewd("log-level", "loud", "--state-dir", str(tmp_path), folder=tmp_path).exit_code == 2
    assert crewd("log-level", "--state-dir", str(tmp_path), folder=tmp_path).exit_code == 69
    result = crewd("log-level", "debug", "--state-dir", str(tmp_path), folder=tmp_path)
    assert result.exit_code == 69
    assert "`crewd serve` starts it" in result.stderr, "an error names its remedy"
