"""The whole chain: a worker dies, and the pager rings; crewd dies, and nobody is told that all is well.

A real crewd, Prometheus and Alertmanager with the shipped rules, alerts and routes. Time runs 30 times as fast in the
rules (`for: 2m` is 4 s, `[5m]` is 10 s: `hastened` in tests/deploy/monitoring.py), and routes wait for half a second.
Not faster: CrewdDown has to fire while the alert of the worker still lives on, also on a machine that is busy.
"""

import time
from pathlib import Path

import pytest

from tests.deploy import monitoring
from tests.deploy.chain import chain
from tests.deploy.monitoring import eventually
from tests.end_to_end.running import Worker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_time,
    pytest.mark.skipif(monitoring.missing() != "", reason=monitoring.missing()),
]
WAIT = {"group_wait": "0s", "group_interval": "500ms"}


def test_a_death_is_paged_and_the_end_of_crewd_is_no_all_clear(tmp_path: Path) -> None:
    with chain(tmp_path, faster=30, interval="1s", wait=WAIT) as made:
        one, other = Worker(made.beats, "night", "one"), Worker(made.beats, "night", "other")
        try:
            # A worker dies: the pager rings once, and says what to do.
            eventually(lambda: made.crewd.level("night", "one") == "healthy", "crewd sees the worker")
            one.end()
            eventually(lambda: made.told("CrewdWorkerDead"), "CrewdWorkerDead is told")
            page = made.message("CrewdWorkerDead")
            assert page["annotations"]["runbook_url"] == "http://127.0.0.1:9464/runbooks#crewdworkerdead"
            assert (page["labels"]["severity"], page["labels"]["instance"]) == ("critical", "127.0.0.1:9464")

            # crewd dies. Nobody hears that the worker is well: CrewdDown comes first, and silences the rest of it.
            made.crewd.kill()
            eventually(lambda: made.told("CrewdDown"), "CrewdDown is told")
            # It outlived crewd until it was known that crewd is gone: so Prometheus remembers it.
            eventually(lambda: made.fired_together("CrewdWorkerDead", "CrewdDown"), "both fired at one time")
            eventually(lambda: made.states().get("CrewdWorkerDead") == "suppressed", "CrewdWorkerDead is inhibited")
            eventually(lambda: "CrewdWorkerDead" not in made.firing(), "what the dead crewd said is over")
            time.sleep(3)  # six times the interval in which Alertmanager would tell of an end
            assert made.told("CrewdWorkerDead") == [("pager", "firing")]

            # crewd is there again: that is told, and the page of the worker stays the one that it was.
            made.start_crewd()
            eventually(lambda: ("pager", "resolved") in made.told("CrewdDown"), "CrewdDown is over")
            eventually(lambda: made.states().get("CrewdWorkerDead") == "active", "the worker is dead as before")
            assert made.told("CrewdWorkerDead") == [("pager", "firing")]

            # The run ends: so does the alarm.
            for worker in (one, other):
                worker.seq += 10
                worker.beat(status="failed", pid=None)
            eventually(lambda: made.told("CrewdWorkerDead")[-1] == ("pager", "resolved"), "the all-clear")
            assert made.told("CrewdWorkerDead") == [("pager", "firing"), ("pager", "resolved")]
            assert made.told("CrewdDown") == [("pager", "firing"), ("pager", "resolved")]
        finally:
            one.end()
            other.end()
