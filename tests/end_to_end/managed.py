"""Managed runs from outside: asked over the unix socket of a real crewd, seen in its folders and in /proc."""

import contextlib
import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any

from tests.end_to_end.running import Crewd


class OverSocket(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


def ask(crewd: Crewd, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Ask crewd over its socket; (0, None) where nobody answers."""
    connection = OverSocket(crewd.state / "crewd.sock")
    try:
        with contextlib.closing(connection):
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
    except (OSError, http.client.HTTPException):
        return 0, None
    with contextlib.suppress(ValueError):
        return answer.status, json.loads(text)
    return answer.status, text


def submit(crewd: Crewd, run: dict[str, Any], key: str = "") -> str:
    """Submit a run and return its id."""
    status, answer = ask(crewd, "POST", "/api/v1/runs", {"run": run, "base": "/", **({"key": key} if key else {})})
    assert status in (200, 201), answer
    return str(answer["run_id"])


def managed(crewd: Crewd, run_id: str) -> dict[str, Any]:
    """How a run stands; {} where nobody answers."""
    status, answer = ask(crewd, "GET", f"/api/v1/runs/{run_id}/managed")
    return dict(answer) if status == 200 else {}


def states(crewd: Crewd, run_id: str) -> dict[str, str]:
    return {task["task_id"]: task["state"] for task in managed(crewd, run_id).get("tasks", ())}


def left_of(state: Path) -> list[int]:
    """Pids of living processes that work in an attempt folder of this crewd."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                environ = Path(f"/proc/{name}/environ").read_bytes()
                if f"CREWD_ATTEMPT_DIR={state}/".encode() in environ:
                    found.append(int(name))
    return found


def shell(task_id: str, script: str, **more: Any) -> dict[str, Any]:
    return {"id": task_id, "command": ["/bin/sh", "-c", script], "cwd": "/", **more}
