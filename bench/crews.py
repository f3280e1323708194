"""Folders for the comparisons: one run is written by the demo's own writer, the others are copies under other ids."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from crewd.demo.crew import Crew, CrewRun
from crewd.demo.records import Plan
from crewd.host.clock import SystemClock

# Where there is one, so that making and removing 40,000 files takes seconds; `stat` costs the same there.
MEMORY = Path("/dev/shm")
FILES = ("manifest.json", "tasks.json", "events.jsonl")


@contextmanager
def crew_of(runs: int, tasks: int = 3, events: int = 60, runner: int = 0) -> Iterator[tuple[Path, list[Path]]]:
    """Make a project with so many running runs; yields it and the runs' folders.

    `events` is the length of each event log. `runner` is the pid of whoever runs them and of all workers; 0: no
    process is named.
    """
    with TemporaryDirectory(prefix="crewd-bench-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        project = Path(name)
        crew = Crew(project, SystemClock(), write=_plainly)
        template = _template(crew, tasks, events, runner)
        home = crew.root / "state" / "runs"
        folders = [_copy(template, home, number) for number in range(runs)]
        for path in template.folder.iterdir():
            path.unlink()
        template.folder.rmdir()
        yield project, folders


def end(folders: list[Path]) -> None:
    """Let runs be completed."""
    for folder in folders:
        for name in ("manifest.json", "tasks.json"):
            path = folder / name
            data = path.read_bytes().replace(b'"status": "running"', b'"status": "completed"')
            path.write_bytes(data.replace(b'"status":"running"', b'"status":"completed"'))


def _plainly(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def touch(folder: Path, mark: int) -> None:
    """Change a run as a heartbeat does: tasks.json is written anew with another time in it."""
    path = folder / "tasks.json"
    data = path.read_bytes()
    at = data.index(b'"lastSeenAt":"') + len(b'"lastSeenAt":"')
    stamp = b"2026-11-21T%02d:%02d:%02d.%03dZ" % (mark // 3600 % 24, mark // 60 % 60, mark % 60, mark % 1000)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(data[:at] + stamp + data[at + len(stamp) :])
    temporary.rename(path)


def _template(crew: Crew, tasks: int, events: int, runner: int) -> CrewRun:
    plans = [Plan(f"step{number}", "executor") for number in range(tasks)]
    run = crew.new_run("template", "a goal as people write them, some sixty characters long", plans)
    run.manifest |= {"status": "running", "summary": "Executing team workflow."}
    if runner:
        run.begin(runner)
    for task_id, task in run.tasks.items():
        run.spawn(task_id, runner)
        if not runner:
            del task["checkpoint"]
        task["agentProgress"] |= {"recentOutput": ["x" * 200], "toolCount": 3}
    data = {"eventType": "tool_execution_start", "currentTool": "bash", "toolCount": 3, "activityState": "active"}
    while run.log.seq < events:
        run.tell("task.progress", next(iter(run.tasks)), data=data)
    run.save_manifest()
    run.save_tasks()
    return run


def _copy(template: CrewRun, home: Path, number: int) -> Path:
    run_id = f"{template.run_id[:-16]}{number:016x}"
    folder = home / run_id
    folder.mkdir()
    old, new = template.run_id.encode(), run_id.encode()
    for name in FILES:
        (folder / name).write_bytes((template.folder / name).read_bytes().replace(old, new))
    return folder
