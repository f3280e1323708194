"""The shipped routes, asked of amtool and of a real Alertmanager: who is told of what, and who is not."""

import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from crewd.host import assets
from tests.deploy import monitoring
from tests.deploy.monitoring import Served, ask, eventually, post
from tests.fakes.receiver import Receiver

FILE = "alertmanager/alertmanager.yml"
TO = {"critical": "pager", "warning": "ticket", "info": "nobody"}
GRAVE = ("info", "warning", "critical")
DOCS = Path(__file__).parents[2] / "docs"
amtool = pytest.mark.skipif(monitoring.missing(tools=True) != "", reason=monitoring.missing(tools=True))
alertmanager = pytest.mark.skipif(monitoring.missing() != "", reason=monitoring.missing())


def shipped() -> dict[str, Any]:
    return dict(yaml.safe_load(assets.asset(FILE).read_text()))


def run_amtool(folder: Path, *words: str) -> str:
    command = [str(monitoring.AMTOOL), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env={"HOME": str(folder)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def incident_severities() -> dict[str, str]:
    """The name in Alertmanager of each incident that crewd tells of itself, and how grave it is."""
    found = {}
    for causes, severities in re.findall(
        r"^\| (`[^|]+) \| ([a-z, ]+) \|", (DOCS / "incidents.md").read_text(), re.MULTILINE
    ):
        names = re.findall(r"`([a-z_]+)", causes)
        each = severities.split(", ")
        found |= dict(zip(names, each if len(each) == len(names) else each * len(names), strict=True))
    return {f"crewd_{name}": severity for name, severity in found.items()}


def severities() -> dict[str, set[str]]:
    """Every name of an alert, of the rules and of crewd itself, and the severities that it comes with."""
    found = {name: {severity} for name, severity in incident_severities().items()}
    for alert in monitoring.shipped_alerts():
        found.setdefault(alert["alert"], set()).add(alert["labels"]["severity"])
    return found


def named(matchers: list[str]) -> list[str]:
    """The names of alerts that a matcher wants, or does not want, one by one; patterns of families are left out."""
    values = [re.fullmatch(r'alertname (?:=|=~|!=|!~) "([^"]*)"', each) for each in matchers]
    return [name for found in values if found and "+" not in found[1] for name in found[1].split("|")]


@amtool
def test_amtool_takes_the_file(tmp_path: Path) -> None:
    assert "SUCCESS" in run_amtool(tmp_path, "check-config", str(assets.asset(FILE)))


@amtool
def test_the_dead_mans_switch_is_there_once_its_marks_are_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "alertmanager.yml"
    path.write_text(assets.asset(FILE).read_text().replace("#: ", ""))
    told = run_amtool(tmp_path, "config", "routes", "test", f"--config.file={path}", "alertname=Watchdog")
    assert told.split() == ["dead-man"]
    critical = ("alertname=CrewdDown", "severity=critical")
    assert run_amtool(tmp_path, "config", "routes", "test", f"--config.file={path}", *critical).split() == ["pager"]


@amtool
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=CrewdDown", "severity=critical"], "pager"),
        (["alertname=CrewdWorkersStale", "severity=warning"], "ticket"),
        (["alertname=CrewdSeriesLimit", "severity=info"], "nobody"),
        (["alertname=crewd_dead", "severity=critical", "run=night"], "pager"),
        (["alertname=crewd_waiting", "severity=warning"], "ticket"),
        (["alertname=Anything"], "ticket"),
    ],
)
def test_each_severity_has_its_receiver(tmp_path: Path, labels: list[str], receiver: str) -> None:
    words = ("config", "routes", "test", f"--config.file={assets.asset(FILE)}", f"--verify.receivers={receiver}")
    assert run_amtool(tmp_path, *words, *labels).split() == [receiver]


def test_every_alert_that_the_inhibitions_name_exists() -> None:
    known = set(severities())
    rules = shipped()["inhibit_rules"]
    assert len(rules) > 10
    for rule in rules:
        names = named(rule["source_matchers"]) + named(rule["target_matchers"])
        assert set(names) - known == set(), rule


def test_nothing_is_inhibited_by_what_is_less_grave() -> None:
    known = severities()
    for rule in shipped()["inhibit_rules"]:
        sources = (each for name in named(rule["source_matchers"]) for each in known[name])
        least = min(map(GRAVE.index, sources), default=GRAVE.index("critical"))  # a family of names: by its severity
        targets = named([each for each in rule["target_matchers"] if "!" not in each])
        assert [name for name in targets if max(map(GRAVE.index, known[name])) > least] == [], rule


def test_a_message_says_what_to_do_and_where_to_look() -> None:
    receivers = {each["name"]: each for each in shipped()["receivers"]}
    texts = {
        "pager": receivers["pager"]["pagerduty_configs"][0]["details"]["text"],
        "ticket": receivers["ticket"]["slack_configs"][0]["text"],
    }
    for text in texts.values():
        for annotation in ("summary", "description", "runbook_url", "dashboard_url"):
            assert f".Annotations.{annotation}" in text


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Receiver]]:
    """The shipped file in a real Alertmanager, its receivers at our address, and nothing waited for."""
    folder = tmp_path_factory.mktemp("alertmanager")
    (folder / "key").write_text("0123456789abcdef")
    settings = shipped()
    with Receiver() as receiver:
        (folder / "url").write_text(f"{receiver.url}/ticket")
        pager, ticket, _ = settings["receivers"]
        pager["pagerduty_configs"][0] |= {"url": f"{receiver.url}/pager", "routing_key_file": f"{folder}/key"}
        ticket["slack_configs"][0]["api_url_file"] = f"{folder}/url"
        for route in (settings["route"], *settings["route"]["routes"]):
            route |= {"group_wait": "0s", "group_interval": "1s"}
        served = monitoring.start_alertmanager(folder, settings)
        try:
            served.wait_ready()
            yield served, receiver
        finally:
            served.close()


def alert(name: str, severity: str, *, job: str = "crewd", **labels: str) -> dict[str, Any]:
    now = time.time()
    return {
        "labels": {"alertname": name, "severity": severity, "job": job, **labels},
        "annotations": {
            "summary": f"{name} is true.",
            "description": "So much of it.",
            "runbook_url": f"http://127.0.0.1:9464/runbooks#{name.lower()}",
            "dashboard_url": "http://127.0.0.1:3000/d/crewd-overview",
        },
        "startsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 60)),
        "endsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 600)),
    }


def of(served: Served, instance: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What Alertmanager says of each alert of an instance, by name and severity."""
    alerts = ask(f"{served.url}/api/v2/alerts") or ()
    mine = (each for each in alerts if each["labels"].get("instance", "") == instance)
    return {(each["labels"]["alertname"], each["labels"]["severity"]): each for each in mine}


def states(served: Served, instance: str) -> dict[str, str]:
    """The gravest of each name counts: pairs of windows carry one name."""
    order = sorted(of(served, instance).items(), key=lambda item: GRAVE.index(item[0][1]))
    return {name: each["status"]["state"] for (name, _), each in order}


@alertmanager
@pytest.mark.real_time
@pytest.mark.slow
@pytest.mark.xdist_group("alertmanager")
def test_every_alert_has_its_receiver_and_a_dead_crewd_silences_the_rest_of_its_own(
    running: tuple[Served, Receiver],
) -> None:
    served, _ = running
    everything = [(name, severity) for name, all_of_it in severities().items() for severity in sorted(all_of_it)]
    alerts = [alert(*each, instance=instance) for instance in ("a:1", "b:1") for each in everything]
    post(served.url, [each for each in alerts if each["labels"]["alertname"] not in ("CrewdAbsent", "CrewdDown")])
    eventually(lambda: len(of(served, "b:1")) == len(everything) - 2, "all of it is there")
    for (name, severity), each in of(served, "a:1").items():
        assert [receiver["name"] for receiver in each["receivers"]] == [TO[severity]], name

    post(served.url, [alert("CrewdDown", "critical", instance="a:1")])
    eventually(
        lambda: {name for name, state in states(served, "a:1").items() if state != "suppressed"} == {"CrewdDown"},
        "CrewdDown silences all of its instance",
    )
    assert states(served, "b:1")["CrewdPatrolStalled"] == "active"

    # A crewd that this Prometheus does not know may be known to another, and tell of its dead by itself.
    post(served.url, [alert("CrewdAbsent", "critical")])
    eventually(lambda: ("CrewdAbsent", "critical") in of(served, ""), "CrewdAbsent is there")
    time.sleep(0.3)  # in which it would silence something
    assert {states(served, "b:1")[name] for name in ("CrewdPatrolStalled", "crewd_mass_death")} == {"active"}


@alertmanager
@pytest.mark.real_time
@pytest.mark.slow
@pytest.mark.xdist_group("alertmanager")
def test_what_explains_another_silences_it_and_no_other(running: tuple[Served, Receiver]) -> None:
    served, _ = running
    known = severities()

    def silenced(instance: str, *of_crews: tuple[str, str]) -> set[tuple[str, str]]:
        alerts = [
            alert(
                name,
                max(known[name], key=GRAVE.index),
                instance=instance,
                job="other",
                **({"crew": crew} if crew else {}),
            )
            for name, crew in of_crews
        ]  # a job of its own: the tests before silenced the other
        post(served.url, alerts)
        wanted = f"{served.url}/api/v2/alerts?filter=instance%3D%22{instance}%22"
        eventually(
            lambda: (
                len(ask(wanted)) == len(of_crews)
                and all(each["status"]["state"] != "unprocessed" for each in ask(wanted))
            ),
            f"the alerts of {instance} are there",
        )
        return {
            (each["labels"]["alertname"], each["labels"].get("crew", ""))
            for each in ask(wanted)
            if each["status"]["state"] == "suppressed"
        }

    stale = [("CrewdWorkersStale", "blue"), ("CrewdWorkersStale", "red")]
    assert silenced("c:1", ("CrewdWorkerDead", "blue"), *stale) == {("CrewdWorkersStale", "blue")}
    assert silenced("d:1", ("CrewdMassBrake", ""), ("CrewdWorkerDead", "blue"), ("CrewdWorkersStale", "red")) == {
        ("CrewdWorkersStale", "red")
    }
    assert silenced("e:1", ("crewd_dead", "blue"), ("CrewdWorkerDead", "blue"), ("CrewdWorkerDead", "red")) == {
        ("CrewdWorkerDead", "blue")
    }
    assert silenced("f:1", ("CrewdWorkersStale", "blue"), ("CrewdWorkerDead", "red")) == set()


@alertmanager
@pytest.mark.real_time
@pytest.mark.slow
@pytest.mark.xdist_group("alertmanager")
def test_a_full_disk_silences_no_other_disk_that_fills(running: tuple[Served, Receiver]) -> None:
    served, _ = running
    full = alert("CrewdDiskFilling", "critical", instance="g:1", job="other", folder="logs")
    filling = [
        alert("CrewdDiskFilling", "warning", instance="g:1", job="other", folder=each) for each in ("logs", "state")
    ]
    post(served.url, [full, *filling])

    def found() -> dict[tuple[str, str], str]:
        alerts = ask(f"{served.url}/api/v2/alerts?filter=instance%3D%22g%3A1%22") or ()
        return {(a["labels"]["folder"], a["labels"]["severity"]): a["status"]["state"] for a in alerts}

    wanted = {("logs", "critical"): "active", ("logs", "warning"): "suppressed", ("state", "warning"): "active"}
    eventually(lambda: found() == wanted, "the warning of the same folder is silenced alone")


@amtool
@alertmanager
@pytest.mark.real_time
@pytest.mark.slow
@pytest.mark.xdist_group("alertmanager")
def test_the_silences_on_the_page_silence_what_they_say(running: tuple[Served, Receiver], tmp_path: Path) -> None:
    served, _ = running
    page = (DOCS / "alerting.md").read_text().replace("\\\n", " ")
    commands = [
        shlex.split(line, comments=True) for line in re.findall(r"^amtool (silence add .*)$", page, re.MULTILINE)
    ]
    assert len(commands) == 2
    for command, (instance, crew) in zip(commands, (("127.0.0.1:9464", "blue"), ("y:1", "nightly")), strict=True):
        post(served.url, [alert("CrewdWorkersStale", "warning", instance=instance, crew=crew, job="silenced")])
        post(served.url, [alert("CrewdWorkersStale", "warning", instance="y:1", crew="other", job="silenced")])
        run_amtool(tmp_path, *(word.replace("http://127.0.0.1:9093", served.url) for word in command))
        eventually(lambda of_it=instance: states(served, of_it).get("CrewdWorkersStale") == "suppressed", command[-1])
    others = [each for each in ask(f"{served.url}/api/v2/alerts") if each["labels"].get("crew") == "other"]
    assert [each["status"]["state"] for each in others] == ["active"]


@alertmanager
@pytest.mark.real_time
@pytest.mark.slow
@pytest.mark.xdist_group("alertmanager")
@pytest.mark.parametrize(("severity", "path"), [("critical", "/pager"), ("warning", "/ticket")])
def test_pager_and_chat_are_told_what_to_do(running: tuple[Served, Receiver], severity: str, path: str) -> None:
    served, receiver = running
    name = f"Tried{severity.title()}"
    post(served.url, [alert(name, severity, instance="z:1", crew="blue")])

    def told() -> list[str]:
        bodies = zip(receiver.paths, receiver.got, strict=False)
        return [str(body) for at, body in bodies if at == path and name in str(body)]

    eventually(told, f"{path} is told")
    title = f"{severity}: {name} of crew blue at z:1"
    runbook = f"What to do: http://127.0.0.1:9464/runbooks#{name.lower()}"
    for words in (title, "So much of it.", runbook, "Dashboard: http://127.0.0.1:3000/d/crewd-overview"):
        assert words in told()[0]
