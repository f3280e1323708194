"""The pids that the files of ended runs name: only of processes that were spawned for the run."""

import json
from pathlib import Path
from typing import Any

import pytest

from crewd.model.orphan import Recorded
from crewd.sources.beat import encode_beat
from crewd.sources.beat import recorded as beat
from crewd.sources.pi_crew import recorded as pi_crew
from tests.sources.crew_folder import RUN, WALL, CrewFolder, at

MAX = 1 << 20
SPAWNED: dict[str, Any] = {"async": {"pid": 11, "spawnedAt": at(-99)}}


def of(crew: CrewFolder) -> dict[int, Recorded]:
    return {each.pid: each for each in pi_crew.recorded_pids(str(crew.folder()), RUN, True, MAX)}


def test_workers_and_background_runners_are_named_and_heartbeats_are_not(tmp_path: Path) -> None:
    crew = CrewFolder(tmp_path)
    crew.run(status="failed", **SPAWNED)
    crew.write(RUN, "async.pid", json.dumps({"pid": 12, "startedAt": at(-50)}))
    crew.write(RUN, "heartbeat.json", json.dumps({"pid": 13, "at": int(WALL * 1000)}))
    crew.write(RUN, "ownership-map.json", json.dumps({"entries": {"01": {"pid": 14, "updatedAt": at(-20)}}}))
    crew.tasks(
        {
            "id": "01",
            "status": "failed",
            "startedAt": at(-30),
            "heartbeat": {"pid": 15, "lastSeenAt": at(-10)},
            "checkpoint": {"phase": "child-spawned", "childPid": 16, "updatedAt": at(-25)},
        }
    )
    found = of(crew)
    assert found.keys() == {11, 12, 14, 16}
    assert [found[pid].task_id for pid in (11, 12, 14, 16)] == ["", "", "01", "01"]
    assert (found[16].not_before, found[16].recorded_at) == (WALL - 30, WALL - 25)


@pytest.mark.parametrize(
    "tasks", ["", "{", "[]", "7", '[{"id": "../x", "checkpoint": {"childPid": 9}}]', '[{"id": 1}]']
)
def test_what_cannot_be_read_names_nobody(tmp_path: Path, tasks: str) -> None:
    crew = CrewFolder(tmp_path)
    crew.run(status="failed")
    crew.write(RUN, "tasks.json", tasks)
    assert of(crew) == {}


def test_a_manifest_of_another_run_names_nobody(tmp_path: Path) -> None:
    crew = CrewFolder(tmp_path)
    crew.run(status="failed", runId="another", **SPAWNED)
    assert of(crew) == {}


def test_an_ended_beat_names_its_worker_only_with_start_and_boot(tmp_path: Path) -> None:
    beats: tuple[tuple[str, dict[str, Any]], ...] = (
        ("whole", {"status": "failed", "start_ticks": 5, "boot_id": "b"}),
        ("bare", {"status": "failed"}),
        ("living", {"status": "running", "start_ticks": 5, "boot_id": "b"}),
    )
    for task, given in beats:
        (tmp_path / f"{task}.json").write_bytes(encode_beat(run="r", task=task, seq=1, at=WALL, pid=7, **given))
    (tmp_path / "other.json").write_bytes(b"{")
    assert [each.task_id for each in beat.recorded_pids(str(tmp_path), "r", MAX)] == ["whole"]
    assert beat.recorded_pids(str(tmp_path), "another", MAX) == []
