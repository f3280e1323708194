"""Turns: how many requests are begun in one pass of the loop."""

import asyncio

from crewd.web.turns import Turns


def test_many_at_once_are_begun_a_few_in_each_pass_and_in_their_order() -> None:
    async def story() -> None:
        turns, begun, passes = Turns(at_once=4), list[int](), list[int]()

        async def one(number: int) -> None:
            await turns.take()
            begun.append(number)

        asked = [asyncio.create_task(one(number)) for number in range(50)]
        while len(begun) < 50:
            before = len(begun)
            await asyncio.sleep(0)
            passes.append(len(begun) - before)
        await asyncio.gather(*asked)
        assert begun == [*range(50)]
        assert max(passes) <= 4

    asyncio.run(story())


def test_one_alone_waits_for_nothing() -> None:
    async def story() -> None:
        turns = Turns()
        for _ in range(3):
            asking = turns.take()
            try:
                asking.send(None)
            except StopIteration:
                pass
            else:
                raise AssertionError("it waited")
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    asyncio.run(story())


def test_whoever_gives_up_waiting_costs_nobody_a_turn() -> None:
    async def story() -> None:
        turns = Turns(at_once=1)
        asked = [asyncio.create_task(turns.take()) for _ in range(6)]
        await asyncio.sleep(0)
        for each in asked[2:4]:
            each.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(*asked, return_exceptions=True)
        assert [each.cancelled() for each in asked] == [False, False, True, True, False, False]

    asyncio.run(story())
