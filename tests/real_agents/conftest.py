"""Tests with the real agent command lines. They want to know where these are, and are skipped where nobody says:

    sh tests/real_agents/install.sh FOLDER
    CREWD_AGENT_CLIS=FOLDER python -m pytest tests/real_agents

FOLDER holds one npm prefix for each of claude, codex, gemini, pi and node: what is run is
FOLDER/NAME/node_modules/.bin/NAME. Nothing reaches a provider: the agents speak to a server of our own on 127.0.0.1,
with homes of their own and without any credential of this machine's.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from crewd.policy.profiles import PROFILES
from tests.real_agents.agents import Installed

WHERE = "CREWD_AGENT_CLIS"
INSTALLED = os.environ.get(WHERE, "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the real programs, where nobody says where they are."""
    why = _why_not()
    if not why:
        return
    for item in items:
        if item.get_closest_marker("agents"):
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def installed() -> Installed:
    return Installed(Path(INSTALLED).resolve())


@pytest.fixture
def mark() -> Iterator[str]:
    """Marks the processes of one test in their environment. What is left at its end is killed, each by its pid."""
    name = uuid4().hex
    yield name
    kill_marked(name)


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away whatever of this machine's own an agent could reach a provider with, or through."""
    looked_for = {name for profile in PROFILES.values() for name in profile.env_pass}
    for name in list(os.environ):
        if name in looked_for or name.lower().endswith(("_proxy", "_api_key", "_auth_token", "_oauth_token")):
            monkeypatch.delenv(name)


def marked(mark: str) -> list[int]:
    """Pids of the processes that carry a mark."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if f"REAL_AGENTS={mark}".encode() in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    found.append(int(entry))
    return found


def kill_marked(mark: str) -> None:
    """End every marked process, and those that they begin meanwhile."""
    deadline = time.monotonic() + 10
    while (pids := marked(mark)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _why_not() -> str:
    if not INSTALLED:
        return f"{WHERE} does not say where the agent command lines are; see tests/real_agents/conftest.py"
    missing = Installed(Path(INSTALLED)).missing()
    return f"{WHERE}={INSTALLED} is without {', '.join(missing)}" if missing else ""
