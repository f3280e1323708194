"""The JSON values that pi-crew 0.10 writes, as far as a watcher can meet them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from crewd.model.moment import rfc3339

Record = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """One task of a team's workflow."""

    step: str
    role: str
    after: tuple[str, ...] = ()  # steps that must be done before


def run_id_of(name: str, wall: float) -> str:
    """Name a run as pi-crew does: `team_<UTC time>_<16 hex>`; the same name and second give the same id."""
    stamp = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%d%H%M%S")
    return f"team_{stamp}_{_hex(f'{name}:{stamp}', 16)}"


def manifest_record(run_id: str, team: str, goal: str, cwd: str, state_root: str, wall: float) -> Record:
    """Write the manifest of a run that was just created."""
    crew_root = state_root.partition("/state/runs/")[0]
    return {
        "schemaVersion": 1,
        "runId": run_id,
        "sessionId": f"crew-{run_id.replace('_', '')[:16]}",
        "team": team,
        "workflow": team,
        "goal": goal,
        "status": "queued",
        "workspaceMode": "single",
        "createdAt": rfc3339(wall),
        "updatedAt": rfc3339(wall),
        "cwd": cwd,
        "stateRoot": state_root,
        "artifactsRoot": f"{crew_root}/artifacts/{run_id}",
        "tasksPath": f"{state_root}/tasks.json",
        "eventsPath": f"{state_root}/events.jsonl",
        "artifacts": [],
        "ownerSessionId": _uuid(run_id),
        "runKind": "team-run",
    }


def task_records(run_id: str, cwd: str, plans: Sequence[Plan]) -> dict[str, Record]:
    """Write the tasks of a run that was just created, all queued, by task id."""
    ids = {plan.step: f"{number:02d}_{plan.step}" for number, plan in enumerate(plans, 1)}
    return {ids[plan.step]: _task_record(run_id, cwd, plan, plans, ids) for plan in plans}


def event_record(
    seq: int, type: str, run_id: str, wall: float, task_id: str = "", message: str = "", data: Record | None = None
) -> Record:
    """Write one line of `events.jsonl`."""
    record: Record = {"time": rfc3339(wall), "type": type, "runId": run_id}
    if task_id:
        record["taskId"] = task_id
    if message:
        record["message"] = message
    if data is not None:
        record["data"] = data
    metadata: Record = {"seq": seq, "provenance": "team_runner"}
    if type.startswith("run."):
        metadata["confidence"] = "high"
    if type in TERMINAL:
        metadata["fingerprint"] = _hex(f"{type}:{run_id}:{task_id}:{data}", 16)
    record["metadata"] = metadata
    return record


TERMINAL = frozenset({"run.completed", "run.failed", "run.cancelled", "task.completed", "task.failed"})


def question_id(run_id: str, task_id: str) -> str:
    """Name the question that a task asks."""
    return _uuid(f"{run_id}:{task_id}:question")


def _task_record(run_id: str, cwd: str, plan: Plan, plans: Sequence[Plan], ids: dict[str, str]) -> Record:
    graph: Record = {
        "taskId": ids[plan.step],
        "children": [ids[other.step] for other in plans if plan.step in other.after],
        "dependencies": [ids[step] for step in plan.after],
        "queue": "blocked" if plan.after else "ready",
    }
    return {
        "id": ids[plan.step],
        "runId": run_id,
        "stepId": plan.step,
        "role": plan.role,
        "agent": plan.role,
        "title": plan.step,
        "status": "queued",
        "dependsOn": list(plan.after),
        "cwd": cwd,
        "graph": graph,
    }


def _hex(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def _uuid(text: str) -> str:
    digits = _hex(text, 32)
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
