"""Against the real Alertmanager of Prometheus: what crewd opens is active there, and ends when it ends."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.monitoring import ask, free_port
from tests.end_to_end.running import Worker, crewd, eventually

PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_time,
    pytest.mark.skipif(PROGRAM is None, reason="prometheus-alertmanager is not installed"),
]
LABELS = 'labels = ["job=crewd", "instance=127.0.0.1:9464"]'
CONFIG = "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n"


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """One of our own, with its storage in `folder`; gives its address."""
    (folder / "alertmanager.yml").write_text(CONFIG)
    assert PROGRAM is not None
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        PROGRAM,
        f"--config.file={folder}/alertmanager.yml",
        f"--storage.path={folder}/storage",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
    ]
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: ask(f"{url}/-/ready") is not None, process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def test_an_incident_is_an_active_alert_until_it_is_resolved(tmp_path: Path) -> None:
    beats, root = tmp_path / "beats", tmp_path / "project"
    beats.mkdir()
    root.mkdir()
    worker = Worker(beats, "night", "one")
    with alertmanager(tmp_path) as url:
        settings = tmp_path / "crewd.toml"
        settings.write_text(f'[notifications.channels.alerts]\nurl = "{url}"\nformat = "alertmanager"\n{LABELS}\n')

        def alerts() -> list[dict[str, Any]]:
            return [each for each in ask(f"{url}/api/v2/alerts") or () if each["labels"].get("task") == "one"]

        try:
            options = ["--beat-root", str(beats), "--config", str(settings)]
            with crewd(tmp_path / "state", root, *options) as daemon:
                daemon.wait_ready()
                eventually(lambda: daemon.level("night", "one") != "", daemon.process)
                worker.end()
                eventually(lambda: len(alerts()) == 1, daemon.process)
                [alert] = alerts()
                assert alert["status"]["state"] in ("active", "unprocessed")
                labels = alert["labels"]
                assert (labels["alertname"], labels["severity"], labels["run"]) == ("crewd_dead", "critical", "night")
                assert (labels["job"], labels["instance"]) == ("crewd", "127.0.0.1:9464")
                assert "one is dead" in alert["annotations"]["description"]
                if amtool := shutil.which("amtool"):
                    told = subprocess.run(
                        [amtool, f"--alertmanager.url={url}", "alert", "query", "alertname=crewd_dead", "-o", "json"],
                        capture_output=True,
                        text=True,
                        timeout=30,
                        check=True,
                        env={"HOME": str(tmp_path)},
                    )
                    assert [each["labels"]["task"] for each in json.loads(told.stdout)] == ["one"]
                worker.seq += 10
                worker.beat(status="failed", pid=None)
                eventually(lambda: alerts() == [], daemon.process)
        finally:
            worker.end()
