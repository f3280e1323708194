"""Each real agent under a real crewd: what it does with tools, refusals, silence and SIGKILL, and what that comes to.

The tokens are those of the mock model's answers: they are known exactly, and so is what crewd must say was used.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.running import Crewd, eventually
from tests.real_agents.agents import MODELS, NAMES, PROMPT, Installed
from tests.real_agents.conftest import kill_marked, marked
from tests.real_agents.mock_model import TEXT_TOKENS, TOOL_TOKENS, Scenario, Tokens
from tests.real_agents.workshop import TASK, Workshop, workshop

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.real_time]

WHOLE = TOOL_TOKENS + TEXT_TOKENS  # of a task with one tool call
# Gemini CLI does not keep a call that was cut, and its model makes it again; the others tell theirs that it was cut.
FORGETS_CUT_CALLS = {"gemini"}
# pi writes no file before its model's first answer is complete.
HAS_NO_SESSION_YET = {"pi"}

CUT_ONCE = "echo begun >> log; test -e cut || { touch cut; sleep 300; }; echo ended >> log"


@pytest.fixture(params=NAMES)
def shop(request: pytest.FixtureRequest, installed: Installed, tmp_path: Path, mark: str) -> Iterator[Workshop]:
    with workshop(request.param, installed, tmp_path, mark, "echo hello >> log") as found:
        yield found


def test_a_task_with_a_tool_is_completed_and_counted(shop: Workshop) -> None:
    with shop.crewd() as crewd:
        run_id = shop.submit(crewd)
        task = shop.until(crewd, run_id, "completed", "dead_lettered")
    assert task["state"] == "completed", task
    assert shop.log() == ["hello"]
    assert shop.model.answers == ("tool", "text")
    assert {each.model for each in shop.model.asked} == {MODELS[shop.name].rpartition("/")[2]}
    assert PROMPT in str(shop.model.asked[0].body)
    assert _used(task) == WHOLE
    [attempt] = task["attempts"]
    assert attempt["details"]["tokens"] == WHOLE.billed
    assert (attempt["details"]["tools"], attempt["details"]["cut"]) == (1, [])
    assert shop.model.strays == (), "it asked for more than its model"
    assert marked(shop.mark) == []


def test_a_prompt_that_begins_like_an_option_arrives_and_is_seen_by_nobody_else(shop: Workshop) -> None:
    prompt = "--help me, @README.md: -x"
    seen: list[bytes] = []
    shop.model.play(Scenario.TOOL_THEN_DONE, "sleep 2")
    with shop.crewd() as crewd:
        run_id = shop.submit(crewd, prompt=prompt)
        eventually(lambda: "tool" in shop.model.answers, crewd.process)
        seen += [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in _alive(shop.mark)]
        assert shop.until(crewd, run_id, "completed", "dead_lettered")["state"] == "completed"
    assert prompt in str(shop.model.asked[0].body)
    assert seen
    assert not [line for line in seen if b"--help me" in line]


def test_a_rate_limit_that_passes_costs_no_attempt(shop: Workshop) -> None:
    shop.model.play(Scenario.RATE_LIMITED_ONCE)
    with shop.crewd() as crewd:
        run_id = shop.submit(crewd)
        task = shop.until(crewd, run_id, "completed", "dead_lettered")
        eventually(lambda: bool(shop.told("task.completed")), crewd.process)
    assert task["state"] == "completed", task
    assert shop.model.answers == ("rate_limited_once", "rate_limited_once", "tool", "text")
    assert len(task["attempts"]) == 1
    assert _used(task) == WHOLE
    [refused] = shop.told("worker.refused")
    assert refused["data"]["error_class"] == "rate_limited"


def test_a_wrong_key_is_told_at_the_first_sign(shop: Workshop) -> None:
    shop.model.play(Scenario.UNAUTHORIZED)
    with shop.crewd() as crewd:
        run_id = shop.submit(crewd)
        eventually(lambda: bool(shop.task(crewd, run_id).get("attempts")), crewd.process)
        [attempt] = shop.task(crewd, run_id)["attempts"]
    assert attempt["error_class"] == "auth_error", attempt
    # Left alone, Claude Code would ask for 150 s and more, and Codex six times.
    assert len(shop.model.asked) <= 3
    assert marked(shop.mark) == []


def test_a_full_context_is_told_as_such(shop: Workshop) -> None:
    shop.model.play(Scenario.CONTEXT_FULL)
    with shop.crewd() as crewd:
        run_id = shop.submit(crewd, retry=_once())
        task = shop.until(crewd, run_id, "completed", "dead_lettered")
    assert task["state"] == "dead_lettered"
    assert task["attempts"][-1]["error_class"] == "context_exhausted"


def test_a_long_wait_for_the_provider_frees_the_slot(shop: Workshop) -> None:
    shop.model.play(Scenario.RATE_LIMITED_LONG)
    with shop.crewd() as crewd:
        run_id = shop.submit(crewd, watch={"park_after": "2s"}, retry=_once())
        eventually(lambda: bool(shop.task(crewd, run_id).get("attempts")), crewd.process)
        [attempt] = shop.task(crewd, run_id)["attempts"]
    assert attempt["error_class"] == "rate_limited", attempt
    assert marked(shop.mark) == []


def test_a_stream_that_hangs_is_ended_and_the_work_goes_on(shop: Workshop) -> None:
    shop.model.play(Scenario.HANG)
    with shop.crewd() as crewd:
        run_id = shop.submit(crewd, watch={"stream_hang_after": "4s", "on_stream_hang": "stop"})
        eventually(lambda: "hang" in shop.model.answers, crewd.process)
        shop.model.play(Scenario.TOOL_THEN_DONE)
        task = shop.until(crewd, run_id, "completed", "dead_lettered")
    assert task["state"] == "completed", task
    first, second = task["attempts"]
    assert first["error_class"] == "provider_error"
    assert first["details"]["rung"] == "fresh"
    assert second["details"]["rung"] == ("fresh" if shop.name in HAS_NO_SESSION_YET else "resume")
    assert second["details"]["tokens"] == WHOLE.billed
    assert shop.log() == ["hello"]


def test_a_long_silent_tool_is_no_silence(shop: Workshop) -> None:
    # Twice what would be a hang of its model, and longer than any worker may be silent here.
    shop.model.play(Scenario.TOOL_THEN_DONE, "echo begun >> log; sleep 14; echo ended >> log")
    judged: set[tuple[str, str]] = set()
    with shop.crewd() as crewd:
        run_id = shop.submit(crewd, watch={"stream_hang_after": "5s", "on_stream_hang": "stop"})
        eventually(lambda: shop.log() == ["begun"], crewd.process)
        while shop.log() == ["begun"]:
            judged.add(_judged(crewd, run_id))
            time.sleep(0.25)
        task = shop.until(crewd, run_id, "completed", "dead_lettered")
    assert task["state"] == "completed", task
    assert len(task["attempts"]) == 1
    # Stale it may be called, and then its tool is named as the reason.
    assert judged <= {
        ("healthy", "beating"),
        ("healthy", "busy"),
        ("warn", "silent"),
        ("warn", "busy"),
        ("stale", "busy"),
    }


def test_an_agent_that_is_killed_in_the_middle_of_a_tool_goes_on_where_it_was(shop: Workshop) -> None:
    shop.model.play(Scenario.TOOL_THEN_DONE, CUT_ONCE, "echo second >> log")
    with shop.crewd() as crewd:
        run_id = shop.submit(crewd)
        eventually(lambda: (shop.place.project / "cut").exists(), crewd.process)
        _heard(shop, crewd, run_id)
        os.kill(_agent(shop), signal.SIGKILL)
        task = shop.until(crewd, run_id, "completed", "dead_lettered")
    _assert_went_on(shop, task)
    assert task["attempts"][0]["error_class"] == "worker_killed"


def test_crewd_and_the_agent_are_killed_in_the_middle_of_a_tool_and_the_work_goes_on(shop: Workshop) -> None:
    shop.model.play(Scenario.TOOL_THEN_DONE, CUT_ONCE, "echo second >> log")
    with shop.crewd() as first:
        run_id = shop.submit(first)
        eventually(lambda: (shop.place.project / "cut").exists(), first.process)
        _heard(shop, first, run_id)
        first.kill()
        kill_marked(shop.mark)
    assert marked(shop.mark) == []
    with shop.crewd() as second:
        task = shop.until(second, run_id, "completed", "dead_lettered")
    _assert_went_on(shop, task)


def _assert_went_on(shop: Workshop, task: dict[str, Any]) -> None:
    """The second attempt resumed the session of the first, and every token is accounted for, once."""
    assert task["state"] == "completed", task
    first, second = task["attempts"]
    assert second["details"]["rung"] == "resume"
    assert second["details"]["session"] == first["details"]["session"] != ""
    assert len(first["details"]["cut"]) == 1
    again = WHOLE + (TOOL_TOKENS if shop.name in FORGETS_CUT_CALLS else Tokens(0, 0, 0))
    assert first["details"]["tokens"] == TOOL_TOKENS.billed
    assert second["details"]["tokens"] == again.billed
    assert second["details"].get("saved_tokens", 0) == TOOL_TOKENS.billed
    assert _used(task) == TOOL_TOKENS + again
    cut = ["begun", "begun", "ended"] if shop.name in FORGETS_CUT_CALLS else ["begun"]
    assert shop.log() == [*cut, "second"]
    assert marked(shop.mark) == []


def _judged(crewd: Crewd, run_id: str) -> tuple[str, str]:
    """Level and reason of the worker."""
    _, body = crewd.get(f"/api/v1/runs/{run_id}/tasks/{TASK}")
    worker = (body or {}).get("worker") or {"level": "healthy", "reason": "beating"}
    return str(worker["level"]), str(worker["reason"])


def _heard(shop: Workshop, crewd: Crewd, run_id: str) -> None:
    """Wait until crewd has heard of the tool call, as far as the agent tells of it while it goes on."""
    eventually(lambda: bool((shop.task(crewd, run_id).get("agent") or {}).get("tools")), crewd.process)


def _agent(shop: Workshop) -> int:
    """Pid of the agent itself: the first of the attempt that is no shell of crewd's and no child of another agent."""
    parents = {pid: _parent(pid) for pid in _alive(shop.mark)}
    [shim] = [pid for pid, parent in parents.items() if parent not in parents and _is_shim(pid)]
    [agent] = [pid for pid, parent in parents.items() if parent == shim]
    return agent


def _alive(mark: str) -> list[int]:
    """The marked processes of the attempt, without crewd itself, which carries the mark as well."""
    return [pid for pid in marked(mark) if b"CREWD_ATTEMPT_DIR=" in Path(f"/proc/{pid}/environ").read_bytes()]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is_shim(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith((b"/bin/sh\0", b"sh\0"))


def _used(task: dict[str, Any]) -> Tokens:
    usage = task["usage"]
    return Tokens(usage["input"], usage["cache_read"], usage["output"])


def _once() -> dict[str, Any]:
    return {"max_attempts": 1}
