"""Answers of one snapshot: worked out once, and never shown to anybody after they became untrue."""

import asyncio
from typing import Any

import pytest

from crewd.web.answers import Remembered
from tests.telemetry.pictures import snapshot, view
from tests.web.world import State


class Asked:
    """Counts how often an answer is shaped; fails as it is told."""

    def __init__(self, note: str = "hunter2-the-secret") -> None:
        self.times = 0
        self.note = note
        self.failure: Exception | None = None

    def shape(self) -> dict[str, Any]:
        self.times += 1
        if self.failure is not None:
            raise self.failure
        return {"note": self.note}


def test_the_same_question_to_the_same_snapshot_is_worked_out_once() -> None:
    async def story() -> None:
        state, asked = State(), Asked()
        remembered = Remembered(state)
        answers = await asyncio.gather(*(remembered.told("a", asked.shape) for _ in range(100)))
        assert asked.times == 1 and len({bytes(answer.body) for answer in answers}) == 1
        await remembered.told("b", asked.shape)
        assert asked.times == 2
        state.picture = snapshot(view("r9", "green"))
        await remembered.told("a", asked.shape)
        assert asked.times == 3

    asyncio.run(story())


def test_a_secret_that_is_learnt_is_masked_in_answers_from_before() -> None:
    async def story() -> None:
        state, asked = State(), Asked()
        remembered = Remembered(state)
        assert b"hunter2" in (await remembered.told("a", asked.shape)).body
        state.redactor.learn("hunter2-the-secret")
        assert b"hunter2" not in (await remembered.told("a", asked.shape)).body

    asyncio.run(story())


def test_a_failure_is_not_remembered_and_whoever_goes_away_takes_nothing_from_others() -> None:
    async def story() -> None:
        state, asked = State(), Asked()
        remembered = Remembered(state)
        asked.failure = ValueError("once")
        with pytest.raises(ValueError, match="once"):
            await remembered.told("a", asked.shape)
        asked.failure = None
        first = asyncio.create_task(remembered.told("a", asked.shape))
        second = asyncio.create_task(remembered.told("a", asked.shape))
        await asyncio.sleep(0)
        first.cancel()
        assert b"note" in (await second).body

    asyncio.run(story())


def test_what_is_remembered_is_bounded() -> None:
    async def story() -> None:
        asked = Asked()
        remembered = Remembered(State())
        for number in range(200):
            await remembered.told(str(number), asked.shape)
        await remembered.told("199", asked.shape)
        assert asked.times == 200

    asyncio.run(story())
