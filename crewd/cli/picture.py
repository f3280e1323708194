"""The picture that `crewd status` shows: how crewd is, and every run with its workers."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from crewd.cli.client import Answer, Daemon, Place, ask
from crewd.cli.refusals import DaemonBusy
from crewd.errors import NothingMatched

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader
    from crewd.telemetry.redact import Redactor

API = "/api/v1"
PAGE = 1000
NOT_ENDED = ("queued", "planning", "running", "blocked", "unknown")
TROUBLE = {"dead": 5, "stale": 4, "unreadable": 3, "warn": 2, "waiting": 1, "healthy": 0}


def take(place: Place, ended: bool) -> Answer:
    """Ask for the picture; with `ended` also the runs that are over and have no worker."""
    return ask(place, lambda daemon: online(daemon, ended), lambda reader: _offline(reader, ended, place.redactor))


def trouble(run: dict[str, Any]) -> tuple[float, ...]:
    """Sort key: the run in most trouble first, then the one changed last."""
    level = run["worst_level"]
    silence = max((task["worker"]["silence_seconds"] or 0.0 for task in run["workers"]), default=0.0)
    unread = 2.5 if run["unread"] else -1.0
    return (-max(TROUBLE.get(level, -1), unread), -silence)


def worker_trouble(task: dict[str, Any]) -> tuple[float, ...]:
    """Sort key for the workers of a run."""
    return (-TROUBLE.get(task["worker"]["level"], -1), -(task["worker"]["silence_seconds"] or 0.0))


def online(daemon: Daemon, ended: bool) -> dict[str, Any]:
    """Ask the daemon, and nobody in its stead. Raises DaemonUnreachable."""
    status = daemon.json(f"{API}/status") | {
        "pauses": _told(daemon, "pauses"),
        "circuits": _not_closed(_told(daemon, "circuits")),
    }
    expected = sum(sum(crew["workers"].values()) for crew in status["crews"])
    lines = list(_lines(daemon, None if ended else NOT_ENDED))
    if not ended and sum(map(_workers_of, lines)) < expected:
        # A run that says it has ended still has workers: that is trouble, and must not be left out.
        lines = [line for line in _lines(daemon, None) if line["status"] in NOT_ENDED or _workers_of(line)]
    return _sorted(status, lines, _plans(daemon) if any(status.get("recoveries", {}).values()) else {})


def _offline(reader: "Reader", ended: bool, redactor: "Redactor") -> dict[str, Any]:
    import msgspec

    from crewd.cli.past import past_snapshot, past_whole
    from crewd.cli.rescue import ledger_plans
    from crewd.web import shapes

    memory = reader.recall()
    snapshot = past_snapshot(memory)
    status = shapes.status(snapshot) | {"taken_at": None, "health": None}
    status["pauses"] = [redactor.value(msgspec.to_builtins(each)) for each in memory.pauses]
    status["circuits"] = _not_closed([msgspec.to_builtins(each) for each in memory.circuits])
    runs = []
    for view in snapshot.runs.values():
        if ended or view.workers or view.run.status.value in NOT_ENDED:
            whole = past_whole(view, snapshot, redactor)
            runs.append({name: whole[name] for name in shapes.run_line(view)} | {"workers": _working(whole)})
    plans = ledger_plans(reader)
    status["incidents_open"] = len(memory.incidents_open)
    status["recoveries"] = dict(Counter(plan["state"] for plan in plans.values()))
    return _sorted(status, runs, plans)


def _plans(daemon: Daemon) -> dict[str, dict[str, Any]]:
    from crewd.cli.rescue import online_plans

    return online_plans(daemon)


def _told(daemon: Daemon, what: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = daemon.json(f"{API}/{what}")[what]
    except (NothingMatched, DaemonBusy):
        return []  # a crewd that only watches
    return found


def _not_closed(circuits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in circuits if each["state"] != "closed"]


def _sorted(
    status: dict[str, Any], runs: list[dict[str, Any]], plans: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    for run in runs:
        run["workers"].sort(key=worker_trouble)
        run["recovery"] = plans.get(run["run_id"])
    runs.sort(key=lambda run: run["updated_at"] or "", reverse=True)
    runs.sort(key=trouble)
    return {**status, "runs_seen": status["runs"], "runs": runs}


def _lines(daemon: Daemon, statuses: tuple[str, ...] | None) -> Iterator[dict[str, Any]]:
    after = None
    while True:
        page = daemon.json(f"{API}/runs", {"after": after, "limit": PAGE, "status": statuses, "workers": "true"})
        yield from page["runs"]
        after = page["next"]
        if after is None:
            return


def _workers_of(line: dict[str, Any]) -> int:
    return sum(line["worker_counts"].values())


def _working(whole: dict[str, Any]) -> list[dict[str, Any]]:
    return [task for task in whole["tasks"] if task["worker"] is not None]
