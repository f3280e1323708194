"""What a look at a pi-crew root brings: differences only, and the facts that are easy to get wrong."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from crewd.model.look import Look, ReadResult
from crewd.model.run import Run, RunStatus, Task, TaskStatus
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from tests.sources.crew_folder import OTHER, RUN, CrewFolder, at, event, reading, task


@pytest.fixture
def crew(tmp_path: Path) -> CrewFolder:
    return CrewFolder(tmp_path / "shop")


@pytest.fixture
def source(crew: CrewFolder) -> PiCrewSource:
    return PiCrewSource(str(crew.project), PiCrewOptions(side_files_every=1))


def only(look: Look) -> Run:
    (run,) = look.changed
    return run


def first_task(look: Look) -> Task:
    return only(look).tasks[0]


def test_a_run_is_told_once_and_again_when_it_differs(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    crew.tasks(task())
    assert only(source.look(reading())).status is RunStatus.RUNNING
    assert source.look(reading()).changed == ()
    crew.run(status="completed")
    assert only(source.look(reading())).status is RunStatus.COMPLETED


def test_an_unchanged_run_is_counted_as_unchanged(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    crew.tasks(task())
    for _ in range(3):
        look = source.look(reading())
    assert look.reads == {ReadResult.UNCHANGED: 1}


def test_the_crew_is_named_after_its_project(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    assert only(source.look(reading())).crew == "shop"


def test_a_task_list_within_an_object_is_read_too(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    crew.write(RUN, "tasks.json", json.dumps({"schemaVersion": 2, "tasks": [task()]}))
    assert first_task(source.look(reading())).task_id == "01_explore"


@pytest.mark.parametrize(
    "change",
    [
        {"heartbeat": {"workerId": "x", "lastSeenAt": at(9), "alive": True}},
        {"agentProgress": {"lastActivityAt": at(9)}},
        {"agentProgress": {"toolCount": 9}},
        {"agentProgress": {"tokens": 9}},
        {"agentProgress": {"turns": 9}},
        {"checkpoint": {"phase": "child-stdout-final", "updatedAt": at(9)}},
        {"jsonEvents": 9},
        {"lifetimeUsage": {"input": 9}},
        {"attempts": [{}, {}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_token_changes_with_every_sign_of_work(
    crew: CrewFolder, source: PiCrewSource, change: dict[str, Any]
) -> None:
    crew.run()
    crew.tasks(task())
    before = first_task(source.look(reading())).token
    crew.tasks(task(**change) if "heartbeat" not in change else task() | change)
    assert first_task(source.look(reading())).token != before


def test_the_token_changes_with_the_workers_own_files(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    crew.tasks(task())
    crew.write(RUN, "agents/01_explore/output.log", "one")
    before = first_task(source.look(reading())).token
    crew.write(RUN, "agents/01_explore/output.log", "one more")
    assert first_task(source.look(reading())).token != before


def test_the_token_changes_with_an_event_of_the_task(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    crew.tasks(task())
    crew.append(RUN, "events.jsonl", event(1))
    before = first_task(source.look(reading())).token
    source.look(reading())
    crew.append(RUN, "events.jsonl", event(2))
    assert first_task(source.look(reading())).token != before


@pytest.mark.parametrize("kind", ["crew.task.heartbeat_dead", "task.attention", "policy.action", "mailbox.message"])
def test_what_others_write_about_a_task_is_no_sign_of_its_life(
    crew: CrewFolder, source: PiCrewSource, kind: str
) -> None:
    crew.run()
    crew.tasks(task())
    crew.append(RUN, "events.jsonl", event(1))
    source.look(reading())
    source.look(reading())
    crew.append(RUN, "events.jsonl", event(2, kind))
    look = source.look(reading())
    assert look.changed == ()
    assert look.happenings_counted == 1


def test_the_runners_heartbeat_is_no_sign_of_a_workers_life(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run(**{"async": {"pid": 7, "spawnedAt": at(-90)}})
    crew.tasks(task())
    crew.write(RUN, "heartbeat.json", json.dumps({"pid": 7, "at": 1_795_222_000_000}))
    source.look(reading())
    crew.write(RUN, "heartbeat.json", json.dumps({"pid": 7, "at": 1_795_222_015_000}))
    assert source.look(reading(15)).changed == ()


def test_a_heartbeat_of_the_same_session_is_no_news(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    crew.write(RUN, "heartbeat.json", json.dumps({"pid": 7, "at": 1_795_222_000_000}))
    source.look(reading())
    crew.write(RUN, "heartbeat.json", json.dumps({"pid": 7, "at": 1_795_222_060_000}))
    assert source.look(reading(60)).changed == ()


def test_a_growing_output_is_noticed_while_nothing_else_moves(crew: CrewFolder) -> None:
    source = PiCrewSource(str(crew.project), PiCrewOptions(side_files_every=1000))
    crew.run()
    crew.tasks(task())
    crew.write(RUN, "agents/01_explore/output.log", "one")
    for path in crew.folder().rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))  # what was written just now is read twice
    for _ in range(3):
        source.look(reading())
    crew.append(RUN, "agents/01_explore/output.log", {})
    assert len(source.look(reading()).changed) == 1


def test_a_dead_letter_is_told_once_although_its_file_is_rewritten(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    letter = {"taskId": "01_explore", "runId": RUN, "reason": "max-retries", "attempts": 3, "timestamp": at(0)}
    strange = letter | {"reason": "cosmic-ray", "taskId": "02_execute"}
    crew.append(RUN, "deadletter.jsonl", letter)
    told = list(source.look(reading()).letters)
    crew.write(RUN, "deadletter.jsonl", "".join(json.dumps(each) + "\n" for each in (letter, strange)))
    told += source.look(reading()).letters
    assert [(each.task_id, each.reason, each.words) for each in told] == [
        ("01_explore", "max-retries", "max-retries"),
        ("02_execute", "not-retryable", "cosmic-ray"),
    ]


def test_the_newest_written_time_is_shown_whichever_clock_wrote_it(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    crew.tasks(task(seen=-30, agentProgress={"lastActivityAt": at(-5)}, checkpoint={"updatedAt": at(-20)}))
    assert first_task(source.look(reading())).beat_at == pytest.approx(reading(-5).wall)


@pytest.mark.parametrize(
    ("heartbeat", "reason"),
    [
        ({"lastSeenAt": at(3600)}, "future"),
        ({"lastSeenAt": at(-3600)}, "regressed"),
        ({"lastSeenAt": 7}, "malformed"),
    ],
)
def test_a_heartbeat_that_cannot_be_right_is_told_once(
    crew: CrewFolder, source: PiCrewSource, heartbeat: dict[str, Any], reason: str
) -> None:
    crew.run()
    crew.tasks(task())
    source.look(reading())
    crew.tasks(task() | {"heartbeat": heartbeat})
    look = source.look(reading())
    assert [each.data for each in look.happenings] == [{"reason": reason}]
    assert look.happenings[0].type == "crewd.heartbeat_rejected"
    beat_at = first_task(look).beat_at
    assert beat_at is None or beat_at <= reading().wall
    crew.tasks(task(jsonEvents=1) | {"heartbeat": heartbeat})
    assert source.look(reading()).happenings == ()


def test_a_redacted_number_counts_as_absent(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    crew.tasks(task(lifetimeUsage={"input": "***", "output": 12}))
    used = first_task(source.look(reading())).usage
    assert used is not None and (used.input, used.output) == (0, 12)


def test_the_sum_over_all_calls_outweighs_the_last_call(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run()
    crew.tasks(task(lifetimeUsage={"input": 1489, "output": 90}, usage={"input": 747, "output": 60, "cost": 0.5}))
    used = first_task(source.look(reading())).usage
    assert used is not None and (used.input, used.output, used.cost_usd) == (1489, 90, None)


@pytest.mark.parametrize("status", [status.value for status in TaskStatus if status is not TaskStatus.UNKNOWN])
def test_every_task_status_is_known(crew: CrewFolder, source: PiCrewSource, status: str) -> None:
    crew.run()
    crew.tasks(task(status=status))
    assert first_task(source.look(reading())).status.value == status


@pytest.mark.parametrize("status", [status.value for status in RunStatus if status is not RunStatus.UNKNOWN])
def test_every_run_status_is_known(crew: CrewFolder, source: PiCrewSource, status: str) -> None:
    crew.run(status=status)
    assert only(source.look(reading())).status.value == status


def test_unknown_words_are_kept_and_counted_once(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run(status="dreaming", mood={"deep": True})
    crew.tasks(task(status="napping", pillow="soft"))
    look = source.look(reading())
    run = only(look)
    assert (run.status, run.status_text) == (RunStatus.UNKNOWN, "dreaming")
    assert (run.tasks[0].status, run.tasks[0].status_text) == (TaskStatus.UNKNOWN, "napping")
    assert run.extra == {"mood": '{"deep":true}'}
    assert run.tasks[0].extra == {"pillow": '"soft"'}
    assert (look.unknown_fields, look.unknown_statuses) == (2, 2)
    crew.tasks(task(status="napping", pillow="soft", seen=5))
    again = source.look(reading())
    assert (again.unknown_fields, again.unknown_statuses) == (0, 0)


def test_unknown_fields_are_kept_within_a_cap(crew: CrewFolder, source: PiCrewSource) -> None:
    crew.run(**{f"field{number}": "x" * 1000 for number in range(20)})
    extra = only(source.look(reading())).extra
    assert sum(len(name) + len(value) for name, value in extra.items()) <= 4096


class TestWhoseProcessItIs:
    def test_a_worker_is_claimed_by_its_checkpoint(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run()
        crew.tasks(task(checkpoint={"phase": "child-spawned", "updatedAt": at(-70), "childPid": 42}))
        claim = first_task(source.look(reading())).claim
        assert claim is not None
        assert (claim.pid, claim.role, claim.marks) == (42, "worker", ())
        assert claim.recorded_at == pytest.approx(reading(-70).wall)

    def test_a_worker_is_claimed_by_the_ownership_map_where_no_checkpoint_names_it(
        self, crew: CrewFolder, source: PiCrewSource
    ) -> None:
        crew.run()
        crew.tasks(task())
        source.look(reading())
        entry = {"taskId": "01_explore", "pid": 43, "updatedAt": at(-60)}
        crew.write(RUN, "ownership-map.json", json.dumps({"version": 1, "entries": {"01_explore": entry}}))
        claim = first_task(source.look(reading())).claim
        assert claim is not None and (claim.pid, claim.marks) == (43, (RUN,))

    def test_what_a_former_attempt_recorded_claims_nothing(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run()
        entry = {"pid": 43, "updatedAt": at(-500)}
        crew.write(RUN, "ownership-map.json", json.dumps({"version": 1, "entries": {"01_explore": entry}}))
        crew.tasks(task(checkpoint={"phase": "started", "updatedAt": at(-400), "childPid": 42}))
        assert first_task(source.look(reading())).claim is None

    def test_a_runner_stands_in_for_a_worker_without_a_pid(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run(**{"async": {"pid": 7, "spawnedAt": at(-90)}})
        crew.tasks(task())
        claim = first_task(source.look(reading())).claim
        assert claim is not None and (claim.pid, claim.role, claim.marks) == (7, "runner", (RUN,))

    def test_a_runner_stands_in_for_a_worker_that_has_done_its_part(
        self, crew: CrewFolder, source: PiCrewSource
    ) -> None:
        crew.run(**{"async": {"pid": 7, "spawnedAt": at(-90)}})
        crew.tasks(task(checkpoint={"phase": "artifact-written", "updatedAt": at(-1), "childPid": 42}))
        claim = first_task(source.look(reading())).claim
        assert claim is not None and claim.role == "runner"

    def test_a_runner_started_anew_outweighs_the_manifest(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run(**{"async": {"pid": 7, "spawnedAt": at(-90)}})
        crew.write(RUN, "async.pid", json.dumps({"pid": 8, "startedAt": at(-10)}))
        runner = only(source.look(reading())).runner
        assert runner is not None and runner.pid == 8

    def test_a_session_in_the_foreground_is_known_by_its_heartbeat_and_carries_no_mark(
        self, crew: CrewFolder, source: PiCrewSource
    ) -> None:
        crew.run()
        crew.write(RUN, "heartbeat.json", json.dumps({"pid": 9, "at": 1_795_221_990_000, "kind": "team-runner"}))
        runner = only(source.look(reading())).runner
        assert runner is not None and (runner.pid, runner.marks, runner.role) == (9, (), "runner")
        assert runner.recorded_at == pytest.approx(reading(-10).wall)

    def test_where_no_pid_is_written_nothing_is_claimed(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run()
        crew.tasks(task())
        assert first_task(source.look(reading())).claim is None

    def test_only_tasks_at_work_claim_a_process(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run(**{"async": {"pid": 7, "spawnedAt": at(-90)}})
        crew.tasks(task(status="queued"), task("02_execute", status="completed"))
        assert [each.claim for each in only(source.look(reading())).tasks] == [None, None]


class TestComingAndGoing:
    def test_a_removed_run_has_vanished(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run()
        crew.run(OTHER)
        source.look(reading())
        shutil.rmtree(crew.folder())
        look = source.look(reading())
        assert look.vanished == (RUN,)
        assert source.look(reading()).vanished == ()

    def test_a_run_that_appears_later_is_found(self, crew: CrewFolder, source: PiCrewSource) -> None:
        source.look(reading())
        crew.run()
        assert only(source.look(reading())).run_id == RUN

    def test_a_folder_without_a_manifest_is_no_run_yet(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.folder().mkdir()
        look = source.look(reading())
        assert (look.changed, look.unread, look.complaints) == ((), {}, ())
        shutil.rmtree(crew.folder())
        assert source.look(reading()).vanished == ()

    def test_a_manifest_set_aside_is_invalid_and_not_gone(self, crew: CrewFolder, source: PiCrewSource) -> None:
        path = crew.run()
        source.look(reading())
        path.rename(path.with_name("manifest.json.corrupt-1795222000000"))
        look = source.look(reading())
        assert look.unread == {RUN: ReadResult.INVALID}
        assert look.vanished == ()

    def test_a_manifest_that_is_missing_for_a_moment_is_no_news(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run().unlink()
        crew.run()
        source.look(reading())
        (crew.folder() / "manifest.json").unlink()
        look = source.look(reading())
        assert look.unread == {RUN: ReadResult.MISSING}
        assert look.vanished == ()

    def test_a_root_that_is_gone_says_nothing_of_its_runs(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run()
        source.look(reading())
        crew.project.rename(crew.project.with_name("away"))
        look = source.look(reading())
        assert (look.complete, look.vanished) == (False, ())
        crew.project.with_name("away").rename(crew.project)
        assert source.look(reading()).complete

    def test_runs_beneath_crew_and_pi_teams_are_one_set(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run()
        other = CrewFolder(crew.project, ".pi/teams")
        other.run(OTHER)
        other.run(RUN, status="failed")
        look = source.look(reading())
        assert {run.run_id: run.status_text for run in look.changed} == {RUN: "running", OTHER: "running"}
        assert look.reads[ReadResult.REFUSED] == 1

    def test_an_ended_run_that_is_resumed_lives_again(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run(status="failed")
        crew.tasks(task(status="failed"))
        crew.append(RUN, "events.jsonl", event(1, "crew.task.retry_attempt"))
        for _ in range(10):
            source.look(reading())
        crew.append(RUN, "events.jsonl", event(2, "crew.task.retry_attempt"), event(3, "run.running"))
        crew.run()
        crew.tasks(task())
        look = source.look(reading())
        assert only(look).tasks[0].status is TaskStatus.RUNNING
        assert [each.seq for each in look.happenings] == [2]
        assert look.happenings_counted == 1

    def test_a_late_write_to_an_ended_run_is_found_in_the_end(self, crew: CrewFolder) -> None:
        source = PiCrewSource(str(crew.project), PiCrewOptions(relist_every=5))
        crew.run(status="completed")
        crew.tasks(task(status="running"))
        source.look(reading())
        crew.tasks(task(status="completed"))
        looks = [source.look(reading()) for _ in range(4)]
        # Until the thorough look it is looked at by its manifest alone: there may be thousands of them.
        assert [[run.tasks[0].status for run in look.changed] for look in looks] == [
            [],
            [],
            [],
            [TaskStatus.COMPLETED],
        ]

    def test_an_ended_run_keeps_little(self, crew: CrewFolder, source: PiCrewSource) -> None:
        crew.run(status="failed", surprise=1, goal="g" * 5000)
        crew.tasks(task(status="failed", error="e" * 5000, surprise=1))
        run = only(source.look(reading()))
        kept = run.tasks[0]
        assert (run.extra, kept.extra, kept.hint, kept.token, kept.claim) == ({}, {}, "", (), None)
        assert len(run.goal) <= 256 and len(kept.error) <= 512


class TestTheIndexOfActiveRuns:
    USER = ".pi/agent/extensions/pi-crew"

    def index(self, home: Path, *folders: Path) -> None:
        entries = [{"runId": folder.name, "stateRoot": str(folder), "updatedAt": at(0)} for folder in folders]
        path = home / self.USER / "state" / "runs" / "active-run-index.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entries))

    def source(self, home: Path, own: bool = True) -> PiCrewSource:
        return PiCrewSource(str(home / self.USER), PiCrewOptions(is_own_folder=lambda folder: own))

    def test_a_run_elsewhere_that_the_index_names_is_followed(self, crew: CrewFolder, tmp_path: Path) -> None:
        crew.run()
        self.index(tmp_path, crew.folder())
        run = only(self.source(tmp_path).look(reading()))
        assert (run.run_id, run.crew, run.folder) == (RUN, "shop", str(crew.folder()))

    def test_it_is_followed_on_when_the_index_drops_it(self, crew: CrewFolder, tmp_path: Path) -> None:
        crew.run()
        self.index(tmp_path, crew.folder())
        source = self.source(tmp_path)
        source.look(reading())
        self.index(tmp_path)
        crew.run(status="completed")
        assert only(source.look(reading())).status is RunStatus.COMPLETED
        shutil.rmtree(crew.folder())
        assert source.look(reading()).vanished == (RUN,)

    def test_the_binary_index_is_preferred(self, crew: CrewFolder, tmp_path: Path) -> None:
        crew.run()
        self.index(tmp_path)
        entries = json.dumps([{"runId": RUN, "stateRoot": str(crew.folder())}]).encode()
        binary = tmp_path / self.USER / "state" / "runs" / "active-run-index.bin"
        binary.write_bytes(b"PICREW2BIN\x00\x00\x00\x01" + entries)
        assert only(self.source(tmp_path).look(reading())).run_id == RUN

    @pytest.mark.parametrize("why", ["not ours", "no such folder", "a link", "other layout", "dots", "other run"])
    def test_no_other_folder_is_followed(self, crew: CrewFolder, tmp_path: Path, why: str) -> None:
        crew.run()
        folder = crew.folder()
        if why == "no such folder":
            folder = folder.with_name(OTHER)
        elif why == "a link":
            (tmp_path / "link").symlink_to(crew.project)
            folder = tmp_path / "link" / ".crew" / "state" / "runs" / RUN
        elif why == "other layout":
            folder = crew.runs
        elif why == "dots":
            folder = Path(f"{crew.project}/../shop/.crew/state/runs/{RUN}")
        self.index(tmp_path, folder)
        if why == "other run":
            path = tmp_path / self.USER / "state" / "runs" / "active-run-index.json"
            path.write_text(json.dumps([{"runId": OTHER, "stateRoot": str(crew.folder())}]))
        assert self.source(tmp_path, own=why != "not ours").look(reading()).changed == ()

    def test_what_another_source_looks_at_is_left_to_it(self, crew: CrewFolder, tmp_path: Path) -> None:
        crew.run()
        self.index(tmp_path, crew.folder())
        source = self.source(tmp_path)
        source.leave_to_others([str(crew.project)])
        assert source.look(reading()).changed == ()


@pytest.mark.parametrize(
    ("options", "named"),
    [({"file_max": 10}, "file_max"), ({"relist_every": 0}, "relist_every"), ({"side_files_every": 0}, "side_files")],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PiCrewOptions(**options)  # type: ignore[arg-type]  # one of several fields, by name
