"""Managed agents: what they say decides what becomes of them, not their exit status."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from crewd.engine.managed import listening
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import BudgetPlan, ResumePlan, RetryPolicy, StopPlan, StopStep, TaskPlan, WatchPlan
from tests.engine.managed.workshop import AT_ONCE, Workshop, opened, shell, task

pytestmark = pytest.mark.real_time
AGENT = Path(__file__).with_name("an_agent.py")
LATER = RetryPolicy(base=60.0, cap=60.0)
KILLED_FIRST = "begin(); call(); wait() if not resumed() else None; back(); end()"


def agent(home: Path, story: str, **more: Any) -> TaskPlan:
    """A task of an agent that lives through a story, in a working tree of its own."""
    tree = home / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    more = {"profile": "claude", "prompt": "do it", "env": {"HOME": str(home)}, **more}
    return task("a", sys.executable, str(AGENT), story, cwd=str(tree), **more)


def run(tmp_path: Path, plan: TaskPlan, then: Any = None, **options: Any) -> Workshop:
    """Run one agent to its end; `then` looks at the workshop before it is closed."""

    async def story() -> Workshop:
        async with opened(tmp_path / "state", **options) as w:
            await w.submit("r", plan)
            await w.ended("r")
            if then is not None:
                then(w)
            return w

    return asyncio.run(story())


def killed_in_its_tool(w: Workshop) -> Any:
    """Wait until the first attempt is inside its tool, and end it as the kernel would."""

    async def kill() -> None:
        await w.until(lambda: (v := w.conductor.voices.get(("r", "a"))) is not None and v.signs(0.0).tool)
        attempt = w.conductor.attempts["r", "a"]
        await w.conductor.hands.kill(attempt.mark, attempt.grip)

    return kill()


def test_one_that_says_that_it_is_done_has_done_it(tmp_path: Path) -> None:
    w = run(tmp_path, agent(tmp_path, "begin(); call(); back(); say(); end()"))
    assert w.states("r") == {"a": "completed"}
    done = w.task("r", "a")
    assert done.usage is not None
    assert (done.usage.input, done.usage.output, done.usage.cost_usd) == (200, 20, 0.01)
    details = done.attempts[0].details
    assert details["rung"] == "fresh"
    assert details["tools"] == 1
    assert details["tokens"] == 220
    assert details["model"] == "claude-sonnet-4-5-20250929"
    told = w.told("usage.recorded")
    assert sum(event.data["input"] for event in told) == 200
    assert w.told("attempt.started")[0].data["rung"] == "fresh"


@pytest.mark.parametrize(
    ("story", "error_class", "code"),
    [
        ("begin(); say()", "worker_killed", "no_terminal"),
        ("begin(); end(is_error=True, api_error_status=500)", "provider_error", None),
        ("begin(); end(permission_denials=[{'tool_name': 'Write'}])", "task_error", "denied"),
        ("begin(); end(is_error=True, terminal_reason='prompt_too_long')", "context_exhausted", None),
    ],
)
def test_an_exit_of_0_proves_nothing(tmp_path: Path, story: str, error_class: str, code: str | None) -> None:
    w = run(tmp_path, agent(tmp_path, story, retry=RetryPolicy(max_attempts=1)))
    assert w.classes("r", "a") == [error_class]
    if code is not None:
        assert w.task("r", "a").attempts[0].details["code"] == code


def test_a_denied_tool_may_be_allowed_to_be_denied(tmp_path: Path) -> None:
    story = "begin(); end(permission_denials=[{'tool_name': 'Write'}])"
    w = run(tmp_path, agent(tmp_path, story, watch=WatchPlan(on_denied="allow")))
    assert w.states("r") == {"a": "completed"}


def test_a_refusal_that_nothing_mends_ends_it_at_the_first_sign(tmp_path: Path) -> None:
    stop = StopPlan(steps=(StopStep("TERM", 5.0),))
    w = run(tmp_path, agent(tmp_path, "begin(); refused('authentication_failed', 401); wait(60)", stop=stop))
    assert w.states("r") == {"a": "dead_lettered"}
    record = w.task("r", "a").attempts[0]
    assert str(record.error_class) == "auth_error"
    assert record.ended_at - record.started_at < 15
    assert w.told("worker.refused")[0].data["error_class"] == "auth_error"


def test_a_long_wait_gives_the_slot_to_others_and_closes_the_door_of_its_provider(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as w:
            plan = agent(tmp_path, "begin(); refused(delay=3600); wait(60)", provider="anthropic/claude-sonnet")
            await w.submit("r", plan)
            await w.until(lambda: w.state_of("r", "a") == "retry_wait")
            record = w.task("r", "a").attempts[0]
            assert str(record.error_class) == "rate_limited"
            assert record.details["code"] == "parked"
            waits = w.task("r", "a").state
            assert waits.delay > 3500  # type: ignore[union-attr]  # it is a RetryWait
            allowed, why, wait = w.scheduler.circuits.allows(
                "anthropic/claude-sonnet", 0, w.scheduler.clock.read().wall
            )
            assert not allowed
            assert wait is not None
            assert wait > 3400
            assert "rate_limited" in why
            await w.actions.cancel("r", "", reason="enough", actor="test")

    asyncio.run(story())


def test_a_rate_limit_without_a_time_costs_no_attempt_however_often_it_comes(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as w:
            limited = "begin(); end(is_error=True, api_error_status=429)"
            retry = RetryPolicy(max_attempts=2, base=0.05, cap=0.1)
            await w.submit("r", agent(tmp_path, limited, retry=retry, watch=WatchPlan(park_after=0.05)))
            await w.until(lambda: len(w.task("r", "a").attempts) >= 3)
            task = w.task("r", "a")
            assert task.counted == 0
            assert set(w.classes("r", "a")) == {"rate_limited"}
            assert not w.violated
            await w.actions.cancel("r", "", reason="enough", actor="test")

    asyncio.run(story())


def test_one_that_said_that_it_is_done_and_does_not_leave_has_done_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "EXIT_PATIENCE", 0.2)
    w = run(tmp_path, agent(tmp_path, "begin(); say(); end(); wait(60)"))
    assert w.states("r") == {"a": "completed"}


def test_a_short_wait_is_waited_for(tmp_path: Path) -> None:
    w = run(tmp_path, agent(tmp_path, "begin(); refused(delay=1); wait(1); say(); end()"))
    assert w.states("r") == {"a": "completed"}
    assert w.task("r", "a").attempts[0].details["refusals"] == 1


def test_one_that_was_killed_goes_on_with_its_session(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as w:
            await w.submit("r", agent(tmp_path, KILLED_FIRST))
            await killed_in_its_tool(w)
            await w.ended("r")
            assert w.states("r") == {"a": "completed"}
            first, second = w.task("r", "a").attempts
            assert str(first.error_class) == "worker_killed"
            assert first.details["cut"] == ["Bash"]
            assert first.details["tree"]
            assert second.details["rung"] == "resume"
            assert second.details["session"] == first.details["session"]
            assert second.details["saved_tokens"] == first.details["tokens"] == 110
            used = w.task("r", "a").usage
            assert used is not None
            assert (used.input, used.output) == (300, 30)  # 100 and 10 of the first, 200 and 20 of the second
            started = w.told("attempt.started")[1].data
            assert (started["rung"], started["saved_tokens"]) == ("resume", 110)

    asyncio.run(story())


def test_another_working_tree_is_begun_afresh(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as w:
            script = "begin(); call(); wait() if not Path('touched').exists() else None; end()"
            await w.submit("r", agent(tmp_path, script, retry=RetryPolicy(base=2.0, cap=2.0)))
            await killed_in_its_tool(w)
            await w.until(lambda: w.state_of("r", "a") == "retry_wait")
            (tmp_path / "tree" / "touched").write_text("by somebody else")
            await w.ended("r")
            assert [each.details["rung"] for each in w.task("r", "a").attempts] == ["fresh", "fresh"]
            assert "tree" in str(w.told("attempt.started")[1].data["because"])

    asyncio.run(story())


def test_any_tree_will_do_where_that_was_agreed(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as w:
            retry = RetryPolicy(base=2.0, cap=2.0)
            await w.submit("r", agent(tmp_path, KILLED_FIRST, retry=retry, resume=ResumePlan(tree="any")))
            await killed_in_its_tool(w)
            await w.until(lambda: w.state_of("r", "a") == "retry_wait")
            (tmp_path / "tree" / "touched").write_text("by somebody else")
            await w.ended("r")
            assert [each.details["rung"] for each in w.task("r", "a").attempts] == ["fresh", "resume"]

    asyncio.run(story())


def test_what_must_not_happen_twice_is_given_up(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as w:
            plan = agent(tmp_path, KILLED_FIRST, idempotent=False, resume=ResumePlan(mode="never"))
            await w.submit("r", plan)
            await killed_in_its_tool(w)
            await w.ended("r")
            assert w.states("r") == {"a": "dead_lettered"}
            assert len(w.task("r", "a").attempts) == 1
            assert "idempotent" in w.told("deadletter.added")[0].data["words"]

    asyncio.run(story())


def test_one_that_goes_in_circles_is_stopped(tmp_path: Path) -> None:
    story = "begin(); [(call(f't{i}'), back(f't{i}')) for i in range(20)]; wait(60)"
    w = run(tmp_path, agent(tmp_path, story))
    assert w.states("r") == {"a": "dead_lettered"}
    assert w.task("r", "a").attempts[0].details["code"] == "loop"
    assert [event.data["then"] for event in w.told("worker.looping")][-1] == "stop"


def test_a_warning_leaves_it_alone(tmp_path: Path) -> None:
    story = "begin(); [(call(f't{i}'), back(f't{i}')) for i in range(20)]; wait(1); end()"
    w = run(tmp_path, agent(tmp_path, story, watch=WatchPlan(on_loop="warn")))
    assert w.states("r") == {"a": "completed"}
    assert [event.data["then"] for event in w.told("worker.looping")] == ["warn"]


def test_a_budget_of_its_own_ends_it_and_says_nothing_of_its_provider(tmp_path: Path) -> None:
    plan = agent(tmp_path, "begin(); say(input=5000); wait(60)", budget=BudgetPlan(tokens=1000), provider="anthropic")
    w = run(tmp_path, plan)
    assert w.classes("r", "a") == ["budget_exceeded"]
    assert w.told("task.dead_lettered")[0].data["reason"] == "budget"
    assert w.told("budget.alarmed")[0].data["scope"] == "task"
    assert w.scheduler.circuits.get("anthropic").state == "closed"


def test_the_budget_of_a_run_holds_for_all_of_its_tasks(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state", max_parallel=1) as w:
            home = tmp_path / "b"
            first = agent(tmp_path, "begin(); say(input=5000); wait(0.5); end(input=5000)")
            second = agent(home, "begin(); end()", depends_on=())
            second = type(second)(**{f: getattr(second, f) for f in second.__struct_fields__} | {"task_id": "b"})
            await w.submit("r", first, second, budget=BudgetPlan(tokens=4000))
            await w.ended("r")
            assert w.states("r") == {"a": "dead_lettered", "b": "dead_lettered"}
            assert w.task("r", "b").attempts[0].folder == ""  # it never began
            assert w.classes("r", "b") == ["budget_exceeded"]

    asyncio.run(story())


def test_a_daily_budget_that_is_spent_keeps_everybody_waiting(tmp_path: Path) -> None:
    async def story() -> None:
        day = BudgetPlan(tokens=1000, on_exceeded="park")
        async with opened(tmp_path / "state", day_budget=day) as w:
            await w.submit("r", agent(tmp_path, "begin(); say(input=5000); wait(60)"))
            await w.until(lambda: w.state_of("r", "a") == "retry_wait")
            waits = w.task("r", "a").state
            now = w.scheduler.clock.read().wall
            midnight = (now // 86_400 + 1) * 86_400
            assert waits.due_at == pytest.approx(midnight)  # type: ignore[union-attr]  # it is a RetryWait
            await w.submit("s", agent(tmp_path / "s", "begin(); end()"))
            await w.until(lambda: w.scheduler.held.get(("s", "a")))
            assert "the day's budget of 1000 tokens is spent" in w.scheduler.held["s", "a"]
            for each in ("r", "s"):
                await w.actions.cancel(each, "", reason="enough", actor="test")

    asyncio.run(story())


def test_a_successor_knows_what_was_said_before_and_counts_it_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as first:
            script = "begin(); call(); wait(60) if not Path('go').exists() else None; back(); end()"
            script = script.replace("wait(60) if", "[wait(0.1) for _ in range(300) if not Path('go').exists()] if")
            await first.submit("r", agent(tmp_path, script))
            await first.until(lambda: first.told("usage.recorded"))
        async with opened(tmp_path / "state") as second:
            assert second.accounts.adopted == 1
            voice = second.conductor.voices["r", "a"]
            await second.until(lambda: voice.signs(0.0).tool == "Bash")
            (tmp_path / "tree" / "go").touch()
            await second.ended("r")
            used = second.task("r", "a").usage
            assert used is not None
            assert (used.input, used.output) == (200, 20)
            told = [*first.told("usage.recorded"), *second.told("usage.recorded")]
            assert sum(event.data["input"] for event in told) == 200

    asyncio.run(story())


def test_an_output_of_another_kind_is_judged_as_that_of_any_command(tmp_path: Path) -> None:
    w = run(tmp_path, agent(tmp_path, "print('all done')"))
    assert w.states("r") == {"a": "completed"}
    assert w.told("worker.format_unknown")[0].data["understood"] is False
    w = run(tmp_path / "2", agent(tmp_path, "print('no'); sys.exit(3)", retry=RetryPolicy(max_attempts=1)))
    assert w.classes("r", "a") == ["unknown"]


def test_what_it_shows_is_there_for_whoever_asks(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as w:
            await w.submit("r", agent(tmp_path, "begin(); call(); wait(60)", retry=AT_ONCE))
            await w.until(lambda: (v := w.conductor.voices.get(("r", "a"))) is not None and v.signs(0.0).tool)
            shown = w.actions.managed("r")
            assert shown is not None
            shows = shown["tasks"][0]["agent"]
            assert shows["tools"][0]["name"] == "Bash"
            assert shows["usage"]["input"] == 100
            assert shows["understood"]
            await w.actions.cancel("r", "", reason="enough", actor="test")

    asyncio.run(story())


def test_what_others_suffer_at_a_provider_counts_once_beside_failures_of_our_own(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as w:
            name = "anthropic/claude-sonnet"
            now = w.scheduler.clock.read().wall
            w.scheduler.circuits.failed(name, Failure(ErrorClass.RATE_LIMITED), now)
            w.scheduler.circuits.failed(name, Failure(ErrorClass.RATE_LIMITED), now)
            for model in ("openai/gpt-5", "anthropic/claude-opus-4"):
                w.scheduler.hints = [(model, ErrorClass.RATE_LIMITED)]
                w.scheduler.register.wake.set()
                await w.until(lambda: not w.scheduler.hints)
                assert w.scheduler.circuits.get(name).state == "closed"
            w.scheduler.hints = [("anthropic/claude-sonnet-4-5-20250929", ErrorClass.RATE_LIMITED)]
            w.scheduler.register.wake.set()
            await w.until(lambda: w.scheduler.circuits.get(name).state == "open")
            await w.until(lambda: w.told("circuit.opened"))

    asyncio.run(story())


def test_no_command_is_carried_out_twice_that_must_not_be(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "state") as w:
            await w.submit("r", shell("a", "exit 3", idempotent=False))
            await w.ended("r")
            assert w.states("r") == {"a": "dead_lettered"}
            assert len(w.task("r", "a").attempts) == 1

    asyncio.run(story())
