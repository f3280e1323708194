"""What happens when two things fall together: an end and a cancel, a crash between two writes, a clock that jumps."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from crewd.engine.managed.inbox import Inbox
from crewd.host import inbox_folder
from crewd.host.clock import SystemClock
from crewd.ledger.batch import Batch
from crewd.ledger.errors import BatchRefused, LedgerFailed
from crewd.model.event import Event
from crewd.model.managed import Ending
from crewd.model.moment import Reading
from crewd.model.plan import Jitter, RetryPolicy, Success
from crewd.model.work import Lease
from tests.engine.managed.workshop import AT_ONCE, marked, opened, shell

pytestmark = pytest.mark.real_time
WHO = "operator:alex"
PATIENT = RetryPolicy(max_attempts=3, base=600.0, cap=600.0, jitter=Jitter.NONE)
SHORT = RetryPolicy(max_attempts=3, base=1.0, cap=1.0, jitter=Jitter.NONE)


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


class _Clock(SystemClock):
    """The machine's clock, whose wall time can be set."""

    ahead = 0.0

    def read(self) -> Reading:
        now = super().read()
        return Reading(now.wall + self.ahead, now.mono, now.boot)


def test_the_end_of_a_run_is_told_once_when_crewd_stops_at_that_moment(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s", drain_timeout=20.0) as w:
            await w.submit("run-1", *(shell(f"t{n}", "sleep 0.3") for n in range(4)))
            await w.until(lambda: set(w.states("run-1").values()) == {"running"})
            await w.scheduler.close(20.0, lambda: None, asyncio.Event())
            await asyncio.sleep(0.1)
            assert len(w.told("run.completed")) == 1

    run(story())


def test_a_cancel_that_comes_while_an_end_is_looked_at_still_ends_the_task_for_good(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            # It ended by itself, and its promise is looked at; that fails, and another try would follow.
            success = Success(command=("/bin/sh", "-c", "sleep 0.5; exit 1"))
            await w.submit("run-1", shell("a", "true", success=success, retry=AT_ONCE))
            await w.until(lambda: len(marked("run-1/a/1")) > 0 and (w.conductor.attempts[("run-1", "a")].over))
            await w.actions.cancel("run-1", "", reason="", actor=WHO)
            assert w.state_of("run-1", "a") == "cancelled"
            await asyncio.sleep(0.3)
            assert w.task("run-1", "a").attempt == 1, "it was started again after the cancel was answered"

    run(story())


def test_a_retry_that_was_asked_for_while_the_disk_failed_is_not_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "test $CREWD_ATTEMPT_NUMBER = 2", retry=SHORT))
            await w.until(lambda: w.state_of("run-1", "a") == "retry_wait")
            work = w.scheduler.register.work
            whole = work.revive
            work.revive = _failing  # type: ignore[method-assign]  # a defect is put in its place
            with pytest.raises(LedgerFailed):
                await w.actions.retry("run-1", "a", actor=WHO)
            work.revive = whole  # type: ignore[method-assign]  # a defect is put in its place
            await w.ended("run-1")
            assert w.state_of("run-1", "a") == "completed"

    run(story())


def test_an_item_that_the_engine_of_work_does_not_hand_out_is_offered_anew(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "test $CREWD_ATTEMPT_NUMBER = 2", retry=SHORT))
            await w.until(lambda: w.state_of("run-1", "a") == "retry_wait")
            await w.scheduler.register.work.withdraw("run-1/a")
            await w.ended("run-1")
            assert w.state_of("run-1", "a") == "completed"

    run(story())


def test_a_letter_of_a_task_that_was_never_offered_is_redriven(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "sleep 0.5"), shell("b", "true", depends_on=("a",)))
            await w.until(lambda: w.state_of("run-1", "a") == "running")
            await w.actions.bury("run-1", "b", reason="", actor=WHO)
            (key,) = w.letters.open
            await w.actions.redrive([key], "", dry_run=False, limit=0, actor=WHO)
            await w.ended("run-1")
            assert w.states("run-1") == {"a": "completed", "b": "completed"}

    run(story())


def test_a_task_that_is_given_up_again_has_a_letter_again_which_outlives_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "exit 1", retry=RetryPolicy(max_attempts=1)))
            await w.ended("run-1")
            (first,) = w.letters.open
            await w.actions.pause("daemon", drain=False, reason="", actor=WHO)
            await w.actions.redrive([first], "", dry_run=False, limit=0, actor=WHO)
            await w.actions.bury("run-1", "a", reason="", actor=WHO)
            (second,) = w.letters.open
            assert first != second
        async with opened(tmp_path / "s") as w:
            assert list(w.letters.open) == [second]

    run(story())


def test_a_clock_that_is_set_back_by_a_day_delays_no_retry_by_a_day(tmp_path: Path) -> None:
    async def story() -> None:
        clock = _Clock()
        async with opened(tmp_path / "s", clock=clock) as w:
            await w.submit("run-1", shell("a", "test $CREWD_ATTEMPT_NUMBER = 2", retry=SHORT))
            await w.until(lambda: w.state_of("run-1", "a") == "retry_wait")
            clock.ahead = -86_400.0
            await w.ended("run-1")
            assert w.state_of("run-1", "a") == "completed"

    run(story())


def test_a_handover_that_could_not_be_written_leaves_crewd_at_work(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            whole = w.ledger.commit
            w.ledger.commit = _failing  # type: ignore[method-assign]  # a defect is put in its place
            with pytest.raises(LedgerFailed):
                await w.actions.handover(actor=WHO)
            w.ledger.commit = whole  # type: ignore[method-assign]  # a defect is put in its place
            assert not w.handed_over
            await w.submit("run-1", shell("a", "true"))
            await w.ended("run-1")

    run(story())


def test_crewd_ends_although_its_disk_takes_nothing_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            w.scheduler.stop_patience = 0.2
            await w.submit("run-1", shell("a", "sleep 60", success=Success(command_timeout=0.1)))
            await w.until(lambda: w.state_of("run-1", "a") == "running" and marked("run-1/a/1"))
            whole = w.ledger.commit
            w.ledger.commit = _failing  # type: ignore[method-assign]  # a defect is put in its place
            await asyncio.wait_for(w.scheduler.close(0.0, lambda: None, asyncio.Event()), 20)
            assert marked("run-1/a/1"), "somebody was signalled before it was written that he ends"
            w.ledger.commit = whole  # type: ignore[method-assign]  # a defect is put in its place
        async with opened(tmp_path / "s") as w:
            assert w.accounts.adopted == 1
            await w.actions.cancel("run-1", "", reason="", actor=WHO)

    run(story())


def test_that_an_attempt_is_being_ended_is_durable_before_anybody_is_signalled(tmp_path: Path) -> None:
    async def story() -> None:
        heard = tmp_path / "heard"
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", f"trap 'touch {heard}' TERM; while :; do sleep 0.02; done"))
            await w.until(lambda: w.state_of("run-1", "a") == "running" and len(marked("run-1/a/1")) > 1)
            await asyncio.sleep(0.1)
            cancel = asyncio.create_task(w.actions.cancel("run-1", "a", reason="enough", actor=WHO))
            await w.until(heard.exists)
            (written,) = w.history.managed_tasks("run-1")
            assert isinstance(written.state, Ending)
            assert written.state.cancelled, "the next crewd would not know that nobody wants it"
            await cancel

    run(story())


def test_an_outcome_that_cannot_be_written_costs_its_attempt_and_no_slot(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            work = w.scheduler.register.work
            whole = work.complete

            async def refused(lease: Lease, result: Any, record: Batch | None = None) -> tuple[Event, ...]:
                work.complete = whole  # type: ignore[method-assign]  # a defect is put in its place
                raise BatchRefused("a value that nobody can write")

            answered: list[bool] = []
            retry = work.retry

            async def seen(*args: Any) -> tuple[Event, ...]:
                answered.append(w.conductor.attempts["run-1", "a"].settled.is_set())
                return await retry(*args)

            work.complete = refused  # type: ignore[method-assign]  # a defect is put in its place
            work.retry = seen  # type: ignore[assignment, method-assign]  # a defect is put in its place
            await w.submit("run-1", shell("a", "true", retry=AT_ONCE))
            await w.ended("run-1")
            assert w.state_of("run-1", "a") == "completed"
            assert w.classes("run-1", "a") == ["unknown", ""]
            assert answered == [False], "who waits for its end was answered while it was carried once more"

    run(story())


def test_a_turn_that_fails_for_a_reason_nobody_thought_of_is_followed_by_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            whole = w.scheduler.register.work.submit

            async def defect(*args: Any) -> Any:
                w.scheduler.register.work.submit = whole  # type: ignore[method-assign]  # as it was
                raise ValueError("a defect")

            w.scheduler.register.work.submit = defect  # type: ignore[assignment, method-assign]  # it fails
            await w.submit("run-1", shell("a", "true"))
            await w.ended("run-1")
            assert w.state_of("run-1", "a") == "completed"

    run(story())


@pytest.mark.parametrize("name", [b"n" * 245 + b".json", b"\xff\xfe.json", b"bad \xff.json"])
def test_a_run_file_of_an_odd_name_stands_in_nobodys_way(tmp_path: Path, name: bytes) -> None:
    async def story() -> None:
        folder = tmp_path / "inbox"
        inbox_folder.make(str(folder))
        async with opened(tmp_path / "s") as w:
            inbox = Inbox(str(folder), w.actions)
            Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text('{"tasks": [{"id": "odd"}]}')
            good = '{"name": "good", "tasks": [{"id": "a", "command": ["true"], "cwd": "/"}]}'
            (folder / "zzz.json").write_text(good)
            for _ in range(3):
                await inbox.look()
            assert not (folder / "zzz.json").exists()
            assert [entry.run.plan.name for entry in w.board.runs.values()] == ["good"]
            assert [each for each in os.listdir(folder) if each.endswith(".json")] == []

    run(story())


def test_an_accepted_run_file_whose_name_is_as_long_as_can_be_is_moved_aside(tmp_path: Path) -> None:
    async def story() -> None:
        folder = tmp_path / "inbox"
        inbox_folder.make(str(folder))
        async with opened(tmp_path / "s") as w:
            inbox = Inbox(str(folder), w.actions)
            name = "n" * 250 + ".json"
            (folder / name).write_text('{"name": "good", "tasks": [{"id": "a", "command": ["true"], "cwd": "/"}]}')
            for _ in range(3):
                await inbox.look()
            assert not (folder / name).exists()
            (moved,) = os.listdir(folder / "accepted")
            assert moved.endswith(".json")

    run(story())


async def _failing(*args: Any, **more: Any) -> Any:
    raise LedgerFailed("the disk is full")
