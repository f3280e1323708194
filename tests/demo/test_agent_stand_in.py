"""The stand-in prints what was recorded, at its pace, and ends as that ended. Real processes, all ended here."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crewd.demo import agent_stand_in
from crewd.demo.agent_cases import Case, load

SCRIPT = agent_stand_in.__file__
PATIENCE, SOON = 10.0, 3.0  # seconds

pytestmark = pytest.mark.real_time


def command(*words: str) -> list[str]:
    # Without site-packages: it needs nothing but the standard library.
    return [sys.executable, "-I", "-S", SCRIPT, *words]


def printed(case: Case, stream: str) -> list[str]:
    return [line.text for line in case.lines if line.stream == stream]


@dataclass
class Playing:
    """A stand-in at work, and the processes that it started as tools."""

    process: "subprocess.Popen[bytes]"
    tools: list[int] = field(default_factory=list)

    def tool(self) -> int:
        """Wait for the process that stands in for a tool."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if found := Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                self.tools.append(int(found[0]))
                return self.tools[-1]
            time.sleep(0.01)
        raise AssertionError("no tool was started")

    def ended(self) -> int:
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@contextmanager
def started(*words: str) -> Iterator[Playing]:
    """A stand-in that is ended with its test, and whatever it started with it."""
    playing = Playing(subprocess.Popen(command(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE))
    try:
        yield playing
    finally:
        playing.process.kill()
        playing.process.communicate()
        for pid in playing.tools:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def is_gone(pid: int) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # Shorter than any tool here lives by itself.
        return bool(select.select([handle], [], [], SOON)[0])
    finally:
        os.close(handle)


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("name", ["claude/perm", "codex/ok", "gemini/ok", "pi/500", "gemini/429"])
def test_a_case_is_printed_line_by_line_and_ends_as_it_ended(name: str) -> None:
    case = load(name)
    ended = subprocess.run(command(name, "--speed", "1000"), capture_output=True, timeout=PATIENCE, check=False)
    assert ended.stdout.decode().split("\n")[:-1] == printed(case, "out")
    assert ended.stderr.decode().split("\n")[:-1] == printed(case, "err")
    assert ended.returncode == case.exit.code


def test_a_case_takes_its_recorded_time_divided_by_the_speed() -> None:
    began = time.monotonic()
    subprocess.run(command("codex/ok", "--speed", "4"), capture_output=True, timeout=PATIENCE, check=False)
    assert load("codex/ok").seconds / 4 <= time.monotonic() - began < load("codex/ok").seconds / 4 + 2.0


def test_words_of_the_real_program_are_passed_over_wherever_they_stand() -> None:
    words = ("exec", "--json", "codex/ok", "--speed=1000", "-m", "gpt-5", "--", "Fix claude/nothing")
    ended = subprocess.run(command(*words), capture_output=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 0
    assert b'"turn.completed"' in ended.stdout


@pytest.mark.parametrize(
    "words",
    [("claude/ok_partial", "--resume", "abc-1"), ("codex/ok", "exec", "resume", "abc-1", "go on")],
    ids=["option", "word"],
)
def test_a_session_that_is_resumed_is_played_with_its_own_id(words: Sequence[str]) -> None:
    ended = subprocess.run(command(*words, "--speed", "100"), capture_output=True, timeout=PATIENCE, check=False)
    first = json.loads(ended.stdout.splitlines()[0])
    assert ended.returncode == 0
    assert first.get("session_id", first.get("thread_id")) == "abc-1"
    assert len(ended.stdout.splitlines()) == len(load(f"{words[0].partition('/')[0]}/resume").lines)


@pytest.mark.parametrize(
    ("words", "figure", "used"),
    [
        (("claude/ok_partial", "--resume", "abc-1"), "total_cost_usd", 0.0120252),
        (("codex/ok", "resume", "abc-1"), "input_tokens", 13349),
    ],
)
def test_a_session_that_was_killed_is_resumed_with_figures_that_begin_anew(
    words: Sequence[str], figure: str, used: float
) -> None:
    ended = subprocess.run(command(*words, "--speed", "100"), capture_output=True, timeout=PATIENCE, check=False)
    last = json.loads(ended.stdout.splitlines()[-1])
    assert (last if figure in last else last["usage"])[figure] == used


@pytest.mark.parametrize(("attempt", "played"), [("1", "pi/429"), ("2", "pi/ok")])
def test_a_later_attempt_plays_the_case_that_follows(attempt: str, played: str) -> None:
    words = ("pi/429", "--then", "pi/ok", "--attempt", attempt, "--speed", "1000")
    ended = subprocess.run(command(*words), capture_output=True, timeout=PATIENCE, check=False)
    assert ended.stdout.decode().split("\n")[:-1] == printed(load(played), "out")


@pytest.mark.parametrize("words", [(), ("claude/../claude/401",), ("nothing/ok",), ("exec", "pi")])
def test_what_is_not_recorded_is_refused_in_words(words: Sequence[str]) -> None:
    ended = subprocess.run(command(*words), capture_output=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 2
    assert re.match(rb"agent_stand_in: no .*recorded", ended.stderr)


def test_a_tool_is_a_process_in_a_session_of_its_own_and_ends_with_its_call() -> None:
    with started("pi/long", "--speed", "100") as playing:
        tool = playing.tool()
        assert os.getsid(tool) == tool
        assert playing.ended() == 0
        assert not lives(tool)


def test_a_program_that_was_killed_inside_a_tool_leaves_it_behind() -> None:
    with started("claude/sigkill_tool", "--speed", "8") as playing:
        tool = playing.tool()
        assert playing.ended() == -signal.SIGKILL
        assert lives(tool)


@pytest.mark.parametrize(
    ("name", "speed", "number", "code", "is_left"),
    [
        ("claude/long", "20", signal.SIGTERM, 143, False),
        ("claude/long", "20", signal.SIGINT, 0, False),
        ("codex/sigkill_tool", "1", signal.SIGTERM, -signal.SIGTERM, True),
        ("codex/sigkill_tool", "1", signal.SIGINT, 1, False),
        ("pi/long", "20", signal.SIGTERM, 143, False),
        ("pi/long", "20", signal.SIGINT, -signal.SIGINT, True),
    ],
)
def test_a_signal_is_answered_as_the_program_answers_it(
    name: str, speed: str, number: int, code: int, is_left: bool
) -> None:
    with started(name, "--speed", speed) as playing:
        tool = playing.tool()
        playing.process.send_signal(number)
        assert playing.ended() == code
        assert lives(tool) if is_left else is_gone(tool)


def test_gemini_leaves_with_zero_when_it_is_ended() -> None:
    with started("gemini/hang", "--speed", "10") as playing:
        assert playing.process.stdout is not None
        assert playing.process.stdout.readline()
        playing.process.send_signal(signal.SIGTERM)
        assert playing.ended() == 0
