"""Whatever happens, and whenever crewd is killed in between: every channel ends up having told what is true."""

import asyncio
import json
from itertools import groupby

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.policy.notifying import Route
from tests.telemetry.notify.world import World

pytestmark = pytest.mark.real_time
SUBJECTS = ("r/a", "r/b", "r/c")
STEPS = st.tuples(st.sampled_from(["open", "end", "update", "kill", "rest"]), st.sampled_from(SUBJECTS))


@settings(max_examples=40)
@given(st.lists(STEPS, max_size=20))
def test_what_was_told_last_of_each_incident_is_what_is_true(steps: list[tuple[str, str]]) -> None:
    world = World(kind="log", route=Route(min_severity="warning"))
    with structlog.testing.capture_logs() as lines:
        asyncio.run(live(world, steps))
    for subject in SUBJECTS:
        told = [line["kind"] for line in lines if line.get("subject") == subject]
        # Killed between a message and the note of it, crewd may say the same twice in a row.
        story = [kind for kind, _ in groupby(told)]
        assert story == ["opened", "resolved"] * (len(story) // 2) + ["opened"] * (len(story) % 2)
        is_open = (subject, "dead") in world.log.known
        assert (story[-1:] == ["opened"]) == is_open, (subject, told)
    doubles = sum(
        len(list(same)) - 1 for _, same in groupby(line.get("subject", "") + line["event"] for line in lines)
    )
    assert doubles <= sum(step == "kill" for step, _ in steps)


async def live(world: World, steps: list[tuple[str, str]]) -> None:
    left = list(steps)
    async with world:  # it exists before anything happens
        await world.until(lambda: bool(world.remembered))
    while True:
        async with world:
            while left:
                step, subject = left.pop(0)
                match step:
                    case "open" if (subject, "dead") not in world.log.known:
                        world.log.open(subject)
                    case "end" if (subject, "dead") in world.log.known:
                        world.log.resolve(subject)
                    case "update" if (subject, "dead") in world.log.known:
                        world.log.update(subject)
                    case "rest":
                        assert world.channel is not None
                        world.channel.wake()
                        await asyncio.sleep(0.003)
                    case "kill":
                        break
            else:
                await world.until(lambda: json.loads(world.remembered)["seq"] == world.log.last_seq())
                return
