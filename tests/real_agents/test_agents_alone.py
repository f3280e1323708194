"""What the profiles say of the real agents, without crewd between: prompts, sessions, cut calls, versions."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crewd.policy.command_line import argv, completed
from crewd.policy.profiles import PROFILES
from crewd.sources.agents.readers import READERS
from crewd.sources.agents.session_files import where
from crewd.sources.agents.signs import Began, Finished
from tests.real_agents.agents import MODELS, NAMES, PROMPT, Installed, settle, variables
from tests.real_agents.conftest import kill_marked
from tests.real_agents.mock_model import MockModel, Scenario
from tests.real_agents.workshop import COMMANDS

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.real_time]
PATIENCE = 60.0
CUT = "echo begun >> log; sleep 300; echo ended >> log"
# What the model is told of a call that was cut by SIGKILL; Gemini CLI tells nothing of it.
TOLD_OF_CUT = {"claude": "outcome is unknown", "codex": "aborted", "pi": "No result provided"}


@dataclass
class Agent:
    """One agent that is run as its profile says, in a place of its own."""

    name: str
    installed: Installed
    folder: Path
    model: MockModel
    mark: str

    def __post_init__(self) -> None:
        self.place = settle(self.folder / "place", self.model.url)
        profile_env = dict(PROFILES[self.name].env)
        given = {**self.place.environ(self.installed, self.mark), **variables(self.name, self.model.url)}
        self.environ = {**profile_env, **given}

    @contextmanager
    def begun(self, prompt: str = PROMPT, session: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """Run it until the end of the block; its output goes to files."""
        profile = PROFILES[self.name]
        command = completed(profile, tuple(COMMANDS[self.name]), MODELS[self.name])
        words, stdin = argv(profile, command, prompt, session)
        (self.folder / "stdin").write_text(stdin or "")
        with (
            (self.folder / "stdin").open("rb") as given,
            (self.folder / "stdout").open("wb") as out,
            (self.folder / "stderr").open("wb") as err,
            subprocess.Popen(
                words, cwd=self.place.project, env=self.environ, stdin=given, stdout=out, stderr=err
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def run(self, prompt: str = PROMPT, session: str = "") -> int:
        """Run it to its end, and return its exit status."""
        with self.begun(prompt, session) as process:
            return process.wait(PATIENCE)

    def cut(self) -> str:
        """Kill it in the middle of its first tool call, and return the session."""
        with self.begun() as process:
            deadline = time.monotonic() + PATIENCE
            while not (self.place.project / "log").exists():
                assert process.poll() is None, (self.folder / "stderr").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(0.3)  # its own file is written at about the same time as its tool begins
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
        kill_marked(self.mark)
        return self.session

    @property
    def signs(self) -> list[Any]:
        """What its reader understood of what it printed."""
        reader = READERS[self.name]()
        lines = (self.folder / "stdout").read_bytes().splitlines()
        return [sign for line in lines for sign in reader.stdout(line)]

    @property
    def session(self) -> str:
        return next(sign.session for sign in self.signs if isinstance(sign, Began) and sign.session)

    def session_file(self, session: str) -> Path:
        """The newest file where `session_files` expects it. Gemini CLI begins another where a minute has passed."""
        place = where(self.name, self.environ, session)
        assert place is not None
        return max(Path(place.root).glob("/".join(place.parts)), key=lambda path: path.stat().st_mtime_ns)

    @property
    def asked_last(self) -> str:
        return json.dumps(self.model.asked[-1].body)


@pytest.fixture(params=NAMES)
def agent(request: pytest.FixtureRequest, installed: Installed, tmp_path: Path, mark: str) -> Iterator[Agent]:
    with MockModel("echo hello >> log") as model:
        yield Agent(request.param, installed, tmp_path, model, mark)


def test_its_version_is_one_that_the_profile_names(agent: Agent) -> None:
    printed = subprocess.run(
        [PROFILES[agent.name].program, "--version"],
        env=agent.environ, capture_output=True, check=True, stdin=subprocess.DEVNULL, timeout=PATIENCE,
    )  # fmt: skip
    assert any(version in printed.stdout.decode() for version in PROFILES[agent.name].versions), printed.stdout


def test_it_runs_as_its_profile_says_and_its_reader_understands_it(agent: Agent) -> None:
    assert agent.run() == 0
    assert agent.model.answers == ("tool", "text")
    assert [sign.failure for sign in agent.signs if isinstance(sign, Finished)] == [None]
    assert agent.model.strays == ()
    assert {each.credential for each in agent.model.asked} == {"mock-key"}


@pytest.mark.parametrize("prompt", ["-x", "--help", "@README.md", "resume", "!ls", "/srv/project is broken"])
def test_a_prompt_is_no_option_file_or_command(agent: Agent, prompt: str) -> None:
    agent.model.play(Scenario.TOOL_THEN_DONE)
    assert agent.run(prompt) == 0, (agent.folder / "stderr").read_text()
    assert prompt in agent.asked_last


def test_a_resumed_session_keeps_its_name_its_file_and_what_was_said(agent: Agent) -> None:
    assert agent.run("The first ZEBRA.") == 0
    session = agent.session
    file = agent.session_file(session)
    size = file.stat().st_size
    assert agent.run("ignored", session) == 0
    assert agent.session == session
    again = agent.session_file(session)
    assert again == file or agent.name == "gemini"
    assert again != file or file.stat().st_size > size
    assert "The first ZEBRA." in agent.asked_last
    assert PROFILES[agent.name].resume_prompt in agent.asked_last
    assert agent.model.answers == ("tool", "text", "text")


def test_a_call_that_was_cut_by_sigkill_is_told_as_the_profile_says(agent: Agent) -> None:
    agent.model.play(Scenario.TOOL_THEN_DONE, CUT)
    session = agent.cut()
    agent.model.play(Scenario.TOOL_THEN_DONE, "echo again >> log")
    assert agent.run("ignored", session) == 0
    assert agent.session == session
    repeats = PROFILES[agent.name].repeats_cut_calls
    assert repeats is (agent.name not in TOLD_OF_CUT)
    assert agent.model.answers == ("tool", "tool", "text") if repeats else ("tool", "text")
    assert (agent.place.project / "log").read_text().split() == (["begun", "again"] if repeats else ["begun"])
    if not repeats:
        assert TOLD_OF_CUT[agent.name] in agent.asked_last


def test_a_session_that_is_not_there_asks_nothing_of_the_model(agent: Agent) -> None:
    status = agent.run("ignored", "01a1ff6e-5e8e-76df-bc71-eeb11671e626")
    assert status in (1, 42)
    assert agent.model.asked == ()
