"""What the engine of managed runs knows of an attempt reaches the patrol whole."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from crewd.model.moment import Reading
from crewd.model.process import Identity
from crewd.model.run import Expectation, Lease, Run, RunStatus, Task, TaskStatus, Waiting
from crewd.sources.managed.source import ManagedSource, View, Watched

NOBODY = Identity(pid=2**22 - 3, start_ticks=1, boot_id="b", pid_namespace=1)
EXPECTED = Expectation(warn_after=60.0, stale_after=240.0)


def run() -> Run:
    task = Task("a", TaskStatus.RUNNING, "running", expectation=EXPECTED)
    return Run("r", "managed", "shop", RunStatus.RUNNING, "running", "", (task,))


def look(source: ManagedSource, **more: Any) -> Run | None:
    watched = Watched("a", source.folder, NOBODY, output_counts=False)
    source.publish({"r": View(run(), (msgspec.structs.replace(watched, **more),))})
    changed = source.look(Reading(1.0, 1.0, 1.0)).changed
    return changed[0] if changed else None


def test_a_wait_its_last_words_its_tool_and_that_it_streams_are_of_the_task(tmp_path: Path) -> None:
    waits = Waiting("throttled", detail="until 12:00")
    seen = look(ManagedSource(str(tmp_path)), waiting=waits, hint="429", tool="Bash", streams=True, said=(3, 4))
    assert seen is not None
    task = seen.tasks[0]
    assert (task.waiting, task.hint, task.tool, task.streams) == (waits, "429", "Bash", True)
    assert task.token == (1, None, 3, 4)
    assert task.expectation == EXPECTED


def test_who_tells_nothing_waits_for_nothing(tmp_path: Path) -> None:
    seen = look(ManagedSource(str(tmp_path)))
    assert seen is not None
    assert (seen.tasks[0].waiting, seen.tasks[0].hint, seen.tasks[0].streams) == (None, "", False)


@pytest.mark.parametrize(
    "news",
    [
        {"waiting": Waiting("throttled")},
        {"hint": "401"},
        {"tool": "Bash"},
        {"streams": True},
        {"said": (1,)},
        {"lease": Lease(60.0)},
    ],
)
def test_whatever_is_new_is_told_once(news: dict[str, Any], tmp_path: Path) -> None:
    source = ManagedSource(str(tmp_path))
    assert look(source) is not None
    assert look(source) is None
    assert look(source, **news) is not None
    assert look(source, **news) is None
    assert look(source) is not None
