"""The image, built and run for real: `make container`.

crewd runs in it as compose.yml runs it: an ordinary user, a root that cannot be written, no capability, no network
but its own loopback. Agents are shell loops in another container of the same image, which write beats into a shared
folder.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.container.engine import ROOT, Container, build, missing, podman, running

pytestmark = [
    pytest.mark.container,
    pytest.mark.slow,
    pytest.mark.real_time,
    pytest.mark.xdist_group("container"),
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
]

UID = 1000
# Seconds in the place of minutes. hung_after stays long: here it is about exits and what is presumed.
HASTY = {
    "CREWD_PATROL__INTERVAL": "1s",
    "CREWD_HEARTBEAT__WARN_AFTER": "2s",
    "CREWD_HEARTBEAT__STALE_AFTER": "4s",
    "CREWD_HEARTBEAT__DEAD_AFTER": "8s",
    "CREWD_HEARTBEAT__HUNG_AFTER": "10m",
    "CREWD_HEARTBEAT__STARTUP_GRACE": "0s",
}
# A worker that tells a bare pid, as most programs do that were not written for crewd: its own, in its own container.
WORKER = """
seq=0
while :; do
    seq=$((seq + 1))
    printf '{"v":1,"run":"nightly","task":"index","seq":%d,"at":"%s","pid":%d}' \
        "$seq" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$$" >/crews/beats/nightly/.new
    mv /crews/beats/nightly/.new /crews/beats/nightly/index.json
    sleep 1
done
"""
AGENTS = {"CREWD_SOURCES__BEAT_ROOTS": '["/crews/beats"]'}


@pytest.fixture(scope="module")
def image() -> str:
    return build()


@pytest.fixture
def crews(tmp_path: Path) -> Path:
    """A folder of crews that belongs to the user of the image."""
    folder = tmp_path / "crews"
    (folder / "beats/nightly").mkdir(parents=True)
    for each in (folder, folder / "beats", folder / "beats/nightly"):
        os.chown(each, UID, UID)
    return folder


@contextlib.contextmanager
def volume() -> Iterator[str]:
    name = podman("volume", "create").stdout.strip()
    try:
        yield name
    finally:
        podman("volume", "rm", "--force", name, check=False)


def submit(crewd: Container, command: str) -> str:
    file = f'name = "work"\n[[tasks]]\nid = "a"\ncommand = ["sh", "-c", "{command}"]\nretry = {{ base = "1s" }}\n'
    crewd.run("sh", "-c", 'printf %s "$1" >/var/lib/crewd/crew.toml', "-", file)
    return str(crewd.read("crewd", "submit", "--json", "/var/lib/crewd/crew.toml")["run_id"])


def attempts(crewd: Container) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = crewd.read("crewd", "history", "attempts", "--json")["attempts"]
    return found


def verdicts(crewd: Container) -> list[dict[str, Any]]:
    lines = crewd.run("crewd", "events", "--json", "--type", "verdict.opened").stdout.splitlines()
    return [json.loads(line) for line in lines]


def worker_seen(crewd: Container) -> dict[str, Any]:
    """How the one worker stands, as `crewd explain` tells it; {}: it is not known yet."""
    done = crewd.run("crewd", "explain", "--json", "nightly", "index", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def test_crewd_runs_as_an_ordinary_user_with_a_root_that_cannot_be_written(image: str) -> None:
    with running(image) as crewd:
        crewd.wait_healthy()
        status = crewd.run("cat", "/proc/1/status").stdout
        assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert crewd.run("touch", "/opt/crewd/x", "/etc/crewd/x", "/x", check=False).returncode != 0
        assert crewd.run("touch", "/var/lib/crewd/x", "/var/log/crewd/x").returncode == 0
        # What is not there has no holes.
        assert crewd.run("/opt/crewd/bin/python", "-c", "import pip", check=False).returncode != 0
        findings = crewd.read("crewd", "doctor", "--json")
        assert "fail" not in json.dumps(findings).lower().replace("failed", ""), findings
        day_files = crewd.run("ls", "/var/log/crewd").stdout
        assert "events-current.jsonl" in day_files or "events-" in day_files


def test_the_image_says_how_it_is_asked_and_how_it_is_stopped(image: str) -> None:
    config = json.loads(podman("inspect", image).stdout)[0]
    assert config["Config"]["User"] == f"{UID}:{UID}"
    assert config["Config"]["StopSignal"] in ("SIGTERM", "15")
    health = config.get("Healthcheck") or config["Config"]["Healthcheck"]
    assert health["Test"][-1] == "/opt/crewd/libexec/healthy.py"
    assert config["Config"]["Labels"]["org.opencontainers.image.title"] == "crewd"


def test_the_health_check_tells_a_crewd_that_answers_from_one_that_does_not(image: str) -> None:
    with running(image) as crewd:
        crewd.wait_healthy()
        podman("kill", "--signal=STOP", crewd.name)
        assert not crewd.is_healthy()
        podman("kill", "--signal=CONT", crewd.name)
        crewd.wait_healthy()
        ready = crewd.run("/opt/crewd/bin/python", "-I", "/opt/crewd/libexec/healthy.py", "/readyz")
        assert "ready" in ready.stdout


def asked(crewd: Container, host: str, route: str = "/metrics", method: str = "GET") -> int:
    """Ask as another container would, by a name: the status of the answer."""
    script = (
        "import http.client, sys; host, route, method = sys.argv[1:]\n"
        "c = http.client.HTTPConnection('127.0.0.1', 9464)\n"
        "c.request(method, route, headers={'Host': host}); print(c.getresponse().status)"
    )
    return int(crewd.run("/opt/crewd/bin/python", "-c", script, host, route, method).stdout)


def test_prometheus_of_compose_may_read_and_nobody_may_change(image: str, crews: Path) -> None:
    service = yaml.safe_load((ROOT / "deploy/container/compose.yml").read_text())["services"]["crewd"]
    with running(image, f"--volume={crews}:/crews:ro", environ=service["environment"]) as crewd:
        crewd.wait_healthy()
        assert asked(crewd, "crewd:9464") == 200
        assert asked(crewd, "127.0.0.1:9464") == 200  # the published port
        assert asked(crewd, "elsewhere.example:9464") == 403
        assert asked(crewd, "crewd:9464", "/-/reload", "POST") == 403


def test_the_probes_and_prometheus_of_kubernetes_are_answered(image: str, crews: Path, tmp_path: Path) -> None:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/sidecar/deployment.yaml").read_text())
    (pod,) = [each["spec"]["template"]["spec"] for each in documents if each["kind"] == "Deployment"]
    (spec,) = [each for each in pod["containers"] if each["name"] == "crewd"]
    environ = {
        each["name"]: each["value"].replace("$(POD_IP)", "10.1.2.3") for each in spec["env"] if "value" in each
    }
    # The top of a volume as fsGroup leaves it: of root, and writable for the group.
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 0, pod["securityContext"]["fsGroup"])
    state.chmod(0o2775)
    options = (f"--volume={crews}:/crew:ro", f"--volume={state}:/var/lib/crewd")
    with running(image, *options, environ=environ) as crewd:
        crewd.wait_healthy()
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            crewd.until(lambda probe=probe: asked(crewd, "10.1.2.3:9464", spec[probe]["httpGet"]["path"]) == 200)
        assert asked(crewd, "10.1.2.3:9464") == 200
        assert asked(crewd, "10.9.9.9:9464") == 403
        assert (state / "state/ledger.sqlite3").stat().st_uid == UID
        assert (state / "state").stat().st_mode & 0o077 == 0


def test_sigterm_ends_it_cleanly_and_in_time(image: str) -> None:
    with running(image) as crewd:
        crewd.wait_healthy()
        began = time.monotonic()
        podman("stop", "--time=50", crewd.name)
        assert time.monotonic() - began < 10
        assert crewd.inspect()["State"]["ExitCode"] == 0
        assert "daemon.stopping" in crewd.logs()


def test_kill_and_start_again_keep_the_ledger_and_try_again_what_ran(image: str) -> None:
    with volume() as state, running(image, f"--volume={state}:/var/lib/crewd") as crewd:
        crewd.wait_healthy()
        done = submit(crewd, "true")
        crewd.run("crewd", "wait", done)
        # Begins anew only where the first attempt left no trace of life.
        cut = submit(crewd, "test -e /var/lib/crewd/second || { touch /var/lib/crewd/second; sleep 600; }")
        crewd.until(lambda: any(each["run_id"] == cut for each in attempts(crewd)))
        crewd.until(lambda: crewd.run("test", "-e", "/var/lib/crewd/second", check=False).returncode == 0)
        podman("kill", "--signal=KILL", crewd.name)
        crewd.until(lambda: crewd.inspect()["State"]["Status"] == "exited")
        podman("start", crewd.name)
        crewd.wait_healthy()
        crewd.run("crewd", "wait", cut)
        by_run = {run: [each for each in attempts(crewd) if each["run_id"] == run] for run in (done, cut)}
        assert [each["outcome"] for each in by_run[done]] == ["completed"]
        assert [each["error_class"] for each in by_run[cut]] == [None, "worker_killed"]


def test_a_state_folder_of_somebody_else_is_named_with_its_remedy(image: str, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    with running(image, f"--volume={folder}:/var/lib/crewd") as crewd:
        crewd.until(lambda: crewd.inspect()["State"]["Status"] == "exited")
        assert crewd.inspect()["State"]["ExitCode"] in (77, 78)
        logs = crewd.logs()
        assert "Traceback" not in logs
        assert "/var/lib/crewd" in logs and "ermission denied" in logs


def test_a_crew_folder_that_may_not_be_read_is_told(image: str, crews: Path) -> None:
    crews.chmod(0o700)
    os.chown(crews, 0, 0)
    settings = {**HASTY, "CREWD_SOURCES__ROOTS": '["/crews"]'}
    with running(image, f"--volume={crews}:/crews:ro", environ=settings) as crewd:
        crewd.wait_healthy()
        crewd.until(lambda: "/crews: this root is no folder that can be opened" in crewd.logs())
        assert (
            "/crews may not be read; run crewd as the user who owns it"
            in crewd.run("crewd", "doctor", check=False).stdout
        )


def test_the_demo_plays_inside(image: str) -> None:
    with running(image, command=("demo", "--seconds", "20", "--no-color")) as crewd:
        crewd.until(lambda: crewd.inspect()["State"]["Status"] == "exited", 90)
        assert crewd.inspect()["State"]["ExitCode"] == 0, crewd.logs()
        assert "dead" in crewd.logs()


# --- what crewd sees of the processes of agents, by where they run (the table of docs/containers.md)


@contextlib.contextmanager
def agent(image: str, crews: Path, *options: str) -> Iterator[Container]:
    # The first process waits for the worker, as an init does: a zombie is told from a process that is gone.
    command = ("-c", 'sh -c "$1" & wait; sleep 600', "-", WORKER)
    options = ("--entrypoint=sh", f"--volume={crews}:/crews", *options)
    with running(image, *options, command=command) as container:
        container.until((crews / "beats/nightly/index.json").exists)
        yield container


def recorded_pid(crews: Path) -> int:
    return int(json.loads((crews / "beats/nightly/index.json").read_text())["pid"])


def test_of_agents_in_a_container_of_their_own_an_exit_is_presumed_and_life_never_doubted(
    image: str, crews: Path
) -> None:
    settings = {**HASTY, **AGENTS}
    with agent(image, crews) as other, running(image, f"--volume={crews}:/crews:ro", environ=settings) as crewd:
        crewd.wait_healthy()
        crewd.until(lambda: worker_seen(crewd))
        # Longer than an exit takes to be confirmed, and past the hold after the start.
        time.sleep(8)
        assert verdicts(crewd) == []
        assert "another container" in json.dumps(worker_seen(crewd))
        podman("kill", "--signal=KILL", other.name)
        found = crewd.until(lambda: verdicts(crewd))
        assert [each["data"]["reason"] for each in found] == ["presumed"]


def test_without_that_setting_a_live_worker_would_be_called_dead(image: str, crews: Path) -> None:
    # Why the image says `elsewhere`: here is what would happen otherwise to a worker that is silent, and lives.
    settings = {**HASTY, **AGENTS, "CREWD_SOURCES__PROCESSES": "here"}
    (crews / "beats/nightly/index.json").write_text(
        '{"v":1,"run":"nightly","task":"index","seq":1,"at":"2026-11-20T23:41:30Z","pid":4242}'
    )
    with running(image, f"--volume={crews}:/crews:ro", environ=settings) as crewd:
        crewd.wait_healthy()
        found = crewd.until(lambda: verdicts(crewd))
        assert [each["data"]["reason"] for each in found] == ["exited"]


def test_of_agents_whose_processes_are_shared_an_exit_is_proven(image: str, crews: Path) -> None:
    settings = {**HASTY, **AGENTS, "CREWD_SOURCES__PROCESSES": "here"}
    with (
        agent(image, crews) as other,
        running(image, f"--volume={crews}:/crews:ro", f"--pid=container:{other.name}", environ=settings) as crewd,
    ):
        crewd.wait_healthy()
        crewd.until(lambda: "is alive" in json.dumps(worker_seen(crewd)))
        other.run("sh", "-c", f"kill -9 {recorded_pid(crews)}")
        found = crewd.until(lambda: verdicts(crewd))
        assert [each["data"]["reason"] for each in found] == ["exited"]


def test_of_agents_on_the_machine_itself_an_exit_is_proven_even_of_another_user(image: str, crews: Path) -> None:
    settings = {**HASTY, **AGENTS, "CREWD_SOURCES__PROCESSES": "here"}
    script = WORKER.replace("/crews/", f"{crews}/")
    worker = subprocess.Popen(["sh", "-c", script])
    try:
        options = (f"--volume={crews}:/crews:ro", "--pid=host")
        with running(image, *options, environ=settings) as crewd:
            crewd.wait_healthy()
            crewd.until(lambda: "is alive" in json.dumps(worker_seen(crewd)))
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            found = crewd.until(lambda: verdicts(crewd))
            assert [each["data"]["reason"] for each in found] == ["exited"]
    finally:
        worker.kill()
        worker.wait()
