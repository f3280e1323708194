"""Managed agents that lie, flood, linger and die at the worst moment; and operators whose budgets are small."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crewd.engine.managed.attempt import Attempt
from crewd.engine.managed.hung import heed
from crewd.engine.managed.ladder import Ladder
from crewd.engine.managed.parole import Parole
from crewd.engine.managed.places import Opening
from crewd.ledger.batch import Batch
from crewd.ledger.errors import LedgerFailed
from crewd.model.event import Event
from crewd.model.managed import ManagedRun
from crewd.model.plan import BudgetPlan, ResumePlan, RetryPolicy, RunPlan, StopPlan, StopStep, WatchPlan
from crewd.model.process import ProcessSeen, ProcessState
from crewd.model.run import Run, RunStatus
from crewd.model.snapshot import Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict, Wedge
from crewd.model.work import Lease
from crewd.policy.profiles import PROFILES
from crewd.sources.agents.story import Story
from tests.engine.managed.test_agents import KILLED_FIRST, agent, killed_in_its_tool, run
from tests.engine.managed.workshop import Workshop, marked, opened, protocol

pytestmark = pytest.mark.real_time
ONCE = RetryPolicy(max_attempts=1)


def test_a_last_line_that_is_longer_than_one_look_is_heard_to_its_end(tmp_path: Path) -> None:
    story = "begin(); end(result='x' * 1_000_000)"
    w = run(tmp_path, agent(tmp_path, story, retry=ONCE))
    assert w.states("r") == {"a": "completed"}


# Faster than a line is understood, and not so fast that what was written meanwhile takes long to hear.
FLOOD = """import os, time
while True:
    os.write(1, b'{"type":"keep_alive"}\\n' * 9000)
    time.sleep(0.01)"""
SHORT_STOP = StopPlan(steps=(StopStep("TERM", 0.2),), drain=0.1)


def test_whoever_writes_on_behind_its_back_does_not_keep_it_at_work(tmp_path: Path) -> None:
    story = (
        "import subprocess; begin(); "
        f"subprocess.Popen([sys.executable, '-c', {FLOOD!r}], start_new_session=True); wait(0.5); end()"
    )

    async def tried() -> None:
        async with opened(tmp_path / "state") as w:
            await w.submit("r", agent(tmp_path, story, retry=ONCE, stop=SHORT_STOP))
            try:
                await w.ended("r")
            finally:
                for pid in marked("r/a/1"):
                    os.kill(pid, signal.SIGKILL)
            assert w.states("r") == {"a": "completed"}

    asyncio.run(tried())


def test_a_wait_until_the_end_of_time_is_told_all_the_same(tmp_path: Path) -> None:
    limit = "_print(type='rate_limit_event', rate_limit_info={'status': 'rejected', 'resetsAt': 9e15})"

    async def tried() -> None:
        async with opened(tmp_path / "state") as w:
            watch = WatchPlan(park_after=0.0)
            await w.submit("r", agent(tmp_path, f"begin(); {limit}; wait(60)", watch=watch))
            await w.until(lambda: (v := w.conductor.voices.get(("r", "a"))) and v.view().refused)
            signs = w.conductor.voices["r", "a"].signs(w.scheduler.clock.read().mono)
            assert signs.waiting is not None
            assert signs.waiting.reason == "throttled"
            await w.actions.cancel("r", "", reason="enough", actor="test")

    asyncio.run(tried())


def test_whoever_was_parked_and_let_go_on_breaks_no_promise(tmp_path: Path) -> None:
    async def tried() -> None:
        async with opened(tmp_path / "state") as w:
            budget = BudgetPlan(tokens=1000, on_exceeded="park")
            story = "begin(); say(input=5000) if not resumed() else end(); wait(60) if not resumed() else None"
            await w.submit("r", agent(tmp_path, story, budget=budget, retry=ONCE))
            await w.until(lambda: w.state_of("r", "a") == "retry_wait")
            await w.actions.retry("r", "a", actor="test")
            await w.ended("r")
            assert w.states("r") == {"a": "completed"}
            assert w.violated == []

    asyncio.run(tried())


def test_what_a_former_budget_did_does_not_forbid_a_retry_of_the_present_one(tmp_path: Path) -> None:
    async def tried() -> None:
        async with opened(tmp_path / "state") as w:
            story = (
                "n = len(list(Path.home().glob('n*'))); (Path.home() / f'n{n}').touch(); begin(); "
                "call() if n == 0 else None; "
                "end(is_error=True, api_error_status=500) if n < 2 else end()"
            )
            plan = agent(tmp_path, story, idempotent=False, retry=RetryPolicy(max_attempts=2, base=0.05, cap=0.1))
            plan = msgspec.structs.replace(plan, prompt=None)  # it cannot be resumed: it begins afresh or not at all
            await w.submit("r", plan)
            await w.ended("r")
            assert w.states("r") == {"a": "dead_lettered"}
            await w.actions.retry("r", "a", actor="test")
            await w.ended("r")
            assert w.states("r") == {"a": "completed"}

    asyncio.run(tried())


def test_no_worker_parks_itself(tmp_path: Path) -> None:
    script = (
        "import json, sys\n"
        "print(json.dumps({'type': 'ready', 'protocol': 'crewd-worker/1'}), flush=True)\n"
        "m = json.loads(sys.stdin.readline())\n"
        "print(json.dumps({'type': 'error', 'id': m['id'], 'class': 'task_error', 'error_class': 'task_error',"
        " 'message': 'no', 'details': {'then': 'park', 'scope': 'day'}}), flush=True)\n"
    )

    async def tried() -> None:
        async with opened(tmp_path / "state") as w:
            await w.submit("r", protocol("a", script, retry=ONCE))
            await w.until(lambda: w.task("r", "a").attempts)
            print(w.task("r", "a"))
            assert w.states("r") == {"a": "dead_lettered"}

    asyncio.run(tried())


def test_a_budget_that_its_last_word_spends_does_not_undo_the_work(tmp_path: Path) -> None:
    story = "begin(); end(input=5000); wait(1.0)"
    w = run(tmp_path, agent(tmp_path, story, budget=BudgetPlan(tokens=1000), retry=ONCE))
    assert w.states("r") == {"a": "completed"}
    assert [event.data["then"] for event in w.told("budget.alarmed")] == ["warn"]


def test_a_successor_masks_what_an_agent_was_given_to_prove_who_it_is(tmp_path: Path) -> None:
    secret = "plainword-nobody-would-guess"
    learned: list[str] = []

    async def tried() -> None:
        env = {"HOME": str(tmp_path), "ANTHROPIC_API_KEY": secret}
        async with opened(tmp_path / "state") as first:
            await first.submit("r", agent(tmp_path, "begin(); wait(60)", env=env))
            await first.until(lambda: first.state_of("r", "a") == "running")
        second = Workshop(tmp_path / "state")
        second.conductor.learn = learned.append
        try:
            await second.open()
            await second.until(lambda: second.conductor.voices)
            assert secret in learned
            await second.actions.cancel("r", "", reason="enough", actor="test")
        finally:
            await second.close()

    asyncio.run(tried())


def test_what_it_writes_about_its_beginning_is_not_believed_blindly(tmp_path: Path) -> None:
    async def tried() -> None:
        async with opened(tmp_path / "state") as first:
            story = (
                "import os; f = Path(os.environ['CREWD_ATTEMPT_DIR']) / 'opening.json'; f.unlink(); "
                "f.write_text(json.dumps({'rung': 'x' * 10000, 'file_bytes': -5})); begin(); call(); wait(60)"
            )
            await first.submit("r", agent(tmp_path, story))
            await first.until(lambda: (v := first.conductor.voices.get(("r", "a"))) and v.signs(0.0).tool)
        async with opened(tmp_path / "state") as second:
            await second.until(lambda: second.conductor.voices["r", "a"].signs(0.0).tool)
            await second.actions.cancel("r", "", reason="enough", actor="test")
            assert second.task("r", "a").attempts[0].details["rung"] == "fresh"

    asyncio.run(tried())


def test_a_line_that_is_understood_in_a_thread_changes_nothing_that_others_look_at() -> None:
    story = Story(PROFILES["claude"])
    before = story.view(1.0)
    calls = [{"type": "tool_use", "id": f"t{each}", "name": "Bash", "input": {"n": each}} for each in range(300)]
    line = json.dumps({"type": "assistant", "message": {"id": "m", "content": calls}}).encode()
    signs = story.understand("stdout", line)
    assert len(signs) == 300
    assert story.view(1.0) == before


def test_no_sum_of_what_it_claims_is_more_than_a_number_can_be(tmp_path: Path) -> None:
    story = "begin(); [say(input=2**53 - 1) for _ in range(3000)]; end(input=1)"
    w = run(tmp_path, agent(tmp_path, story.replace("; end(input=1)", ""), retry=ONCE))
    assert w.classes("r", "a") == ["worker_killed"]
    used = w.task("r", "a").usage
    assert used is not None
    assert used.input == 2**53


def test_what_was_told_what_is_noted_and_what_is_budgeted_agree_after_a_restart(tmp_path: Path) -> None:
    async def tried() -> None:
        script = (
            "begin(); [say(input=10 * n) for n in range(1, 9)]; call(); "
            "[wait(0.05) for _ in range(300) if not Path('go').exists()]; back(); say(input=7); die()"
        )
        async with opened(tmp_path / "state") as first:
            await first.submit("r", agent(tmp_path, script, retry=ONCE), budget=BudgetPlan(tokens=10**9))
            await first.until(lambda: first.told("usage.recorded"))
        async with opened(tmp_path / "state") as second:
            second.purse.recall(second.history.usage_between)
            second.purse.figures()  # adds the run up before the rest of it comes
            await second.until(lambda: second.conductor.voices["r", "a"].signs(0.0).tool)
            (tmp_path / "tree" / "go").touch()
            await second.ended("r")
            told = sum(event.data["input"] + event.data["output"] for event in _all(first, second))
            noted = second.task("r", "a").usage
            assert noted is not None
            now = second.scheduler.clock.read().wall
            assert told == 467 + 100
            assert noted.input + noted.output == told
            assert second.purse.spending.of_day(now).tokens == told
            assert second.purse._of_run(second.board.runs["r"]).tokens == told
            assert second.task("r", "a").attempts[0].details["tokens"] == told

    asyncio.run(tried())


def _all(*workshops: Workshop) -> list[Event]:
    return [event for each in workshops for event in each.told("usage.recorded")]


def test_an_attempt_whose_folder_was_taken_away_ends_and_frees_its_slot(tmp_path: Path) -> None:
    async def tried() -> None:
        async with opened(tmp_path / "state") as first:
            await first.submit("r", agent(tmp_path, "begin(); call(); wait(1); end()", retry=ONCE))
            await first.until(lambda: (v := first.conductor.voices.get(("r", "a"))) and v.signs(0.0).tool)
            folder = first.conductor.attempts["r", "a"].folder
        shutil.rmtree(folder)
        async with opened(tmp_path / "state") as second:
            await second.ended("r")
            assert second.states("r") == {"a": "dead_lettered"}
            assert second.classes("r", "a") == ["worker_killed"]
            assert second.violated == []

    asyncio.run(tried())


def test_a_pipe_in_the_place_of_its_output_holds_nobody_up(tmp_path: Path) -> None:
    async def tried() -> None:
        story = (
            "import os; f = Path(os.environ['CREWD_ATTEMPT_DIR']) / 'stdout'; f.unlink(); os.mkfifo(f); "
            "begin(); call(); wait(1.5); end()"
        )
        async with opened(tmp_path / "state") as first:
            await first.submit("r", agent(tmp_path, story, retry=ONCE))
            await first.until(lambda: (v := first.conductor.voices.get(("r", "a"))) and v.signs(0.0).tool)
        async with opened(tmp_path / "state") as second:
            await second.ended("r")
            assert second.states("r") == {"a": "dead_lettered"}

    asyncio.run(tried())


def test_a_cancel_while_the_next_rung_is_chosen_is_heard(tmp_path: Path) -> None:
    async def tried() -> None:
        async with opened(tmp_path / "state") as w:
            await w.submit("r", agent(tmp_path, "begin(); call(); wait(60)"))
            climbing = asyncio.Event()
            climb = w.conductor.ladder.climb

            async def slowly(*args: Any) -> Opening:
                opening = await climb(*args)
                if opening.rung == "resume":
                    climbing.set()
                    await asyncio.sleep(1.0)
                return opening

            object.__setattr__(w.conductor, "ladder", Slow(w.conductor.ladder.own, slowly))
            await killed_in_its_tool(w)
            await asyncio.wait_for(climbing.wait(), 20)
            await w.actions.cancel("r", "", reason="enough", actor="test")
            assert w.states("r") == {"a": "cancelled"}
            assert not marked("r/a/2")

    asyncio.run(tried())


@dataclass(frozen=True, slots=True)
class Slow(Ladder):
    slowly: Callable[..., Any]

    async def climb(self, *args: Any) -> Opening:
        return await self.slowly(*args)


def test_what_must_not_happen_twice_is_not_begun_anew_unasked(tmp_path: Path) -> None:
    story = "begin(); call(); end(is_error=True, api_error_status=500)"
    plan = agent(tmp_path, story, idempotent=False, resume=ResumePlan(mode="never"), provider="anthropic")

    async def tried() -> None:
        async with opened(tmp_path / "state") as w:
            await w.submit("r", plan)
            await w.ended("r")
            assert w.classes("r", "a") == ["provider_error"]
            parole = Parole(w.actions, "automatic", "", lambda: True)
            await parole.look()
            await asyncio.sleep(0.2)
            assert w.states("r") == {"a": "dead_lettered"}
            assert len(w.task("r", "a").attempts) == 1

    asyncio.run(tried())


def test_a_spent_budget_keeps_its_door_shut_for_retries_too(tmp_path: Path) -> None:
    async def tried() -> None:
        day = BudgetPlan(tokens=1000, on_exceeded="park")
        async with opened(tmp_path / "state", day_budget=day) as w:
            now = w.scheduler.clock.read().wall
            used = {"input": 5000, "output": 0}
            w.purse.hear((Event("usage.recorded", now, used, "x", crew="shop"),))
            await w.actions.pause("daemon", drain=True, reason="", actor="test")
            await w.submit("r", agent(tmp_path, "begin(); end()"))
            choice = w.scheduler._choice(w.scheduler.clock.read(), 10)
            await w.until(lambda: w.scheduler.held.get(("r", "a")))
            assert "budget" in w.scheduler.held["r", "a"], choice
            await w.actions.cancel("r", "", reason="enough", actor="test")

    asyncio.run(tried())


def test_a_note_of_tomorrow_does_not_hide_those_of_today(tmp_path: Path) -> None:
    async def tried() -> None:
        async with opened(tmp_path / "state") as w:
            now = w.scheduler.clock.read().wall
            at = (now + 86_400.0, now, now - 86_400.0)
            notes = [Event("usage.recorded", each, {"input": 10, "output": 0}, "x", crew="shop") for each in at]
            await w.ledger.commit(Batch(events=tuple(notes)))
            w.purse.recall(w.history.usage_between)
            assert w.purse.spending.of_day(now).tokens == 10
            assert w.purse.spending.of_crew("shop", now).tokens == 10

    asyncio.run(tried())


@pytest.mark.parametrize(
    ("health", "is_ended"),
    [(Health(), True), (Health(brake="many fell silent"), False), (Health(hold="crewd was away"), False)],
)
def test_a_silence_that_has_a_common_cause_ends_nobody(tmp_path: Path, health: Health, is_ended: bool) -> None:
    plan = agent(tmp_path, "", watch=WatchPlan(on_stream_hang="stop"))
    run = ManagedRun(RunPlan(run_id="r", crew="shop", tasks=(plan,)), RunStatus.RUNNING, 0.0)
    attempt = Attempt(run, plan, Lease("r/a", "default", 1, None), 1, "r/a/1", "mark")
    standing = Standing(Level.STALE, Reason.SILENT, wedge=Wedge.API_STREAM_HANG)
    verdict = Verdict(Level.STALE, Reason.SILENT, "", 1)
    worker = WorkerView("a", 1, standing, verdict, 0.0, None, ProcessSeen(ProcessState.ALIVE, "seen"))
    shown = Run("r", "managed", "shop", RunStatus.RUNNING, "running", "")
    snapshot = Snapshot(0.0, health, {"r": RunView(shown, "root", (worker,))})
    heed(snapshot, {("r", "a"): attempt})
    assert (attempt.over is not None) == is_ended


def test_a_defect_in_what_follows_from_its_words_ends_nobody(tmp_path: Path) -> None:
    async def tried() -> None:
        async with opened(tmp_path / "state") as w:

            def fail(*args: Any) -> Any:
                raise ValueError("a defect")

            w.conductor.alarms = fail
            await w.submit("r", agent(tmp_path, "begin(); say(); wait(0.5); end()", retry=ONCE))
            await w.ended("r")
            assert w.states("r") == {"a": "completed"}

    asyncio.run(tried())


def test_a_stop_of_crewd_is_no_attempt_and_its_successor_goes_on_with_the_session(tmp_path: Path) -> None:
    async def tried() -> None:
        async with opened(tmp_path / "state") as first:
            await first.submit("r", agent(tmp_path, KILLED_FIRST, retry=ONCE))
            await first.until(lambda: (v := first.conductor.voices.get(("r", "a"))) and v.signs(0.0).tool)
            await first.scheduler.close(0.0, lambda: None, asyncio.Event())
            stopped = first.task("r", "a").attempts[0]
            assert stopped.interrupted
            assert stopped.details["tree"]
        async with opened(tmp_path / "state") as second:
            await second.ended("r")
            assert second.states("r") == {"a": "completed"}
            resumed = second.task("r", "a").attempts[1]
            assert resumed.details["rung"] == "resume"
            assert resumed.details["session"] == stopped.details["session"]
            used = second.task("r", "a").usage
            assert used is not None
            assert (used.input, used.output) == (300, 30)
            assert [*first.violated, *second.violated] == []

    asyncio.run(tried())


def test_a_disk_that_takes_nothing_for_a_while_loses_no_count_and_no_deadline(tmp_path: Path) -> None:
    class Failing:
        def __init__(self, ledger: Any) -> None:
            self.ledger, self.fails = ledger, False

        async def commit(self, batch: Any) -> Any:
            if self.fails:
                raise LedgerFailed("no room")
            return await self.ledger.commit(batch)

    async def tried() -> None:
        async with opened(tmp_path / "state") as w:
            ledger = w.scheduler.register.ledger = Failing(w.ledger)
            story = "begin(); wait(0.3); refused(); say(input=7); wait(60)"
            await w.submit("r", agent(tmp_path, story, retry=ONCE, timeout=1.0))
            await w.until(lambda: w.state_of("r", "a") == "running")
            ledger.fails = True
            await asyncio.sleep(2.0)
            assert w.state_of("r", "a") == "running"  # nothing is done that was not written down before
            ledger.fails = False
            await w.ended("r")
            assert w.classes("r", "a") == ["timeout"]
            assert w.task("r", "a").attempts[0].details["tokens"] == 17
            assert sum(event.data["input"] for event in w.told("usage.recorded")) == 7
            assert len(w.told("worker.refused")) == 1

    asyncio.run(tried())
