"""A channel against a receiver that is well, away, slow, full, or hostile: told once, in order, and nobody waits."""

import asyncio
import socket
from typing import Any

import pytest

from crewd.policy.notifying import Route, quiet_hours
from crewd.telemetry.notify.channel import REPEAT_SECONDS
from tests.fakes.receiver import CLOSE, DRIP, FLOOD, HANG, REDIRECT, Receiver
from tests.telemetry.notify.world import NOON, World, in_loop

pytestmark = pytest.mark.real_time


def told(receiver: Receiver) -> list[tuple[str, str]]:
    return [(each["kind"], each["subject"]) for got in receiver.got for each in got["notices"]]


@in_loop
async def test_an_incident_is_told_once_when_it_opens_and_once_when_it_ends() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a")
            world.log.other()
            world.log.update("r/a")
            await world.until(lambda: told(receiver) == [("opened", "r/a")])
            world.log.update("r/a")
            await world.settle()
            world.log.resolve("r/a")
            await world.until(lambda: len(receiver.got) == 2)
            await world.settle()
            assert told(receiver) == [("opened", "r/a"), ("resolved", "r/a")]
            assert world.channel is not None
            assert world.channel.figures.results() == {"sent": 2, "failed": 0, "dropped": 0, "suppressed": 2}


@in_loop
async def test_after_a_restart_nothing_is_told_twice_and_what_opened_meanwhile_is_told_once() -> None:
    world = World()
    with Receiver() as receiver:
        world.options = World(url=receiver.url).options
        async with world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: len(receiver.got) == 1)
            await world.settle()
        world.log.open("r/b")
        async with world:
            await world.until(lambda: len(receiver.got) == 2)
            await world.settle()
            world.log.resolve("r/a")
            await world.until(lambda: len(receiver.got) == 3)
        async with world:
            await world.settle()
        assert told(receiver) == [("opened", "r/a"), ("opened", "r/b"), ("resolved", "r/a")]


@in_loop
async def test_what_ended_while_a_channel_was_away_for_longer_than_events_are_kept_is_told_when_it_opens_again() -> (
    None
):
    world = World()
    with Receiver() as receiver:
        world.options = World(url=receiver.url).options
        async with world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: len(receiver.got) == 1)
            await world.settle()
        del world.log.known["r/a", "dead"]  # its end was told to others, and pruned since
        async with world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: len(receiver.got) == 2)
        assert told(receiver) == [("opened", "r/a")] * 2


@in_loop
async def test_a_new_channel_tells_what_is_open_and_nothing_of_the_past() -> None:
    world = World()
    world.log.open("r/old")
    world.log.resolve("r/old")
    world.log.open("r/open")
    with Receiver() as receiver:
        world.options = World(url=receiver.url).options
        async with world:
            await world.until(lambda: len(receiver.got) == 1)
            await world.settle()
            assert told(receiver) == [("opened", "r/open")]


@pytest.mark.parametrize(
    ("behaviours", "tries", "wait_least"),
    [
        ((500, 200), 2, 0.5),
        ((503, 502, 408, 200), 4, 0.5),
        (((429, "7"), 200), 2, 7.0),
        (((503, "Thu, 01 Jan 1970 00:00:00 GMT"), 200), 2, 0.5),
        ((CLOSE, 200), 2, 0.5),
        ((HANG, 200), 2, 0.5),
        ((DRIP, 200), 2, 0.5),
    ],
    ids=str,
)
@in_loop
async def test_what_may_pass_is_tried_again_and_arrives(
    behaviours: tuple[Any, ...], tries: int, wait_least: float
) -> None:
    with Receiver(*behaviours) as receiver:
        async with World(url=receiver.url, timeout=0.3) as world:
            await world.settle()
            world.log.open("r/a")
            assert world.channel is not None
            await world.until(lambda: world.channel.figures.sent == 1)  # type: ignore[union-attr]  # it is there
            assert len(receiver.got) == tries == len(world.waits) + 1
            assert world.waits[0] >= wait_least
            assert world.channel.figures.retries == tries - 1


@pytest.mark.parametrize("behaviour", [400, 401, 404, 410, REDIRECT], ids=str)
@in_loop
async def test_what_is_refused_for_good_is_tried_once_and_the_next_is_told(behaviour: Any) -> None:
    with Receiver(behaviour, 200) as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a")
            world.log.open("r/b")
            await world.until(lambda: len(receiver.got) == 2)
            await world.settle()
            assert world.waits == []
            assert set(receiver.paths) == {"/"}, "a redirect is not followed"
            world.log.resolve("r/a")
            await world.settle()
            assert told(receiver) == [("opened", "r/a"), ("opened", "r/b")], (
                "nobody hears the end of what they never heard"
            )
            assert world.channel is not None
            assert (world.channel.figures.failed, world.channel.figures.sent) == (1, 1)


@in_loop
async def test_a_receiver_that_refuses_is_given_up_after_so_many_tries() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with World(url=f"http://127.0.0.1:{port}", attempts_max=4) as world:
        await world.settle()
        world.log.open("r/a")
        assert world.channel is not None
        await world.until(lambda: world.channel.figures.failed == 1)  # type: ignore[union-attr]  # it is there
        assert len(world.waits) == 3


@in_loop
async def test_in_a_long_trouble_each_message_still_gets_one_try() -> None:
    with Receiver(500) as receiver:
        async with World(url=receiver.url, age_max=60.0) as world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: len(receiver.got) >= 2)
            world.clock.ahead = 61.0
            world.log.open("r/b")
            assert world.channel is not None
            await world.until(lambda: world.channel.figures.failed == 2)  # type: ignore[union-attr]  # it is there
            tried = [got["notices"][0]["subject"] for got in receiver.got]
            assert tried.count("r/b") == 1


@in_loop
async def test_what_ends_while_its_message_is_tried_again_alarms_nobody() -> None:
    with Receiver(500) as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a")
            world.log.open("r/b")
            await world.until(lambda: len(receiver.got) >= 2)
            world.log.resolve("r/a")
            tries = len(receiver.got)
            await world.until(lambda: {got["notices"][0]["subject"] for got in receiver.got[tries + 1 :]} == {"r/b"})
            receiver.be(200)
            assert world.channel is not None
            await world.until(lambda: world.channel.figures.sent == 1)  # type: ignore[union-attr]  # it is there
            await world.settle()
            assert told(receiver)[-1] == ("opened", "r/b")
            assert world.channel.figures.dropped == 1


@in_loop
async def test_a_message_that_cannot_be_made_stands_in_nobodys_way() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a", opened_at=float("inf"))
            world.log.open("r/b")
            await world.until(lambda: told(receiver) == [("opened", "r/b")])
            assert world.channel is not None
            assert world.channel.figures.failed == 1


@in_loop
async def test_an_answer_of_100_mb_is_a_success_and_is_not_read() -> None:
    with Receiver(FLOOD) as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a")
            assert world.channel is not None
            await world.until(lambda: world.channel.figures.sent == 1)  # type: ignore[union-attr]  # it is there
            assert receiver.sent_bytes < 32 << 20


@in_loop
async def test_what_is_beyond_the_rate_goes_into_one_message() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url, burst=3, rate_per_minute=60.0) as world:
            await world.settle()
            for number in range(50):
                world.log.open(f"r/{number}")
            await world.until(lambda: len(told(receiver)) == 50)
            assert [len(got["notices"]) for got in receiver.got] == [1, 1, 48]
            assert "48 incidents opened" in receiver.got[-1]["text"]
            assert "and 28 more" in receiver.got[-1]["text"]


@in_loop
async def test_what_is_over_before_it_could_be_told_is_never_told() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url, burst=1, rate_per_minute=6.0) as world:
            await world.settle()
            world.log.open("r/first")
            await world.until(lambda: len(receiver.got) == 1)
            world.log.open("r/a")
            world.log.resolve("r/a")
            world.log.open("r/b")
            await world.settle()
            world.clock.ahead = 30.0
            await world.until(lambda: len(receiver.got) == 2)
            assert told(receiver) == [("opened", "r/first"), ("opened", "r/b")]
            assert world.channel is not None
            assert world.channel.figures.dropped == 2


@in_loop
async def test_what_opens_in_quiet_hours_is_told_after_them_if_it_is_still_open() -> None:
    route = Route(quiet=quiet_hours("11:00-13:00"))
    with Receiver() as receiver:
        world = World(url=receiver.url, route=route)
        async with world:
            await world.settle()
            world.log.open("r/loud")
            world.log.open("r/stays", severity="warning")
            world.log.open("r/goes", severity="warning")
            await world.until(lambda: len(receiver.got) == 1)
        world.log.resolve("r/goes")
        async with world:  # also over a restart
            await world.settle()
            assert told(receiver) == [("opened", "r/loud")]
            world.clock.wall = NOON + 3600.0
            await world.until(lambda: len(receiver.got) == 2)
            await world.settle()
        assert told(receiver) == [("opened", "r/loud"), ("opened", "r/stays")]


@in_loop
async def test_what_a_person_snoozed_is_not_told_while_it_is() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a", snoozed=True)
            await world.settle()
            # The incident in the ledger is snoozed no more.
            await world.until(lambda: told(receiver) == [("opened", "r/a")])


@in_loop
async def test_alerts_carry_the_labels_of_the_settings_beside_their_own() -> None:
    labels = (("job", "crewd"), ("severity", "low"))
    with Receiver() as receiver:
        async with World(url=receiver.url, format="alertmanager", labels=labels) as world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: receiver.got)
            [alert] = receiver.got[0]
            assert (alert["labels"]["job"], alert["labels"]["severity"], alert["labels"]["run"]) == (
                "crewd", "critical", "r",
            )  # fmt: skip


@in_loop
async def test_an_alertmanager_gets_open_alerts_again_and_all_that_waits_at_once() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url, format="alertmanager") as world:
            await world.settle()
            world.log.open("r/a")
            world.log.open("r/b")
            await world.until(lambda: sum(map(len, receiver.got)) >= 2)
            await world.until(lambda: len(receiver.got) >= 2)
            before = len(receiver.got)
            world.clock.ahead = REPEAT_SECONDS + 1
            await world.until(lambda: len(receiver.got) == before + 1)
            assert {alert["labels"]["task"] for alert in receiver.got[-1]} == {"a", "b"}
            assert set(receiver.paths) == {"/api/v2/alerts"}


@in_loop
async def test_a_ledger_that_cannot_be_read_is_read_later() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.broken = True
            world.log.open("r/a")
            await world.settle()
            world.log.broken = False
            await world.until(lambda: told(receiver) == [("opened", "r/a")])


@in_loop
async def test_no_secret_leaves_in_a_payload() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a", summary="curl -H 'Authorization: Bearer abcdefghijkl' hunter2secret failed")
            await world.until(lambda: len(receiver.got) == 1)
            assert "hunter2secret" not in str(receiver.got)
            assert "abcdefghijkl" not in str(receiver.got)


@in_loop
async def test_headers_are_sent() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url + "/x?y=1", headers=(("Authorization", "Bearer t"),)) as world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: len(receiver.got) == 1)
            assert receiver.headers[0]["Authorization"] == "Bearer t"
            assert receiver.paths == ["/x?y=1"]


@in_loop
async def test_ending_does_not_wait_for_a_receiver_that_hangs() -> None:
    with Receiver(HANG) as receiver:
        world = World(url=receiver.url, timeout=30.0)
        async with asyncio.timeout(5):
            async with world:
                await world.settle()
                world.log.open("r/a")
                await world.until(lambda: len(receiver.got) == 1)
