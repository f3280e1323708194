"""What people may ask of managed runs, and that an answer means what it says."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crewd.config.run_file import RunRefused
from crewd.engine.managed.parole import Parole
from crewd.errors import NothingMatched, Refused, UsageProblem
from crewd.model.plan import Jitter, RetryPolicy
from crewd.model.run import RunStatus
from tests.engine.managed.workshop import Workshop, marked, opened, shell

pytestmark = pytest.mark.real_time
WHO = "operator:alex"
PATIENT = RetryPolicy(max_attempts=3, base=600.0, cap=600.0, jitter=Jitter.NONE)


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def run_file(*commands: str) -> dict[str, Any]:
    tasks = [{"id": f"t{n}", "command": ["/bin/sh", "-c", each], "cwd": "/"} for n, each in enumerate(commands)]
    return {"name": "nightly", "crew": "shop", "tasks": tasks}


async def submit(w: Workshop, data: Any, key: str = "") -> Any:
    return await w.actions.submit(data, base="/", key=key, actor=WHO, source="a test")


def test_the_same_key_never_makes_a_second_run(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            first = await submit(w, run_file("true"), key="k")
            await w.ended(first.run_id)
            again = await submit(w, run_file("true"), key="k")
            assert (again.run_id, again.duplicate) == (first.run_id, True)
            other = await submit(w, run_file("true"), key="k2")
            assert not other.duplicate
        async with opened(tmp_path / "s") as w:
            assert (await submit(w, run_file("true"), key="k")).run_id == first.run_id
            assert list(w.board.runs) in ([], [other.run_id])

    run(story())


def test_a_run_id_that_is_taken_is_not_taken_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            named = run_file("true") | {"run_id": "mine"}
            assert not (await submit(w, named)).duplicate
            await w.ended("mine")
            assert (await submit(w, named)).duplicate
            assert len(w.told("run.completed")) == 1

    run(story())


def test_a_run_file_that_is_wrong_is_refused_whole(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            data = run_file("true", "true")
            data["tasks"][0]["depends_on"] = ["nobody"]
            data["tasks"][1]["id"] = "../../evil"
            with pytest.raises(RunRefused) as refused:
                await submit(w, data)
            assert {problem.code for problem in refused.value.problems} >= {"UNKNOWN_TASK", "BAD_ID"}
            assert w.board.runs == {}
            assert w.events == []

    run(story())


def test_when_a_cancel_is_answered_nothing_is_left(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            # One that ignores SIGTERM, with a daemon of its own; one that has not started; one that waits.
            stubborn = "trap '' TERM INT HUP; setsid sleep 61 & sleep 60"
            await w.submit(
                "run-1",
                shell("busy", stubborn),
                shell("later", "true", depends_on=("busy",)),
                shell("again", "exit 1", retry=PATIENT),
            )
            await w.until(lambda: w.state_of("run-1", "again") == "retry_wait" and len(marked("run-1/busy/1")) >= 3)
            done = await w.actions.cancel("run-1", "", reason="not needed", actor=WHO)
            assert marked("run-1/busy/1") == []
            assert set(w.states("run-1").values()) == {"cancelled"}
            assert set(done.ids) == {"busy", "later", "again"}
            assert (await w.ended("run-1")).status is RunStatus.CANCELLED
            assert {event.actor for event in w.told("task.cancelled")} == {WHO}
            assert not w.told("task.failed"), "what was cancelled has not failed"
            with pytest.raises(Refused):
                await w.actions.cancel("run-1", "", reason="", actor=WHO)
            with pytest.raises(NothingMatched):
                await w.actions.cancel("run-1", "nobody", reason="", actor=WHO)

    run(story())


def test_a_cancelled_task_takes_only_those_with_it_that_need_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit(
                "run-1", shell("a", "sleep 60"), shell("b", "true", depends_on=("a",)), shell("c", "sleep 0.3")
            )
            await w.until(lambda: w.state_of("run-1", "a") == "running")
            await w.actions.cancel("run-1", "a", reason="", actor=WHO)
            await w.ended("run-1")
            assert w.states("run-1") == {"a": "cancelled", "b": "skipped", "c": "completed"}

    run(story())


def test_a_paused_scope_starts_nothing_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.actions.pause("crew:shop", drain=False, reason="maintenance", actor=WHO)
            await w.submit("run-1", shell("a", "true"))
            await asyncio.sleep(0.2)
            assert w.state_of("run-1", "a") == "waiting"
            details = w.actions.managed("run-1")
            assert details is not None
            assert "shop" in details["tasks"][0]["why"]
        async with opened(tmp_path / "s") as w:
            await asyncio.sleep(0.2)
            assert w.state_of("run-1", "a") == "waiting", "the pause was forgotten"
            await w.actions.resume("crew:shop", actor=WHO)
            await w.ended("run-1")
            with pytest.raises(Refused):
                await w.actions.resume("crew:shop", actor=WHO)
            with pytest.raises(UsageProblem):
                await w.actions.pause("everything", drain=False, reason="", actor=WHO)

    run(story())


def test_a_retry_that_waits_can_be_had_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "test $CREWD_ATTEMPT_NUMBER = 2", retry=PATIENT))
            await w.until(lambda: w.state_of("run-1", "a") == "retry_wait")
            await w.actions.retry("run-1", "a", actor=WHO)
            await w.ended("run-1")
            assert w.state_of("run-1", "a") == "completed"
            with pytest.raises(Refused):
                await w.actions.retry("run-1", "a", actor=WHO)

    run(story())


def test_a_redriven_letter_has_a_new_budget_and_wakes_whoever_was_skipped(tmp_path: Path) -> None:
    async def story() -> None:
        go = tmp_path / "go"
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", f"test -e {go}"), shell("b", "true", depends_on=("a",)))
            await w.ended("run-1")
            (letter,) = w.letters.open.values()
            assert [record.error_class for record in letter.history] == ["unknown", "unknown"]
        async with opened(tmp_path / "s") as w:  # the run has ended, and is brought back from the ledger
            go.touch()
            seen = await w.actions.redrive([letter.key], "", dry_run=True, limit=0, actor=WHO)
            assert seen.ids == (letter.key,)
            assert w.letters.open
            await w.actions.redrive([], letter.fingerprint, dry_run=False, limit=0, actor=WHO)
            await w.ended("run-1")
            assert w.states("run-1") == {"a": "completed", "b": "completed"}
            assert w.task("run-1", "a").attempt == 3
            assert w.letters.open == {}
            settled = w.actions.letter(letter.key)
            assert settled is not None
            assert (settled["state"], settled["settled_by"]) == ("redriven", WHO)
            assert w.board.runs["run-1"].run.status is RunStatus.COMPLETED

    run(story())


def test_a_discarded_letter_waits_for_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "exit 1"))
            await w.ended("run-1")
            (key,) = w.letters.open
            await w.actions.discard([key], "", reason="known", dry_run=False, actor=WHO)
            assert w.letters.open == {}
            assert w.state_of("run-1", "a") == "dead_lettered"
            assert [each["state"] for each in w.actions.letters(state="", crew="", limit=10)] == ["discarded"]
            with pytest.raises(NothingMatched):
                await w.actions.redrive([key], "", dry_run=False, limit=0, actor=WHO)

    run(story())


def test_a_task_can_be_given_up_by_hand(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "exit 1", retry=PATIENT))
            await w.until(lambda: w.state_of("run-1", "a") == "retry_wait")
            await w.actions.bury("run-1", "a", reason="hopeless", actor=WHO)
            (letter,) = w.letters.open.values()
            assert (letter.reason, letter.error) == ("manual", "hopeless")
            assert (await w.ended("run-1")).status is RunStatus.FAILED

    run(story())


def test_a_handover_leaves_the_workers(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "sleep 60"))
            await w.until(lambda: w.state_of("run-1", "a") == "running")
            await w.actions.handover(actor=WHO)
            assert w.handed_over
            with pytest.raises(Refused):
                await submit(w, run_file("true"))
        assert marked("run-1/a/1")
        async with opened(tmp_path / "s") as w:
            assert w.accounts.adopted == 1
            await w.actions.cancel("run-1", "a", reason="", actor=WHO)
        assert not marked("run-1/a/1")

    run(story())


def test_letters_whose_cause_is_gone_follow_one_that_tried(tmp_path: Path) -> None:
    async def story() -> None:
        go = tmp_path / "go"
        script = f"test -e {go} || {{ echo 'HTTP 503 overloaded' >&2; exit 1; }}"
        once = RetryPolicy(max_attempts=1)
        async with opened(tmp_path / "s", max_parallel=1) as w:
            await w.submit("run-1", *(shell(f"t{n}", script, provider="acme", retry=once) for n in range(2)))
            await w.ended("run-1")
            assert len(w.letters.open) == 2
            parole = Parole(w.actions, "automatic", "", lambda: True)
            go.touch()
            await parole.look()  # the circuit is closed: one goes first
            assert len(w.letters.open) == 1
            await w.until(lambda: "completed" in w.states("run-1").values())
            await parole.look()
            await w.ended("run-1")
            assert set(w.states("run-1").values()) == {"completed"}
            assert len(w.told("deadletter.parole_offered")) >= 1

    run(story())


def test_who_fails_again_on_parole_waits_for_a_person(tmp_path: Path) -> None:
    async def story() -> None:
        once = RetryPolicy(max_attempts=1)
        async with opened(tmp_path / "s") as w:
            failing = "echo 'HTTP 503 overloaded' >&2; exit 1"
            await w.submit("run-1", shell("a", failing, provider="acme", retry=once))
            await w.ended("run-1")
            parole = Parole(w.actions, "automatic", "", lambda: True)
            for _ in range(4):
                await parole.look()
                await w.until(lambda: w.letters.open and not w.board.at_work)
            assert w.task("run-1", "a").attempt == 2, "it goes round for ever"

    run(story())


def test_a_run_that_was_cancelled_after_some_of_it_was_done_is_not_completed(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "true"), shell("b", "sleep 60", depends_on=("a",)))
            await w.until(lambda: w.state_of("run-1", "b") == "running")
            await w.actions.cancel("run-1", "", reason="", actor=WHO)
            assert (await w.ended("run-1")).status is RunStatus.CANCELLED
            assert w.states("run-1") == {"a": "completed", "b": "cancelled"}

    run(story())
