"""What a pi-crew task called lately: the same call is the same digest, and whatever stands there costs nobody."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.pi_crew.calls import CALLS_MAX, calls_of
from crewd.sources.pi_crew.task_record import Progress
from tests.sources.crew_folder import CrewFolder, reading, task

FORMATS = Path(__file__).parent.parent / "formats" / "pi_crew"


def digests(*calls: Any, inside: tuple[str, str] | None = None) -> list[bytes]:
    tool, given = inside or (None, None)
    found = calls_of(Progress(recent_tools=list(calls), current_tool=tool, current_tool_args=given))
    assert found is not None and len(found) % 4 == 0
    return [found[at : at + 4] for at in range(0, len(found), 4)]


def call(tool: str, args: str) -> dict[str, str]:
    return {"tool": tool, "args": args, "endedAt": "2026-11-21T00:00:00Z"}


def test_the_same_call_is_the_same_and_the_one_it_is_in_counts() -> None:
    a, b, again = digests(call("bash", "ls"), call("bash", "pwd"), inside=("bash", "ls"))
    assert a == again != b
    assert digests(call("read", "ls")) != [a]
    assert digests(call("bash", "x" * 9000 + "1")) != digests(call("bash", "x" * 9000))


@pytest.mark.parametrize("progress", [None, Progress(), Progress(current_tool="bash")])
def test_who_tells_of_no_calls_is_not_taken_for_one_who_makes_none(progress: Progress | None) -> None:
    assert calls_of(progress) is None


@given(
    st.lists(
        st.none()
        | st.integers()
        | st.text()
        | st.dictionaries(st.sampled_from(["tool", "args"]), st.text() | st.none()),
        max_size=200,
    )
)
def test_whatever_stands_there_is_read_within_bounds(calls: list[Any]) -> None:
    assert len(digests(*calls)) <= CALLS_MAX
    assert digests(call("bash", "\ud800"))


def test_a_genuine_task_made_many_calls_each_of_them_new() -> None:
    [path] = FORMATS.glob("running-fresh-heartbeat/project/.crew/state/runs/*/tasks.json")
    told = json.loads(path.read_text())[0]["agentProgress"]
    progress = Progress(
        recent_tools=told["recentTools"],
        current_tool=told["currentTool"],
        current_tool_args=told["currentToolArgs"],
    )
    found = calls_of(progress)
    assert found is not None and len(found) == 4 * 26
    assert len({found[at : at + 4] for at in range(0, len(found), 4)}) == 26


def test_of_very_many_calls_the_latest_count() -> None:
    many = digests(*[call("bash", str(number)) for number in range(200)])
    assert len(many) == CALLS_MAX and many[-1:] == digests(call("bash", "199"))


def test_a_task_at_work_has_its_calls_where_its_use_is_told_until_its_run_ends(tmp_path: Path) -> None:
    crew = CrewFolder(tmp_path / "shop")
    source = PiCrewSource(str(crew.project), PiCrewOptions(side_files_every=1))
    progress = {"recentTools": [call("bash", "ls")], "currentTool": "bash", "currentToolArgs": "ls"}

    def seen(**more: Any) -> bytes | None:
        crew.tasks(task(agentProgress=progress, **more))
        (run,) = source.look(reading()).changed
        return run.tasks[0].calls

    crew.run()
    assert seen() is None
    assert seen(lifetimeUsage={"input": 5, "output": 1}) == b"".join(digests(call("bash", "ls")) * 2)
    crew.run(status="completed")
    (run,) = source.look(reading()).changed
    assert run.tasks[0].calls is None
