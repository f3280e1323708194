"""What a channel tells again: what it gave up, what became graver, what nobody has seen, what opens for ever."""

import json
from dataclasses import replace
from typing import Any

import pytest

from crewd.policy.notifying import Route, quiet_hours
from crewd.telemetry.notify.channel import AGAIN_SECONDS, AGAIN_SLOW_SECONDS, REMIND_LOOK_SECONDS
from tests.fakes.receiver import Receiver
from tests.telemetry.notify.world import NOON, World, in_loop

pytestmark = pytest.mark.real_time
HOURS = 3600.0


def told(receiver: Receiver) -> list[tuple[str, str, str]]:
    """Kind, state and severity of every notice that was sent."""
    found = [each for got in receiver.got for each in got["notices"]]
    return [(each["kind"], each.get("state", ""), each["severity"]) for each in found]


def later(world: World, seconds: float) -> None:
    world.clock.ahead += seconds
    world.clock.wall += seconds


def failed(world: World) -> int:
    assert world.channel is not None
    return world.channel.figures.failed


def not_told(world: World) -> int:
    assert world.channel is not None
    return world.channel.figures.not_told


@in_loop
async def test_what_was_given_up_is_told_once_the_channel_works_again() -> None:
    with Receiver(404, 200) as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: failed(world) == 1)
            await world.settle()
            assert not_told(world) == 1, "an open incident of which nobody was told can be seen"
            world.log.open("r/b")
            await world.until(lambda: len(receiver.got) == 2)
            await world.settle()
            assert len(receiver.got) == 2, "not at once: a message that is refused for itself would be sent for ever"
            later(world, AGAIN_SECONDS + 1)
            await world.until(lambda: len(receiver.got) == 3)
            await world.settle()
            assert [got["notices"][0]["subject"] for got in receiver.got] == ["r/a", "r/b", "r/a"]
            assert not_told(world) == 0
            later(world, AGAIN_SLOW_SECONDS + 1)
            await world.settle()
            world.log.resolve("r/a")
            await world.until(lambda: len(receiver.got) == 4)
            assert told(receiver)[-1][0] == "resolved"


@in_loop
async def test_a_channel_that_is_for_more_than_before_is_told_once_what_is_open_of_it() -> None:
    with Receiver(200) as receiver:
        world = World(url=receiver.url, route=Route("critical", ("blue",)))
        async with world:
            await world.settle()
            for subject, severity, crew in (
                ("r/told", "critical", "blue"), ("r/mild", "warning", "blue"), ("r/red", "critical", "red"),
                ("r/info", "info", "blue"), ("r/over", "warning", "blue"),
            ):  # fmt: skip
                world.log.open(subject, severity=severity, crew=crew)
            await world.until(lambda: len(receiver.got) == 1)
            world.log.resolve("r/over")
            await world.settle()

        async def told_by(route: Route) -> list[str]:
            before = len(receiver.got)
            world.options = replace(world.options, route=route)
            async with world:
                await world.settle()
                await world.settle()
            return sorted(each["subject"] for got in receiver.got[before:] for each in got["notices"])

        assert await told_by(Route("critical", ("blue",))) == [], "nothing has changed"
        assert await told_by(Route("critical", ("blue",), quiet=quiet_hours("01:00-02:00"))) == []
        assert await told_by(Route("warning", ("blue",))) == ["r/mild"]
        assert await told_by(Route("warning", ("blue",))) == [], "once"
        assert await told_by(Route("critical", ("blue",))) == []
        assert await told_by(Route("warning", ())) == ["r/red"], "what was told before is not told again"


@in_loop
async def test_the_word_of_a_crewd_that_did_not_note_whom_a_channel_is_for_repeats_nothing() -> None:
    with Receiver(200) as receiver:
        world = World(url=receiver.url)
        world.log.open("r/a")
        world.remembered = json.dumps({"seq": 1, "told": {}, "held": [], "given_up": []})
        async with world:
            await world.settle()
        assert receiver.got == []
        assert json.loads(world.remembered)["route"]


@in_loop
async def test_what_was_given_up_is_tried_again_after_a_while_though_nothing_else_happens() -> None:
    with Receiver(404, 404, 200) as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: failed(world) == 1)
            later(world, AGAIN_SECONDS + 1)
            await world.settle()
            assert len(receiver.got) == 1, "nothing says that the channel works"
            later(world, AGAIN_SLOW_SECONDS)
            await world.until(lambda: failed(world) == 2)
            await world.settle()
            assert len(receiver.got) == 2
            later(world, AGAIN_SLOW_SECONDS + 1)
            await world.until(lambda: len(receiver.got) == 3)
            await world.settle()
            assert not_told(world) == 0


@in_loop
async def test_a_new_crewd_tries_at_once_what_a_former_one_gave_up() -> None:
    world = World()
    with Receiver(404, 200) as receiver:
        world.options = World(url=receiver.url).options
        async with world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: failed(world) == 1)
            await world.settle()
        async with world:
            await world.until(lambda: len(receiver.got) == 2)
            await world.settle()
            assert not_told(world) == 0
        assert told(receiver) == [("opened", "", "critical")] * 2


@pytest.mark.parametrize("how", ["acknowledged", "over"])
@in_loop
async def test_what_was_given_up_is_tried_no_more_once_somebody_has_seen_it_or_it_is_over(how: str) -> None:
    with Receiver(404, 200) as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: failed(world) == 1)
            if how == "over":
                world.log.resolve("r/a")
            else:
                world.log.set("r/a", acknowledged_at=NOON)
            later(world, AGAIN_SLOW_SECONDS + 1)
            await world.until(lambda: not_told(world) == 0)
            await world.settle()
            assert len(receiver.got) == 1


@in_loop
async def test_one_that_opens_for_ever_is_told_so_once_and_its_end_once_it_has_been_quiet() -> None:
    world = World()
    with Receiver() as receiver:
        world.options = World(url=receiver.url).options
        async with world:
            await world.settle()
            for number in range(8):
                world.log.open("r/a", damped=number >= 3)
                await world.settle()
                world.log.resolve("r/a", damped=number >= 3)
                await world.settle()
                if number == 5:
                    break
        async with world:  # a restart in the middle changes nothing
            await world.settle()
            world.log.open("r/a", damped=True)
            await world.settle()
            first = [("opened", "", "critical"), ("resolved", "", "critical")] * 3
            assert told(receiver) == [*first, ("opened", "damped", "critical")]
            assert "again and again" in receiver.got[-1]["text"]
            world.log.resolve("r/a", damped=True)
            world.log.again_resolved("r/a")  # the end of its damping: it has been quiet
            await world.until(lambda: len(receiver.got) == 8)
            world.log.open("r/a")
            await world.until(lambda: len(receiver.got) == 9)
            assert told(receiver)[-2:] == [("resolved", "", "critical"), ("opened", "", "critical")]


@in_loop
async def test_one_that_is_still_open_when_it_has_been_quiet_is_told_as_before() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a", damped=True)
            await world.until(lambda: len(receiver.got) == 1)
            world.log.set("r/a", damped=False)
            world.log.update("r/a")
            await world.until(lambda: len(receiver.got) == 2)
            world.log.resolve("r/a")
            await world.until(lambda: len(receiver.got) == 3)
            assert [each[:2] for each in told(receiver)] == [("opened", "damped"), ("opened", ""), ("resolved", "")]


@pytest.mark.parametrize(
    ("least", "expected"),
    [
        ("warning", [("opened", "", "warning"), ("opened", "graver", "critical"), ("resolved", "", "critical")]),
        ("critical", [("opened", "", "critical"), ("resolved", "", "critical")]),
    ],
)
@in_loop
async def test_what_becomes_graver_is_told_where_it_was_told_and_where_it_is_wanted_now(
    least: str, expected: list[tuple[str, str, str]]
) -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url, route=Route(min_severity=least)) as world:
            await world.settle()
            for severity in ("warning", "critical", "warning", "critical"):
                if severity == "warning" and not world.log.known:
                    world.log.open("r/a", severity=severity)
                else:
                    world.log.set("r/a", severity=severity)
                    world.log.update("r/a")
                await world.settle()
            world.log.resolve("r/a")
            await world.until(lambda: len(receiver.got) == len(expected))
            await world.settle()
            assert told(receiver) == expected, "what becomes less grave and grave again is no news"


@in_loop
async def test_what_becomes_graver_before_it_was_told_is_told_once_as_the_graver() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url, burst=1, rate_per_minute=6.0) as world:
            await world.settle()
            world.log.open("r/first")
            await world.until(lambda: len(receiver.got) == 1)
            world.log.open("r/a", severity="warning")
            await world.settle()
            world.log.set("r/a", severity="critical")
            world.log.update("r/a")
            await world.settle()
            world.clock.ahead += 30.0
            await world.until(lambda: len(receiver.got) == 2)
            assert told(receiver)[-1] == ("opened", "", "critical")


@in_loop
async def test_an_alertmanager_is_told_that_the_less_grave_alert_ends() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url, format="alertmanager") as world:
            await world.settle()
            world.log.open("r/a", severity="warning")
            await world.until(lambda: len(receiver.got) >= 1)
            await world.settle()
            before = len(receiver.got)
            world.log.set("r/a", severity="critical")
            world.log.update("r/a")
            await world.until(lambda: len(receiver.got) > before)
            ended, opened = receiver.got[before]
            assert (ended["labels"]["severity"], opened["labels"]["severity"]) == ("warning", "critical")
            assert ended["endsAt"] < opened["endsAt"]


@pytest.mark.parametrize(
    ("changed", "options", "reminded"),
    [
        ({}, {}, True),
        ({"acknowledged_at": NOON}, {}, False),
        ({"snoozed_until": NOON + 100 * HOURS}, {}, False),
        ({"damped": True}, {}, False),
        ({}, {"remind_every": 0.0}, False),
        ({}, {"route": Route(quiet=quiet_hours("15:00-20:00"), quiet_critical=False)}, False),
        ({}, {"format": "slack"}, True),
    ],
    ids=str,
)
@in_loop
async def test_who_says_nothing_of_something_critical_is_reminded(
    changed: dict[str, Any], options: dict[str, Any], reminded: bool
) -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url, **options) as world:
            await world.settle()
            world.log.open("r/a")
            world.log.open("r/warn", severity="warning")
            await world.until(lambda: len(receiver.got) == 2)
            await world.settle()
            world.log.set("r/a", **changed)
            later(world, 4 * HOURS - 60)
            await world.settle()
            assert len(receiver.got) == 2
            later(world, REMIND_LOOK_SECONDS + 1)
            await world.settle()
            assert len(receiver.got) == 2 + reminded
            if reminded:
                assert "still critical" in receiver.got[-1]["text"]
                later(world, 4 * HOURS + 1)
                await world.until(lambda: len(receiver.got) == 4)


@in_loop
async def test_a_clock_that_was_set_back_delays_a_reminder_by_no_more_than_its_interval() -> None:
    with Receiver() as receiver:
        async with World(url=receiver.url) as world:
            await world.settle()
            world.log.open("r/a")
            await world.until(lambda: len(receiver.got) == 1)
            world.clock.wall -= 1000 * HOURS
            world.clock.ahead += REMIND_LOOK_SECONDS + 1
            await world.settle()
            later(world, 4 * HOURS + 1)
            await world.until(lambda: len(receiver.got) == 2)
            assert told(receiver)[-1][1] == "reminder"


@in_loop
async def test_what_a_former_crewd_noted_of_what_it_told_is_understood() -> None:
    world = World()
    with Receiver() as receiver:
        world.options = World(url=receiver.url).options
        world.log.open("r/a")
        world.remembered = json.dumps({"seq": 1, "told": {"r/a\ndead": NOON}, "held": []})
        async with world:
            await world.settle()
            later(world, 4 * HOURS + 61)
            await world.until(lambda: len(receiver.got) == 1)
            assert told(receiver) == [("opened", "reminder", "critical")]


@pytest.mark.parametrize("severity", ["critical", "warning"])
@in_loop
async def test_what_is_news_again_is_told_again_once_and_not_to_who_has_seen_it(severity: str) -> None:
    world = World()
    with Receiver() as receiver:
        world.options = World(url=receiver.url).options
        async with world:
            await world.settle()
            world.log.open("r/a", severity=severity)
            world.log.open("r/b", severity=severity)
            await world.until(lambda: len(receiver.got) == 2)
            for subject in ("r/a", "r/b"):
                world.log.set(subject, anew=1, acknowledged_at=NOON if subject == "r/b" else None)
                world.log.update(subject, change="snooze_over", anew=1, acknowledged=subject == "r/b")
            await world.until(lambda: len(receiver.got) == 3)
            await world.settle()
        async with world:
            await world.settle()
            world.log.update("r/a", change="kind", anew=1)
            await world.settle()
        assert told(receiver)[2:] == [("opened", "anew", severity)]
        assert receiver.got[-1]["text"].startswith(f"crewd: again {severity}: dead of r/a")


@in_loop
async def test_more_that_happens_before_a_message_went_out_is_in_it() -> None:
    with Receiver(500, 200) as receiver:
        async with World(url=receiver.url, rate_per_minute=0.001, burst=1) as world:
            await world.settle()
            world.log.open("r/x")
            await world.until(lambda: len(receiver.got) == 2)
            world.log.open("r/a", summary="8 died")
            await world.settle()
            world.log.set("r/a", anew=1, summary="9 more died")
            world.log.update("r/a", change="more", anew=1)
            await world.settle()
            later(world, 120_000.0)
            await world.until(lambda: len(receiver.got) == 3)
            assert "9 more died" in receiver.got[-1]["text"]


@pytest.mark.parametrize("noted", ["{", '{"seq": "x"}', '{"seq": 3, "told": 7}', "null"])
@in_loop
async def test_a_note_that_nobody_understands_silences_no_channel(noted: str) -> None:
    world = World()
    with Receiver() as receiver:
        world.options, world.remembered = World(url=receiver.url).options, noted
        world.log.open("r/a")
        async with world:
            await world.until(lambda: len(receiver.got) == 1)
            world.log.open("r/b")
            await world.until(lambda: len(receiver.got) == 2)
            await world.settle()  # until that is noted: what was sent and not noted is sent again
        async with world:
            await world.settle()
        assert told(receiver) == [("opened", "", "critical")] * 2


@in_loop
async def test_what_was_read_and_could_not_be_sent_yet_is_told_by_the_next_crewd() -> None:
    world = World()
    with Receiver(200, 500) as receiver:
        world.options = World(url=receiver.url, attempts_max=1_000_000).options
        async with world:
            await world.settle()
            world.log.open("r/a")
            world.log.open("r/b")
            await world.until(lambda: len(receiver.got) > 3)
        assert [each["notices"][0]["subject"] for each in receiver.got[:2]] == ["r/a", "r/b"]
    with Receiver() as receiver:
        world.options = World(url=receiver.url).options
        async with world:
            await world.until(lambda: len(receiver.got) == 1)
            await world.settle()
        assert [each["subject"] for got in receiver.got for each in got["notices"]] == ["r/b"]


@in_loop
async def test_what_is_news_again_in_quiet_hours_is_told_after_them() -> None:
    route = Route(quiet=quiet_hours("13:00-14:00"))
    with Receiver() as receiver:
        async with World(url=receiver.url, route=route) as world:
            await world.settle()
            world.log.open("r/a", severity="warning")
            await world.until(lambda: len(receiver.got) == 1)
            later(world, 1.5 * HOURS)
            world.log.set("r/a", anew=1)
            world.log.update("r/a", change="snooze_over", anew=1)
            await world.settle()
            assert len(receiver.got) == 1
            later(world, HOURS)
            await world.until(lambda: len(receiver.got) == 2)
            assert told(receiver)[-1] == ("opened", "anew", "warning")
