"""What is proposed for an interrupted run, and what is wrong with one, beside everything else that is told of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crewd.cli.client import Daemon, Place, ask
from crewd.cli.picture import API
from crewd.cli.refusals import DaemonBusy
from crewd.cli.screen import Line
from crewd.cli.text import clean, count
from crewd.errors import NothingMatched

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader

LIMIT = 1000
WAITING = ("planned", "failed")  # states in which a plan waits for a person
OPEN = (*WAITING, "approved", "applied")
GOING_ON = ("running", "queued", "planning", "blocked", "unknown")
SUMMARY_MAX = 300
STYLES = {"critical": "alert", "warning": "warn"}


def plans_by_run(plans: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Run -> its newest plan, where that is open; `plans` come the newest first."""
    newest: dict[str, Mapping[str, Any]] = {}
    for plan in plans:
        newest.setdefault(plan["run_id"], plan)
    return {run_id: _short(plan) for run_id, plan in newest.items() if plan["state"] in OPEN}


def beside(place: Place, run: str) -> dict[str, Any]:
    """Tell the open plan of a run, None if there is none, and its open incidents. Raises DaemonUnreachable."""

    def online(daemon: Daemon) -> dict[str, Any]:
        query = {"state": "open", "limit": LIMIT}
        return {"recovery": online_plans(daemon).get(run), "incidents": _told(daemon, "incidents", query)}

    def offline(reader: "Reader") -> dict[str, Any]:
        from crewd.cli.times import wall_now
        from crewd.model.incident import portrait

        found = [portrait(each, wall_now()) for each in reader.incidents(open_only=True)]
        return {"recovery": ledger_plans(reader).get(run), "incidents": place.redactor.value(found)}

    body: dict[str, Any] = ask(place, online, offline).body
    body["incidents"] = [_incident(each) for each in body["incidents"] if _concerns(each["subject"], run)]
    return body


def online_plans(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """Ask the daemon for the open plans, by run."""
    return plans_by_run(_told(daemon, "recoveries", {"limit": LIMIT}))


def ledger_plans(reader: "Reader") -> dict[str, dict[str, Any]]:
    """Read the open plans in the ledger, by run."""
    from crewd.model.recovery import portrait

    return plans_by_run([portrait(plan) for plan in reader.recoveries("", LIMIT)])


def plan_line(run: Mapping[str, Any]) -> Iterator[Line]:
    """Say what is proposed for a run and which command comes next; nothing where nothing is, or the run has ended."""
    plan = run.get("recovery")
    if plan is None or (plan["state"] == "failed" and run["status"] not in GOING_ON):
        return
    style = "alert" if plan["state"] in WAITING else "warn"
    words = f"{plan['cause']}, {plan['state']}: {plan['next_action']}"
    yield [("INTERRUPTED " if plan["state"] == "planned" else "RECOVERY ", style), (clean(words), "")]


def incident_lines(incidents: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    """Name what is wrong, the gravest first."""
    if incidents:
        yield [(f"{count(len(incidents), 'open incident')}:", "faint")]
    for each in incidents:
        where = f" {each['task_id']}" if each["task_id"] else ""
        yield [
            (f"  {each['severity']} ", STYLES.get(each["severity"], "")),
            (clean(each["cause"]) + clean(where), "head"),
            (f": {clean(each['summary'], SUMMARY_MAX)}", ""),
        ]


def waiting_words(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Count what waits for a person in the picture of `crewd status`: words, and how they look."""
    plans = sum(body.get("recoveries", {}).get(state, 0) for state in WAITING)
    incidents = body.get("incidents_open", 0)
    told = [(count(plans, "recovery plan") + (" waits" if plans == 1 else " wait"), "alert")] if plans else []
    return [*told, (count(incidents, "open incident"), "warn")] if incidents else told


def _short(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "plan_id": plan["plan_id"],
        "state": plan["state"],
        "cause": plan["cause"],
        "next_action": _next(plan),
    }


def _next(plan: Mapping[str, Any]) -> str:
    if plan["state"] not in WAITING:
        return f"crewd recover show {plan['plan_id']}"
    action = "" if "resume" in plan["offers"] else " --action cancel"
    return f"crewd recover approve {plan['plan_id']} --by NAME{action}"


def _told(daemon: Daemon, what: str, query: Mapping[str, object]) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = daemon.json(f"{API}/{what}", query)[what]
    except (NothingMatched, DaemonBusy):
        return []  # one that is just starting
    return found


def _concerns(subject: str, run: str) -> bool:
    return subject == run or subject.startswith(run + "/")


def _incident(each: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task_id": each["subject"].partition("/")[2] or None,
        "cause": each["cause"],
        "severity": each["severity"],
        "summary": each["summary"],
        "opened_at": each["opened_at"],
    }
