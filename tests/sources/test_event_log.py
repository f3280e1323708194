"""The event log of a run: each event once, through compaction, rotation and floods."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.engine.intake import ANNOUNCED
from crewd.model.look import Happening, Look
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.pi_crew.event_log import TOLD
from crewd.sources.tally import HAPPENINGS_PER_RUN
from tests.sources.crew_folder import OTHER, RUN, CrewFolder, event, reading, task

RETRY, PROGRESS = "crew.task.retry_attempt", "task.progress"  # one that is told, one that is only counted


class Stage:
    """A project with one live run, and a source that has looked at it once. `kind` is the type of its events."""

    def __init__(self, folder: Path, status: str = "running", kind: str = RETRY) -> None:
        self.kind = kind
        self.counted = 0
        self.crew = CrewFolder(folder)
        self.crew.run(status=status)
        self.crew.tasks(task())
        self.source = PiCrewSource(str(folder), PiCrewOptions(side_files_every=1))
        self.source.look(reading())
        self.source.look(reading())

    def look(self) -> Look:
        look = self.source.look(reading())
        self.counted += look.happenings_counted
        return look

    def seqs(self) -> list[int | None]:
        return [happening.seq for _ in range(3) for happening in self.look().happenings]

    def append(self, *seqs: int, **data: Any) -> None:
        self.crew.append(RUN, "events.jsonl", *(event(seq, self.kind, **data) for seq in seqs))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_each_event_is_told_once(stage: Stage) -> None:
    stage.append(1, 2)
    assert stage.seqs() == [1, 2]
    stage.append(3)
    assert stage.seqs() == [3]


def test_all_that_the_engine_acts_upon_is_told() -> None:
    assert ANNOUNCED.keys() <= TOLD


def test_an_event_that_nobody_acts_upon_is_counted_once_and_not_told(stage: Stage) -> None:
    stage.kind = PROGRESS
    stage.append(1, 2, 2)
    assert (stage.seqs(), stage.counted) == ([], 2)
    stage.append(3)
    stage.crew.compact(RUN, 2)
    assert (stage.seqs(), stage.counted) == ([], 3)


def test_a_flood_of_what_is_counted_crowds_out_nothing_that_is_told(stage: Stage) -> None:
    stage.crew.append(RUN, "events.jsonl", *(event(seq, PROGRESS) for seq in range(1, 2001)))
    stage.append(2001)
    look = stage.look()
    assert [each.seq for each in look.happenings] == [2001]
    assert look.happenings_counted == HAPPENINGS_PER_RUN
    assert look.happenings_dropped == 2000 - HAPPENINGS_PER_RUN


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
    stage.crew.append(RUN, "events.jsonl", *(event(None, RETRY) for _ in range(20)))
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
    stage.crew.append(RUN, "events.jsonl", event(None, RETRY))
    stage.seqs()
    stage.crew.rotate(RUN)
    stage.crew.append(RUN, "events.jsonl", event(None, RETRY))
    assert stage.seqs() == [None]


def test_lines_that_are_no_events_are_dropped_and_counted(stage: Stage) -> None:
    log = stage.crew.folder() / "events.jsonl"
    log.write_bytes(b'not json\n[1]\n{"type":7}\n\n' + json.dumps(event(1, RETRY)).encode() + b"\n")
    look = stage.look()
    assert [happening.seq for happening in look.happenings] == [1]
    assert look.happenings_dropped == 3


def test_a_flood_is_capped_and_counted_and_harms_no_neighbour(stage: Stage) -> None:
    stage.crew.run(OTHER)
    stage.look()
    stage.crew.append(OTHER, "events.jsonl", event(1, RETRY))
    stage.append(*range(1, 2001))
    look = stage.look()
    told = [happening.run_id for happening in look.happenings]
    assert told.count(RUN) == HAPPENINGS_PER_RUN
    assert told.count(OTHER) == 1
    assert look.happenings_dropped == 2000 - HAPPENINGS_PER_RUN


def test_the_history_of_an_ended_run_is_not_told(tmp_path: Path) -> None:
    crew = CrewFolder(tmp_path)
    crew.run(status="completed")
    crew.append(RUN, "events.jsonl", event(1, RETRY), event(2))
    source = PiCrewSource(str(tmp_path), PiCrewOptions(relist_every=2))
    looks = [source.look(reading()) for _ in range(6)]
    assert [(look.happenings, look.happenings_counted) for look in looks] == [((), 0)] * 6


def test_the_history_of_a_run_that_lived_before_is_no_progress(tmp_path: Path) -> None:
    crew = CrewFolder(tmp_path)
    crew.run()
    crew.tasks(task())
    crew.append(RUN, "events.jsonl", *(event(seq) for seq in range(1, 4)), event(4, RETRY))
    source = PiCrewSource(str(tmp_path))
    source.look(reading())
    look = source.look(reading())
    assert (len(look.happenings), look.happenings_counted) == (1, 3)
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


@given(operations=OPERATIONS, kind=st.sampled_from([RETRY, PROGRESS]))
@settings(deadline=None, max_examples=80)
def test_each_event_is_told_once_whatever_becomes_of_the_log(operations: list[tuple[str, int]], kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), kind=kind)
        stage.append(1)
        written = 1
        told = stage.seqs()
        for what, size in operations:
            if what == "append":
                stage.append(*range(written + 1, written + size + 1))
                written += size
            elif what == "torn":
                written += 1
                line = json.dumps(event(written, kind)).encode() + b"\n"
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
        if kind == RETRY:
            assert (told, stage.counted) == (list(range(1, written + 1)), 0)
        else:
            assert (told, stage.counted) == ([], written)
