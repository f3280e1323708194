"""What providers do to observed workers, as a hint for whoever asks the same providers."""

from typing import Any

import pytest

from crewd.engine.hints import hints
from crewd.model.failure import ErrorClass
from crewd.model.run import Run, TaskStatus, Usage, Waiting
from tests.engine.stage import MARK, Stage, play, run, task

LIMITED = ("anthropic/claude-sonnet", ErrorClass.RATE_LIMITED)


def refused(task_id: str = "t", hint: str = "429 Too Many Requests", **more: Any) -> Run:
    more.setdefault("model", "anthropic/claude-sonnet")
    return run(task(task_id, pid=7, hint=hint, **more))


async def silent(stage: Stage, told: Run) -> None:
    stage.processes.add(7, marks=(MARK,))
    stage.source.put(told)
    await stage.seconds(150)


@pytest.mark.parametrize(
    ("hint", "error_class"),
    [("429 Too Many Requests", ErrorClass.RATE_LIMITED), ("401 Unauthorized", ErrorClass.AUTH_ERROR)],
)
def test_a_silent_worker_that_was_refused_names_its_model_until_it_moves(hint: str, error_class: ErrorClass) -> None:
    async def scene(stage: Stage) -> None:
        await silent(stage, refused(hint=hint))
        snapshot = stage.patrol.picture.snapshot
        assert snapshot.refused == (("r", "t"),)
        assert hints(snapshot) == (("anthropic/claude-sonnet", error_class),)
        stage.source.put(refused(hint=hint, beat=1))
        snapshot = await stage.rounds(1)
        assert snapshot.refused == () and hints(snapshot) == ()

    play(scene)


def test_a_worker_that_declares_a_wait_for_its_provider_is_refused_at_once() -> None:
    async def scene(stage: Stage) -> None:
        waits = Waiting("throttled", detail="until 12:00")
        stage.source.put(run(task(waiting=waits, usage=Usage(model="gpt-5"), model="of the plan")))
        assert hints(await stage.rounds(1)) == (("gpt-5", ErrorClass.RATE_LIMITED),)
        stage.source.put(run(task(waiting=Waiting("human"), model="gpt-5")))
        assert hints(await stage.rounds(1)) == ()

    play(scene)


def test_many_with_one_model_are_one_hint() -> None:
    async def scene(stage: Stage) -> None:
        waits = Waiting("throttled")
        stage.source.put(run(task("a", waiting=waits, model="m"), task("b", waiting=waits, model="m")))
        assert hints(await stage.rounds(1)) == (("m", ErrorClass.RATE_LIMITED),)

    play(scene)


def test_who_ended_who_is_dead_who_is_managed_and_whose_model_is_unknown_give_none() -> None:
    async def scene(stage: Stage) -> None:
        await silent(stage, refused())
        assert hints(stage.patrol.picture.snapshot) == (LIMITED,)
        stage.source.put(refused(model=""))
        assert hints(await stage.rounds(1)) == ()
        stage.source.put(refused())
        assert hints(await stage.rounds(1)) == (LIMITED,)
        stage.processes.kill(7)
        assert hints(await stage.rounds(3)) == ()
        stage.source.put(refused(status=TaskStatus.FAILED))
        snapshot = await stage.rounds(1)
        assert snapshot.refused == ()

    play(scene)

    async def managed(stage: Stage) -> None:
        stage.source.tells_itself = True
        await silent(stage, refused())
        assert stage.patrol.picture.snapshot.refused == ()

    play(managed)


def test_a_run_that_vanished_hints_at_nothing() -> None:
    async def scene(stage: Stage) -> None:
        await silent(stage, refused())
        del stage.source.runs["r"]
        assert (await stage.rounds(1)).refused == ()

    play(scene)
