"""A source that looked at everything as it came knows what one that looks for the first time finds."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crewd.host.files import is_fresh, signature
from crewd.model.look import Look
from crewd.model.run import Run
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.tally import LETTERS_MAX
from tests.sources.crew_folder import OTHER, RUN, CrewFolder, at, event, reading, task

EVERY = 4
LONG_AGO = 1_700_000_000


class Two:
    """A crew folder with two runs, and a source that has looked until nothing is fresh any more."""

    def __init__(self, folder: Path) -> None:
        self.crew = CrewFolder(folder)
        for run_id in (RUN, OTHER):
            self.crew.run(run_id)
            self.crew.tasks(task(), task("02_build"), run_id=run_id)
        self.source = PiCrewSource(str(folder), PiCrewOptions(side_files_every=EVERY, relist_every=EVERY + 1))
        self.known: dict[str, Run] = {}
        self.time = LONG_AGO
        self.settle()

    def look(self) -> Look:
        look = self.source.look(reading())
        self.known |= {run.run_id: run for run in look.changed}
        for run_id in look.vanished:
            del self.known[run_id]
        return look

    def settle(self) -> None:
        """Let all that was written be old, and look until every rarer check was made."""
        self.time += 60
        for path in self.crew.runs.rglob("*"):
            if path.stat().st_mtime > self.time or path.is_dir():
                os.utime(path, (self.time, self.time))
        for _ in range(EVERY + 2):
            self.look()

    def fresh(self) -> dict[str, Run]:
        source = PiCrewSource(str(self.crew.project), PiCrewOptions(side_files_every=EVERY))
        found = {run.run_id: run for run in source.look(reading()).changed}
        source.close()
        return found


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


def without_moves(runs: dict[str, Run]) -> dict[str, Run]:
    """Leave out the part of the tokens that says how often crewd itself saw something."""
    return {
        run_id: msgspec.structs.replace(
            run, tasks=tuple(msgspec.structs.replace(each, token=each.token[:2]) for each in run.tasks)
        )
        for run_id, run in runs.items()
    }


CHANGES: dict[str, Callable[[CrewFolder, str, int], object]] = {
    "manifest": lambda crew, run_id, number: crew.run(run_id, goal=f"goal {number}"),
    "manifest in place": lambda crew, run_id, number: (crew.folder(run_id) / "manifest.json").write_text(
        crew.run(run_id).read_text().replace("test", f"goal of {number}")
    ),
    "tasks": lambda crew, run_id, number: crew.tasks(task(seen=number), task("02_build"), run_id=run_id),
    "tasks in place": lambda crew, run_id, number: (crew.folder(run_id) / "tasks.json").write_text(
        json.dumps([task(), task("02_build", jsonEvents=number)])
    ),
    "fewer tasks": lambda crew, run_id, number: crew.tasks(task(seen=number), run_id=run_id),
    "output": lambda crew, run_id, number: (
        crew.append(run_id, "agents/01_explore/output.log", {"n": number})
        if (crew.folder(run_id) / "agents/01_explore").is_dir()
        else crew.write(run_id, "agents/01_explore/output.log", "first")
    ),
    "event": lambda crew, run_id, number: crew.append(run_id, "events.jsonl", event(number + 1)),
    "ended": lambda crew, run_id, number: crew.run(run_id, status="completed", updatedAt=at(number)),
    "owner": lambda crew, run_id, number: crew.write(
        run_id,
        "ownership-map.json",
        json.dumps({"entries": {"01_explore": {"pid": 100 + number, "updatedAt": at(0)}}}),
    ),
    "runner": lambda crew, run_id, number: crew.write(
        run_id, "async.pid", json.dumps({"pid": 100 + number, "startedAt": at(number)})
    ),
}
STEPS = st.lists(
    st.tuples(st.sampled_from(sorted(CHANGES)), st.sampled_from([RUN, OTHER]), st.booleans()), max_size=12
)


@given(steps=STEPS)
@settings(deadline=None, max_examples=80)
def test_what_was_learnt_bit_by_bit_is_what_a_first_look_finds(steps: list[tuple[str, str, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        two = Two(Path(folder))
        for number, (what, run_id, looks) in enumerate(steps):
            CHANGES[what](two.crew, run_id, number)
            if looks:
                two.look()
        two.settle()
        two.source.close()
        assert without_moves(two.known) == without_moves(two.fresh())


@pytest.mark.parametrize(
    "what", ["manifest", "manifest in place", "tasks", "tasks in place", "fewer tasks", "event", "ended"]
)
def test_what_tells_of_life_or_of_an_end_is_seen_in_the_next_look(two: Two, what: str) -> None:
    CHANGES["event"](two.crew, RUN, 1)
    two.settle()
    CHANGES[what](two.crew, RUN, 9)
    assert [run.run_id for run in two.look().changed] == [RUN]


def test_a_worker_that_only_writes_its_own_output_is_heard_in_every_look(two: Two) -> None:
    CHANGES["output"](two.crew, RUN, 0)
    two.settle()
    for number in range(1, 2 * EVERY):
        CHANGES["output"](two.crew, RUN, number)
        assert [run.run_id for run in two.look().changed] == [RUN]


@pytest.mark.parametrize("what", ["owner", "runner"])
@pytest.mark.parametrize("turns", range(EVERY))
def test_a_small_file_that_appears_or_changes_alone_is_seen_within_its_turn(two: Two, what: str, turns: int) -> None:
    for number in (1, 2):
        for _ in range(turns):
            two.look()
        CHANGES[what](two.crew, RUN, number)
        assert [run.run_id for _ in range(EVERY) for run in two.look().changed] == [RUN]
        two.settle()


def test_a_small_file_rewritten_in_place_is_seen_within_its_turn(two: Two) -> None:
    CHANGES["runner"](two.crew, RUN, 1)
    two.settle()
    (two.crew.folder() / "async.pid").write_text(json.dumps({"pid": 7, "startedAt": at(99)}))
    (run,) = [run for _ in range(EVERY) for run in two.look().changed]
    assert run.runner is not None and run.runner.pid == 7


def test_a_dead_letter_that_is_written_alone_is_told_within_its_turn(two: Two) -> None:
    letter = {"taskId": "01_explore", "runId": RUN, "reason": "max-retries", "attempts": 3, "timestamp": at(0)}
    for number in range(3):
        two.crew.append(RUN, "deadletter.jsonl", letter | {"timestamp": at(number)})
        assert len([each for _ in range(EVERY) for each in two.look().letters]) == 1
        two.settle()


def test_a_small_file_that_appears_in_the_moment_of_a_look_is_seen_within_its_turn(two: Two) -> None:
    folder = two.crew.folder()
    CHANGES["event"](two.crew, RUN, 0)
    two.settle()
    for number in range(1, 50):
        CHANGES["event"](two.crew, RUN, number)
        now = time.time_ns()
        os.utime(folder, ns=(now, now))
        two.look()
        seen = signature(str(folder))
        if seen is not None and is_fresh(seen):
            break
    CHANGES["runner"](two.crew, RUN, 1)
    os.utime(folder, ns=(now, now))  # as if both had been written in one tick of the kernel's clock
    assert [run.run_id for _ in range(EVERY) for run in two.look().changed if run.runner is not None] == [RUN]


def test_letters_for_which_a_look_had_no_room_are_told_in_the_next_turn(two: Two) -> None:
    letter = {"taskId": "01_explore", "runId": RUN, "reason": "max-retries", "attempts": 3}
    for run_id in (RUN, OTHER):
        two.crew.append(run_id, "deadletter.jsonl", *(letter | {"timestamp": at(n)} for n in range(LETTERS_MAX)))
    two.crew.tasks(task(seen=1))
    two.crew.tasks(task(seen=1), run_id=OTHER)
    told = [each.run_id for each in two.look().letters]
    assert len(set(told)) == 1
    two.time = LONG_AGO + 600
    for path in two.crew.runs.iterdir():
        os.utime(path, (two.time, two.time))
    told += [each.run_id for _ in range(EVERY) for each in two.look().letters]
    assert sorted(told) == sorted([RUN] * LETTERS_MAX + [OTHER] * LETTERS_MAX)


def test_a_run_that_ends_while_its_tasks_cannot_be_read_keeps_little(two: Two) -> None:
    two.crew.write(RUN, "tasks.json", "no tasks")
    two.crew.run(status="failed")
    (run,) = two.look().changed
    assert [(each.task_id, each.token, each.hint) for each in run.tasks] == [
        ("01_explore", (), ""),
        ("02_build", (), ""),
    ]
