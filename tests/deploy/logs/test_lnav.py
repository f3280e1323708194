"""The formats for lnav, asked by a real lnav over day files and log lines that crewd's own code wrote."""

import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import structlog

from crewd.host.assets import asset
from crewd.model.catalogue import EVENTS
from crewd.model.event import Event
from crewd.telemetry import logs
from tests.telemetry.sinks.tailing import MIDNIGHT, World
from tests.telemetry.sinks.world import DAY

LNAV = shutil.which("lnav")
pytestmark = pytest.mark.skipif(
    LNAV is None, reason="lnav is not installed (Debian: lnav): its formats are not tried"
)
FORMATS = "lnav/crewd_events.json"


class Lnav:
    """lnav without a screen, with a home of its own in which the shipped formats are installed."""

    def __init__(self, home: Path) -> None:
        (home / ".config/lnav").mkdir(parents=True)
        self._environ = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "TERM": "dumb"}
        self._run("-i", str(asset(FORMATS)))

    def _run(self, *arguments: str) -> str:
        assert LNAV is not None
        done = subprocess.run(
            [LNAV, *arguments],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0 and "error" not in done.stderr, done.stdout + done.stderr
        return done.stdout

    def check(self) -> str:
        return self._run("-C")

    def query(self, sql: str, *files: Path) -> list[dict[str, object]]:
        found = self._run("-n", "-c", f";{sql}", "-c", ":write-json-to -", *map(str, files))
        rows: list[dict[str, object]] = json.loads(found)
        return rows


@pytest.fixture
def lnav(tmp_path: Path) -> Lnav:
    return Lnav(tmp_path / "home")


def test_lnav_takes_the_formats(lnav: Lnav) -> None:
    assert "error" not in lnav.check()


def test_events_of_all_days_are_one_table_also_the_compressed_ones(lnav: Lnav, tmp_path: Path) -> None:
    world = World(tmp_path / "logs", linger=0.01)
    for day in range(4):
        world.tell(10 + day, MIDNIGHT + day * DAY)
    world.clean_up()
    files = sorted(world.folder.glob("events-2*"))
    assert [file.suffix for file in files] == [".gz", ".gz", ".jsonl", ".jsonl"]
    (row,) = lnav.query(
        "SELECT count(*) AS n, count(DISTINCT seq) AS seqs, min(seq) AS low, max(seq) AS high, "
        "max(jget(data, '/n')) AS data, min(type) AS type, min(run_id) AS run FROM crewd_events",
        *files,
    )
    assert row == {"n": 46, "seqs": 46, "low": 1, "high": 46, "data": 46, "type": "task.started", "run": "r1"}
    assert lnav.query("SELECT count(*) AS n FROM crewd_events", world.link) == [{"n": 13}]


def test_every_type_that_the_format_calls_bad_is_one_that_crewd_tells(lnav: Lnav, tmp_path: Path) -> None:
    world = World(tmp_path / "logs")
    for number, name in enumerate(EVENTS, 1):
        world.log.kept.append(Event(name, MIDNIGHT, {}, "r1", seq=number))
    world.tell(0, MIDNIGHT)
    rows = lnav.query("SELECT log_level AS level, type FROM crewd_events", *world.folder.glob("events-2*"))
    assert {str(row["type"]) for row in rows} == set(EVENTS)
    levels = {str(row["type"]): row["level"] for row in rows}
    assert levels["run.failed"] == levels["verdict.opened"] == "error"
    assert levels["worker.wedged"] == "warning" and levels["usage.recorded"] == "debug"
    assert levels["daemon.started"] == levels["run.completed"] == "info"
    shipped = json.loads(asset(FORMATS).read_text())["crewd_events"]["level"]
    named = {
        f"{group}.{each}"
        for pattern in shipped.values()
        for group, many, one in re.findall(r"(\w+)\\\.(?:\(([^)]*)\)|(\w+))", pattern)
        for each in (one or many).split("|")
    }
    assert len(named) > 30 and named <= set(EVENTS)


def test_the_log_of_crewd_itself_is_another_table(lnav: Lnav, tmp_path: Path) -> None:
    stream = io.StringIO()
    logs.configure(logs.LogOptions(format="json"), stream, {})
    log = structlog.get_logger("crewd.sinks")
    for number in range(5):
        log.warning("sink.failed", sink="events", reason="no_space", number=number)
    log.info("daemon.ready", url="http://127.0.0.1:9464")
    log.error("sink.failed", sink="metrics", reason="io_error")
    file = tmp_path / "crewd.log"
    file.write_text(stream.getvalue())
    rows = lnav.query("SELECT log_level AS level, event, count(*) AS n FROM crewd_log GROUP BY 1, 2 ORDER BY n", file)
    assert {(row["level"], row["event"], row["n"]) for row in rows} == {
        ("warning", "sink.failed", 5),
        ("info", "daemon.ready", 1),
        ("error", "sink.failed", 1),
    }
