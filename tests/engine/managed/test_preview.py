"""What a plan comes to, before anything of it is begun."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from crewd.engine.managed.preview import PROMPT_SHOWN, run_preview, task_preview
from crewd.model.plan import BudgetPlan, ResumePlan, RunPlan, Success, TaskPlan
from tests.engine.managed.workshop import opened

PLAIN = TaskPlan(task_id="t", command=("make", "all"), cwd="/srv")


def test_a_plain_task_tells_its_command_its_limits_and_how_it_is_ended() -> None:
    told = task_preview(PLAIN)
    assert (told["command"], told["cwd"], told["profile"]) == (["make", "all"], "/srv", "plain")
    assert (told["prompt"], told["stdin"], told["budget"], told["resume"]) == (None, "nothing", None, None)
    assert told["success"]["exit_codes"] == (0,)
    assert told["stop"] == [{"signal": "TERM", "wait": 5.0}]


@pytest.mark.parametrize("profile", ["codex", "claude", "gemini", "pi"])
def test_a_prompt_is_told_where_its_profile_puts_it(profile: str) -> None:
    told = task_preview(msgspec.structs.replace(PLAIN, profile=profile, command=(profile,), prompt="do it"))
    assert (told["prompt"], told["prompt_characters"]) == ("do it", 5)
    assert any("do it" in word for word in told["command"]) is (told["stdin"] == "nothing")


def test_a_long_prompt_is_one_short_line() -> None:
    told = task_preview(msgspec.structs.replace(PLAIN, profile="pi", command=("pi",), prompt="a\n" * 1000))
    assert (len(told["prompt"]), told["prompt_characters"]) == (PROMPT_SHOWN, 2000)
    assert all(len(word) <= PROMPT_SHOWN + 20 for word in told["command"])


def test_what_follows_an_option_that_is_named_like_a_secret_is_masked_everywhere() -> None:
    told = task_preview(
        msgspec.structs.replace(
            PLAIN, command=("x", "--api-key", "hunter2"), success=Success(command=("y", "--token", "hunter3"))
        )
    )
    assert (told["command"][-1], told["success"]["command"][-1]) == ("***", "***")


def test_a_session_is_told_only_where_one_can_be_gone_on_with() -> None:
    agent = msgspec.structs.replace(PLAIN, profile="codex", command=("codex", "exec"), prompt="p")
    assert task_preview(agent)["resume"] == {"attempts_max": 2, "tree": "same"}
    assert task_preview(msgspec.structs.replace(agent, resume=ResumePlan(mode="never")))["resume"] is None


def test_everything_in_a_preview_is_json() -> None:
    plan = RunPlan(run_id="r", crew="c", tasks=(PLAIN,), labels={"a": "b"}, budget=BudgetPlan(tokens=5))
    told = msgspec.json.decode(msgspec.json.encode(run_preview(plan)))
    assert (told["run_id"], told["labels"], told["budget"]["tokens"]) == ("r", {"a": "b"}, 5)


@pytest.mark.real_time
def test_the_plan_of_a_run_is_told_while_it_waits_and_long_after(tmp_path: Path) -> None:
    tasks = [{"id": "t", "command": ["/bin/sh", "-c", "true"], "cwd": "/"}]

    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            done = await w.actions.submit(
                {"name": "n", "tasks": tasks}, base="/", key="", actor="operator:ann", source="a test"
            )
            told = await w.actions.plan(done.run_id)
            assert told is not None and told["tasks"][0]["command"] == ["/bin/sh", "-c", "true"]
            await w.ended(done.run_id)
        async with opened(tmp_path / "s") as w:
            assert await w.actions.plan(done.run_id) == told
            assert await w.actions.plan("nobody") is None

    asyncio.run(asyncio.wait_for(story(), 60))
