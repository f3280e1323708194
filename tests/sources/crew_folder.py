"""A writer of pi-crew's folders, as pi-crew 0.10 writes them: temporary file and rename, appended logs."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crewd.model.moment import Reading, rfc3339

WALL = 1_795_222_000.0
RUN = "team_20261121001132_1133f476328839a7"
OTHER = "team_20261121001132_76f63b8036a99615"


def reading(seconds: float = 0.0) -> Reading:
    return Reading(WALL + seconds, 1000.0 + seconds, 1000.0 + seconds)


def at(seconds: float) -> str:
    return rfc3339(WALL + seconds)


class CrewFolder:
    """A project with a crew folder in it."""

    def __init__(self, project: Path, below: str = ".crew") -> None:
        self.project = project
        self.runs = project / below / "state" / "runs"
        self.runs.mkdir(parents=True, exist_ok=True)

    def folder(self, run_id: str = RUN) -> Path:
        return self.runs / run_id

    def run(self, run_id: str = RUN, status: str = "running", **more: Any) -> Path:
        """Write a manifest, and make the folder if it is not there."""
        self.folder(run_id).mkdir(exist_ok=True)
        manifest = {
            "schemaVersion": 1,
            "runId": run_id,
            "team": "default",
            "goal": "test",
            "status": status,
            "createdAt": at(-100),
            "updatedAt": at(-90),
            "stateRoot": "/srv/elsewhere/.crew/state/runs/" + run_id,
            "artifacts": [],
            **more,
        }
        return self.write(run_id, "manifest.json", json.dumps(manifest, indent=2))

    def tasks(self, *tasks: Mapping[str, Any], run_id: str = RUN) -> Path:
        return self.write(run_id, "tasks.json", json.dumps(list(tasks), separators=(",", ":")) + "\n")

    def write(self, run_id: str, name: str, content: str | bytes) -> Path:
        path = self.folder(run_id) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(name.rpartition("/")[2] + ".tmp")
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
        temporary.replace(path)
        return path

    def append(self, run_id: str, name: str, *records: Mapping[str, Any]) -> Path:
        path = self.folder(run_id) / name
        with path.open("ab") as log:
            log.writelines(json.dumps(record).encode() + b"\n" for record in records)
        return path

    def compact(self, run_id: str, keep: int) -> None:
        """Keep the last lines in a new file of the same name, as pi-crew does."""
        lines = (self.folder(run_id) / "events.jsonl").read_bytes().splitlines(keepends=True)
        self.write(run_id, "events.jsonl", b"".join(lines[-keep:]))

    def rotate(self, run_id: str) -> None:
        """Move the log aside and begin anew, as pi-crew does."""
        log = self.folder(run_id) / "events.jsonl"
        number = len(list(self.folder(run_id).glob("*.archive.jsonl")))
        os.rename(log, log.with_name(f"events.jsonl.2026-11-21T00-11-{number:02d}-000Z.archive.jsonl"))
        log.touch()


def task(task_id: str = "01_explore", status: str = "running", seen: float = 0.0, **more: Any) -> dict[str, Any]:
    """A task as pi-crew writes it; `seen` is when its heartbeat was, in seconds from the test's now."""
    return {
        "id": task_id,
        "runId": RUN,
        "stepId": task_id[3:],
        "role": "explorer",
        "agent": "explorer",
        "title": task_id[3:],
        "status": status,
        "dependsOn": [],
        "startedAt": at(-80),
        "heartbeat": {"workerId": task_id, "lastSeenAt": at(seen), "alive": True},
        **more,
    }


def event(seq: int | None, type: str = "task.progress", task_id: str = "01_explore", **data: Any) -> dict[str, Any]:
    """A line of a run's event log."""
    metadata: dict[str, Any] = {"provenance": "team_runner"}
    if seq is not None:
        metadata["seq"] = seq
    record = {"time": at(0), "type": type, "runId": RUN, "data": data, "metadata": metadata}
    return record | ({"taskId": task_id} if task_id else {})
