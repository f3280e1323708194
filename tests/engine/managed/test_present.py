"""Who asks between two rounds is told what is so now of a managed run: its head and its tasks are of one moment."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crewd.engine.managed.present import Present
from crewd.engine.managed.views import run_view
from crewd.model.process import ProcessSeen, ProcessState
from crewd.model.run import RUN_ENDED, Run, RunStatus, TaskStatus
from crewd.model.snapshot import EMPTY, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict
from tests.engine.managed.workshop import Workshop, opened, shell

pytestmark = pytest.mark.real_time
ROOT = "managed:/runs"


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def pictured(workshop: Workshop, *run_ids: str, at_work: tuple[str, ...] = ()) -> Snapshot:
    """What the patrol saw in a round of this moment."""
    standing = Standing(Level.HEALTHY, Reason.SILENT, "", 0.0)
    verdict = Verdict(Level.HEALTHY, Reason.SILENT, "", row=8)
    seen = ProcessSeen(ProcessState.ALIVE, "")
    workers = tuple(WorkerView(name, 1, standing, verdict, 0.0, None, seen) for name in at_work)
    views = {each: RunView(run_view(workshop.board.runs[each]), ROOT, workers) for each in run_ids}
    return msgspec.structs.replace(EMPTY, taken_at=1.0, runs=views)


def agrees(told: Run) -> bool:
    """Whether a head fits its tasks: nothing of a run that ended goes on, and something of one that has not."""
    goes_on = any(task.status in (TaskStatus.RUNNING, TaskStatus.QUEUED) for task in told.tasks)
    return goes_on is (told.status not in RUN_ENDED)


def test_a_run_is_over_when_its_tasks_are_whatever_the_latest_round_saw(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "sleep 0.05"), shell("b", "true", depends_on=("a",)))
            await w.submit("other", shell("c", "sleep 5"))
            await w.until(lambda: w.state_of("run-1", "a") == w.state_of("other", "c") == "running")
            present, of_round = Present(w.board, ROOT), pictured(w, "run-1", "other", at_work=("a",))
            other = pictured(w, "other", at_work=("c",)).runs["other"]
            of_round = msgspec.structs.replace(of_round, runs={**of_round.runs, "other": other})
            assert present.of(of_round) is of_round, "nothing has changed since"
            seen = set()
            while w.board.runs["run-1"].run.status not in RUN_ENDED:
                told = present.of(of_round)
                view = told.runs["run-1"]
                laid_out = w.actions.managed("run-1")
                assert agrees(view.run), (view.run.status, [task.status_text for task in view.run.tasks])
                assert laid_out is not None
                assert laid_out["status"] == view.run.status.value
                assert (laid_out["ended_at"] is None) is (view.run.status not in RUN_ENDED)
                assert [task["state"] for task in laid_out["tasks"]] == [task.status_text for task in view.run.tasks]
                assert bool(view.workers) is (w.state_of("run-1", "a") in ("running", "ending"))
                assert told.runs["other"] is other, "nothing became of it"
                seen.add(view.run.status)
                await asyncio.sleep(0)
            assert RunStatus.COMPLETED in seen, "between the last task and what follows from it nobody asked"
            assert present.of(of_round).runs["run-1"].run.status is RunStatus.COMPLETED
            assert present.of(of_round) is present.of(of_round), "made anew although nothing changed"

    run(story())


def test_a_run_that_was_brought_back_has_not_failed_any_more(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", f"test -e {tmp_path}/go || exit 9"))
            await w.until(lambda: w.board.runs["run-1"].run.status is RunStatus.FAILED)
            present, of_round = Present(w.board, ROOT), pictured(w, "run-1")
            (tmp_path / "go").touch()
            key = next(iter(w.letters.open))
            await w.actions.redrive([key], None, dry_run=False, limit=1, actor="ann")
            assert present.of(of_round).runs["run-1"].run.status is RunStatus.RUNNING
            await w.until(lambda: w.state_of("run-1", "a") == "completed")
            told = present.of(of_round).runs["run-1"].run
            assert (told.status, told.status_text) == (RunStatus.COMPLETED, "completed")
            assert told.updated_at is not None
            assert told.updated_at >= w.task("run-1", "a").state.since

    run(story())


def test_a_run_that_no_round_saw_yet_is_told_and_one_of_somebody_else_stays_as_it_is(tmp_path: Path) -> None:
    async def story() -> None:
        async with opened(tmp_path / "s") as w:
            await w.submit("run-1", shell("a", "true"))
            present = Present(w.board, ROOT)
            assert present.of(EMPTY).runs["run-1"].root == ROOT
            foreign = RunView(Run("run-1", "beat", "blue", RunStatus.RUNNING, "running", "/"), "beat:/elsewhere")
            assert present.of(msgspec.structs.replace(EMPTY, runs={"run-1": foreign})).runs["run-1"] is foreign
            await w.until(lambda: w.board.runs["run-1"].run.status is RunStatus.COMPLETED)
            w.board.drop_ended(0)
            assert present.of(EMPTY).runs == {}, "it is told although it was let go"

    run(story())
