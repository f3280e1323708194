"""What every implementation of the work interface does, whatever engine stands behind it.

To hold another one to it, add a class with the attributes of `Engine` to ENGINES.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from crewd.ledger.batch import Batch
from crewd.ledger.errors import BatchRefused, KeyTaken
from crewd.ledger.ledger import Ledger
from crewd.ledger.work import LedgerWork
from crewd.model.event import Event
from crewd.model.managed import ManagedTask, Running, Waiting
from crewd.model.process import Identity
from crewd.model.work import Conflict, Item, Lease, LeaseLost, Unavailable, Work
from tests.fakes.clock import FakeClock
from tests.ledger.values import a_managed_run


class Engine(Protocol):
    """An implementation at work, the ledger that keeps its callers' records, and the clock of both."""

    work: Work
    ledger: Ledger
    clock: FakeClock

    def __init__(self, folder: Path) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class LedgerEngine:
    """The ledger itself."""

    work: Work
    ledger: Ledger

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.clock = FakeClock()

    async def start(self) -> None:
        self.ledger = Ledger.open(self._folder, self.clock)
        self.work = LedgerWork(self.ledger)

    async def stop(self) -> None:
        await self.ledger.close()


ENGINES: list[type[Engine]] = [LedgerEngine]

Scene = Callable[[Engine], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture(params=ENGINES, ids=lambda kind: kind.__name__)
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    def run(scene: Scene) -> None:
        async def whole() -> None:
            engine: Engine = request.param(tmp_path)
            await engine.start()
            try:
                await scene(engine)
            finally:
                await engine.stop()

        asyncio.run(whole())

    return run


def told(word: str) -> Batch:
    return Batch(events=(Event("work.told", 1.0, {"word": word}),))


async def heard(engine: Engine) -> list[str]:
    return [event.data["word"] for event in await engine.ledger.read(lambda reader: reader.events())]


async def pulled(work: Work, key: str, seconds: float | None = None) -> Lease:
    (lease,), _ = await work.pull([key], seconds)
    return lease


async def ready(work: Work) -> list[str]:
    return [item.key for item in await work.ready()]


def test_an_item_is_offered_handed_out_and_completed(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        item = Item("r/a", "fast", 3, body={"n": [1, {"é": None}]})
        assert await work.submit([item]) == ((True,), ())
        assert await work.ready() == (item,)
        assert await work.pull(["r/a"], None) == ((Lease("r/a", "fast", 1, None, item.body),), ())
        assert await work.ready() == ()
        assert await work.result("r/a") is None
        await work.complete(Lease("r/a", "fast", 1, None), {"output": "é"})
        assert await work.result("r/a") == {"output": "é"}
        assert await work.result("nobody") is None

    play(scene)


def test_a_key_is_offered_once_while_it_lives_and_never_after_it_was_completed(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        assert (await work.submit([Item("r/a"), Item("r/b"), Item("r/a", priority=9)]))[0] == (True, True, False)
        assert (await work.submit([Item("r/b", priority=9)]))[0] == (False,)
        lease = await pulled(work, "r/a")
        assert (await work.submit([Item("r/a")]))[0] == (False,)
        await work.complete(lease, {})
        assert (await work.submit([Item("r/a")]))[0] == (False,)
        assert [(item.key, item.priority) for item in await work.ready()] == [("r/b", 0)]

    play(scene)


def test_many_offers_of_one_key_at_once_make_one_item(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        answers = await asyncio.gather(*(engine.work.submit([Item("r/a")]) for _ in range(50)))
        assert sum(given for (given,), _ in answers) == 1

    play(scene)


def test_what_is_ready_comes_by_priority_and_then_by_age(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        await engine.work.submit([Item("low", priority=-1), Item("old"), Item("high", priority=7), Item("young")])
        assert await ready(engine.work) == ["high", "old", "young", "low"]
        assert [item.key for item in await engine.work.ready(limit=2)] == ["high", "old"]

    play(scene)


def test_only_what_is_ready_is_handed_out_and_once(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        await work.submit([Item("r/a"), Item("r/b")])
        leases, _ = await work.pull(["r/b", "nobody", "r/a", "r/b"], None)
        assert [lease.key for lease in leases] == ["r/b", "r/a"]
        assert await work.pull(["r/a", "r/b"], None, lambda leases: told("never")) == ((), ())
        assert await heard(engine) == []

    play(scene)


def test_of_many_who_pull_one_item_at_once_one_gets_it(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        await engine.work.submit([Item("r/a")])
        answers = await asyncio.gather(*(engine.work.pull(["r/a"], 60.0) for _ in range(50)))
        assert sum(len(leases) for leases, _ in answers) == 1

    play(scene)


def test_work_whose_time_is_over_is_offered_again_behind_a_newer_fence(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work, clock = engine.work, engine.clock
        await work.submit([Item("r/a"), Item("r/b"), Item("r/c")])
        stale, _ = await pulled(work, "r/a", 30.0), await pulled(work, "r/b", None)
        assert stale.until == clock.wall + 30.0
        clock.advance(29.0)
        assert await work.sweep() == ()
        clock.advance(1.0)
        assert await work.sweep() == ("r/a",)
        assert await work.sweep() == ()
        assert await ready(work) == ["r/a", "r/c"]
        assert (await pulled(work, "r/a", 30.0)).fence == stale.fence + 1

    play(scene)


@pytest.mark.parametrize("then", ["offered again", "handed out again", "completed", "buried", "put back"])
def test_a_stale_holder_changes_nothing(play: Play, then: str) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        await work.submit([Item("r/a")])
        stale = await pulled(work, "r/a", 30.0)
        engine.clock.advance(31.0)
        if then in ("offered again", "handed out again"):
            await work.sweep()
        if then == "handed out again":
            await pulled(work, "r/a", 30.0)
        if then == "completed":
            await work.complete(stale, {"by": "the first"})
        if then == "buried":
            await work.bury(stale, "max-retries")
        if then == "put back":
            await work.retry(stale, 0.0)
        depth = await work.depth()
        for late in (
            work.extend([stale], 30.0),
            work.complete(stale, {"by": "the late"}, told("completed")),
            work.retry(stale, 0.0, told("retry")),
            work.bury(stale, "late", told("buried")),
        ):
            with pytest.raises(LeaseLost, match="r/a"):
                await late
        assert await heard(engine) == []
        assert await work.depth() == depth
        assert await work.result("r/a") == ({"by": "the first"} if then == "completed" else None)

    play(scene)


def test_a_lease_on_what_was_never_offered_is_lost(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        with pytest.raises(LeaseLost):
            await engine.work.complete(Lease("r/a", "default", 1, None), {})

    play(scene)


def test_fences_grow_whatever_way_an_item_takes(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work, fences = engine.work, []
        await work.submit([Item("r/a")])
        for way in ("retry", "bury", "sweep", "withdraw", "end"):
            lease = await pulled(work, "r/a", 10.0)
            fences.append(lease.fence)
            if way == "bury":
                await work.bury(lease, "why")
                await work.revive(Item("r/a"))
            elif way == "sweep":
                engine.clock.advance(11.0)
                await work.sweep()
            else:
                await work.retry(lease, 0.0)
            if way == "withdraw":
                await work.withdraw("r/a")
                await work.revive(Item("r/a"))
        assert fences == [1, 2, 3, 4, 5]

    play(scene)


def test_who_extends_keeps_the_work(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work, clock = engine.work, engine.clock
        await work.submit([Item("r/a"), Item("r/b")])
        leases, _ = await work.pull(["r/a", "r/b"], 30.0)
        clock.advance(20.0)
        extended = await work.extend(leases[:1], 30.0)
        assert [(lease.key, lease.fence, lease.until) for lease in extended] == [("r/a", 1, clock.wall + 30.0)]
        clock.advance(15.0)
        assert await work.sweep() == ("r/b",)
        await work.complete(extended[0], {})

    play(scene)


def test_of_leases_that_are_extended_together_the_good_ones_are_although_one_is_lost(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work, clock = engine.work, engine.clock
        await work.submit([Item("r/a"), Item("r/b")])
        leases, _ = await work.pull(["r/a", "r/b"], 30.0)
        await work.complete(leases[0], {})
        with pytest.raises(LeaseLost, match="r/a"):
            await work.extend(leases, 60.0)
        clock.advance(59.0)
        assert await work.sweep() == ()
        clock.advance(1.0)
        assert await work.sweep() == ("r/b",)

    play(scene)


def test_a_lease_without_an_end_stays_without_one(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        await engine.work.submit([Item("r/a")])
        (lease,) = await engine.work.extend([await pulled(engine.work, "r/a")], 5.0)
        assert lease.until is None
        engine.clock.advance(1e9)
        assert await engine.work.sweep() == ()

    play(scene)


def test_what_is_put_back_waits_until_it_is_due(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work, clock = engine.work, engine.clock
        await work.submit([Item("r/a")])
        await work.retry(await pulled(work, "r/a"), clock.wall + 10.0)
        clock.advance(9.0)
        assert await ready(work) == []
        assert await work.pull(["r/a"], None) == ((), ())
        assert (await work.depth())["delayed"] == 1
        clock.advance(1.0)
        assert await ready(work) == ["r/a"]
        assert (await pulled(work, "r/a")).fence == 2

    play(scene)


def test_what_is_offered_for_later_is_handed_out_later(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work, clock = engine.work, engine.clock
        await work.submit([Item("r/a", due_at=clock.wall + 5.0)])
        assert await ready(work) == []
        assert await work.pull(["r/a"], None) == ((), ())
        clock.advance(5.0)
        assert await ready(work) == ["r/a"]
        assert (await pulled(work, "r/a")).key == "r/a"

    play(scene)


def test_what_is_buried_rests_until_it_is_revived(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        await work.submit([Item("r/a", body={"n": 1})])
        await work.bury(await pulled(work, "r/a"), "max-retries", told("buried"))
        assert await ready(work) == []
        assert (await work.submit([Item("r/a")]))[0] == (False,)
        await work.revive(Item("r/a", "slow", 4, body={"n": 2}), told("revived"))
        assert await work.ready() == (Item("r/a", "slow", 4, body={"n": 2}),)
        assert await heard(engine) == ["buried", "revived"]

    play(scene)


def test_only_what_rests_is_revived(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        await work.submit([Item("ready"), Item("held"), Item("done")])
        await pulled(work, "held")
        await work.complete(await pulled(work, "done"), {})
        for key in ("ready", "held", "done", "nobody"):
            with pytest.raises(Conflict, match=key):
                await work.revive(Item(key), told(key))
        assert await heard(engine) == []

    play(scene)


def test_what_nobody_holds_can_be_withdrawn(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        await work.submit([Item("ready"), Item("buried")])
        await work.bury(await pulled(work, "buried"), "why")
        for key in ("ready", "buried", "nobody", "ready"):
            await work.withdraw(key, told(key))
        assert await ready(work) == []
        assert (await work.submit([Item("ready")]))[0] == (False,)
        assert await heard(engine) == ["ready", "buried", "nobody", "ready"]
        await work.revive(Item("ready"))
        assert await ready(work) == ["ready"]

    play(scene)


def test_what_is_held_or_done_is_not_withdrawn(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        await work.submit([Item("held"), Item("done")])
        await pulled(work, "held")
        await work.complete(await pulled(work, "done"), {})
        for key in ("held", "done"):
            with pytest.raises(Conflict, match=key):
                await work.withdraw(key, told(key))
        assert await heard(engine) == []

    play(scene)


def test_the_depth_counts_each_item_once(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        assert await work.depth() == {"ready": 0, "delayed": 0, "leased": 0, "buried": 0, "withdrawn": 0}
        names = ("ready", "held", "done", "buried", "withdrawn")
        await work.submit([*(Item(name) for name in names), Item("later", due_at=engine.clock.wall + 1.0)])
        await pulled(work, "held")
        await work.complete(await pulled(work, "done"), {})
        await work.bury(await pulled(work, "buried"), "why")
        await work.withdraw("withdrawn")
        assert await work.depth() == {"ready": 1, "delayed": 1, "leased": 1, "buried": 1, "withdrawn": 1}

    play(scene)


def test_a_log_is_read_back_in_order_from_where_the_reader_left_off(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        for number in range(1, 6):
            assert await work.append("run-1", f"id-{number}", {"n": number}) == number
        assert await work.append("run-2", "id-1", {}) == 1
        records = await work.read("run-1")
        assert [(each.position, each.id, each.data["n"]) for each in records] == [
            (n, f"id-{n}", n) for n in range(1, 6)
        ]
        assert [each.position for each in await work.read("run-1", after=2, limit=2)] == [3, 4]
        assert await work.read("nobody") == ()

    play(scene)


def test_the_same_record_twice_is_one_record_also_where_it_names_its_place(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        assert await work.append("run", "a", {"n": 1}, after=0) == 1
        assert await work.append("run", "b", {"n": 2}, after=1) == 2
        assert await work.append("run", "a", {"n": 9}, after=0) == 1
        assert [each.data["n"] for each in await work.read("run")] == [1, 2]

    play(scene)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_record_for_another_place_than_the_end_is_a_conflict(play: Play, after: int) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        await work.append("run", "a", {})
        await work.append("run", "b", {})
        with pytest.raises(Conflict, match="run"):
            await work.append("run", "c", {}, after=after)
        assert await work.append("run", "c", {}, after=2) == 3

    play(scene)


def test_of_many_who_write_behind_the_same_record_one_succeeds(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        appends = (engine.work.append("run", f"id-{n}", {}, after=0) for n in range(50))
        answers = await asyncio.gather(*appends, return_exceptions=True)
        assert [type(answer) for answer in answers if answer != 1] == [Conflict] * 49
        assert len(await engine.work.read("run")) == 1

    play(scene)


def test_three_hundred_items_are_each_completed_once(play: Play) -> None:
    keys = [f"r/{number}" for number in range(300)]
    done: list[str] = []

    async def worker(work: Work, number: int) -> None:
        while items := await work.ready(limit=20):
            leases, _ = await work.pull([item.key for item in items[number % 3 :: 3]], 60.0)
            for lease in leases:
                try:
                    await work.complete(lease, {"by": number}, told(lease.key))
                except LeaseLost:
                    continue
                done.append(lease.key)

    async def scene(engine: Engine) -> None:
        await engine.work.submit([Item(key) for key in keys])
        await asyncio.gather(*(worker(engine.work, number) for number in range(8)))
        await worker(engine.work, 0)
        assert sorted(done) == sorted(keys)
        assert sorted(await heard(engine)) == sorted(keys)
        assert all([await engine.work.result(key) is not None for key in keys])

    play(scene)


def test_the_record_is_durable_with_the_change_and_its_events_carry_their_numbers(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work, seqs = engine.work, []

        def starting(leases: Sequence[Lease]) -> Batch:
            (lease,) = leases
            state = Running(1.0, 1, lease.fence, Identity(1, 1, "boot", 1), 1.0, "/folder")
            return Batch(events=told("pulled").events, tasks=(ManagedTask("r", "a", state, lease.fence),))

        waiting = ManagedTask("r", "a", Waiting(1.0))
        submitted = Batch(
            events=told("submitted").events, managed=(a_managed_run("r", key="monday"),), tasks=(waiting,)
        )
        _, events = await work.submit([Item("r/a")], submitted)
        seqs += events
        (lease,), events = await work.pull(["r/a"], None, starting)
        seqs += events
        (task,) = await engine.ledger.read(lambda reader: reader.managed_tasks("r"))
        assert (task.fence, lease.fence) == (1, 1)
        seqs += await work.retry(lease, 0.0, told("put back"))
        seqs += await work.bury(await pulled(work, "r/a"), "why", told("buried"))
        seqs += await work.revive(Item("r/a"), told("revived"))
        seqs += await work.withdraw("r/a", told("withdrawn"))
        await work.revive(Item("r/a"))
        seqs += await work.complete(await pulled(work, "r/a"), {}, told("completed"))
        assert [event.seq for event in seqs] == list(range(1, 8))
        assert await heard(engine) == [event.data["word"] for event in seqs]

    play(scene)


def test_a_record_that_cannot_be_written_leaves_the_work_as_it_was(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        bad = Batch(events=(Event("x", 1.0, {"a": object()}),))
        with pytest.raises(BatchRefused):
            await work.submit([Item("r/b")], bad)
        await work.submit([Item("r/a")], Batch(managed=(a_managed_run("r", key="monday"),)))
        with pytest.raises(KeyTaken) as taken:
            await work.submit([Item("s/a")], Batch(managed=(a_managed_run("s", key="monday"),)))
        assert taken.value.run_id == "r"
        assert await ready(work) == ["r/a"]
        with pytest.raises(BatchRefused):
            await work.pull(["r/a"], None, lambda leases: bad)
        with pytest.raises(BatchRefused, match="a defect"):
            await work.pull(["r/a"], None, _defective)
        assert await ready(work) == ["r/a"]
        lease = await pulled(work, "r/a")
        assert lease.fence == 1
        with pytest.raises(BatchRefused):
            await work.complete(lease, {}, bad)
        await work.complete(lease, {"n": 1})

    play(scene)


def _defective(leases: Sequence[Lease]) -> Batch:
    raise RuntimeError("a defect")


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(Item("r/a", due_at=float("nan")), id="no time"),
        pytest.param(Item("r/a", due_at=float("inf")), id="never"),
        pytest.param(Item("r/a", body={"a": object()}), id="no JSON"),
        pytest.param(Item("r/a", priority=2**64), id="too large"),
        pytest.param(Item("r/a", priority=1.5), id="no whole number"),  # type: ignore[arg-type]
        pytest.param(Item("r/\udcff"), id="no text"),
    ],
)
def test_an_item_that_cannot_be_kept_is_refused_and_its_neighbours_are_not(play: Play, item: Item) -> None:
    async def scene(engine: Engine) -> None:
        answers = await asyncio.gather(
            *(engine.work.submit([each]) for each in (Item("before"), item, Item("after"))), return_exceptions=True
        )
        assert [type(answer) for answer in answers] == [tuple, BatchRefused, tuple]
        assert await ready(engine.work) == ["before", "after"]

    play(scene)


def test_one_who_is_refused_costs_those_beside_him_nothing(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        work = engine.work
        await work.submit([Item("r/a"), Item("r/b"), Item("r/c")])
        leases, _ = await work.pull(["r/a", "r/b", "r/c"], None)
        stale = Lease("r/b", "default", 0, None)
        answers = await asyncio.gather(
            engine.ledger.commit(told("beside")),
            work.complete(leases[0], {}, told("a")),
            work.complete(stale, {}, told("stale")),
            work.complete(leases[0], {}, told("a again")),
            work.revive(Item("r/c"), told("revived")),
            work.complete(leases[1], {"n": 1}, Batch(events=(*told("b").events, *told("b too").events))),
            engine.ledger.commit(told("last")),
            return_exceptions=True,
        )
        kinds = [type(answer) for answer in answers]
        assert kinds == [tuple, tuple, LeaseLost, LeaseLost, Conflict, tuple, tuple]
        numbers = [event.seq for answer in answers if isinstance(answer, tuple) for event in answer]
        assert sorted(numbers) == [1, 2, 3, 4, 5]
        assert sorted(await heard(engine)) == ["a", "b", "b too", "beside", "last"]

    play(scene)


def test_everything_survives_a_restart_and_leases_are_found_again(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        names = ("ready", "held", "timed", "done", "buried", "withdrawn")
        await engine.work.submit([Item(name, body={"name": name}) for name in names])
        held, timed = await pulled(engine.work, "held"), await pulled(engine.work, "timed", 30.0)
        await engine.work.complete(await pulled(engine.work, "done"), {"n": 1})
        await engine.work.bury(await pulled(engine.work, "buried"), "why")
        await engine.work.withdraw("withdrawn")
        await engine.work.append("run", "a", {})
        depth = await engine.work.depth()

        await engine.stop()
        await engine.start()

        work = engine.work
        assert await work.depth() == depth
        assert await work.holding() == (held, timed)
        assert await work.result("done") == {"n": 1}
        assert (await work.submit([Item("done")]))[0] == (False,)
        assert await work.append("run", "b", {}, after=1) == 2
        await work.complete(held, {}, told("held"))
        engine.clock.advance(31.0)
        assert await work.sweep() == ("timed",)
        assert (await pulled(work, "timed")).fence == 2
        await work.revive(Item("buried"))
        assert (await pulled(work, "buried")).fence == 2

    play(scene)


def test_a_stopped_engine_is_unavailable(play: Play) -> None:
    async def scene(engine: Engine) -> None:
        await engine.stop()
        for call in (engine.work.submit([Item("r/a")]), engine.work.ready()):
            with pytest.raises(Unavailable):
                await call
        await engine.start()

    play(scene)
