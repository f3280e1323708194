"""A real crewd, one real agent, and the mock model that it asks: everything a test of the three together wants."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.end_to_end.managed import managed, submit
from tests.end_to_end.running import Crewd, events, eventually
from tests.real_agents.agents import MODELS, PROMPT, Installed, Place, settle, variables
from tests.real_agents.mock_model import MockModel

TASK = "work"
# What a person writes: the program and what it may do. Everything else is the profile's.
COMMANDS = {
    "claude": ["claude", "--allowedTools=Bash"],
    "codex": ["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"],
    "gemini": ["gemini", "--skip-trust", "--yolo"],
    "pi": ["pi"],
}
# One try after another at once, for whatever class of error.
RETRY = {"max_attempts": 3, "base": "0.2s", "cap": "0.5s", "jitter": "none"}


@dataclass
class Workshop:
    """One agent's place, its model, and the state folder of the crewd that runs it."""

    name: str  # of the agent
    installed: Installed
    place: Place
    model: MockModel
    mark: str
    _runs: list[Crewd] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.place.folder / "state"

    @contextlib.contextmanager
    def crewd(self, **settings: str) -> Iterator[Crewd]:
        """Run crewd until the end of the block; one that was killed in it is not stopped again."""
        settings = {"CREWD_TASKS__DRAIN_TIMEOUT": "1s", **self.place.environ(self.installed, self.mark), **settings}
        running = Crewd(self.state, self.place.project, **settings)
        try:
            running.wait_ready()
            yield running
        finally:
            running.stop()

    def submit(self, crewd: Crewd, **more: Any) -> str:
        """Have the agent do one task, and return the id of the run."""
        env = {**variables(self.name, self.model.url), "REAL_AGENTS": self.mark}
        task = {
            "id": TASK,
            "profile": self.name,
            "command": COMMANDS[self.name],
            "model": MODELS[self.name],
            "prompt": PROMPT,
            "cwd": str(self.place.project),
            "env": env,
            "retry": RETRY,
            **more,
        }
        return submit(crewd, {"name": self.name, "tasks": [task]})

    def task(self, crewd: Crewd, run_id: str) -> dict[str, Any]:
        """How the task stands; {} where nobody answers."""
        return next(iter(managed(crewd, run_id).get("tasks", ())), {})

    def until(self, crewd: Crewd, run_id: str, *states: str) -> dict[str, Any]:
        """Wait until the task is in one of these states, and return it."""
        eventually(lambda: self.task(crewd, run_id).get("state") in states, crewd.process)
        return self.task(crewd, run_id)

    def log(self) -> list[str]:
        """What the agent's commands wrote into `log` of the project."""
        path = self.place.project / "log"
        return path.read_text().split() if path.exists() else []

    def told(self, name: str) -> list[dict[str, Any]]:
        """The events of one type that crewd told."""
        return [each for each in events(self.state) if each["type"] == name]


@contextlib.contextmanager
def workshop(name: str, installed: Installed, folder: Path, mark: str, *commands: str) -> Iterator[Workshop]:
    """A place below `folder`, and a model that has the agent run `commands`, one after the other."""
    with MockModel(*commands) as model:
        yield Workshop(name, installed, settle(folder / "place", model.url), model, mark)
