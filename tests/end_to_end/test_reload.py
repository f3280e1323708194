"""A real crewd is asked to read its settings again, and the service manager hears of it in the right order."""

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.end_to_end.managed import ask
from tests.end_to_end.running import PATIENCE, crewd

pytestmark = [pytest.mark.slow, pytest.mark.real_time]


def test_a_reload_that_is_refused_stays_in_the_status_until_one_succeeds(tmp_path: Path) -> None:
    config, address, root = tmp_path / "crewd.toml", tmp_path / "notify", tmp_path / "root"
    root.mkdir()
    config.write_text("")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(30)
        heard: list[str] = []

        def hear(*wanted: str) -> list[str]:
            """Hear on until each of these has been said, one after the other; returns what was said meanwhile."""
            since = len(heard)
            for each in wanted:
                deadline = time.monotonic() + PATIENCE
                while True:
                    assert time.monotonic() < deadline, f"not heard: {each!r}"
                    heard.append(manager.recv(4096).decode())
                    if each in heard[-1]:
                        break
            return heard[since:]

        told = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "2000000"}
        with crewd(tmp_path / "state", root, "--config", str(config), **told) as daemon:
            start = hear("STATUS=starting: opens the ledger", "EXTEND_TIMEOUT_USEC=", "READY=1")
            assert any("STATUS=starting: looks at every run" in line for line in start)
            assert sum("EXTEND_TIMEOUT_USEC=" in line for line in start) == 2, "for the ledger, and for what follows"
            # Three rounds of a second, and a root that does not answer for look_timeout: the unit allowed less.
            hear("WATCHDOG_USEC=33000000")
            config.write_text(
                '[metrics]\nmax_crews = 7\n[heartbeat]\nstale_after = "5s"\n[patrol]\ninterval = "2s"\n'
            )
            daemon.process.send_signal(signal.SIGHUP)
            hear("RELOADING=1\nMONOTONIC_USEC=", "STATUS=", "READY=1")
            config.write_text('[metrics]\nmax_crews = 7\n[log]\nlevel = "debug"\n')
            _, answer = ask(daemon, "POST", "/-/reload", {})
            assert answer["details"] == {
                "changed": ["log.level"],
                "need_restart": ["metrics.max_crews"],  # of the reload before: it waits still
            }
            hear("RELOADING=1", "READY=1")
            config.write_text('[patrol]\nintervall = "2s"\n[nope]\n')
            status, answer = ask(daemon, "POST", "/-/reload", {})
            assert status == 409
            places = {each["path"] for each in answer["error"]["details"]}
            assert places == {f"{config}: patrol.intervall", f"{config}: nope"}
            hear("RELOADING=1", "STATUS=reload refused, the old settings stay", "READY=1")
            # Rounds go on, and go on saying so.
            assert "STATUS=reload refused" in hear("WATCHDOG=1", "WATCHDOG=1")[-2]
            config.write_text("[log]\n")
            status, answer = ask(daemon, "POST", "/-/reload", {})
            assert (status, answer["details"]["need_restart"]) == (200, [])
            hear("RELOADING=1", "STATUS=0 runs", "READY=1")
