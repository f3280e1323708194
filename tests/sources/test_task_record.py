"""One entry of tasks.json: a field of a wrong type costs that field, and nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.sources.pi_crew.task_record import TaskRecord, read_record

WHOLE: dict[str, Any] = {
    "id": "01_explore",
    "status": "running",
    "role": "explorer",
    "stepId": "explore",
    "agent": "scout",
    "model": "m",
    "modelRouting": {"resolved": "m-1"},
    "displayName": "Explore",
    "title": "explore",
    "dependsOn": ["00"],
    "startedAt": "2026-11-21T00:00:00Z",
    "finishedAt": "2026-11-21T00:00:01Z",
    "error": "none",
    "attempts": [{}],
    "heartbeat": {"lastSeenAt": "a", "lastEventAt": "b", "lastStdoutAt": "c", "pid": 7},
    "agentProgress": {
        "lastActivityAt": "d",
        "toolCount": 1,
        "tokens": 2,
        "turns": 3,
        "currentTool": "bash",
        "currentToolArgs": "{}",
        "recentTools": [{"tool": "bash"}, 5],
        "recentOutput": ["x", 5],
    },
    "checkpoint": {"phase": "started", "updatedAt": "e", "childPid": 8},
    "jsonEvents": 4,
    "lifetimeUsage": {"input": 1, "output": 2, "cacheRead": 3, "cacheWrite": 4, "cost": 0.5},
    "usage": {"input": 1, "output": 2, "cacheRead": 3, "cacheWrite": 4, "cost": 1},
    "waiting": {"askedAt": "f", "questionId": "q"},
}
PATHS = [
    (name, *deeper)
    for name, value in WHOLE.items()
    if name != "id"
    for deeper in ([()] + [(inner,) for inner in value] if isinstance(value, dict) else [()])
]
WRONG = [True, -1, 2.5, [], {}, "***", 1 << 60, [1], {"a": 1}]


def changed(record: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    name, *deeper = path
    return record | {name: changed(record[name], tuple(deeper), value) if deeper else value}


def read(entry: dict[str, Any]) -> dict[str, Any]:
    return msgspec.to_builtins(read_record(entry))  # type: ignore[no-any-return]


def test_every_field_is_read() -> None:
    assert read(WHOLE) | {"id": "01_explore"} == WHOLE
    assert TaskRecord.__struct_encode_fields__ == tuple(name for name in WHOLE if name != "id")


@given(path=st.sampled_from(PATHS), value=st.sampled_from(WRONG))
def test_one_wrong_field_is_absent_and_all_others_stand(path: tuple[str, ...], value: object) -> None:
    found = read(changed(WHOLE, path, value))
    absent = read(changed(WHOLE, path, None))
    try:
        right = msgspec.to_builtins(msgspec.convert(changed(WHOLE, path, value), TaskRecord))
    except msgspec.ValidationError:
        right = absent
    assert found == right


@given(wrongs=st.dictionaries(st.sampled_from(PATHS), st.sampled_from(["***", 2.5, [1]]), max_size=40))
def test_many_wrong_fields_cost_no_right_one(wrongs: dict[tuple[str, ...], object]) -> None:
    entry, expected = WHOLE, WHOLE
    for path, value in sorted(wrongs.items(), key=lambda item: len(item[0]), reverse=True):
        entry, expected = changed(entry, path, value), changed(expected, path, None)
    found = read(entry)
    for path in PATHS:
        if any(path[: len(wrong)] == wrong or wrong[: len(path)] == path for wrong in wrongs):
            continue
        assert value_at(found, path) == value_at(WHOLE, path)


def value_at(record: dict[str, Any], path: tuple[str, ...]) -> object:
    value: Any = record
    for name in path:
        value = value[name]
    return value


@pytest.mark.parametrize("written", ["3.0", "3"])
def test_a_count_may_be_written_with_a_point(written: str) -> None:
    assert read_record(json.loads(f'{{"jsonEvents": {written}}}')).json_events == 3


def test_a_whole_number_is_no_text() -> None:
    assert read(WHOLE | {"title": 3.0}) == read(WHOLE | {"title": None})
