"""What can be said of the container files without building anything: they are whole, and as narrow as they claim."""

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from crewd.config.load import load

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/container"
CONTAINERFILE = (FOLDER / "Containerfile").read_text()
FILES = ("compose.yml", "compose.host.yml", "compose.agent.yml")
DEFAULTED = re.compile(r"\$\{\w+:-([^}]*)\}")
DEMANDED = re.compile(r"\$\{\w+:\?[^}]*\}")


def compose(name: str) -> dict[str, Any]:
    text = DEFAULTED.sub(r"\1", (FOLDER / name).read_text())
    found: dict[str, Any] = yaml.safe_load(DEMANDED.sub("given", text))
    return found


def volumes(service: dict[str, Any]) -> list[dict[str, Any]]:
    """Every mount in its long form."""
    found = []
    for each in service.get("volumes", []):
        if isinstance(each, str):
            source, target, *mode = each.split(":")
            each = {"source": source, "target": target, "read_only": mode == ["ro"]}
        found.append(each)
    return found


SERVICES = compose("compose.yml")["services"]


def test_every_mounted_file_is_in_the_repository() -> None:
    named = compose("compose.yml")["volumes"]
    for service in SERVICES.values():
        for mount in volumes(service):
            source = mount["source"]
            if source.startswith("."):
                assert (FOLDER / source).exists(), source
                assert mount["read_only"], source
            else:
                assert source in named or source == "given", source


@pytest.mark.parametrize("name", list(SERVICES))
def test_every_service_is_unprivileged_bounded_and_watched(name: str) -> None:
    service = SERVICES[name]
    user, _, _ = service["user"].partition(":")
    assert user not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"privileged", "cap_add", "devices", "network_mode"}.isdisjoint(service)
    assert {"mem_limit", "cpus", "pids_limit", "restart"} <= service.keys()
    assert "healthcheck" in service or name == "crewd"  # crewd's is in its image


@pytest.mark.parametrize("name", list(SERVICES))
def test_ports_are_published_on_the_loopback_address_alone(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "crewd"])
def test_images_of_others_are_pinned_by_version(name: str) -> None:
    assert re.fullmatch(r"docker\.io/[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_nobody_but_prometheus_is_on_the_network_of_crewd() -> None:
    assert {name for name, each in SERVICES.items() if "scrape" in each["networks"]} == {"crewd", "prometheus"}


@pytest.mark.parametrize("name", FILES)
def test_the_settings_of_each_form_are_settings(name: str) -> None:
    environment = compose(name)["services"]["crewd"]["environment"]
    variables = {key: value for key, value in environment.items() if key.startswith("CREWD_")}
    settings = load(None, {"HOME": "/nowhere", **variables}).settings
    if name == "compose.yml":
        assert settings.http.behind_proxy and settings.http.allowed_hosts == ("crewd",)
        assert not settings.tasks.enabled
        assert settings.http.token is None
    else:
        assert settings.sources.processes == "here"
        assert compose(name)["services"]["crewd"]["pid"] in ("host", "service:agent")


def test_the_settings_of_the_image_are_settings() -> None:
    variables = dict(re.findall(r"(CREWD_\w+)=(\S+)", CONTAINERFILE))
    settings = load(None, {"HOME": "/nowhere", **variables}).settings
    assert settings.sources.processes == "elsewhere"
    assert settings.http.host == "127.0.0.1"


def test_there_is_time_enough_to_stop() -> None:
    tasks = load(None, {"HOME": "/nowhere"}).settings.tasks
    grace = float(SERVICES["crewd"]["stop_grace_period"].removesuffix("s"))
    assert grace > tasks.drain_timeout + tasks.shutdown_grace


def test_prometheus_differs_from_the_shipped_example_in_names_alone() -> None:
    text = (FOLDER / "prometheus.yml").read_text()
    text = text.replace("alertmanager:9093", "127.0.0.1:9093").replace("crewd:9464", "127.0.0.1:9464")
    assert yaml.safe_load(text) == yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())


def test_grafana_finds_prometheus_and_its_dashboards() -> None:
    shipped = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/crewd.yml").read_text())
    ours = yaml.safe_load((FOLDER / "grafana-datasource.yml").read_text())
    for each in shipped["datasources"]:
        each["url"] = "http://prometheus:9090"
    assert ours == shipped
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/crewd.yml").read_text())["providers"]
    targets = {mount["target"] for mount in volumes(SERVICES["grafana"])}
    assert provider["options"]["path"] in targets


# --- Containerfile


def test_what_builds_crewd_is_held_to_the_lock() -> None:
    (names,) = re.findall(r"\^\(([a-z|-]+)\)==", CONTAINERFILE)
    taken = set(names.split("|"))
    lock = (ROOT / "requirements-dev.lock").read_text()
    assert taken == {name for name in taken if f"\n{name}==" in f"\n{lock}"}
    needed = {"hatchling"}
    for requirement in importlib.metadata.requires("hatchling") or []:
        if "python_version <" not in requirement and "extra ==" not in requirement:
            needed.add(re.split(r"[^\w-]", requirement)[0].lower())
    assert taken == needed


def test_what_the_build_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".containerignore").read_text()
    assert ignored == (FOLDER / "Containerfile.dockerignore").read_text()
    seen = {line.removeprefix("!") for line in ignored.splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in seen or source.split("/")[0] in seen, source


def test_what_the_wheel_takes_in_is_copied() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    for needed in wheel["force-include"]:
        assert needed in sources or needed.split("/")[0] in sources, needed


def test_the_image_has_a_health_check_a_signal_to_stop_and_no_root() -> None:
    assert re.search(r"HEALTHCHECK .*--timeout=5s", CONTAINERFILE)
    assert "--format docker" in CONTAINERFILE
    assert "STOPSIGNAL SIGTERM" in CONTAINERFILE
    users = re.findall(r"^USER (.+)$", CONTAINERFILE, re.MULTILINE)
    assert users == ["${UID}:${GID}"]
