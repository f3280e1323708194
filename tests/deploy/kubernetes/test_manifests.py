"""The manifests: as narrow as they claim, consistent with each other, and equal to the rules that they carry.

Rules of Pod Security "restricted" are those of kubernetes.io/docs/concepts/security/pod-security-standards. Schemas
of the core kinds are checked where kubernetes-validate is installed, and what kustomize makes of the folders where
kubectl is.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from crewd.cli.assets_fitted import Fit, fitted
from crewd.config.load import load

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/kubernetes"
FORMS = ("sidecar", "daemonset")
VOLUMES_ALLOWED = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
HOST = ("hostNetwork", "hostPID", "hostIPC")
# What of the schema of the operator's kinds these files use: monitoring.coreos.com/v1.
RULE_KEYS = {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}
GROUP_KEYS = {"name", "interval", "limit", "labels", "query_offset", "rules"}


def documents(form: str) -> Iterator[dict[str, Any]]:
    """Every object of one form, in the order of its kustomization."""
    for folder in (FOLDER / form, FOLDER / "common"):
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        for name in kustomization["resources"]:
            if name != "../common":
                yield from (each for each in yaml.safe_load_all((folder / name).read_text()) if each)


def of_kind(form: str, kind: str) -> dict[str, Any]:
    (found,) = [each for each in documents(form) if each["kind"] == kind]
    return found


def workload(form: str) -> dict[str, Any]:
    return of_kind(form, {"sidecar": "Deployment", "daemonset": "DaemonSet"}[form])


def pod(form: str) -> dict[str, Any]:
    spec: dict[str, Any] = workload(form)["spec"]["template"]["spec"]
    return spec


def crewd(form: str) -> dict[str, Any]:
    (found,) = [each for each in pod(form)["containers"] if each["name"] == "crewd"]
    return found


def unrestricted(spec: dict[str, Any]) -> list[str]:
    """What in this pod the level "restricted" forbids."""
    found = [name for name in HOST if spec.get(name)]
    for volume in spec.get("volumes", []):
        found += [f"volume {volume['name']}" for kind in volume if kind not in VOLUMES_ALLOWED | {"name"}]
    whole = spec.get("securityContext", {})
    for each in [*spec.get("initContainers", []), *spec["containers"]]:
        own = each.get("securityContext", {})
        name = each["name"]
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            found.append(f"{name}: escalation")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
            found.append(f"{name}: capabilities")
        if not (own.get("runAsNonRoot") or whole.get("runAsNonRoot")) or 0 in (
            own.get("runAsUser"),
            whole.get("runAsUser"),
        ):
            found.append(f"{name}: root")
        profile = (own.get("seccompProfile") or whole.get("seccompProfile") or {}).get("type")
        if profile not in ("RuntimeDefault", "Localhost"):
            found.append(f"{name}: seccomp")
        found += [f"{name}: hostPort" for port in each.get("ports", []) if port.get("hostPort")]
    return found


def test_the_sidecar_form_needs_nothing_that_restricted_forbids() -> None:
    assert unrestricted(pod("sidecar")) == []
    labels = of_kind("sidecar", "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_daemonset_form_needs_the_node_and_nothing_else_beyond() -> None:
    assert unrestricted(pod("daemonset")) == ["hostPID", "volume crews", "volume state"]
    mounts = {each["name"]: each for each in crewd("daemonset")["volumeMounts"]}
    assert mounts["crews"]["readOnly"] is True


@pytest.mark.parametrize("form", FORMS)
def test_crewd_is_narrow_bounded_and_probed(form: str) -> None:
    container = crewd(form)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    # No limit of CPU time: a throttled watcher is a late one.
    assert "cpu" not in container["resources"]["limits"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "crewd"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod(form)["automountServiceAccountToken"] is False


@pytest.mark.parametrize("form", FORMS)
def test_the_settings_are_settings_and_the_port_is_theirs(form: str) -> None:
    environ = {
        each["name"]: each["value"].replace("$(POD_IP)", "10.1.2.3") for each in crewd(form)["env"] if "value" in each
    }
    environ["HOME"] = "/nowhere"
    settings = load(None, environ).settings
    assert settings.http.allowed_hosts == ("10.1.2.3",)
    assert settings.sources.processes == "here"
    assert not settings.tasks.enabled
    (port,) = crewd(form)["ports"]
    assert port == {"name": "crewd", "containerPort": settings.http.port}
    grace = pod(form)["terminationGracePeriodSeconds"]
    assert grace > settings.tasks.drain_timeout + settings.tasks.shutdown_grace


@pytest.mark.parametrize("form", FORMS)
def test_processes_are_shared_with_those_whom_crewd_watches(form: str) -> None:
    spec = pod(form)
    assert spec.get("shareProcessNamespace" if form == "sidecar" else "hostPID") is True
    users = {
        each.get("securityContext", {}).get("runAsUser", spec["securityContext"]["runAsUser"])
        for each in spec["containers"]
    }
    assert users == {1000}


@pytest.mark.parametrize("form", FORMS)
def test_everything_is_found_by_its_label_and_its_port(form: str) -> None:
    template = workload(form)["spec"]["template"]["metadata"]["labels"]
    monitor, policy = of_kind(form, "PodMonitor")["spec"], of_kind(form, "NetworkPolicy")["spec"]
    for selector in (workload(form)["spec"]["selector"], monitor["selector"], policy["podSelector"]):
        assert selector["matchLabels"].items() <= template.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] == crewd(form)["ports"][0]["name"]
    # Rules, alerts and dashboards ask for job="crewd".
    assert template[monitor["jobLabel"]] == "crewd"
    assert [each["port"] for rule in policy["ingress"] for each in rule["ports"]] == [endpoint["port"]]
    assert [each["from"] for each in policy["ingress"]] != [[]], "nobody but those named may come in"


@pytest.mark.parametrize("form", FORMS)
def test_another_job_is_asked_for_and_given(form: str) -> None:
    """`crewd assets dump --job`: the pod says it, and the alerts ask for it."""

    def dumped(path: Path) -> str:
        return fitted(f"kubernetes/{path.relative_to(FOLDER)}", path.read_bytes(), Fit(job="other")).decode()

    name = {"sidecar": "deployment.yaml", "daemonset": "daemonset.yaml"}[form]
    (made,) = [
        each for each in yaml.safe_load_all(dumped(FOLDER / form / name)) if each["kind"] == workload(form)["kind"]
    ]
    label = yaml.safe_load(dumped(FOLDER / "common/podmonitor.yaml"))["spec"]["jobLabel"]
    assert made["spec"]["template"]["metadata"]["labels"][label] == "other"
    assert 'job="crewd"' not in dumped(FOLDER / "common/prometheusrule.yaml")


def test_one_ledger_has_one_crewd() -> None:
    assert workload("sidecar")["spec"]["replicas"] == 1
    assert workload("sidecar")["spec"]["strategy"] == {"type": "Recreate"}
    assert workload("daemonset")["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] == 0


def test_the_rules_are_those_of_prometheus() -> None:
    script = ROOT / "deploy/source/prometheusrule.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    groups = of_kind("sidecar", "PrometheusRule")["spec"]["groups"]
    shipped = [
        group
        for name in ("rules.yml", "alerts.yml")
        for group in yaml.safe_load((ROOT / "deploy/prometheus" / name).read_text())["groups"]
    ]
    assert groups == shipped


def test_the_rules_have_the_form_of_the_operators_kind() -> None:
    rule = of_kind("sidecar", "PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    names = [group["name"] for group in rule["spec"]["groups"]]
    assert len(set(names)) == len(names), "the operator refuses two groups of one name"
    for group in rule["spec"]["groups"]:
        assert group.keys() <= GROUP_KEYS
        for each in group["rules"]:
            assert each.keys() <= RULE_KEYS
            assert ("alert" in each) != ("record" in each)
            assert isinstance(each["expr"], str | int)
            for texts in (each.get("labels", {}), each.get("annotations", {})):
                assert all(isinstance(value, str) for value in texts.values())
    # A ConfigMap, which is what the operator makes of it for Prometheus, holds a mebibyte at most.
    assert len(json.dumps(rule)) < 512 * 1024


@pytest.mark.parametrize("form", FORMS)
def test_kustomize_puts_them_together(form: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here: it knows kustomize, and needs no cluster for that")
    done = subprocess.run(
        [kubectl, "kustomize", FOLDER / form], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    built = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert sorted(each["kind"] for each in built) == sorted(each["kind"] for each in documents(form))
    namespace = of_kind(form, "Namespace")["metadata"]["name"]
    assert all(each["metadata"].get("namespace") == namespace for each in built if each["kind"] != "Namespace")
    (made,) = [each for each in built if each["kind"] == workload(form)["kind"]]
    for container in made["spec"]["template"]["spec"]["containers"]:
        assert container["image"].startswith("registry.example/") and ":" in container["image"]


@pytest.mark.parametrize("form", FORMS)
def test_the_core_kinds_fit_their_schemas(form: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for each in documents(form):
        if not each["apiVersion"].startswith("monitoring.coreos.com/"):
            validate.validate(each, validate.latest_version(), strict=True)
