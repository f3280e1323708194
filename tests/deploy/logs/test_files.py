"""The other files for logs: logrotate's is run, shippers name the day files, and the page's recipes work."""

import fnmatch
import gzip
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge

from crewd.host.assets import asset, names
from crewd.model.event import Event
from crewd.telemetry.json_text import encode
from crewd.telemetry.sinks.day_file import DayFile
from crewd.telemetry.sinks.metric_line import metric_line
from tests.telemetry.sinks.tailing import MIDNIGHT, World, seq_of
from tests.telemetry.sinks.world import DAY

PAGE = Path(__file__).parents[3] / "docs/logs.md"
RECIPES = re.findall(r"^```sh\n(# [^\n]*\n)?((?:jq|zcat) .*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
LOGROTATE = shutil.which("logrotate") or shutil.which("logrotate", path="/usr/sbin")
FOLDER = "/var/log/crewd/ann"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Three days: a run that goes wrong on the last, and a snapshot of metrics."""
    made = World(tmp_path / "crewd" / "ann", linger=1e-6)
    for day in range(3):
        made.tell(3, MIDNIGHT + day * DAY)
    for name, data in (
        ("verdict.opened", {"reason": "exited", "because": "pid 4711 is gone"}),
        ("deadletter.added", {"reason": "heartbeat-dead"}),
    ):
        seq = made.log.last_seq() + 1
        made.log.kept.append(Event(name, MIDNIGHT + 2 * DAY + seq, data, "r1", "t1", 1, "pi_crew", "blue", seq=seq))
    made.tell(0, MIDNIGHT + 2 * DAY + 60)
    made.clean_up()
    registry = CollectorRegistry()
    Gauge("crewd_ready", "Ready.", registry=registry).set(1)
    metrics = DayFile(str(made.folder), "metrics")
    metrics.open()
    now = made.clock.read().wall
    metrics.write(encode(metric_line(registry.collect(), now)) + b"\n", now, now)
    metrics.close()
    yield made
    made.sink.file.close()


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 6


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed (Debian: jq): the recipes are not tried")
@pytest.mark.parametrize("recipe", [recipe for _, recipe in RECIPES])
def test_every_recipe_of_the_page_works_on_real_day_files(world: World, recipe: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", recipe], cwd=world.folder, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip(), "nothing was found"
    if "unique_by" in recipe:
        assert int(done.stdout) == len(world.everything)


@pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed (Debian: logrotate): its file is not tried")
def test_logrotate_over_open_files_loses_no_line_and_doubles_none(world: World, tmp_path: Path) -> None:
    assert LOGROTATE is not None
    config, state = tmp_path / "logrotate.conf", tmp_path / "state"
    config.write_text(asset("logs/logrotate.conf").read_text().replace("/var/log/crewd/", f"{tmp_path}/crewd/"))
    config.chmod(0o600)
    assert not re.search(r"^\s*copytruncate", config.read_text(), re.MULTILINE)  # what comes meanwhile would be gone
    tried = subprocess.run([LOGROTATE, "-d", "-s", state, config], capture_output=True, text=True, timeout=30)
    assert tried.returncode == 0 and "error" not in tried.stderr
    for turn in range(3):
        subprocess.run([LOGROTATE, "-f", "-s", state, config], check=True, capture_output=True, timeout=30)
        world.tell(4, MIDNIGHT + 2 * DAY + 100 + turn)
    files = [path for path in world.folder.iterdir() if path.name.startswith("events-20")]
    assert any(".jsonl.1" in path.name for path in files) and any(path.name.endswith(".2.gz") for path in files)
    lines = [line for path in files for line in _plain(path).splitlines()]
    assert sorted(map(seq_of, lines)) == world.everything


def _plain(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.parametrize("name", ["promtail.yml", "vector.yaml", "rsyslog.conf"])
def test_shippers_name_every_day_file_and_neither_the_link_nor_what_is_compressed(world: World, name: str) -> None:
    patterns = re.findall(r"/var/log/crewd/\*/[^\s\"\]]+", asset(f"logs/{name}").read_text())
    assert patterns
    there = {path.name for path in world.folder.iterdir()}
    events = {each for each in there if any(fnmatch.fnmatchcase(f"{FOLDER}/{each}", one) for one in patterns)}
    days = {each for each in there if re.fullmatch(r"events-\d{4}-\d\d-\d\d\.jsonl", each)}
    assert days and days <= events
    assert not {"events-current.jsonl", "metrics-current.jsonl", "events-position.json"} & events
    assert not [each for each in events if each.endswith((".gz", ".torn"))]


def test_promtail_makes_no_stream_for_each_run() -> None:
    config = yaml.safe_load(asset("logs/promtail.yml").read_text())
    labels = {
        label
        for job in config["scrape_configs"]
        for stage in job["pipeline_stages"]
        for label in stage.get("labels", ())
    }
    assert labels == {"type", "crew", "runtime", "level", "logger"}


def test_the_parts_of_vector_are_joined() -> None:
    config = yaml.safe_load(asset("logs/vector.yaml").read_text())
    made = {*config["sources"], *config["transforms"]}
    for part in (*config["transforms"].values(), *config["sinks"].values()):
        assert set(part["inputs"]) <= made
    assert all(each["read_from"] == "beginning" for each in config["sources"].values())


def test_the_page_names_files_that_are_shipped() -> None:
    named = re.findall(r"deploy/((?:logs|lnav)/[\w.]+\w)", PAGE.read_text())
    shipped = {name for name in names() if name.startswith(("logs/", "lnav/"))}
    assert set(named) == shipped
