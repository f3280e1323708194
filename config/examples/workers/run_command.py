#!/usr/bin/env python3
"""A worker for crewd that runs a command and tells of it: output as it comes, an artifact, and why it failed.

    [[tasks]]
    id = "tests"
    mode = "protocol"
    command = ["python3", "run_command.py"]
    payload = { command = ["make", "test"], artifact = "report.xml", busy_seconds = 600 }

Copy crewd/worker.py beside this file where crewd itself is not installed.
"""

import subprocess
import sys
import threading
from pathlib import Path

from crewd import worker

CLASSES = {"429": "rate_limited", "401": "auth_error", "No space left": "disk_full"}


def handle(task):
    asked = task.payload if isinstance(task.payload, dict) else {}
    if asked.get("check") == "wait":  # what `crewd worker check` asks for, to see heartbeats and a cancel
        worker.sleep(asked["seconds"])
    command = asked.get("command") or ["echo", asked.get("text", "")]
    if not all(isinstance(word, str) for word in command):
        raise worker.Failed("input_invalid", "payload.command must be a list of texts")
    if task.kind == "preview":
        return {"would_run": command}
    with worker.busy(asked.get("busy_seconds", 60), command[0]):
        last = run(command)
    if asked.get("artifact"):
        worker.artifact(Path(asked["artifact"]))
    return {"last_line": last}


def run(command):
    """Run the command to its end, or until the task is cancelled."""
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise worker.Failed("input_invalid", f"{command[0]}: {error.strerror}") from error
    # Whoever is blocked in reading a silent child would hear of a cancel only by SIGTERM.
    threading.Thread(target=lambda: (worker.cancelled.wait(), child.terminate()), daemon=True).start()
    last = ""
    try:
        for number, line in enumerate(child.stdout, 1):
            worker.chunk(line)
            worker.progress(number)
            last = line.rstrip()
        status = child.wait()
    finally:
        child.kill()
        child.wait()
    worker.check()
    if status != 0:
        error_class = next((name for words, name in CLASSES.items() if words in last), "task_error")
        raise worker.Failed(error_class, f"{command[0]} ended with {status}: {last[:500]}")
    return last


if __name__ == "__main__":
    sys.exit(worker.run(handle, heartbeat_interval=2.0))
