"""A writer of crew folders as pi-crew 0.10 leaves them, without pi-crew: runs, tasks, beats, questions, ends."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from crewd.demo.event_log import EventLog
from crewd.demo.records import Plan, Record, manifest_record, question_id, run_id_of, task_records
from crewd.host.clock import Clock
from crewd.host.files import write_atomically
from crewd.model.moment import rfc3339

Write = Callable[[Path, bytes], None]
RECENT = 25  # tools and lines of output that pi-crew keeps in a task


def replace(path: Path, data: bytes) -> None:
    """Replace a file as pi-crew does, through a temporary file, but without waiting for the disk."""
    write_atomically(path, data, durable=False)


class Crew:
    """One project folder with its `.crew`."""

    def __init__(self, project: Path, clock: Clock, write: Write = replace) -> None:
        self.project = project
        self.root = project / ".crew"
        self.clock = clock
        self.write = write

    def new_run(self, name: str, goal: str, plans: Sequence[Plan], team: str = "default") -> "CrewRun":
        """Create a run with all its tasks queued. `name` only makes the run id another one."""
        wall = self.clock.read().wall
        run_id = run_id_of(name, wall)
        folder = self.root / "state" / "runs" / run_id
        folder.mkdir(parents=True)
        run = CrewRun(self, folder, manifest_record(run_id, team, goal, str(self.project), str(folder), wall), plans)
        run.tell("run.created", data={"team": team, "workflow": team})
        run.save_manifest()
        run.save_tasks()
        return run


class CrewRun:
    """One run: every method leaves its files as pi-crew would have."""

    def __init__(self, crew: Crew, folder: Path, manifest: Record, plans: Sequence[Plan]) -> None:
        self._crew = crew
        self.folder = folder
        self.manifest = manifest
        self.run_id: str = manifest["runId"]
        self.tasks = task_records(self.run_id, manifest["cwd"], plans)
        self.log = EventLog(folder, self.run_id)
        self._owners: Record = {}
        self._agent_lines: dict[str, int] = {}

    def begin(self, runner_pid: int) -> None:
        """Let a background runner take the run up."""
        now = self._now()
        log_path = f"{self.folder}/background.log"
        self._save("async.pid", {"pid": runner_pid, "startedAt": now}, indent=2)
        self.manifest["async"] = {"pid": runner_pid, "logPath": log_path, "spawnedAt": now}
        self.tell("async.spawned", data={"pid": runner_pid, "logPath": log_path})
        self.runner_beats(runner_pid)
        self._set_status("running", "Executing team workflow.")

    def runner_beats(self, runner_pid: int) -> None:
        """Write the runner's own heartbeat (every 15 s in pi-crew)."""
        at = round(self._crew.clock.read().wall * 1000)
        memory = {"heapUsedMb": 54, "rssMb": 187}
        self._save("heartbeat.json", {"pid": runner_pid, "at": at, "runId": self.run_id, "memory": memory})

    def spawn(self, task_id: str, pid: int) -> None:
        """Start a task: a worker process has taken it up."""
        now = self._now()
        task = self.tasks[task_id]
        attempt = {"attemptId": f"{self.run_id}:{task_id}:attempt-1", "startedAt": now}
        task |= {
            "status": "running",
            "attempts": [attempt],
            "startedAt": now,
            "heartbeat": {"workerId": task_id, "lastSeenAt": now, "alive": True},
            "agentProgress": {
                "recentTools": [], "recentOutput": [], "toolCount": 0, "tokens": 0, "turns": 0, "lastActivityAt": now,
                "activityState": "active",
            },
            "lifetimeUsage": {"input": 0, "output": 0, "cacheWrite": 0},
            "checkpoint": {"phase": "child-spawned", "updatedAt": now, "childPid": pid},
        }  # fmt: skip
        task["graph"]["queue"] = "running"
        self._owners[task_id] = {"taskId": task_id, "runId": self.run_id, "pid": pid, "updatedAt": now}
        self._save("ownership-map.json", {"version": 1, "entries": self._owners})
        role = {"role": task["role"], "agent": task["agent"], "runtime": "child-process", "cwd": task["cwd"]}
        self.tell("task.started", task_id, data=role)
        self.tell("worker.spawned", task_id, "Worker lifecycle: spawned", {"type": "spawned", "pid": pid, "ts": now})
        self.save_tasks()

    def beat(self, task_id: str, tool: str, words: str, tokens: int = 40) -> None:
        """Let a worker finish one short tool call: heartbeat, progress, event and output move."""
        now = self._now()
        task = self.tasks[task_id]
        task["heartbeat"]["lastSeenAt"] = now
        progress = task["agentProgress"]
        progress["recentTools"] = [*progress["recentTools"], {"tool": tool, "args": "{}", "endedAt": now}][-RECENT:]
        progress["recentOutput"] = [*progress["recentOutput"], words][-RECENT:]
        progress["toolCount"] += 1
        progress["tokens"] += tokens
        progress["lastActivityAt"] = now
        for name in ("currentTool", "currentToolStartedAt"):
            progress.pop(name, None)
        task["lifetimeUsage"]["input"] += 20 * tokens
        task["lifetimeUsage"]["output"] += tokens
        self._agent_says(task_id, now, "tool_execution_end", f"tool: {tool}\n{words}\n")
        self.tell("task.progress", task_id, data=_progress_data("tool_execution_end", progress))
        self.save_tasks()

    def enter_tool(self, task_id: str, tool: str) -> None:
        """Let a worker begin a tool call that it does not return from for a while."""
        now = self._now()
        progress = self.tasks[task_id]["agentProgress"]
        progress |= {"currentTool": tool, "currentToolStartedAt": now, "lastActivityAt": now}
        self._agent_says(task_id, now, "tool_execution_start", f"tool: {tool}\n")
        self.tell("task.progress", task_id, data=_progress_data("tool_execution_start", progress))
        self.save_tasks()

    def ask(self, task_id: str, options: Sequence[str], patience: float = 3600.0) -> None:
        """Let a worker wait for a human's answer."""
        reading = self._crew.clock.read()
        question, asked = question_id(self.run_id, task_id), rfc3339(reading.wall)
        task = self.tasks[task_id]
        task["status"] = "waiting"
        task["waiting"] = {
            "questionId": question,
            "askedAt": asked,
            "deadline": round((reading.wall + patience) * 1000),
            "options": list(options),
        }
        self.tell("ask.requested", task_id, data={"questionId": question})
        self.save_tasks()

    def answer(self, task_id: str) -> None:
        """Let the human answer."""
        task = self.tasks[task_id]
        question = task.pop("waiting")["questionId"]
        task["status"] = "running"
        task["heartbeat"]["lastSeenAt"] = self._now()
        self.tell("ask.answered", task_id, data={"questionId": question})
        self.save_tasks()

    def finish(self, task_id: str, status: str = "completed", error: str = "") -> None:
        """End a task."""
        task = self.tasks[task_id]
        task |= {"status": status, "finishedAt": self._now(), "exitCode": 1 if error else 0}
        if error:
            task["error"] = error
        if "heartbeat" in task:  # a task may fail that was never started
            task["heartbeat"]["alive"] = False
        task["graph"]["queue"] = "done"
        self.tell(f"task.{status}", task_id, data={"error": error} if error else None)
        self.save_tasks()

    def end(self, status: str = "completed") -> None:
        """End the run."""
        self._set_status(status, f"Team workflow {status}.")

    def flood(self, task_id: str, lines: int, width: int = 500) -> int:
        """Write many events at once, as a worker in a loop does; returns their bytes."""
        wall = self._crew.clock.read().wall
        data = {"eventType": "tool_execution_update", "currentTool": "bash", "args": "x" * width}
        before = self.log.bytes_written
        self.log.append(self.log.line("task.progress", wall, task_id, data=data) for _ in range(lines))
        return self.log.bytes_written - before

    def tell(self, type: str, task_id: str = "", message: str = "", data: Record | None = None) -> None:
        """Append one event."""
        self.log.append([self.log.line(type, self._crew.clock.read().wall, task_id, message, data)])

    def save_manifest(self) -> None:
        """Write the manifest as it stands."""
        self._save("manifest.json", self.manifest, indent=2)

    def save_tasks(self) -> None:
        """Write the tasks as they stand: one line, as pi-crew 0.10 does."""
        self._save("tasks.json", list(self.tasks.values()))

    def _set_status(self, status: str, summary: str) -> None:
        self.manifest |= {"status": status, "updatedAt": self._now(), "summary": summary}
        self.tell(f"run.{status}", message=summary)
        self.save_manifest()

    def _agent_says(self, task_id: str, now: str, type: str, words: str) -> None:
        folder = self.folder / "agents" / task_id
        folder.mkdir(parents=True, exist_ok=True)
        number = self._agent_lines[task_id] = self._agent_lines.get(task_id, 0) + 1
        with (folder / "events.jsonl").open("ab") as log:
            log.write(msgspec.json.encode({"seq": number, "time": now, "event": {"type": type}}) + b"\n")
        with (folder / "output.log").open("a") as log:
            log.write(words)

    def _save(self, name: str, value: object, indent: int = 0) -> None:
        data = msgspec.json.encode(value)
        self._crew.write(self.folder / name, (msgspec.json.format(data, indent=indent) if indent else data) + b"\n")

    def _now(self) -> str:
        return rfc3339(self._crew.clock.read().wall)


def _progress_data(kind: str, progress: Record) -> Record:
    # The number of tokens stands redacted here, as in genuine logs: the redactor takes the key for a secret.
    shown = {name: progress[name] for name in ("toolCount", "activityState", "lastActivityAt")}
    tool = {"currentTool": progress["currentTool"]} if "currentTool" in progress else {}
    return {"eventType": kind, **tool, **shown, "tokens": "***", "coalesceReason": "tool_changed"}
