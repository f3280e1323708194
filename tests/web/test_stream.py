"""The stream, through the whole application in virtual time; what needs a socket is at the end, on a real server."""

import asyncio
import contextlib
import functools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.ledger.errors import LedgerFailed
from crewd.model.event import Event
from crewd.model.report import RoundReport
from crewd.model.snapshot import Health
from crewd.telemetry.redact import Redactor
from crewd.web.app import build_app
from crewd.web.asgi import App, Scope
from crewd.web.broadcast import Broadcast, BroadcastOptions
from crewd.web.server import HttpOptions, Server, affordable
from tests.fakes.clock import FakeClock
from tests.fakes.virtual_time import VirtualTimeLoop
from tests.fakes.virtual_time import run as in_virtual_time
from tests.telemetry.pictures import event, snapshot, view, worker
from tests.web.test_server import connect, get, say
from tests.web.world import State

PATIENCE = 10.0


class Block(NamedTuple):
    """One record of a stream."""

    event: str
    id: int | None
    data: Any
    comment: str


def blocks(text: bytes) -> list[Block]:
    """Read server-sent events. Every block must be whole."""
    assert text == b"" or text.endswith(b"\n\n")
    found = []
    for lines in text.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in lines.splitlines() if not line.startswith(":"))
        comment = "".join(line[1:].strip() for line in lines.splitlines() if line.startswith(":"))
        number, data = fields.get("id"), fields.get("data")
        found.append(
            Block(
                fields.get("event", ""),
                int(number) if number else None,
                json.loads(data) if data else None,
                comment,
            )
        )
    return found


class Listener:
    """One reader of a stream, without a socket. While `reading` is not set it takes nothing."""

    def __init__(self, app: App, path: str = "/api/v1/events", method: str = "GET", **headers: str) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.text = b""
        self.over = False
        self._told: list[Block] = []
        self._looked_at = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self._gone = asyncio.Event()
        self._asked = False
        route, _, query = path.partition("?")
        sent = {"host": "127.0.0.1", "accept": "text/event-stream"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        scope = {
            "type": "http", "method": method, "path": route, "raw_path": route.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()], "state": {},
        }  # fmt: skip
        self.task = asyncio.create_task(self._ask(app, scope))

    def leave(self) -> None:
        self._gone.set()

    def told(self) -> list[Block]:
        """Everything that came; what was looked at before is not read again."""
        self._told += blocks(self.text[self._looked_at :])
        self._looked_at = len(self.text)
        return self._told

    def seqs(self) -> list[int]:
        """Numbers of the events that came, each of which must be its own id."""
        records = [block for block in self.told() if block.data is not None and not block.event]
        assert [block.id for block in records] == [block.data["seq"] for block in records]
        return [block.data["seq"] for block in records]

    async def until(self, condition: Callable[["Listener"], Any]) -> None:
        async with asyncio.timeout(600):
            while not condition(self):
                await asyncio.sleep(0.05)

    async def _ask(self, app: App, scope: Scope) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        # The framework may use threads that the loop does not know, until it answers.
        with contextlib.ExitStack() as self._unknown:
            self._unknown.enter_context(loop.outside())
            await app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self._unknown.close()
        await self.reading.wait()
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
            return
        self.text += message["body"]
        self.over = not message.get("more_body", False)


class World:
    """A ledger, and a broadcast that is told of what it gets."""

    def __init__(self, count: int = 0, **options: Any) -> None:
        self.state = State()
        self.state.history.kept = []
        self.state.broadcast = Broadcast(self.state.history, self.state.redactor, BroadcastOptions(**options))
        self.app = build_app(self.state)
        self.record(count, told=False)

    def record(self, count: int = 1, told: bool = True, **changes: Any) -> Sequence[Event]:
        """Make events durable, and tell them."""
        first = self.state.history.last_seq() + 1
        type = changes.pop("type", "task.started")
        made = [event(type, first + number, **changes) for number in range(count)]
        self.state.history.kept += made
        if told:
            self.state.broadcast.on_events(made)
        return made

    def listen(self, path: str = "/api/v1/events", **headers: str) -> Listener:
        return Listener(self.app, path, **headers)


Story = Callable[[World], Awaitable[None]]


def tell(story: Story, world: World | None = None) -> World:
    """Play a story in virtual time, with the broadcast running."""
    made = world or World()

    async def play() -> None:
        running = asyncio.create_task(made.state.broadcast.run())
        try:
            await story(made)
        finally:
            made.state.broadcast.close()
            others = asyncio.all_tasks() - {asyncio.current_task(), running}
            await asyncio.wait(others, timeout=100) if others else None
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    in_virtual_time(play(), FakeClock())
    return made


def test_a_stream_tells_everything_after_a_number_and_then_what_happens() -> None:
    async def story(world: World) -> None:
        listener = world.listen("/api/v1/events?after=10")
        await listener.until(lambda each: len(each.seqs()) == 5)
        world.record(3)
        await listener.until(lambda each: len(each.seqs()) == 8)
        assert listener.seqs() == [*range(11, 19)]
        assert listener.status == 200
        assert listener.headers[b"content-type"].startswith(b"text/event-stream")
        assert listener.told()[0].id == 10 and listener.text.startswith(b"retry: 2000\n")

    tell(story, World(15))


def test_a_number_in_last_event_id_counts_more_than_the_one_in_the_address() -> None:
    async def story(world: World) -> None:
        listener = world.listen("/api/v1/events?after=2", last_event_id="13")
        await listener.until(lambda each: len(each.seqs()) == 2)
        world.record()
        await listener.until(lambda each: len(each.seqs()) == 3)
        assert listener.seqs() == [14, 15, 16]

    tell(story, World(15))


def test_without_a_number_a_stream_begins_now_and_says_where_that_is() -> None:
    async def story(world: World) -> None:
        listener = world.listen()
        await listener.until(lambda each: each.text)
        assert listener.told() == [Block("", 15, None, "")]
        world.record()
        await listener.until(lambda each: each.seqs())
        assert listener.seqs() == [16]

    tell(story, World(15))


def test_the_newest_may_come_first() -> None:
    async def story(world: World) -> None:
        listener = world.listen("/api/v1/events?newest=true&limit=4")
        world.record()
        await listener.until(lambda each: len(each.seqs()) >= 4)
        assert listener.seqs()[-4:] in ([12, 13, 14, 15], [13, 14, 15, 16])

    tell(story, World(15))


def test_a_long_past_comes_in_pieces_and_goes_over_into_the_present_without_a_seam() -> None:
    async def story(world: World) -> None:
        listener = world.listen("/api/v1/events?after=0")
        while len(listener.seqs()) < 1500:
            world.record(7)
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        assert listener.seqs() == [*range(1, world.state.history.last_seq() + 1)]

    tell(story, World(1000))


def test_quiet_streams_stay_open_and_give_signs_of_life() -> None:
    async def story(world: World) -> None:
        listener = world.listen()
        await asyncio.sleep(40)
        assert sum(block.comment == "keepalive" for block in listener.told()) == 2
        assert not listener.over

    tell(story)


def test_a_stream_that_wants_little_says_how_far_it_has_looked() -> None:
    async def story(world: World) -> None:
        listener = world.listen("/api/v1/events?type=run.failed")
        await listener.until(lambda each: each.text)
        world.record(5)
        await asyncio.sleep(16)
        assert (listener.told()[-1].comment, listener.told()[-1].id) == ("keepalive", 8)

    tell(story, World(3))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("type=run.failed", [2, 5]),
        ("type=run.failed&type=run.started", [1, 2, 5]),
        ("run=r1", [1, 2, 4]),
        ("crew=red", [3, 4, 5]),
        ("run=r1&crew=red", [4]),
        ("run=r1&type=run.failed", [2]),
        ("crew=green", []),
        ("task=t1", [3, 4]),
        ("task=t1&run=r1", [4]),
        ("task=t1&crew=blue", []),
    ],
)
@pytest.mark.parametrize("live", [False, True])
def test_streams_are_chosen_from_by_type_run_crew_and_task(query: str, expected: list[int], live: bool) -> None:
    rows = [
        ("run.started", "r1", "blue", ""), ("run.failed", "r1", "blue", ""), ("task.started", "r2", "red", "t1"),
        ("task.started", "r1", "red", "t1"), ("run.failed", "r2", "red", ""),
    ]  # fmt: skip

    async def story(world: World) -> None:
        if live:
            listener = world.listen(f"/api/v1/events?after=0&{query}")
            await listener.until(lambda each: each.text)
        for type, run_id, crew, task_id in rows:
            world.record(type=type, run_id=run_id, crew=crew, task_id=task_id)
        if not live:
            listener = world.listen(f"/api/v1/events?after=0&{query}")
        await asyncio.sleep(1)
        assert listener.seqs() == expected

    tell(story)


def test_one_run_has_a_stream_of_its_own_also_after_it_is_gone() -> None:
    async def story(world: World) -> None:
        world.record(2, run_id="gone")
        world.record(2)
        past, present = world.listen("/api/v1/runs/gone/events?after=0"), world.listen("/api/v1/runs/r2/events")
        await past.until(lambda each: each.seqs())
        await present.until(lambda each: each.text)
        world.record(run_id="r2")
        await present.until(lambda each: each.seqs())
        assert (past.seqs(), present.seqs()) == ([1, 2], [5])

    tell(story)


def test_a_run_that_nobody_knows_is_refused_before_the_stream_begins() -> None:
    async def story(world: World) -> None:
        listener = world.listen("/api/v1/runs/nobody/events")
        await listener.task
        assert listener.status == 404 and b"text/event-stream" not in listener.headers[b"content-type"]
        assert json.loads(listener.text)["error"]["code"] == "not_found"

    assert tell(story).state.broadcast.figures().disconnects["gone"] == 0


@pytest.mark.parametrize("given", ["-1", "1_0", "ten", "1.5", "9" * 19, "9" * 30, "+3", "٣"])
def test_a_last_event_id_that_is_no_number_is_refused(given: str) -> None:
    async def story(world: World) -> None:
        listener = world.listen(last_event_id=given)
        await listener.task
        assert listener.status == 400
        assert json.loads(listener.text)["error"]["code"] == "bad_last_event_id"

    tell(story)


def test_an_empty_last_event_id_is_none() -> None:
    async def story(world: World) -> None:
        listener = world.listen(last_event_id="")
        await listener.until(lambda each: each.text)
        assert listener.told()[0].id == 3

    tell(story, World(3))


def test_a_number_of_another_ledger_is_a_gap_and_what_happens_is_told() -> None:
    async def story(world: World) -> None:
        listener = world.listen(last_event_id="5000")
        await listener.until(lambda each: len(each.told()) == 2)
        world.record(2)
        await listener.until(lambda each: len(each.seqs()) == 2)
        assert listener.seqs() == [4, 5]
        (gap,) = (block for block in listener.told() if block.event)
        assert (gap.event, gap.id, gap.data) == ("gap", None, {"after": 5000, "pruned_to": 0, "last_seq": 3})

    tell(story, World(3))


def test_what_was_deleted_for_its_age_is_told_as_a_gap_once() -> None:
    async def story(world: World) -> None:
        history = world.state.history
        history.kept, history.pruned = [each for each in history.kept if each.seq > 300], 300
        listener, untouched = world.listen("/api/v1/events?after=7"), world.listen("/api/v1/events?after=300")
        await listener.until(lambda each: len(each.seqs()) == 500)
        await untouched.until(lambda each: len(each.seqs()) == 500)
        gaps = [block for block in listener.told() if block.event]
        assert [(each.event, each.data) for each in gaps] == [("gap", {"after": 7, "pruned_to": 300})]
        assert not [block for block in untouched.told() if block.event]

    tell(story, World(800))


def test_who_begins_now_hears_of_no_gap() -> None:
    async def story(world: World) -> None:
        world.state.history.kept, world.state.history.pruned = [], 0
        world.record(3, told=False)
        world.state.history.pruned = 9  # of rows younger than what was asked for: none of them is missed
        listener = world.listen()
        await asyncio.sleep(1)
        assert [block.event for block in listener.told()] == [""]

    tell(story)


def test_rounds_are_told_to_those_who_want_them_and_only_the_latest() -> None:
    async def story(world: World) -> None:
        wants, does_not = world.listen("/api/v1/events?rounds=true"), world.listen()
        await wants.until(lambda each: each.text)
        await does_not.until(lambda each: each.text)
        picture = snapshot(view("r1", "blue", worker("t1"), worker("t2")), health=Health(round_number=7))
        world.record()
        world.state.broadcast.on_round(RoundReport(7, picture.taken_at, 0.0), picture)
        await wants.until(lambda each: any(block.event for block in each.told()))
        *_, record, figures = wants.told()
        assert record.id == 1 and figures.event == "round" and figures.id is None
        assert figures.data["round"] == 7 and figures.data["runs"] == 1
        assert sum(figures.data["levels"].values()) == 2 and figures.data["ready"] in (True, False)
        assert [block.event for block in does_not.told()] == ["", ""]

    tell(story)


def test_what_nobody_told_is_found_within_a_round() -> None:
    async def story(world: World) -> None:
        listener = world.listen()
        await listener.until(lambda each: each.text)
        world.record(2, told=False)
        world.state.broadcast.on_round(RoundReport(1, 0.0, 0.0), snapshot())
        await listener.until(lambda each: each.seqs())
        assert listener.seqs() == [1, 2]

    tell(story)


class Counting(Redactor):
    walked = 0

    def value(self, value: Any) -> Any:
        Counting.walked += 1
        return super().value(value)


def test_an_event_is_redacted_and_encoded_once_for_all_who_listen() -> None:
    world = World()
    world.state.broadcast.redactor = Counting()

    async def story(world: World) -> None:
        listeners = [world.listen() for _ in range(8)]
        for each in listeners:
            await each.until(lambda one: one.text)
        Counting.walked = 0
        world.record(5, data={"note": "Bearer abcdefghijklmnop"})
        for each in listeners:
            await each.until(lambda one: len(one.seqs()) == 5)
            assert b"abcdefghijklmnop" not in each.text and b"***" in each.text
        assert Counting.walked == 5

    tell(story, world)


def test_the_33rd_stream_is_told_when_to_come_back_and_has_a_place_once_another_left() -> None:
    async def story(world: World) -> None:
        listeners = [world.listen() for _ in range(32)]
        await asyncio.sleep(1)
        assert world.state.broadcast.figures().clients == 32
        refused = world.listen()
        await refused.task
        assert refused.status == 503 and int(refused.headers[b"retry-after"]) > 0
        assert world.listen(accept="application/json") is not None
        listeners[0].leave()
        await listeners[0].task
        again = world.listen()
        await again.until(lambda each: each.text)
        assert again.status == 200
        assert world.state.broadcast.figures().disconnects["gone"] == 1

    tell(story)


def test_one_who_is_gone_is_noticed_at_once() -> None:
    async def story(world: World) -> None:
        listener = world.listen()
        await listener.until(lambda each: each.text)
        listener.leave()
        async with asyncio.timeout(1):
            await listener.task
        assert world.state.broadcast.figures().clients == 0

    tell(story)


def test_who_does_not_read_overflows_is_counted_and_can_resume_while_others_are_told_everything() -> None:
    async def story(world: World) -> None:
        slow, quick = world.listen(), world.listen()
        for each in (slow, quick):
            await each.until(lambda one: one.text)
        slow.reading.clear()
        world.record(100)
        await quick.until(lambda each: len(each.seqs()) == 100)
        for _ in range(49):
            world.record(100)
            await asyncio.sleep(0.01)
        await quick.until(lambda each: len(each.seqs()) == 5000)
        await asyncio.sleep(3)
        slow.reading.set()
        await asyncio.sleep(1)
        figures = world.state.broadcast.figures()
        assert figures.disconnects["overflow"] == 1 and figures.clients == 1
        assert not quick.over

    tell(story)


def test_one_who_is_slow_but_not_behind_is_kept_and_one_who_reads_nothing_is_not() -> None:
    async def story(world: World) -> None:
        slow, dead = world.listen("/api/v1/events?after=0"), world.listen("/api/v1/events?after=0")
        await dead.until(lambda each: each.text)
        dead.reading.clear()
        for _ in range(10):
            slow.reading.clear()
            await asyncio.sleep(10)
            slow.reading.set()
            await asyncio.sleep(0.1)
        assert world.state.broadcast.figures().disconnects["overflow"] == 1
        await slow.until(lambda each: len(each.seqs()) == 3000)
        assert slow.seqs() == [*range(1, 3001)]

    tell(story, World(3000))


def test_what_is_kept_is_bounded_in_number_and_in_bytes() -> None:
    async def story(world: World) -> None:
        listener = world.listen()
        await listener.until(lambda each: each.text)
        world.record(40, data={"text": "x" * 10_000})
        await listener.until(lambda each: len(each.seqs()) == 40)
        assert listener.seqs() == [*range(1, 41)]
        assert not world.state.broadcast.holds(30)
        world.record(200)
        await listener.until(lambda each: len(each.seqs()) == 240)
        assert not world.state.broadcast.holds(190) and world.state.broadcast.holds(235)

    tell(story, World(events_max=50, bytes_max=50_000))


def test_a_ledger_that_fails_for_a_while_delays_and_loses_nothing() -> None:
    async def story(world: World) -> None:
        listener = world.listen()
        await listener.until(lambda each: each.text)
        history = world.state.history
        whole = history.events
        history.events = fails  # type: ignore[method-assign]  # a stand-in
        world.record(3, told=False)
        world.record(1)  # not what is expected next: the ledger is asked
        await asyncio.sleep(5)
        assert listener.seqs() == []
        history.events = whole  # type: ignore[method-assign]  # a stand-in
        await listener.until(lambda each: len(each.seqs()) == 4)
        assert listener.seqs() == [1, 2, 3, 4]

    tell(story)


def test_a_ledger_that_cannot_be_asked_is_503_before_the_stream_begins() -> None:
    async def story(world: World) -> None:
        world.state.history.last_seq = fails  # type: ignore[method-assign,assignment]  # a stand-in
        listener = world.listen("/api/v1/events?after=0")
        await listener.task
        assert listener.status == 503 and b"history_unreadable" in listener.text

    tell(story, World(3))


def test_a_defect_ends_the_streams_and_neither_the_daemon_nor_those_that_come_after() -> None:
    async def story(world: World) -> None:
        listener = world.listen()
        await listener.until(lambda each: each.text)
        whole = world.state.broadcast._entry
        world.state.broadcast._entry = breaks  # type: ignore[method-assign]  # a stand-in
        world.record(1)
        await listener.task
        assert world.state.broadcast.figures().disconnects["failed"] == 1
        world.state.broadcast._entry = whole  # type: ignore[method-assign]  # a stand-in
        again = world.listen("/api/v1/events?after=0")
        await again.until(lambda each: each.seqs() == [1])
        world.record(1)
        await again.until(lambda each: each.seqs() == [1, 2])

    tell(story)


def breaks(event: Event) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize("lesson_comes", ["after", "while it is encoded"])
def test_what_the_redactor_learns_is_no_longer_told_of_what_is_at_hand(lesson_comes: str) -> None:
    async def story(world: World) -> None:
        broadcast = world.state.broadcast
        first = world.listen()
        await first.until(lambda each: each.text)
        whole = broadcast._entry

        def learns(event: Event) -> Any:
            entry = whole(event)
            broadcast.redactor.learn("hunter2-hunter2")
            return entry

        if lesson_comes != "after":
            broadcast._entry = learns  # type: ignore[method-assign]  # a stand-in
        world.record(1, data={"note": "hunter2-hunter2"})
        await first.until(lambda each: len(each.seqs()) == 1)
        broadcast.redactor.learn("hunter2-hunter2")
        second = world.listen("/api/v1/events", last_event_id="0")
        await second.until(lambda each: len(each.seqs()) == 1)
        assert b"hunter2" not in second.text
        assert (b"hunter2" in first.text) == (lesson_comes == "after")
        world.record(1)
        await second.until(lambda each: each.seqs() == [1, 2])

    tell(story)


def test_a_ledger_that_fails_while_a_stream_catches_up_ends_it() -> None:
    async def story(world: World) -> None:
        world.state.history.events = fails  # type: ignore[method-assign]  # a stand-in
        listener = world.listen("/api/v1/events?after=0")
        await listener.task
        assert listener.status == 200 and listener.over
        assert world.state.broadcast.figures().disconnects["failed"] == 1

    tell(story, World(3))


def fails(*_: Any, **__: Any) -> list[Event]:
    raise LedgerFailed("the disk is gone")


def test_the_end_of_crewd_ends_every_stream_at_once_and_begins_no_more() -> None:
    async def story(world: World) -> None:
        listeners = [world.listen(), world.listen("/api/v1/events?after=0"), world.listen()]
        for each in listeners:
            await each.until(lambda one: one.text)
        listeners[2].reading.clear()
        world.record(3)
        await asyncio.sleep(0.1)
        world.state.broadcast.close()
        async with asyncio.timeout(0.5):
            await asyncio.gather(*(each.task for each in listeners))
        assert world.state.broadcast.figures().disconnects["stopped"] == 3
        late = world.listen()
        await late.task
        assert late.status == 503

    tell(story, World(3))


def test_a_head_gets_the_head_alone_and_takes_no_place() -> None:
    async def story(world: World) -> None:
        listener = Listener(world.app, method="HEAD")
        await listener.task
        assert listener.status == 200 and listener.text == b"" and listener.over
        assert listener.headers[b"content-type"].startswith(b"text/event-stream")

    tell(story, World(streams_max=0))


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("text/event-stream", True),
        ("text/html, text/event-stream;q=0.9", True),
        ("Text/Event-Stream", True),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
    ],
)
def test_json_is_told_to_whoever_does_not_ask_for_a_stream(accept: str, streamed: bool) -> None:
    async def story(world: World) -> None:
        listener = world.listen(accept=accept)
        await listener.until(lambda each: each.text)
        assert (b"event-stream" in listener.headers[b"content-type"]) == streamed

    tell(story, World(3))


def test_a_stream_is_counted_once_when_it_is_over_with_the_time_that_it_took_to_begin() -> None:
    async def story(world: World) -> None:
        listener = world.listen("/api/v1/runs/r1/events")
        await asyncio.sleep(100)
        assert world.state.observed == []
        listener.leave()
        await listener.task
        assert world.state.observed == [("/api/v1/runs/{run}/events", "GET", 200)]
        text = (await world.state.exposition.answer()).body.decode()
        (total,) = (line for line in text.splitlines() if "duration_seconds_sum" in line and "run}/events" in line)
        assert float(total.rsplit(" ", 1)[1]) < 1

    tell(story)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(1, 30)),
        st.tuples(st.just("untold"), st.integers(1, 30)),
        st.tuples(st.just("late"), st.integers(1, 30)),
        st.tuples(st.just("again"), st.just(0)),
        st.tuples(st.just("round"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 3)),
        st.tuples(st.just("cut"), st.integers(0, 400)),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS, type=st.sampled_from(["", "run.failed"]))
def test_whatever_is_told_late_twice_or_not_at_all_and_wherever_it_is_cut_each_event_comes_once_and_in_order(
    steps: list[tuple[str, int]], type: str
) -> None:
    """Promise P5."""
    heard: list[int] = []

    async def story(world: World) -> None:
        address = "/api/v1/events" + (f"?type={type}" if type else "")
        listener = world.listen(address, last_event_id="0")
        late: list[Event] = []

        async def cut(at: int) -> None:
            """Let the reader get so many characters and no more, and come back with the last id that it saw."""
            nonlocal listener
            listener.leave()
            await listener.task
            whole = listener.text[: listener.text.rfind(b"\n\n", 0, len(listener.text) - at) + 2]
            came = blocks(whole) if whole.endswith(b"\n\n") else []
            heard.extend(block.id or 0 for block in came if block.data is not None and not block.event)
            last = max([block.id or 0 for block in came] + heard[-1:], default=0)
            listener = world.listen(address, last_event_id=str(last))

        for what, number in steps:
            match what:
                case "record" | "untold" | "late":
                    for place in range(number):
                        made = world.record(told=False, type="run.failed" if place % 3 else "run.started")
                        if what == "record":
                            world.state.broadcast.on_events(made)
                        elif what == "late":
                            late += made
                case "again":
                    world.state.broadcast.on_events(late[::-1])
                case "round":
                    world.state.broadcast.on_round(RoundReport(1, 0.0, 0.0), snapshot())
                case "wait":
                    await asyncio.sleep(number * 10)
                case "cut":
                    await cut(number)
        world.state.broadcast.on_round(RoundReport(1, 0.0, 0.0), snapshot())
        await asyncio.sleep(20)
        world.state.broadcast.on_round(RoundReport(2, 0.0, 0.0), snapshot())
        await asyncio.sleep(1)
        heard.extend(listener.seqs())
        assert heard == [each.seq for each in world.state.history.kept if not type or each.type == type]

    tell(story, World(events_max=64))


# On a real server.


@contextlib.asynccontextmanager
async def served(world: World, **options: Any) -> AsyncIterator[tuple[str, int]]:
    """Serve it on a free port, and stop as the daemon does."""
    running = asyncio.create_task(world.state.broadcast.run())
    server = Server(world.app, HttpOptions(port=0, **options))
    try:
        yield await server.start()
    finally:
        world.state.broadcast.close()
        await server.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def on_a_real_server(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test with sockets, and so in real time."""

    @functools.wraps(test)
    def run(*args: Any, **named: Any) -> None:
        asyncio.run(test(*args, **named))

    marked: Callable[..., None] = pytest.mark.real_time(run)
    return marked


STREAM = get("/api/v1/events", "Accept: text/event-stream")


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("bytes_read", [0, 1])
@on_a_real_server
async def test_a_real_reader_that_reads_next_to_nothing_is_let_go_and_delays_nobody(bytes_read: int) -> None:
    world = World()
    async with served(world) as place:
        loop = asyncio.get_running_loop()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            await loop.sock_connect(slow, place)
            await loop.sock_sendall(slow, STREAM)
            await eventually(lambda: world.state.broadcast.figures().clients == 1)
            worst = 0.0
            for number in range(100):
                world.record(50, data={"text": "x" * 300})
                began = loop.time()
                await asyncio.sleep(0.005)
                worst = max(worst, loop.time() - began - 0.005)
                if bytes_read and number % 20 == 0:
                    await loop.sock_recv(slow, bytes_read)
            await eventually(lambda: world.state.broadcast.figures().disconnects["overflow"] == 1)
            assert b" 200 " in await say(place, get())
            assert worst < 0.5
            # Cut off within its last seconds, whether it reads or not.
            await asyncio.sleep(2.2)
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(PATIENCE):
                    while await loop.sock_recv(slow, 65536):
                        pass


@on_a_real_server
async def test_a_reader_that_wakes_up_in_time_reads_why_it_is_let_go() -> None:
    world = World()
    async with served(world) as place:
        reader, writer = await connect(place)
        writer.write(STREAM)
        await eventually(lambda: world.state.broadcast.figures().clients == 1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(100):
            world.record(50, data={"text": "x" * 1000})
            await asyncio.sleep(0.001)
        await eventually(lambda: world.state.broadcast.figures().disconnects["overflow"] == 1)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE):
            text = await reader.read(-1)
        writer.close()
        ids = [int(line[4:]) for line in text.replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"id: ")]
        assert ids == [*range(ids[0], len(ids))]
        assert b'event: overflow\ndata: {"last_seq":%d}' % ids[-1] in text.replace(b"\r", b"")


@pytest.mark.parametrize("head", [STREAM, STREAM.replace(b"HTTP/1.1", b"HTTP/1.0")])
@on_a_real_server
async def test_a_stream_outlives_the_time_that_a_request_has_and_old_clients_get_it_too(head: bytes) -> None:
    world = World()
    async with served(world, request_seconds=0.2, keep_alive=1) as place:
        reader, writer = await connect(place)
        writer.write(head)
        async with asyncio.timeout(PATIENCE):
            await reader.readuntil(b"id: 0\n\n")
            await asyncio.sleep(0.5)
            world.record()
            assert b'"seq":1' in await reader.readuntil(b"}\n\n")
        writer.close()
        await eventually(lambda: world.state.broadcast.figures().disconnects["gone"] == 1)
        assert world.state.observed[-1] == ("/api/v1/events", "GET", 200)


@on_a_real_server
async def test_a_server_with_streams_some_of_them_stuck_stops_at_once() -> None:
    world = World()
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        place = await stack.enter_async_context(served(world))
        for number in range(6):
            client = stack.enter_context(contextlib.closing(socket.socket()))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)
            await loop.sock_connect(client, place)
            await loop.sock_sendall(client, STREAM)
            await eventually(lambda count=number + 1: world.state.broadcast.figures().clients == count)  # type: ignore[misc]
        world.record(1000, data={"text": "x" * 1000})
        await asyncio.sleep(0.2)
        began = loop.time()
        world.state.broadcast.close()
        await eventually(lambda: world.state.broadcast.figures().clients == 0)
        assert loop.time() - began < 0.5
        began = loop.time()
        await stack.aclose()
        assert loop.time() - began < 2


@pytest.mark.parametrize(
    ("wanted", "descriptors", "expected"),
    [(256, 65_536, 256), (256, 4096, 256), (256, 1024, 64), (256, 1, 1), (8, 1024, 8)],
)
def test_connections_take_no_more_than_a_quarter_of_the_descriptors(
    wanted: int, descriptors: int, expected: int
) -> None:
    assert affordable(wanted, descriptors) == expected
