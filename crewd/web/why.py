"""The route that says why a run stands where it stands, in the words of `crewd why`."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec
from fastapi import FastAPI, Response

from crewd.model.snapshot import RunView, Snapshot
from crewd.policy.causes import MANAGED, causes, guidance, next_action, waits
from crewd.web import shapes
from crewd.web.answers import told, unknown
from crewd.web.query import NO_QUERY, RUNS, RunId
from crewd.web.state import WebState


def add_why(app: FastAPI, state: WebState) -> None:
    """Add it."""

    @app.get(f"{RUNS}/{{run}}/why", tags=["runs"], dependencies=NO_QUERY)
    async def why(run: RunId) -> Response:
        """Say why a run stands where it stands, in the words of `crewd why`.

        The first `cause` (tasks, error, what it means, whom it holds up, what to do next), `other_causes`, the
        `workers` that do not get on with what helps, and why others wait.
        """
        snapshot = state.snapshot()
        found = state.actions.managed(run) if state.actions is not None else None
        view = snapshot.runs.get(run)
        if found is None and view is None:
            unknown("run", run)
        return await told(state, lambda: _why(found, view, snapshot))


def _why(managed: Mapping[str, Any] | None, view: RunView | None, snapshot: Snapshot) -> dict[str, Any]:
    whole = shapes.run_whole(view, snapshot) if view is not None else None
    if managed is not None:
        body: dict[str, Any] = {"runtime": MANAGED, **msgspec.to_builtins(managed)}
    else:
        assert whole is not None
        body = _observed(whole)
    found = [
        {**asdict(cause), "guidance": guidance(cause.error_class), "next_action": next_action(cause, body)}
        for cause in causes(body)
    ]
    return {
        "run_id": body["run_id"],
        "status": body["status"],
        "cause": found[0] if found else None,
        "other_causes": found[1:],
        "workers": _stuck(whole) if whole is not None else [],
        "waits": [{"why": reason, "tasks": list(names)} for reason, names in waits(body)],
    }


def _stuck(whole: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tell the workers that do not get on, those in most trouble first."""
    found = [task for task in whole["tasks"] if task["worker"] is not None and task["worker"]["level"] != "healthy"]
    found.sort(key=lambda task: (-shapes.gravity(task["worker"]["level"]), -task["worker"]["silence_seconds"]))
    return [{"task": task["task_id"], **task["worker"]} for task in found]


def _observed(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Lay out an observed run as a managed one, as far as its runtime tells it."""
    tasks = [
        {
            "task_id": task["task_id"],
            "state": task["status"],
            "attempt": task["attempt"],
            "why": task["error"] or _waits(task["waiting"]),
            "attempts": [],
            "depends_on": task["depends_on"],
        }
        for task in whole["tasks"]
    ]
    return {name: whole[name] for name in ("runtime", "run_id", "status")} | {"tasks": tasks, "held": {}}


def _waits(waiting: Mapping[str, Any] | None) -> str:
    return "" if waiting is None else f"waits for {waiting['reason']} {waiting['detail']}".rstrip()
