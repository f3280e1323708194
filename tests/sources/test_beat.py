"""The beat format: what is written is read, what is wrong is refused, and a run is what its tasks are."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crewd.model.look import Look, ReadResult
from crewd.model.run import Lease, RunStatus, Task, Waiting
from crewd.sources.beat import BeatOptions, BeatSource, beat_path, decode_beat, encode_beat
from crewd.sources.beat.form import STATUSES
from tests.sources.crew_folder import WALL, reading

FROZEN = Path(__file__).parent.parent / "formats" / "beat_v1"
REFERENCE = Path(__file__).parent.parent.parent / "docs" / "reference" / "beat-format.md"


def beat(**more: Any) -> bytes:
    return encode_beat(**{"run": "r", "task": "t", "seq": 1, "at": WALL} | more)


def put(root: Path, data: bytes, run: str = "r", task: str = "t") -> None:
    path = Path(beat_path(str(root), run, task))
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def look_at(root: Path, seconds: float = 0.0) -> Look:
    source = BeatSource(str(root))
    look = source.look(reading(seconds))
    source.close()
    return look


def only(root: Path) -> Task:
    (run,) = look_at(root).changed
    (task,) = run.tasks
    return task


def test_the_frozen_beats_of_version_1_read_as_they_were() -> None:
    (run,) = look_at(FROZEN).changed
    tasks = {task.task_id: task for task in run.tasks}
    assert {name: task.status_text for name, task in tasks.items()} == {
        "build": "running",
        "fetch": "completed",
        "publish": "queued",
        "review": "waiting",
    }
    assert (run.status, run.crew) == (RunStatus.RUNNING, "release")
    build = tasks["build"]
    assert (build.attempt, build.tool, build.task_type, build.lease) == (2, "make", "builder", Lease(600.0, "make"))
    assert build.claim is not None
    assert (build.claim.pid, build.claim.start_ticks, build.claim.host) == (4242, 191110, "builder-1")
    assert tasks["review"].waiting == Waiting("human")
    assert tasks["review"].extra == {"mood": '"patient"'}
    assert tasks["fetch"].usage is not None and tasks["fetch"].usage.cost_usd == 0.02


def test_what_is_written_is_read(tmp_path: Path) -> None:
    put(
        tmp_path,
        beat(
            seq=7,
            progress={"step": 3},
            busy_until=WALL + 90.5,
            tool="bash",
            attempt=2,
            crew="night",
            task_type="builder",
            pid=42,
            start_ticks=9,
            boot_id="b",
            pid_namespace=5,
            host="h",
        ),
    )
    task = only(tmp_path)
    assert (task.task_id, task.attempt, task.tool, task.task_type) == ("t", 2, "bash", "builder")
    assert task.lease == Lease(90.5, "bash")
    assert task.claim is not None
    assert (task.claim.pid, task.claim.start_ticks, task.claim.boot_id) == (42, 9, "b")
    assert (task.claim.pid_namespace, task.claim.host, task.claim.recorded_at) == (5, "h", WALL)


@pytest.mark.parametrize("change", [{"seq": 2}, {"progress": 1}, {"pid": 43}, {"pid": 42, "start_ticks": 2}])
def test_a_new_beat_changes_the_token(tmp_path: Path, change: dict[str, Any]) -> None:
    put(tmp_path, beat())
    before = only(tmp_path).token
    put(tmp_path, beat(**change))
    assert only(tmp_path).token != before


def test_the_same_beat_at_another_time_is_no_sign_of_life(tmp_path: Path) -> None:
    put(tmp_path, beat(progress="x"))
    before = only(tmp_path).token
    put(tmp_path, beat(progress="x", at=WALL + 100))
    assert only(tmp_path).token == before


@pytest.mark.parametrize(
    ("status", "waiting", "expected"),
    [
        ("running", "throttled", Waiting("throttled")),
        ("waiting", "", Waiting("human")),
        ("waiting", "parked", Waiting("parked")),
        ("running", "", None),
        ("completed", "human", None),
    ],
)
def test_a_declared_wait_is_a_wait_until_the_end(
    tmp_path: Path, status: str, waiting: str, expected: Waiting | None
) -> None:
    put(tmp_path, beat(status=status, waiting=waiting))
    assert only(tmp_path).waiting == expected


def test_no_lease_is_longer_than_the_longest(tmp_path: Path) -> None:
    put(tmp_path, beat(busy_until=WALL + 1e7))
    source = BeatSource(str(tmp_path), BeatOptions(lease_max=60))
    (run,) = source.look(reading()).changed
    assert run.tasks[0].lease == Lease(60.0)


def test_a_lease_that_is_over_is_none(tmp_path: Path) -> None:
    put(tmp_path, beat(busy_until=WALL - 5))
    assert only(tmp_path).lease is None


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["queued"], RunStatus.QUEUED),
        (["queued", "completed"], RunStatus.RUNNING),
        (["running", "failed"], RunStatus.RUNNING),
        (["waiting", "completed"], RunStatus.RUNNING),
        (["completed", "failed"], RunStatus.FAILED),
        (["cancelled", "skipped"], RunStatus.CANCELLED),
        (["cancelled", "completed"], RunStatus.COMPLETED),
        (["completed", "skipped"], RunStatus.COMPLETED),
    ],
)
def test_a_run_is_what_its_tasks_are(tmp_path: Path, statuses: list[str], expected: RunStatus) -> None:
    for number, status in enumerate(statuses):
        put(tmp_path, beat(task=f"t{number}", status=status), task=f"t{number}")
    (run,) = look_at(tmp_path).changed
    assert run.status is expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"v": 2},
        {"v": "1"},
        {"seq": "1"},
        {"seq": -1},
        {"at": "yesterday"},
        {"at": 1795222000},
        {"status": "dancing"},
        {"attempt": 0},
        {"busy_seconds": -1},
        {"busy_seconds": "long"},
        {"waiting": "godot"},
        {"pid": 0},
        {"pid": True},
        {"start_ticks": -1},
        {"usage": {"input": -1}},
        {"usage": []},
        {"tool": 7},
        {"run": None},
    ],
    ids=str,
)
def test_a_wrong_field_makes_it_no_beat(tmp_path: Path, wrong: dict[str, Any]) -> None:
    put(tmp_path, json.dumps(json.loads(beat()) | wrong).encode())
    look = look_at(tmp_path)
    assert look.changed == ()
    assert look.reads == {ReadResult.INVALID: 1}
    assert [each.data for each in look.happenings] == [{"reason": "malformed"}]


@pytest.mark.parametrize("missing", ["v", "run", "task", "seq", "at"])
def test_a_required_field_cannot_be_left_out(missing: str) -> None:
    value = json.loads(beat())
    del value[missing]
    assert decode_beat(json.dumps(value).encode()).result is ReadResult.INVALID


def test_a_beat_that_names_another_worker_is_refused(tmp_path: Path) -> None:
    put(tmp_path, beat(task="other"))
    assert look_at(tmp_path).reads == {ReadResult.REFUSED: 1}


@pytest.mark.parametrize("name", ["../t", "a/b", "", ".hidden", "x" * 129, "a\0b", "naïve", "t\n"])
@pytest.mark.parametrize("field", ["run", "task"])
def test_no_id_reaches_out_of_the_root(field: str, name: str) -> None:
    with pytest.raises(ValueError, match=field):
        beat_path("/beats", **{"run": "r", "task": "t"} | {field: name})
    with pytest.raises(ValueError, match=field):
        beat(**{field: name})


@pytest.mark.parametrize(
    "wrong", [{"status": "dancing"}, {"waiting": "godot"}, {"attempt": 0}, {"progress": object()}]
)
def test_what_a_reader_would_refuse_is_not_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no beat can be made"):
        beat(**wrong)


def test_beats_that_cannot_be_right_are_told(tmp_path: Path) -> None:
    source = BeatSource(str(tmp_path))
    told = []
    for data in (beat(seq=5), beat(seq=3), beat(seq=6, at=WALL + 3600), b"{}"):
        put(tmp_path, data)
        told += [each.data["reason"] for each in source.look(reading()).happenings]
    assert told == ["regressed", "future", "malformed"]


def test_a_new_process_may_count_from_the_beginning(tmp_path: Path) -> None:
    source = BeatSource(str(tmp_path))
    for data in (beat(seq=5, pid=1), beat(seq=1, pid=2)):
        put(tmp_path, data)
        assert source.look(reading()).happenings == ()


def test_a_bad_beat_leaves_the_other_workers_of_its_run_known(tmp_path: Path) -> None:
    source = BeatSource(str(tmp_path))
    put(tmp_path, beat(task="a"), task="a")
    put(tmp_path, b"{", task="never-a-beat")
    put(tmp_path, beat(task="b"), task="b")
    look = source.look(reading())
    assert [task.task_id for run in look.changed for task in run.tasks] == ["a", "b"]
    assert (look.unread, look.unread_tasks, look.reads[ReadResult.TORN]) == ({}, {}, 1)
    put(tmp_path, b"{", task="b")
    look = source.look(reading())
    assert (look.unread, look.unread_tasks) == ({}, {("r", "b"): ReadResult.TORN})


def test_temporary_files_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path, beat())
    for name in (".t.json", ".t.123.tmp", "t.json.tmp", "notes.txt"):
        (tmp_path / "r" / name).write_text("garbage")
    look = look_at(tmp_path)
    assert (len(look.changed), look.unread, look.complaints) == (1, {}, ())


def test_a_worker_whose_file_is_removed_is_no_longer_of_its_run(tmp_path: Path) -> None:
    source = BeatSource(str(tmp_path))
    put(tmp_path, beat(task="a"), task="a")
    put(tmp_path, beat(task="b"), task="b")
    source.look(reading())
    (tmp_path / "r" / "a.json").unlink()
    (run,) = source.look(reading()).changed
    assert [task.task_id for task in run.tasks] == ["b"]
    (tmp_path / "r" / "b.json").unlink()
    assert source.look(reading()).vanished == ("r",)


def test_too_many_tasks_are_capped_and_told(tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path, beat(task=f"t{number}"), task=f"t{number}")
    source = BeatSource(str(tmp_path), BeatOptions(tasks_max=3))
    look = source.look(reading())
    assert [len(run.tasks) for run in look.changed] == [3]
    assert len(look.complaints) == 1


@given(st.sampled_from(STATUSES), st.integers(0, 2**40), st.integers(1, 99), st.floats(0, 4e9))
def test_every_beat_that_can_be_written_can_be_read(status: str, seq: int, attempt: int, at: float) -> None:
    decoded = decode_beat(beat(status=status, seq=seq, attempt=attempt, at=at))
    assert decoded.beat is not None
    assert (decoded.beat.status, decoded.beat.seq, decoded.beat.attempt) == (status, seq, attempt)
    assert decoded.at == pytest.approx(at, abs=0.002)


@given(st.binary(max_size=120))
def test_no_bytes_raise(data: bytes) -> None:
    decode_beat(data)


def test_the_writer_in_the_reference_writes_beats(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    assert code is not None
    script = tmp_path / "writer.py"
    script.write_text(code[1])
    runpy.run_path(str(script))["beat"](tmp_path / "beats", "nightly", "build", 1, progress=3)
    task = only(tmp_path / "beats")
    assert (task.task_id, task.status_text) == ("build", "running")


def test_the_example_in_the_reference_is_a_beat() -> None:
    example = re.search(r"```json\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    assert example is not None
    assert decode_beat(example[1].encode()).result is ReadResult.OK


@pytest.mark.parametrize("options", [{"file_max": 1}, {"tasks_max": 0}, {"lease_max": 0}, {"relist_every": 0}])
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        BeatOptions(**options)
