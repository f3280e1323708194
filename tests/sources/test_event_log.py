"""The event log of a run: each event once, through compaction, rotation and floods."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.model.look import Happening, Look
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.tally import HAPPENINGS_PER_RUN
from tests.sources.crew_folder import OTHER, RUN, CrewFolder, event, reading, task


class Stage:
    """A project with one live run, and a source that has looked at it once."""

    def __init__(self, folder: Path, status: str = "running") -> None:
        self.crew = CrewFolder(folder)
        self.crew.run(status=status)
        self.crew.tasks(task())
        self.source = PiCrewSource(str(folder), PiCrewOptions(side_files_every=1))
        self.source.look(reading())
        self.source.look(reading())

    def look(self) -> Look:
        return self.source.look(reading())

    def seqs(self) -> list[int | None]:
        return [happening.seq for _ in range(3) for happening in self.look().happenings]

    def append(self, *seqs: int, **data: Any) -> None:
        self.crew.append(RUN, "events.jsonl", *(event(seq, **data) for seq in seqs))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_each_event_is_told_once(stage: Stage) -> None:
    stage.append(1, 2)
    assert stage.seqs() == [1, 2]
    stage.append(3)
    assert stage.seqs() == [3]


def test_an_event_keeps_what_it_says(stage: Stage) -> None:
    stage.crew.append(RUN, "events.jsonl", event(4, "crew.task.retry_attempt", attempt=1) | {"message": "again"})
    (told,) = stage.look().happenings
    assert told == Happening(
        RUN, "01_explore", "crew.task.retry_attempt", 4, reading().wall, {"attempt": 1, "message": "again"}
    )


def test_sequence_numbers_may_have_holes_and_stand_in_any_order(stage: Stage) -> None:
    stage.append(10, 7, 12, 8)
    assert stage.seqs() == [10, 7, 12, 8]


def test_an_event_written_twice_is_told_once(stage: Stage) -> None:
    stage.append(1, 2, 3, 2, 3)
    assert stage.seqs() == [1, 2, 3]


def test_a_compacted_log_tells_nothing_again_and_loses_nothing(stage: Stage) -> None:
    stage.append(*range(1, 1501))
    stage.seqs()
    stage.append(1501)
    stage.crew.compact(RUN, 1000)
    stage.append(1502)
    assert stage.seqs() == [1501, 1502]


def test_a_compacted_log_without_numbers_tells_nothing_again(stage: Stage) -> None:
    stage.crew.append(RUN, "events.jsonl", *(event(None) for _ in range(20)))
    assert len(stage.seqs()) == 20
    stage.crew.compact(RUN, 10)
    assert stage.seqs() == []


def test_a_rotated_log_is_read_to_its_end_under_its_new_name(stage: Stage) -> None:
    stage.append(1, 2)
    stage.seqs()
    stage.append(3, 4)
    stage.crew.rotate(RUN)
    stage.append(5)
    assert stage.seqs() == [3, 4, 5]


def test_a_rotated_log_without_numbers_is_read_on(stage: Stage) -> None:
    stage.crew.append(RUN, "events.jsonl", event(None))
    stage.seqs()
    stage.crew.rotate(RUN)
    stage.crew.append(RUN, "events.jsonl", event(None))
    assert stage.seqs() == [None]


def test_lines_that_are_no_events_are_dropped_and_counted(stage: Stage) -> None:
    log = stage.crew.folder() / "events.jsonl"
    log.write_bytes(b'not json\n[1]\n{"type":7}\n\n' + json.dumps(event(1)).encode() + b"\n")
    look = stage.look()
    assert [happening.seq for happening in look.happenings] == [1]
    assert look.happenings_dropped == 3


def test_a_flood_is_capped_and_counted_and_harms_no_neighbour(stage: Stage) -> None:
    stage.crew.run(OTHER)
    stage.look()
    stage.crew.append(OTHER, "events.jsonl", event(1))
    stage.append(*range(1, 2001))
    look = stage.look()
    told = [happening.run_id for happening in look.happenings]
    assert told.count(RUN) == HAPPENINGS_PER_RUN
    assert told.count(OTHER) == 1
    assert look.happenings_dropped == 2000 - HAPPENINGS_PER_RUN


def test_the_history_of_an_ended_run_is_not_told(tmp_path: Path) -> None:
    crew = CrewFolder(tmp_path)
    crew.run(status="completed")
    crew.append(RUN, "events.jsonl", event(1), event(2))
    source = PiCrewSource(str(tmp_path), PiCrewOptions(relist_every=2))
    assert [look.happenings for look in (source.look(reading()) for _ in range(6))] == [()] * 6


def test_the_history_of_a_run_that_lived_before_is_no_progress(tmp_path: Path) -> None:
    crew = CrewFolder(tmp_path)
    crew.run()
    crew.tasks(task())
    crew.append(RUN, "events.jsonl", *(event(seq) for seq in range(1, 4)))
    source = PiCrewSource(str(tmp_path))
    source.look(reading())
    look = source.look(reading())
    assert len(look.happenings) == 3
    assert look.changed == ()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 30)),
        st.tuples(st.just("compact"), st.integers(10, 40)),
        st.tuples(st.just("rotate"), st.just(0)),
        st.tuples(st.just("torn"), st.just(0)),
        st.tuples(st.just("look"), st.just(0)),
    ),
    max_size=25,
)


@given(operations=OPERATIONS)
@settings(deadline=None, max_examples=60)
def test_each_event_is_told_once_whatever_becomes_of_the_log(operations: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder))
        stage.append(1)
        written = 1
        told = stage.seqs()
        for what, size in operations:
            if what == "append":
                stage.append(*range(written + 1, written + size + 1))
                written += size
            elif what == "torn":
                written += 1
                line = json.dumps(event(written)).encode() + b"\n"
                with (stage.crew.folder() / "events.jsonl").open("ab") as log:
                    log.write(line[: len(line) // 2])
                told += stage.seqs()
                with (stage.crew.folder() / "events.jsonl").open("ab") as log:
                    log.write(line[len(line) // 2 :])
            elif what == "look":
                told += stage.seqs()
            else:
                # What is cut off, or moved aside twice, before anyone looked is lost to everyone.
                told += stage.seqs()
                if what == "compact":
                    stage.crew.compact(RUN, size)
                else:
                    stage.append(written + 1)
                    written += 1
                    stage.crew.rotate(RUN)
                    told += stage.seqs()
        told += stage.seqs()
        stage.source.close()
        assert told == list(range(1, written + 1))
