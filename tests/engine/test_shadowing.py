"""An override that is only tried is told, and changes nothing."""

import pytest

from crewd.detection.options import Override, Thresholds
from crewd.model.event import Event
from tests.engine.stage import Stage, play, run, task

STRICT = Thresholds(5, 10, 15, 20, startup_grace=0.0)


def shadow(**more: str) -> Override:
    return Override(STRICT, shadow=True, name="strict", **more)


def silent(*overrides: Override) -> Stage:
    async def scene(stage: Stage) -> None:
        stage.patrol.overrides = overrides
        stage.source.put(run(task(task_type="explore")))
        await stage.seconds(90)
        stage.source.put(run(task(beat=1, task_type="explore")))
        await stage.seconds(5)

    return play(scene)


def shadows(stage: Stage) -> list[Event]:
    return stage.told("shadow.level_changed")


@pytest.mark.parametrize("matcher", [{"runtime": "fake"}, {"crew": "crew"}, {"task_type": "explore"}])
def test_what_a_shadow_would_have_made_of_a_worker_is_told_and_nothing_else(matcher: dict[str, str]) -> None:
    stage, plain = silent(shadow(**matcher)), silent()
    assert [event.data["to_level"] for event in shadows(stage)] == ["warn", "stale", "dead", "healthy"]
    assert {event.data["override"] for event in shadows(stage)} == {"strict"}
    assert shadows(stage)[2].data["real_level"] == "warn"
    told = [(event.type, event.at) for event in stage.told() if event.type != "shadow.level_changed"]
    assert told == [(event.type, event.at) for event in plain.told()]


def test_the_first_override_that_is_no_shadow_counts() -> None:
    real = Override(Thresholds(5, 10, 600, 900, startup_grace=0.0), crew="crew")
    stage = silent(shadow(crew="crew"), real)
    assert stage.levels()[:2] == ["warn", "stale"]
    assert shadows(stage)


def test_a_shadow_that_fits_nobody_tells_nothing() -> None:
    assert shadows(silent(shadow(crew="other"))) == []
