"""Shapes: the snapshot laid out as JSON. Times are RFC 3339, durations seconds, what is unknown is null."""

from collections import Counter
from typing import Any

from crewd.detection.liveness import TABLE
from crewd.detection.remedies import remedy
from crewd.model.moment import rfc3339
from crewd.model.run import Run, Task, Usage, Waiting
from crewd.model.snapshot import Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level
from crewd.telemetry.last_hour import POINT_SECONDS, LastHour
from crewd.telemetry.readiness import is_ready

TROUBLE = {Level.DEAD: 5, Level.STALE: 4, Level.UNREADABLE: 3, Level.WARN: 2, Level.WAITING: 1, Level.HEALTHY: 0}


NEVER_READ_MAX = 100


def status(snapshot: Snapshot) -> dict[str, Any]:
    """Tell how crewd is, and how many of everything it sees, per crew."""
    crews: dict[tuple[str, str], dict[str, Counter[str]]] = {}
    for view in snapshot.runs.values():
        crew = crews.setdefault((view.run.crew, view.run.runtime), {"runs": Counter(), "workers": Counter()})
        crew["runs"][view.run.status.value] += 1
        crew["workers"].update(worker.standing.level.value for worker in view.workers)
    return {
        "taken_at": time(snapshot.taken_at),
        "health": health(snapshot.health),
        "runs": len(snapshot.runs),
        "incidents_open": len(snapshot.incidents),
        "recoveries": dict(snapshot.recoveries),
        "never_read": {run_id: why.value for run_id, why in sorted(snapshot.strangers.items())[:NEVER_READ_MAX]},
        "crews": [
            {
                "crew": crew,
                "runtime": runtime,
                "runs": dict(counts["runs"]),
                "workers": dict(counts["workers"]),
                "dead_letters": snapshot.dead_letters.get(crew, (0, None))[0],
            }
            for (crew, runtime), counts in sorted(crews.items())
        ],
    }


def crews(hour: LastHour) -> dict[str, Any]:
    """Tell where every crew's workers stood in the last hour."""
    return {
        "crews": [
            {
                "crew": crew,
                "runtime": runtime,
                "seconds": POINT_SECONDS,
                "points": [
                    {"at": time(point.at), "levels": dict(point.levels)} for point in hour.points(crew, runtime)
                ],
            }
            for crew, runtime in hour.crews()
        ],
        "left_off": hour.left_off,
    }


def health(health: Health) -> dict[str, Any]:
    """Tell what crewd thinks of itself."""
    return {
        "ready": is_ready(health),
        "started_at": time(health.started_at),
        "rounds": health.round_number,
        "round_at": time(health.round_at),
        "round_interval": health.round_interval,
        "hold": health.hold,
        "hold_seconds_left": health.hold_seconds_left,
        "brake": health.brake,
        "local_health": health.local_health,
        "roots_stuck": list(health.roots_stuck),
        "degraded": dict(health.degraded),
    }


def readiness(health: Health) -> dict[str, Any]:
    """Tell part by part whether crewd does its whole work."""
    names = sorted({"patrol", *health.parts, *health.degraded})
    parts = {}
    for name in names:
        why = health.degraded.get(name, "")
        ready = health.parts.get(name, True) and not why
        if name == "patrol" and not health.round_number:
            ready, why = False, why or "no round is complete yet"
        parts[name] = {"ready": ready, "why": why or ("" if ready else "not ready yet")}
    return {"status": "ready" if all(part["ready"] for part in parts.values()) else "not ready", "parts": parts}


def run_line(view: RunView) -> dict[str, Any]:
    """Tell one run in a line."""
    run = view.run
    return {
        "run_id": run.run_id,
        "runtime": run.runtime,
        "crew": run.crew,
        "status": run.status.value,
        "status_text": run.status_text,
        "goal": run.goal,
        "created_at": time(run.created_at),
        "updated_at": time(run.updated_at),
        "task_counts": dict(Counter(task.status.value for task in run.tasks)),
        "worker_counts": dict(Counter(worker.standing.level.value for worker in view.workers)),
        "worst_level": worst(view),
        "unread": view.unread.value if view.unread is not None else None,
    }


def run_working(view: RunView, snapshot: Snapshot) -> dict[str, Any]:
    """Tell one run in a line, with those of its tasks that somebody works on."""
    workers = {worker.task_id: worker for worker in view.workers}
    return run_line(view) | {
        "workers": [
            task_line(task, workers[task.task_id], view, snapshot)
            for task in view.run.tasks
            if task.task_id in workers
        ]
    }


def run_whole(view: RunView, snapshot: Snapshot) -> dict[str, Any]:
    """Tell one run with all its tasks."""
    workers = {worker.task_id: worker for worker in view.workers}
    return run_line(view) | {
        "folder": view.run.folder,
        "waiting": waiting(view.run.waiting),
        "usage": usage(view.run.usage),
        "unread_rounds": view.unread_rounds,
        "tasks": [task_line(task, workers.get(task.task_id), view, snapshot) for task in view.run.tasks],
    }


def task_line(task: Task, worker: WorkerView | None, view: RunView, snapshot: Snapshot) -> dict[str, Any]:
    """Tell one task, and where its worker stands if it has one now."""
    return {
        "task_id": task.task_id,
        "status": task.status.value,
        "status_text": task.status_text,
        "attempt": task.attempt,
        "task_type": task.task_type,
        "agent": task.agent,
        "model": task.model,
        "title": task.title,
        "depends_on": list(task.depends_on),
        "started_at": time(task.started_at),
        "finished_at": time(task.finished_at),
        "error": task.error,
        "waiting": waiting(task.waiting),
        "usage": usage(task.usage),
        "worker": None if worker is None else worker_line(worker, view, snapshot),
    }


def rules() -> list[dict[str, Any]]:
    """Tell the table by which workers are judged: the first row that fits the evidence counts."""
    return [
        {"row": row.number, "process": row.process, "silence": row.silence, "verdict": row.verdict} for row in TABLE
    ]


def worker_line(worker: WorkerView, view: RunView, snapshot: Snapshot) -> dict[str, Any]:
    """Tell where one worker stands."""
    standing, process = worker.standing, worker.process
    return {
        "level": standing.level.value,
        "reason": standing.reason.value,
        "because": standing.because,
        "since": time(standing.since),
        "silence_seconds": round(snapshot.silence(view, worker), 3),
        "progress_at": time(worker.progress_at),
        "held_by": standing.held_by,
        "wedge": standing.wedge.value if standing.wedge is not None else None,
        "remedy": remedy(standing.level, standing.reason, standing.wedge),
        "tool": worker.tool,
        "process": {
            "state": process.state.value,
            "why": process.why,
            "pid": process.identity.pid if process.identity is not None else None,
        },
    }


def find_task(run: Run, task_id: str) -> Task | None:
    """Find a task of a run."""
    return next((task for task in run.tasks if task.task_id == task_id), None)


def worst(view: RunView) -> str | None:
    """Name the level of the worker in most trouble; None: nobody works."""
    levels = [worker.standing.level for worker in view.workers]
    return max(levels, key=TROUBLE.__getitem__).value if levels else None


def gravity(level: str) -> int:
    """Rank a level: the more trouble, the higher."""
    return TROUBLE[Level(level)]


def trouble(view: RunView) -> int:
    """Rank a run: the more trouble, the higher."""
    return max((TROUBLE[worker.standing.level] for worker in view.workers), default=-1)


def waiting(waits: Waiting | None) -> dict[str, Any] | None:
    return None if waits is None else {"reason": waits.reason, "since": time(waits.since), "detail": waits.detail}


def usage(used: Usage | None) -> dict[str, Any] | None:
    if used is None:
        return None
    return {
        "model": used.model,
        "input": used.input,
        "output": used.output,
        "cache_read": used.cache_read,
        "cache_write": used.cache_write,
        "cost_usd": used.cost_usd,
    }


def time(wall: float | None) -> str | None:
    """Write a wall time; None for one that is unknown, or that no calendar has."""
    if not wall:
        return None
    try:
        return rfc3339(wall)
    except (OverflowError, ValueError, OSError):
        return None
