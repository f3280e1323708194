"""A credential that a worker was given appears nowhere, whatever the worker does with it, also after a restart."""

import contextlib
import sys
from pathlib import Path

import pytest

from tests.end_to_end.managed import ask, managed, shell, submit
from tests.end_to_end.running import Crewd, crewd, eventually

pytestmark = [pytest.mark.slow, pytest.mark.real_time]

SECRET = "correct-horse-battery-staple"
CHATTER = """
import os
from crewd import worker

def handle(task):
    secret = os.environ["KEY"]
    worker.progress(secret, step=secret)
    worker.chunk(secret + "\\n")
    worker.log(secret)
    worker.usage(secret, 10, 20, 0.5)
    open("made-" + secret, "w").close()
    worker.artifact("made-" + secret)
    with worker.busy(60, secret):
        pass
    if task.payload["fails"]:
        raise worker.Failed("input_invalid", secret, guidance=secret, details={"missing_fields": [secret]})
    return {"said": secret}

raise SystemExit(worker.run(handle))
"""
PAGES = (
    "status",
    "runs",
    "runs/run-1",
    "runs/run-1/managed",
    "runs/run-1/events",
    "runs/run-1/tasks/good",
    "runs/run-1/tasks/bad",
    "runs/run-1/tasks/shell",
    "events",
    "deadletters",
    "deadletter?key=managed:run-1/bad/1",
)


def test_a_credential_of_a_worker_appears_nowhere_also_after_a_restart(tmp_path: Path) -> None:
    credentials, state = tmp_path / "credentials", tmp_path / "state"
    credentials.mkdir()
    (credentials / "api").write_text(SECRET + "\n")
    environ = {"CREWD_SECRETS__FOLDER": str(credentials)}
    given = {"secrets": {"KEY": "api"}, "retry": {"max_attempts": 1}}
    chatter = {"command": [sys.executable, "-c", CHATTER], "mode": "protocol", "cwd": str(tmp_path), **given}
    chatter["env"] = {"PYTHONPATH": str(Path(__file__).parents[2])}
    run = {
        "run_id": "run-1",
        "tasks": [
            {"id": "good", **chatter, "payload": {"fails": False}},
            {"id": "bad", **chatter, "payload": {"fails": True}},
            shell("shell", "echo $KEY; echo $KEY >&2; exit 7", **given),
        ],
    }
    with crewd(state, tmp_path, **environ) as first:
        first.wait_ready()
        submit(first, run)
        eventually(lambda: managed(first, "run-1").get("status") == "failed", first.process)
        eventually(lambda: 'model="***"' in _text(first.get("/metrics")[1]), first.process)
        assert _leaks(first) == []
    with crewd(state, tmp_path, **environ) as second:
        second.wait_ready()
        assert _leaks(second) == [], "the next crewd does not know what its predecessor gave away"
    logs = b"".join(path.read_bytes() for path in (first.log, *(state / "logs").iterdir()))
    assert SECRET.encode() not in logs
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in state.glob("ledger.sqlite3*"))


def _leaks(running: Crewd) -> list[str]:
    """Every address whose answer holds the secret."""
    pages = ["/plain", "/metrics", "/readyz", *(f"/api/v1/{page}" for page in PAGES)]
    pages += [
        f"/api/v1/runs/run-1/tasks/{task}/output?stream={stream}"
        for task in ("good", "bad", "shell")
        for stream in ("stdout", "stderr")
    ]
    found = []
    for page in pages:
        status, body = ask(running, "GET", page)
        assert status in (200, 404), page  # a run that ended is in view as long as this crewd lives
        if SECRET in _text(body):
            found.append(page)
    return found


def _text(body: object) -> str:
    with contextlib.suppress(AttributeError, UnicodeDecodeError):
        return body.decode()  # type: ignore[attr-defined, no-any-return]
    return str(body)
