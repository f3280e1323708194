"""A real Prometheus and a real Alertmanager with the shipped files, hastened, on free loopback ports."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from crewd.host import assets

PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
AMTOOL = shutil.which("amtool")
PATIENCE = 90.0  # seconds; who succeeds early waits for none of it, and a busy machine needs some
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
DURATION = re.compile(r"(\d+)([smhdw])")
DURATION_RUN = re.compile(r"(?:\d+[smhdw])+")  # 1h30m
SELECTED = re.compile(r"\[([^\]]+)\]")  # [5m], or [1h:1m]


def missing(*, tools: bool = False) -> str:
    """Say what is not on this machine, and where it comes from; "": all is there."""
    parts = {"prometheus": PROMETHEUS, "prometheus-alertmanager": ALERTMANAGER} if not tools else {"amtool": AMTOOL}
    absent = " and no ".join(name for name, path in parts.items() if path is None)
    return f"no {absent} here (Debian: apt install prometheus prometheus-alertmanager)" if absent else ""


def seconds(duration: str) -> int:
    """Read a duration of Prometheus, such as `1h30m`."""
    return sum(int(count) * UNITS[unit] for count, unit in DURATION.findall(str(duration)))


def hastened(rules: Mapping[str, Any], by: int) -> dict[str, Any]:
    """Let time run `by` times as fast in a file of rules, but nothing shorter than a second.

    Only times of Prometheus itself: `for`, `keep_firing_for`, the interval of a group, and ranges and offsets in
    expressions. Numbers with which values are compared, and everything that is not about time, stay as they are.
    """

    def shorter(duration: str) -> str:
        return f"{max(1, seconds(duration) // by)}s"

    def expression(text: str) -> str:
        text = SELECTED.sub(lambda found: f"[{DURATION_RUN.sub(lambda each: shorter(each[0]), found[1])}]", text)
        return re.sub(r"(offset\s+)((?:\d+[smhdw])+)", lambda found: found[1] + shorter(found[2]), text)

    def rule(each: Mapping[str, Any]) -> dict[str, Any]:
        times = {name: shorter(each[name]) for name in ("for", "keep_firing_for") if name in each}
        return {**each, "expr": expression(str(each["expr"])), **times}

    return {
        "groups": [
            {
                **{name: value for name, value in group.items() if name != "interval"},
                "rules": [rule(each) for each in group["rules"]],
            }
            for group in rules["groups"]
        ]
    }


def alertmanager_settings(receiver: str, wait: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Read the shipped settings of Alertmanager, with each receiver but `nobody` a webhook of its own at `receiver`.

    `wait` replaces the times of every route, such as {"group_wait": "0s"}.
    """
    settings = yaml.safe_load(assets.asset("alertmanager/alertmanager.yml").read_text())
    for each in settings["receivers"]:
        name = each["name"]
        each.clear()
        each["name"] = name
        if name != "nobody":
            each["webhook_configs"] = [{"url": f"{receiver}/{name}", "send_resolved": True}]
    for route in (settings["route"], *settings["route"]["routes"]):
        route.update(wait or {})
    return dict(settings)


def prometheus_settings(crewd: str, instance: str, alertmanager: str, interval: str | None) -> dict[str, Any]:
    """Read the shipped settings of Prometheus, with other addresses (`host:port`) of crewd and Alertmanager.

    crewd is scraped as `instance`, whatever its port; every `interval` (None: as shipped). Nothing else is scraped.
    """
    settings = yaml.safe_load(assets.asset("prometheus/prometheus.yml").read_text())
    settings["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    scraped = next(each for each in settings["scrape_configs"] if each["job_name"] == "crewd")
    for name in [name for name in scraped if name.endswith("_sd_configs")]:
        del scraped[name]
    scraped["static_configs"] = [{"targets": [crewd], "labels": {"instance": instance}}]
    if interval is not None:
        settings["global"] |= {f"{name}_interval": interval for name in ("scrape", "evaluation")}
        settings["global"]["scrape_timeout"] = interval
        scraped.pop("scrape_interval", None)
        scraped.pop("scrape_timeout", None)
    settings["scrape_configs"] = [scraped]
    return dict(settings)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(url: str) -> Any:
    """Ask over HTTP; None where nobody answers, or not with 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as got:
            body = got.read()
    except OSError:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body


def post(alertmanager: str, alerts: list[dict[str, Any]]) -> None:
    """Send alerts to Alertmanager as Prometheus does."""
    body = json.dumps(alerts).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{alertmanager}/api/v2/alerts", body, headers), timeout=5):
        pass


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(0.05)


class Served:
    """One server of another project. `close` ends it by its own handle."""

    def __init__(self, folder: Path, name: str, command: list[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return ask(f"{self.url}/-/ready") is not None

        eventually(ready, f"{self.log.stem} is ready")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def start_alertmanager(folder: Path, settings: Mapping[str, Any], port: int = 0) -> Served:
    port = port or free_port()
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(dict(settings), sort_keys=False))
    command = [
        str(ALERTMANAGER),
        "--config.file=alertmanager.yml",
        "--storage.path=alertmanager",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",  # else it gossips on every address
    ]
    return Served(folder, "alertmanager", command, port)


def start_prometheus(folder: Path, settings: Mapping[str, Any], rules: Mapping[str, Any], port: int = 0) -> Served:
    """`rules` are the contents of the files that the settings name, by their names."""
    port = port or free_port()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(dict(settings), sort_keys=False))
    for name, content in rules.items():
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False, width=10_000))
    command = [
        str(PROMETHEUS),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=prometheus",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
        "--log.level=warn",
    ]
    return Served(folder, "prometheus", command, port)


def shipped_rules() -> dict[str, Any]:
    """Read every file of rules that the shipped settings name, by its name."""
    settings = yaml.safe_load(assets.asset("prometheus/prometheus.yml").read_text())
    names = [Path(each).name for each in settings["rule_files"]]
    return {name: yaml.safe_load(assets.asset(f"prometheus/{name}").read_text()) for name in names}


def shipped_alerts() -> list[dict[str, Any]]:
    """Every alert of the shipped rules."""
    rules = [rule for file in shipped_rules().values() for group in file["groups"] for rule in group["rules"]]
    return [rule for rule in rules if "alert" in rule]


@contextlib.contextmanager
def closing(*served: Served) -> Iterator[None]:
    try:
        yield
    finally:
        for each in reversed(served):
            each.close()
