"""Bad input costs its sender only: each kind under its own result, and the run beside it is read in the same look."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.host.files import FileRead, Root
from crewd.model.look import Look, ReadResult
from crewd.sources.file_watch import FileWatch
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from tests.sources.crew_folder import OTHER, RUN, CrewFolder, event, reading, task

Spoil = Callable[[CrewFolder], None]


def manifest(data: bytes) -> Spoil:
    return lambda crew: (crew.folder() / "manifest.json").write_bytes(data) and None


def tasks(data: bytes) -> Spoil:
    return lambda crew: (crew.folder() / "tasks.json").write_bytes(data) and None


def sparse(crew: CrewFolder) -> None:
    os.truncate(crew.folder() / "manifest.json", 50 << 20)


def fifo(crew: CrewFolder) -> None:
    (crew.folder() / "manifest.json").unlink()
    os.mkfifo(crew.folder() / "manifest.json")


def link(crew: CrewFolder) -> None:
    path = crew.folder() / "manifest.json"
    path.rename(crew.project / "manifest.json")
    path.symlink_to(crew.project / "manifest.json")


def hard_link(crew: CrewFolder) -> None:
    os.link(crew.folder() / "manifest.json", crew.project / "second-name")


def folder(crew: CrewFolder) -> None:
    (crew.folder() / "manifest.json").unlink()
    (crew.folder() / "manifest.json").mkdir()


def named(run_id: object) -> bytes:
    return json.dumps({"runId": run_id, "status": "running"}).encode()


BAD = {
    "empty": (manifest(b""), ReadResult.TORN),
    "torn": (manifest(b'{"runId":"team_'), ReadResult.TORN),
    "torn tasks": (tasks(b'[{"id":"01_'), ReadResult.TORN),
    "empty tasks": (tasks(b""), ReadResult.TORN),
    "50 MiB": (sparse, ReadResult.TOO_LARGE),
    "deeply nested": (manifest(b'{"runId":' + b"[" * 200_000), ReadResult.INVALID),
    "deeply nested tasks": (tasks(b"[" * 100_000 + b"]" * 100_000), ReadResult.INVALID),
    "binary": (manifest(bytes(range(256))), ReadResult.INVALID),
    "wrong type": (manifest(b"[1,2,3]"), ReadResult.INVALID),
    "wrong types within": (manifest(b'{"runId":7,"status":[]}'), ReadResult.INVALID),
    "wrong type of tasks": (tasks(b'"none"'), ReadResult.INVALID),
    "NaN": (manifest(b'{"runId":"x","status":NaN}'), ReadResult.INVALID),
    "duplicate keys": (manifest(b'{"runId":"a","status":"running","status":"failed"}'), ReadResult.INVALID),
    "id that leaves": (manifest(named("../../etc")), ReadResult.REFUSED),
    "id of another run": (manifest(named("team_x")), ReadResult.REFUSED),
    "FIFO": (fifo, ReadResult.REFUSED),
    "link": (link, ReadResult.REFUSED),
    "hard link": (hard_link, ReadResult.REFUSED),
    "folder": (folder, ReadResult.REFUSED),
}


class Pair:
    """Two runs side by side, of which the second stays well."""

    def __init__(self, project: Path) -> None:
        self.crew = CrewFolder(project)
        for run_id in (RUN, OTHER):
            self.crew.run(run_id)
            self.crew.tasks(task(), run_id=run_id)
        self.source = PiCrewSource(str(project), PiCrewOptions(side_files_every=1))
        self.beats = 0

    def look(self) -> Look:
        """Let the neighbour beat, and look: it must have been heard."""
        self.beats += 1
        self.crew.tasks(task(seen=self.beats), run_id=OTHER)
        look = self.source.look(reading())
        assert look.complete
        assert OTHER in {run.run_id for run in look.changed}
        assert OTHER not in look.unread
        return look


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.mark.parametrize("kind", BAD)
def test_what_turns_bad_is_counted_and_what_was_known_stands(pair: Pair, kind: str) -> None:
    spoil, result = BAD[kind]
    pair.look()
    spoil(pair.crew)
    for _ in range(3):
        look = pair.look()
        assert look.unread == {RUN: result}
        assert look.reads[result] == 1
        assert RUN not in look.vanished
        assert RUN not in {run.run_id for run in look.changed}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_bad_from_the_beginning_is_counted(pair: Pair, kind: str) -> None:
    spoil, result = BAD[kind]
    spoil(pair.crew)
    assert pair.look().reads[result] == 1


@pytest.mark.parametrize("kind", BAD)
def test_what_is_mended_is_read_again(pair: Pair, kind: str) -> None:
    spoil, _ = BAD[kind]
    pair.look()
    spoil(pair.crew)
    pair.look()
    (pair.crew.project / "second-name").unlink(missing_ok=True)
    if kind == "folder":
        (pair.crew.folder() / "manifest.json").rmdir()
    pair.crew.run(status="completed")
    pair.crew.tasks(task(status="completed"))
    look = pair.look()
    assert look.unread == {}
    assert {run.run_id: run.status_text for run in look.changed} == {RUN: "completed", OTHER: "running"}


def test_a_lasting_fault_is_complained_of_once(pair: Pair) -> None:
    pair.look()
    manifest(b"{")(pair.crew)
    complaints = [complaint for _ in range(8) for complaint in pair.look().complaints]
    assert len(complaints) == 1
    assert "manifest.json is torn" in complaints[0]
    assert str(pair.crew.folder()) in complaints[0]


def test_a_linked_run_folder_is_refused(pair: Pair) -> None:
    pair.crew.folder().rename(pair.crew.project / "away")
    pair.crew.folder().symlink_to(pair.crew.project / "away")
    look = pair.look()
    assert look.reads[ReadResult.REFUSED] == 1
    assert [run.run_id for run in look.changed] == [OTHER]


def test_a_linked_folder_of_runs_is_refused(tmp_path: Path) -> None:
    crew = CrewFolder(tmp_path / "real")
    crew.run()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".crew").symlink_to(tmp_path / "real" / ".crew")
    source = PiCrewSource(str(tmp_path / "project"))
    look = source.look(reading())
    assert look.changed == ()
    assert look.reads == {ReadResult.REFUSED: 1}
    assert any("cannot be listed" in complaint for complaint in look.complaints)


@pytest.mark.parametrize("name", ["..hidden", "-dash", "two words", "x" * 129, "naïve", ".hidden", "a\nb"])
def test_a_folder_whose_name_is_no_id_is_refused(pair: Pair, name: str) -> None:
    (pair.crew.runs / name).mkdir()
    look = pair.look()
    assert look.reads[ReadResult.REFUSED] == 1
    assert not any("\n" in complaint for complaint in look.complaints)


@pytest.mark.parametrize("task_id", ["../../evil", "a/b", "", "x" * 200, ".hidden", 7, None])
def test_a_task_whose_name_is_no_id_costs_only_itself(pair: Pair, task_id: object) -> None:
    pair.crew.tasks(task() | {"id": task_id}, task("02_execute"))
    look = pair.look()
    found = next(run for run in look.changed if run.run_id == RUN)
    assert [each.task_id for each in found.tasks] == ["02_execute"]
    assert look.reads[ReadResult.REFUSED] == 1


def test_a_task_met_twice_counts_once(pair: Pair) -> None:
    pair.crew.tasks(task(), task(status="failed"))
    found = next(run for run in pair.look().changed if run.run_id == RUN)
    assert [each.status_text for each in found.tasks] == ["running"]


def test_a_field_of_a_wrong_type_costs_only_that_field(pair: Pair) -> None:
    wrong = {"heartbeat": 7, "agentProgress": [], "attempts": "x", "dependsOn": {"a": 1}, "usage": True, "role": 3}
    pair.crew.tasks(task() | wrong | {"error": "boom"})
    pair.crew.run(createdAt={"no": "time"}, planApproval="yes", waitState=3, **{"async": [1]})
    found = next(run for run in pair.look().changed if run.run_id == RUN)
    assert (found.status_text, found.created_at, found.tasks[0].error) == ("running", None, "boom")


def test_a_run_folder_replaced_between_looks_is_read_anew(pair: Pair) -> None:
    pair.look()
    pair.crew.folder().rename(pair.crew.project / "old")
    pair.crew.run(goal="another")
    found = next(run for run in pair.look().changed if run.run_id == RUN)
    assert found.goal == "another"


class Denied(Root):
    """A root whose files may not be read."""

    def read(self, relative: str, limit: int) -> FileRead:
        return FileRead(ReadResult.IO_ERROR, why="Permission denied")


def test_what_may_not_be_read_is_tried_again_each_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    watch = FileWatch(str(tmp_path), "file")
    for _ in range(2):
        got = watch.read(Denied(str(tmp_path)), "file", 100)
        assert got is not None and got.result is ReadResult.IO_ERROR
    got = watch.read(Root(str(tmp_path)), "file", 100)
    assert got is not None and got.data == b"text"
    assert watch.fault is None


class Counting(Root):
    """A root that counts what is read below it."""

    reads = 0

    def read(self, relative: str, limit: int) -> FileRead:
        self.reads += 1
        return super().read(relative, limit)


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    root, watch = Counting(str(tmp_path)), FileWatch(str(path.parent), path.name)
    assert watch.read(root, "file", 100) is not None
    assert not any(watch.read(root, "file", 100) for _ in range(5))
    assert root.reads == 1


def test_a_known_run_folder_that_becomes_a_link_has_vanished(pair: Pair) -> None:
    pair.look()
    pair.crew.folder().rename(pair.crew.project / "away")
    pair.crew.folder().symlink_to(pair.crew.project / "away")
    look = pair.look()
    assert look.vanished == (RUN,)
    assert look.reads[ReadResult.REFUSED] == 1


def test_temporary_files_and_locks_are_left_alone(pair: Pair) -> None:
    for name in ("tasks.json.1234.tmp", "run.lock", "tasks.json.flock", "tasks.json.corrupt-1795"):
        (pair.crew.folder() / name).write_bytes(b"\x00garbage")
    (pair.crew.folder() / "events.jsonl.mkdirlock").mkdir()
    look = pair.look()
    assert (look.unread, look.complaints) == ({}, ())


FILES = st.sampled_from(
    [
        "manifest.json",
        "tasks.json",
        "events.jsonl",
        "heartbeat.json",
        "async.pid",
        "ownership-map.json",
        "deadletter.jsonl",
        "agents/01_explore/output.log",
    ]
)
SCRAPS = st.sampled_from(
    [
        *(
            json.dumps(value).encode()
            for value in (task(), [task()], event(1), named("x").decode(), {"pid": -1}, [[]])
        ),
        b'{"runId":"' + RUN.encode() + b'","status":"running","async":{"pid":1e300},"waitState":[]}',
        b'[{"id":"01_explore","status":{},"attempts":[1],"lifetimeUsage":{"input":-5,"cost":1e308}}]',
        b'{"entries":{"01_explore":{"pid":99999999999999999999,"updatedAt":"9999-99-99"}}}',
        b'{"taskId":"01_explore","timestamp":"0001-01-01T00:00:00+23:59","reason":{}}\n',
        b'[{"id":"01_explore","startedAt":"0001-01-01T00:00:00+14:00","heartbeat":{"lastSeenAt":"\\ud800"}}]',
    ]
)


@given(st.lists(st.tuples(FILES, st.one_of(st.binary(max_size=80), SCRAPS)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=120)
def test_no_bytes_in_any_file_raise_or_reach_the_neighbour(writes: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as project:
        pair = Pair(Path(project))
        pair.look()
        for name, data in writes:
            pair.crew.write(RUN, name, data)
            look = pair.look()
            assert not any("defect" in complaint for complaint in look.complaints)
        pair.source.close()


def test_a_named_root_without_a_crew_is_told_once_and_one_with_a_crew_is_not(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "project" / ".crew").mkdir(parents=True)
    empty, crewed = PiCrewSource(str(tmp_path / "nothing")), PiCrewSource(str(tmp_path / "project"))
    assert any("no .crew" in complaint for complaint in empty.look(reading()).complaints)
    assert empty.look(reading()).complaints == ()
    assert crewed.look(reading()).complaints == ()
