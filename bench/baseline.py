"""The way it is commonly done, as a baseline: read and parse everything, each time."""

import json
import os
from pathlib import Path

TAIL = 64 * 1024  # bytes of an event log that such a watcher looks at


def read_everything(home: Path) -> int:
    """Read manifest, tasks and events of every run, as pi-crew's watcher does each tick; count the tasks at work."""
    tasks_at_work = 0
    for name in os.listdir(home):
        folder = f"{home}/{name}"
        with open(f"{folder}/manifest.json", encoding="utf-8") as file:
            manifest = json.load(file)
        if manifest["status"] in ("completed", "failed", "cancelled"):
            continue
        with open(f"{folder}/tasks.json", encoding="utf-8") as file:
            tasks = json.load(file)
        with open(f"{folder}/events.jsonl", "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - TAIL))
            events = [json.loads(line) for line in file.read().splitlines()[1 if size > TAIL else 0 :]]
        tasks_at_work += sum(1 for task in tasks if task["status"] == "running" and events)
    return tasks_at_work


def stat_paths(folders: list[Path], names: tuple[str, ...]) -> list[str]:
    """Name the files whose signatures tell whether anything changed."""
    return [f"{folder}/{name}" for folder in folders for name in names]


def stat_all(paths: list[str]) -> None:
    """Ask for each file's signature and do nothing with it: what no watcher can go below."""
    stat = os.stat
    for path in paths:
        stat(path)
