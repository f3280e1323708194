"""One run with its tasks as `wait`, `why`, `logs` and `show` need it, whoever runs it and whoever answers."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from crewd.cli.client import Answer, Daemon, Place, ask, look_back, segment
from crewd.cli.picture import API
from crewd.errors import NothingMatched

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader

MANAGED = "managed"  # the runtime of runs that crewd itself runs
OVER = ("completed", "failed", "cancelled", "blocked")  # nothing of the run goes on by itself
AT_WORK = ("starting", "running", "ending")  # states of tasks
ENDED = ("completed", "dead_lettered", "cancelled", "skipped", "failed", "needs_attention")  # states of tasks


def take_run(place: Place, run: str) -> Answer:
    """Ask for a run, also for one that has ended long ago and is only in the ledger any more.

    An observed run is told in the same shape, as far as its runtime tells it. Raises NothingMatched, and
    DaemonUnreachable where neither the daemon nor its ledger can be asked.
    """
    try:
        return ask(place, lambda daemon: online(daemon, run), lambda reader: offline(reader, run, place))
    except NothingMatched as unknown:
        return look_back(place, lambda reader: offline(reader, run, place), unknown)


def online(daemon: Daemon, run: str) -> dict[str, Any]:
    """Ask the daemon. Raises NothingMatched."""
    found = managed(daemon, run)
    return found if found is not None else _observed(daemon.json(f"{API}/runs/{segment(run)}"))


def managed(daemon: Daemon, run: str) -> dict[str, Any] | None:
    """Ask the daemon for a run of its own; None: it has none of that name."""
    try:
        found: dict[str, Any] = daemon.json(f"{API}/runs/{segment(run)}/managed")
    except NothingMatched:
        return None
    return {"runtime": MANAGED, **found}


def offline(reader: "Reader", run: str, place: Place) -> dict[str, Any]:
    """Read it in the ledger. Raises NothingMatched."""
    from crewd.cli.past import past_run
    from crewd.cli.past_managed import past_managed

    found = past_managed(reader, run, place.redactor)
    return found if found is not None else _observed(past_run(reader, run, place.redactor))


def over(body: dict[str, Any]) -> bool:
    """Say whether nothing of a run goes on by itself."""
    return body["status"] in OVER


def task_of(body: dict[str, Any], task: str) -> dict[str, Any]:
    """Find a task. Raises NothingMatched."""
    found: dict[str, Any] | None = next((each for each in body["tasks"] if each["task_id"] == task), None)
    if found is None:
        run = body["run_id"]
        raise NothingMatched(f"run {run!r} has no task {task!r}; `crewd show {run}` lists its tasks")
    return found


def as_whole(body: dict[str, Any]) -> dict[str, Any]:
    """Tell a managed run as an observed one is told, as far as nobody looked at its workers yet."""
    return {
        "run_id": body["run_id"],
        "runtime": MANAGED,
        "crew": body.get("crew") or "",
        "status": body["status"],
        "status_text": body["status"],
        "goal": body.get("name") or "",
        "created_at": body.get("submitted_at"),
        "updated_at": body.get("ended_at") or body.get("submitted_at"),
        "task_counts": body["counts"],
        "worker_counts": {},
        "worst_level": None,
        "unread": None,
        "folder": "",
        "waiting": None,
        "usage": None,
        "unread_rounds": 0,
        "tasks": [],
    }


def at_one_moment(whole: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Put two answers on a managed run together, the second of which is of a later moment: that one counts."""
    from crewd.model.managed import STATUS_OF

    states = {task["task_id"]: task for task in found["tasks"]}
    tasks = [_as_of(task, states[task["task_id"]]) for task in whole["tasks"] if task["task_id"] in states]
    return whole | {
        "status": found["status"],
        "status_text": found["status"],
        "task_counts": dict(Counter(STATUS_OF[task["state"]].value for task in found["tasks"])),
        "tasks": tasks,
        "managed": found,
    }


def _as_of(task: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    from crewd.model.managed import STATUS_OF

    state, attempt = found["state"], max(1, found["attempt"])
    same = state in AT_WORK and attempt == task["attempt"]
    return task | {
        "status": STATUS_OF[state].value,
        "status_text": state,
        "attempt": attempt,
        "worker": task["worker"] if same else None,
    }


def _observed(whole: dict[str, Any]) -> dict[str, Any]:
    tasks = [
        {
            "task_id": task["task_id"],
            "state": task["status"],
            "attempt": task["attempt"],
            "why": task["error"] or _waits(task["waiting"]),
            "due_at": None,
            "attempts": [],
            "depends_on": task["depends_on"],
            "worker": task["worker"],
        }
        for task in whole["tasks"]
    ]
    return {
        "runtime": whole["runtime"],
        "run_id": whole["run_id"],
        "status": whole["status"],
        "counts": whole["task_counts"],
        "tasks": tasks,
        "held": {},
        "waiting": whole["waiting"],
        "unread": whole["unread"],
        "unread_rounds": whole["unread_rounds"],
    }


def _waits(waiting: dict[str, Any] | None) -> str:
    return "" if waiting is None else f"waits for {waiting['reason']} {waiting['detail']}".rstrip()
