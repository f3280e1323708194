"""What every source must do, whatever its format: one suite, run against each of them."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from crewd.model.look import Look, ReadResult
from crewd.model.run import RunStatus, Task, TaskStatus
from crewd.sources.beat import BeatOptions, BeatSource, encode_beat
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.source import Source
from tests.sources.crew_folder import CrewFolder, reading, task

RUN, OTHER = "team_a", "team_b"


class Subject(Protocol):
    """A root of one format, and who writes to it."""

    source: Source

    def beat(self, run_id: str, number: int, status: str = "running") -> None:
        """Let the only worker of a run give a sign of life; what is not there is made."""
        ...

    def file(self, run_id: str) -> Path:
        """The file that tells of the worker."""
        ...


class PiCrew:
    def __init__(self, folder: Path) -> None:
        self.crew = CrewFolder(folder)
        self.source: Source = PiCrewSource(str(folder))

    def beat(self, run_id: str, number: int, status: str = "running") -> None:
        self.crew.run(run_id, status=status)
        self.crew.tasks(task("work", status, seen=number), run_id=run_id)

    def file(self, run_id: str) -> Path:
        return self.crew.folder(run_id) / "tasks.json"


class Beat:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source: Source = BeatSource(str(folder))

    def beat(self, run_id: str, number: int, status: str = "running") -> None:
        path = self.file(run_id)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(".beat.tmp")
        temporary.write_bytes(
            encode_beat(run=run_id, task="work", seq=number, at=reading(number).wall, status=status)
        )
        temporary.replace(path)

    def file(self, run_id: str) -> Path:
        return self.folder / run_id / "work.json"


@pytest.fixture(params=[PiCrew, Beat], ids=["pi_crew", "beat"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    root = tmp_path / "root"
    root.mkdir()
    made = request.param(root)
    yield made
    made.source.close()


def look(subject: Subject) -> Look:
    return subject.source.look(reading())


def worker(found: Look) -> Task:
    (run,) = found.changed
    (only,) = run.tasks
    return only


def test_it_names_its_runtime_its_folder_and_its_clock(subject: Subject, tmp_path: Path) -> None:
    source = subject.source
    assert source.folder == str(tmp_path / "root")
    assert source.key == f"{source.runtime}:{source.folder}"


def test_an_empty_root_is_looked_at_completely_and_holds_nothing(subject: Subject) -> None:
    found = look(subject)
    assert (found.complete, found.changed, found.vanished, found.complaints) == (True, (), (), ())


def test_a_run_is_told_with_its_worker(subject: Subject) -> None:
    subject.beat(RUN, 1)
    found = look(subject)
    (run,) = found.changed
    assert (run.run_id, run.runtime, run.status) == (RUN, subject.source.runtime, RunStatus.RUNNING)
    assert run.folder.startswith(subject.source.folder + "/")
    assert worker(found).status is TaskStatus.RUNNING
    assert worker(found).beat_at == reading(1).wall
    assert found.reads[ReadResult.OK] >= 1


def test_what_did_not_change_is_not_told_again(subject: Subject) -> None:
    subject.beat(RUN, 1)
    look(subject)
    for _ in range(70):  # across a thorough look too
        again = look(subject)
        assert (again.changed, again.vanished, again.unread) == ((), (), {})
    assert again.reads == {ReadResult.UNCHANGED: 1}


def test_a_sign_of_life_changes_the_token_and_silence_does_not(subject: Subject) -> None:
    subject.beat(RUN, 1)
    first = worker(look(subject)).token
    subject.beat(RUN, 2)
    assert worker(look(subject)).token != first


def test_an_ended_worker_ends_its_run(subject: Subject) -> None:
    subject.beat(RUN, 1)
    look(subject)
    subject.beat(RUN, 2, status="completed")
    (run,) = look(subject).changed
    assert (run.status, run.tasks[0].status) == (RunStatus.COMPLETED, TaskStatus.COMPLETED)
    assert (run.tasks[0].token, run.tasks[0].claim) == ((), None)


def test_a_removed_run_has_vanished_once(subject: Subject) -> None:
    subject.beat(RUN, 1)
    subject.beat(OTHER, 1)
    look(subject)
    shutil.rmtree(subject.file(RUN).parent)
    assert look(subject).vanished == (RUN,)
    assert look(subject).vanished == ()


def test_a_run_that_comes_back_is_told_anew(subject: Subject) -> None:
    subject.beat(RUN, 1)
    look(subject)
    shutil.rmtree(subject.file(RUN).parent)
    look(subject)
    subject.beat(RUN, 1)
    assert worker(look(subject)).task_id == "work"


def test_more_than_fifty_runs_are_all_seen(subject: Subject) -> None:
    for number in range(120):
        subject.beat(f"team_{number}", 1)
    assert len(look(subject).changed) == 120


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (b"", ReadResult.TORN),
        (b'{"a', ReadResult.TORN),
        (b"\x00\x01", ReadResult.INVALID),
        (b"3", ReadResult.INVALID),
    ],
)
def test_a_bad_file_is_no_information_in_every_look_until_it_is_mended(
    subject: Subject, data: bytes, result: ReadResult
) -> None:
    subject.beat(RUN, 1)
    subject.beat(OTHER, 1)
    look(subject)
    subject.file(RUN).write_bytes(data)
    for number in range(2, 5):
        subject.beat(OTHER, number)
        found = look(subject)
        assert unread(found) == {RUN: result}
        assert [run.run_id for run in found.changed] == [OTHER]
    subject.beat(RUN, 9)
    mended = look(subject)
    assert unread(mended) == {}
    assert [run.run_id for run in mended.changed] == [RUN]


def test_a_link_in_place_of_a_file_is_refused(subject: Subject, tmp_path: Path) -> None:
    subject.beat(RUN, 1)
    look(subject)
    subject.file(RUN).rename(tmp_path / "outside")
    subject.file(RUN).symlink_to(tmp_path / "outside")
    assert unread(look(subject)) == {RUN: ReadResult.REFUSED}


def test_a_linked_folder_is_refused(subject: Subject, tmp_path: Path) -> None:
    subject.beat(RUN, 1)
    folder = subject.file(RUN).parent
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    found = look(subject)
    assert found.changed == ()
    assert found.reads[ReadResult.REFUSED] == 1
    assert len(found.complaints) == 1


def test_a_root_that_cannot_be_listed_says_nothing_and_takes_nothing_back(subject: Subject) -> None:
    subject.beat(RUN, 1)
    look(subject)
    root = Path(subject.source.folder)
    root.rename(root.with_name("away"))
    found = look(subject)
    assert (found.complete, found.vanished, found.changed) == (False, (), ())
    assert len(found.complaints) == 1
    assert look(subject).complaints == ()
    root.with_name("away").rename(root)
    assert look(subject).complete


@pytest.mark.parametrize(
    "source",
    [
        lambda root: PiCrewSource(root, PiCrewOptions(may_be_missing=True)),
        lambda root: BeatSource(root, BeatOptions(may_be_missing=True)),
    ],
    ids=["pi_crew", "beat"],
)
def test_a_root_that_may_be_missing_is_empty_until_it_was_there(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    made = source(str(tmp_path / "root"))
    found = made.look(reading())
    assert (found.complete, found.complaints, found.reads) == (True, (), {})
    (tmp_path / "root").mkdir()
    assert made.look(reading()).complete
    (tmp_path / "root").rmdir()
    assert not made.look(reading()).complete


def test_unknown_fields_are_kept_and_counted(subject: Subject) -> None:
    subject.beat(RUN, 1)
    file = subject.file(RUN)
    value = json.loads(file.read_bytes())
    (value[0] if isinstance(value, list) else value)["mood"] = "bright"
    file.write_text(json.dumps(value))
    found = look(subject)
    assert worker(found).extra == {"mood": '"bright"'}
    assert found.unknown_fields == 1


def test_it_names_folders_to_watch_that_exist(subject: Subject) -> None:
    subject.beat(RUN, 1)
    look(subject)
    paths = subject.source.watch_paths()
    assert str(subject.file(RUN).parent) in paths
    assert str(subject.file(RUN).parent.parent) in paths


def test_it_can_be_closed_twice_and_looks_again_afterwards(subject: Subject) -> None:
    subject.beat(RUN, 1)
    look(subject)
    subject.source.close()
    subject.source.close()
    subject.beat(RUN, 2)
    assert worker(look(subject)).task_id == "work"


def unread(found: Look) -> dict[str, ReadResult]:
    """Runs of which something could not be read, be it the run or a task that has a file of its own."""
    return {**found.unread, **{run_id: result for (run_id, _), result in found.unread_tasks.items()}}
