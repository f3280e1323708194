"""The system unit, the user unit and `crewd install` under a real systemd: one boot; probe.py is the operator.

`CREWD_KEEP_BOOT=FOLDER` keeps what was found there.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.systemd.booting import UID, Boot, boot, why_not

pytestmark = [
    pytest.mark.systemd,
    pytest.mark.slow,
    pytest.mark.real_time,
    pytest.mark.xdist_group("systemd"),
    pytest.mark.skipif(why_not() != "", reason=why_not() or "-"),
]
SCORE_MAX, WATCHING_SCORE_MAX = 4.5, 1.5  # of `systemd-analyze security`; docs/systemd.md names them


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boot]:
    found = boot(tmp_path_factory.mktemp("boot"))
    if keep := os.environ.get("CREWD_KEEP_BOOT"):
        (Path(keep) / "found.json").write_text(json.dumps(found.found, indent=1))
    print(f"booted and probed in {found.seconds:.0f} s")
    yield found


def score(line: str) -> float:
    found = re.search(r": (\d+\.\d+) ", line)
    assert found is not None, line
    return float(found[1])


def test_installing_is_refused_to_strangers_and_for_accounts_that_are_not_there(booted: Boot) -> None:
    told = booted["installed"]
    assert told["stranger"][0] == 77 and "sudo /usr/local/bin/crewd install --system" in told["stranger"][1]
    assert told["unknown"][0] == 77 and "no such account" in told["unknown"][1]
    assert told["dry"][0] == 0 and told["untouched"], "a dry run changes nothing"


def test_the_unit_is_installed_with_the_path_of_this_crewd(booted: Boot) -> None:
    told = booted["installed"]
    assert told["done"][0] == 0, told["done"][1]
    assert json.loads(told["done"][1])["next"][0] == "systemctl enable --now crewd@ann"
    assert "ExecStart=/usr/local/bin/crewd serve\n" in told["text"]
    assert ("DelegateSubgroup=" in told["text"]) is (int(told["version"].split()[1]) >= 254)
    assert told["config"]
    assert told["again"][0] == 0 and told["again"][1].count("kept:") == 3, "a second time changes nothing"


def test_it_is_ready_with_a_status_in_words_and_folders_of_its_own(booted: Boot) -> None:
    told = booted["ready"]
    assert told["started"] == [0, ""]
    assert told["status"] == "0 runs, 0 workers; on hold: crewd has just started"
    assert told["shown"]["SubState"] == "running" and told["shown"]["NRestarts"] == "0"
    assert told["folders"] == [True, True, True] and (told["owner"], told["mode"]) == (UID, "0o700")


def test_a_credential_is_a_setting(booted: Boot) -> None:
    assert booted["credentials"] | {"took": 0} == {"without": 403, "wrong": 401, "right": 200, "took": 0}


def test_agents_can_do_what_they_do(booted: Boot) -> None:
    """Memory that is written and run, a sandbox with its own /proc, home, /tmp; no core dump unless they ask."""
    told = booted["agents"]
    wanted = ["jit", "sandbox", "proc", "home", "0", "unlimited", "system"]
    if told["outside"] != 0:
        wanted.remove("proc")  # not even outside of the unit
    assert told["waited"] == 0, told["errors"]
    assert told["said"] == wanted, told["errors"]


def test_a_reload_that_is_refused_is_told_everywhere_and_goes_on_being_told(booted: Boot) -> None:
    told = booted["reload"]
    assert told["good"] == [0, ""]
    assert told["by_hand"][0] == 0 and "changed: heartbeat.warn_after, metrics.max_crews" in told["by_hand"][1]
    assert told["bad"][0] == 1, "systemctl reload reports it"
    for status in (told["refused"], told["later"]):
        assert status.startswith("reload refused, the old settings stay: /etc/crewd/crewd.toml: heartbeat.")
        assert "(and 1 more complaint); 1 run, 0 workers" in status
    assert told["bad_by_hand"][0] == 78
    assert "heartbeat.warn_afer: is no setting" in told["bad_by_hand"][1]
    assert "heartbeat.stale_after: 'soon' is not a duration" in told["bad_by_hand"][1]
    assert told["metric"] == ["0.0"]
    assert told["shown"] == {"ActiveState": "active", "SubState": "running", "NRestarts": "0"}
    assert told["after"] == {"ActiveState": "active", "SubState": "running"}, "after SIGHUP with good settings"


def test_a_long_interval_widens_the_watchdog(booted: Boot) -> None:
    told = booted["widened"]
    assert told["told"] == {"NRestarts": "0", "ActiveState": "active"} and told["same"]
    assert (told["wide"], told["back"]) == ("16s", "6s"), "three rounds and patrol.look_timeout; and as the unit says"


def test_the_journal_knows_how_bad_each_line_is(booted: Boot) -> None:
    told = booted["journal"]
    assert any('"event":"daemon.reload_failed"' in line for line in told["warnings"])
    assert not any('"event":"daemon.reloaded"' in line for line in told["warnings"])
    pairs = {tuple(pair) for pair in told["pairs"]}
    assert {("3", "error"), ("6", "info")} <= pairs <= {("3", "error"), ("4", "warning"), ("6", "info")}


def test_a_crewd_that_hangs_is_ended_and_the_next_one_takes_its_worker_over(booted: Boot) -> None:
    told = booted["watchdog"]
    assert told["watchdog"] and told["told"] == {"NRestarts": "1", "ActiveState": "active"}
    assert told["alive"] and told["adopted"]


def test_a_handover_and_a_restart_keep_the_worker_and_every_line_of_it(booted: Boot) -> None:
    told = booted["handover"]
    assert told["done"][0] == 0
    assert told["between"] == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert told["at_once"] == [0, ""]
    assert told["alive"] and told["same"] and told["another"]
    assert told["waited"] == 0 and told["whole"], told["last"]
    assert told["lines"] > 40, "it counted through all of it"


def test_a_stop_waits_ends_everybody_and_leaves_nothing(booted: Boot) -> None:
    told = booted["stop"]
    assert told["stopped"] == [0, ""]
    assert told["left"] == [] and told["group"]["inside"] == []
    assert told["group"]["Result"] == "success" and told["group"]["ExecMainStatus"] == "0"
    assert told["whole"].startswith("whole"), "who could end within tasks.drain_timeout did"
    assert "crewd stopped" in told["stubborn"], "and who could not is tried again"
    assert 2.0 < told["seconds"] < 20


def test_each_attempt_has_a_control_group_of_its_own(booted: Boot) -> None:
    places = booted["stop"]["places"]
    if not all("/crewd@ann.service" in place for place in places):
        pytest.skip(f"no control groups of version 2 here: {places}")
    assert places and all("/crewd@ann.service/crewd-" in place for place in places)


def test_bad_settings_end_it_once(booted: Boot) -> None:
    told = booted["bad_configuration"]
    assert told["started"][0] == 1 and told["complaint"]
    assert told["told"] == {
        "NRestarts": "0", "ActiveState": "failed", "ExecMainStatus": "78", "Result": "exit-code",
    }  # fmt: skip


def test_a_crewd_that_only_watches_can_be_shut_in(booted: Boot) -> None:
    told = booted["watching"]
    assert told["started"] == [0, ""] and told["told"]["ActiveState"] == "active"
    assert told["uid"] > 60_000, "an account that systemd made"
    assert told["process"], "metrics of the process need /proc/stat"
    assert told["in_use"][0] == 0 and "disable --now crewd@watcher" in told["in_use"][1], "the unit is theirs too"
    assert told["warnings"] == "" and told["reload"] == [0, ""] and told["stopped"] == [0, ""]


def test_the_scores_are_as_the_page_says(booted: Boot) -> None:
    scores = score(booted["installed"]["score"]), score(booted["watching"]["score"])
    assert scores[0] <= SCORE_MAX and scores[1] <= WATCHING_SCORE_MAX
    page = (Path(__file__).parents[3] / "docs/systemd.md").read_text()
    if int(booted["installed"]["version"].split()[1]) == 252:
        assert all(f"| {each} |" in page for each in scores), scores


def test_a_person_installs_a_service_of_their_own(booted: Boot) -> None:
    told = booted["user"]
    assert told["no_manager"][0] == 77 and "loginctl enable-linger ann" in told["no_manager"][1]
    assert told["elsewhere"][0] == 77 and "does not look there" in told["elsewhere"][1]
    assert told["dry"][0] == 0 and "would be written: /home/ann/.config/systemd/user/crewd.service" in told["dry"][1]
    assert told["done"][0] == 0 and told["made"], told["done"][1]
    assert told["started"][0] == 0 and told["told"]["ActiveState"] == "active"
    assert told["asked"][0] == 0 and told["asked"][1].startswith("crewd ready"), "commands find it without options"
    assert told["bad"][0] == 1 and told["refused"].startswith("reload refused")
    assert told["good"] == [0, ""]


def test_a_unit_that_somebody_changed_stays_and_removing_leaves_settings_and_ledger(booted: Boot) -> None:
    told = booted["user"]
    assert told["changed"][0] == 77 and "was changed by hand" in told["changed"][1]
    assert told["over"][0] == 0 and "crewd handover && systemctl --user restart crewd " in told["over"][1]
    assert told["removed"][0] == 0 and told["after"] == {"ActiveState": "inactive", "LoadState": "not-found"}
    assert told["left"] == [True, False, True]
    assert booted["removed"]["removed"][0] == 0 and booted["removed"]["left"] == [False, True, True]
