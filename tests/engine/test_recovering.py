"""Interrupted runs are found, planned for once, and what was applied is watched: on a fake root, and genuine."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crewd.engine.applying import Applier
from crewd.engine.recovering import FORGET_EVERY
from crewd.engine.recovery_forgetting import KEPT_MAX, forgettable
from crewd.engine.recovery_options import RecoveryOptions, RecoveryRule
from crewd.errors import NothingMatched, Refused, UsageProblem
from crewd.host.operator_command import Ended
from crewd.ledger.errors import LedgerDamaged
from crewd.model.process import ProcessClaim
from crewd.model.recovery import Cause, LogSeen, PlanState, RecoveryPlan, portrait
from crewd.model.run import Run, RunStatus, TaskStatus
from crewd.policy.recovery import plan_id_of
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from crewd.sources.pi_crew.last_event import last_event
from tests.engine.stage import MARK, Stage, play, run, task
from tests.fakes.processes import FakeProcesses

RUNNER, WORKER = 10, 11
DAY = 86400.0  # seconds
OPTIONS = RecoveryOptions((RecoveryRule("ask", ("mend", "{run}"), ("stop", "{run}")),), deadline=60.0)


class Scene:
    """A run with a runner and a worker, whose command is a function."""

    def __init__(self, stage: Stage, options: RecoveryOptions = OPTIONS) -> None:
        self.stage = stage
        self.log = LogSeen(7)
        self.commands: list[tuple[str, ...]] = []
        self.then: Callable[[], Ended] = lambda: Ended(0, output="done")
        self.wire(options)

    def wire(self, options: RecoveryOptions = OPTIONS) -> None:
        patrol = self.stage.patrol
        patrol.recovering.options = options
        patrol.recovering.logs = {"fake": lambda folder: self.log}
        self.applier = Applier(
            patrol.recovering,
            self.stage.ledger,
            self.stage.clock,
            lambda events: None,
            lambda: patrol.recorder.tidings,
            {},
            lambda: 0.5,
            run_command=self.command,
        )

    async def command(self, argv: Any, env: Any, cwd: str, seconds: float) -> Ended:
        self.commands.append(tuple(argv))
        return self.then()

    def run(self, beat: int = 0, status: RunStatus = RunStatus.RUNNING, **more: Any) -> Run:
        made = run(
            task("plan", status=TaskStatus.COMPLETED),
            task("build", beat, WORKER),
            task("test", status=TaskStatus.QUEUED),
            status=status,
        )
        return msgspec.structs.replace(made, runner=ProcessClaim(RUNNER, None, (MARK,), role="runner"), **more)

    async def begin(self) -> None:
        for pid in (RUNNER, WORKER):
            self.stage.processes.add(pid, marks=(MARK,))
        self.stage.source.put(self.run())
        await self.stage.seconds(60)  # and the hold of a start is over

    async def interrupt(self) -> RecoveryPlan:
        await self.begin()
        for pid in (RUNNER, WORKER):
            self.stage.processes.kill(pid)
        await self.stage.rounds(3)
        return self.only()

    def only(self) -> RecoveryPlan:
        (plan,) = self.stage.patrol.recovering.plans.values()
        return plan

    async def apply(self) -> None:
        """Let the applier do what it was handed."""
        applying = asyncio.create_task(self.applier.run())
        for _ in range(20):
            await asyncio.sleep(0)
        applying.cancel()
        await asyncio.gather(applying, return_exceptions=True)

    async def approve(self, plan: RecoveryPlan, action: str = "") -> RecoveryPlan:
        return await self.applier.approve(plan.plan_id, action=action, by="ann", reason="", actor="operator:ann")

    def told(self) -> list[str]:
        return [
            event.type.removeprefix("recovery.") for event in self.stage.ledger.events if "recovery." in event.type
        ]

    def open_causes(self) -> set[str]:
        return {cause for of_one in self.stage.patrol.incidents.open.values() for cause in of_one}


def test_a_run_whose_runner_and_worker_are_gone_is_planned_for_once() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        plan = await world.interrupt()
        assert (plan.state, plan.cause, plan.event_seq) == (PlanState.PLANNED, Cause.ALL_EXITED, 7)
        assert (plan.resumable, plan.preserved, plan.offers) == (("build", "test"), ("plan",), ("resume", "cancel"))
        await stage.seconds(600)
        assert world.told() == ["planned"]
        assert "interrupted" in world.open_causes()
        assert stage.ledger.recoveries == {plan.plan_id: plan}
        stage.restart()
        world.wire()
        await stage.seconds(600)
        assert world.told() == ["planned"] and world.only() == plan
        assert stage.patrol.picture.snapshot.recoveries["planned"] == 1

    play(scene)


def test_a_living_runner_or_an_orphaned_worker_is_no_interruption() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        await world.begin()
        stage.processes.kill(WORKER)
        await stage.seconds(600)
        assert world.told() == []
        await stage.seconds(30)
        stage.processes.kill(RUNNER)
        await stage.rounds(3)
        assert world.told() == ["planned"]

    async def orphan(stage: Stage) -> None:
        world = Scene(stage)
        await world.begin()
        stage.processes.kill(RUNNER)
        await stage.seconds(1200)
        assert world.told() == []
        stage.processes.kill(WORKER)
        await stage.rounds(3)
        assert world.told() == ["planned"]

    play(scene)
    play(orphan)


def test_a_run_that_moves_by_itself_withdraws_its_plan() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        await world.interrupt()
        stage.source.put(world.run(1, RunStatus.FAILED))
        await stage.rounds()
        assert world.told() == ["planned", "withdrawn"]
        assert "interrupted" not in world.open_causes()

    play(scene)


def test_an_approved_plan_is_applied_once_and_verified_when_its_run_moves() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        plan = await world.interrupt()
        await world.approve(plan)
        with pytest.raises(Refused, match="approved"):
            await world.approve(plan)
        await world.apply()
        assert world.commands == []  # only what this round found interrupted is applied
        await stage.rounds()
        await world.apply()
        assert world.commands == [("mend", "r")]
        assert world.only().state is PlanState.APPLIED and world.only().output == "done"
        await stage.rounds(3)
        assert world.told() == ["planned", "approved", "applied"]
        stage.source.put(world.run(1, updated_at=5.0))
        await stage.rounds()
        await stage.rounds()
        await world.apply()
        assert world.told() == ["planned", "approved", "applied", "verified"] and len(world.commands) == 1
        assert world.only().decided_by == "ann"

    play(scene)


def test_a_run_that_does_not_move_within_the_deadline_failed_with_an_incident() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        await world.approve(await world.interrupt())
        await stage.rounds()
        await world.apply()
        await stage.seconds(90)
        assert world.told() == ["planned", "approved", "applied", "failed"]
        assert "recovery_failed" in world.open_causes() and len(world.commands) == 1
        await world.approve(world.only())  # once more, after something was mended
        await stage.rounds(2)
        await world.apply()
        assert len(world.commands) == 2 and "recovery_failed" not in world.open_causes()
        stage.source.put(world.run(1, RunStatus.COMPLETED))
        await stage.rounds()
        assert world.only().state is PlanState.VERIFIED

    play(scene)


def test_a_command_that_fails_is_tried_again_by_the_retry_policy_and_no_oftener() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        world.then = lambda: Ended(3, output="no")
        await world.approve(await world.interrupt())
        for _ in range(100):
            await stage.rounds()
            await world.apply()
        assert world.told() == ["planned", "approved", "applied", "retry_scheduled", "applied", "failed"]
        assert len(world.commands) == 2 and "exited with 3" in world.only().error

    play(scene)


def test_of_what_a_failed_command_said_only_how_it_ended_is_told() -> None:
    """Its words may be anything, and stay in `output`, which is told to whoever may hear it."""

    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        world.then = lambda: Ended(3, output="first\nthe key is hunter2")
        await world.approve(await world.interrupt())
        for _ in range(100):
            await stage.rounds()
            await world.apply()
        plan = world.only()
        assert plan.state is PlanState.FAILED and "hunter2" in plan.output
        assert plan.error == "worker_crash: it exited with 3"
        told = [repr(portrait(plan)), *(repr(event.data) for event in stage.ledger.events)]
        told += [each.summary for of_one in stage.patrol.incidents.open.values() for each in of_one.values()]
        assert not [each for each in told if "hunter2" in each]

    play(scene)


def test_a_program_that_is_not_there_is_not_tried_again() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        world.then = lambda: Ended(spawn_error="mend: No such file or directory")
        await world.approve(await world.interrupt())
        await stage.rounds()
        await world.apply()
        assert world.told() == ["planned", "approved", "applied", "failed"]

    play(scene)


def test_what_was_applied_before_a_crash_is_watched_and_never_applied_again() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        await world.approve(await world.interrupt())
        await stage.rounds()
        await world.apply()
        stage.restart()
        world.wire()
        await stage.seconds(30)
        await world.apply()
        assert len(world.commands) == 1 and world.only().state is PlanState.APPLIED
        stage.source.put(world.run(1, updated_at=5.0))
        await stage.rounds(2)
        assert world.only().state is PlanState.VERIFIED and len(world.commands) == 1

    play(scene)


def test_a_log_that_cannot_be_read_leaves_only_the_cancel() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage, RecoveryOptions((RecoveryRule("auto", ("mend",), ("stop", "{run}", "{task}")),)))
        world.log = LogSeen(None, why="events.jsonl: gone")
        plan = await world.interrupt()
        assert (plan.offers, plan.state) == (("cancel",), PlanState.PLANNED)  # nothing is cancelled by itself
        with pytest.raises(UsageProblem, match="gone"):
            await world.approve(plan, "resume")
        await world.approve(plan)
        await stage.rounds()
        await world.apply()
        assert world.commands == [("stop", "r", "build,test")]

    play(scene)


def test_in_mode_auto_a_plan_approves_itself_and_in_mode_off_there_is_none() -> None:
    async def auto(stage: Stage) -> None:
        world = Scene(stage, RecoveryOptions((RecoveryRule("auto", ("mend",)),)))
        plan = await world.interrupt()
        assert (plan.state, plan.decided_by) == (PlanState.APPROVED, "auto")

    async def off(stage: Stage) -> None:
        world = Scene(stage, RecoveryOptions((RecoveryRule("off"),)))
        with pytest.raises(ValueError, match="not enough values"):
            await world.interrupt()

    play(auto)
    play(off)


def test_a_log_that_tells_of_the_end_is_no_interruption() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        world.log = LogSeen(7, "run.completed")
        with pytest.raises(ValueError, match="not enough values"):
            await world.interrupt()

    play(scene)


def test_a_root_that_is_not_read_a_hold_and_the_brake_plan_nothing() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        await world.begin()
        stage.source.complete = False
        for pid in (RUNNER, WORKER):
            stage.processes.kill(pid)
        await stage.seconds(600)
        assert world.told() == []
        stage.source.complete = True
        await stage.rounds(3)
        assert world.told() == ["planned"]

    async def hold(stage: Stage) -> None:
        world = Scene(stage)
        await world.begin()
        for pid in (RUNNER, WORKER):
            stage.processes.kill(pid)
        stage.clock.suspend(3600)
        await stage.rounds(2)
        assert stage.patrol.pace.hold.on and world.told() == []

    play(scene)
    play(hold)


def test_decisions_need_a_name_a_plan_and_a_command() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage, RecoveryOptions((RecoveryRule("ask"),)))
        plan = await world.interrupt()
        with pytest.raises(Refused, match=r"recovery\.command"):
            await world.approve(plan)
        with pytest.raises(NothingMatched, match="recover list"):
            await world.applier.decline("nobody", by="ann", reason="", actor="operator:ann")
        with pytest.raises(UsageProblem, match="by"):
            await world.applier.decline(plan.plan_id, by=" ", reason="", actor="operator:ann")
        await world.applier.decline(plan.plan_id, by="ann", reason="old", actor="operator:ann")
        await stage.seconds(300)
        assert world.told() == ["planned", "declined"] and world.only().reason == "old"
        with pytest.raises(Refused, match="declined"):
            await world.approve(plan)

    play(scene)


def test_a_plan_that_cannot_be_recorded_as_applied_runs_nothing() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        await world.approve(await world.interrupt())
        await stage.rounds()
        stage.ledger.failing = True
        await world.apply()
        assert world.commands == [] and world.only().state is PlanState.APPROVED
        stage.ledger.failing = False
        await stage.rounds(2)
        await world.apply()
        assert len(world.commands) == 1

    play(scene)


def test_what_was_touched_before_the_command_is_no_progress_after_it() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        plan = await world.interrupt()
        stage.source.put(world.run(updated_at=2.0))  # and still nobody works on it
        await stage.rounds(2)
        await world.approve(plan)
        await stage.rounds()
        await world.apply()
        await stage.seconds(30)
        assert world.only().state is PlanState.APPLIED

    play(scene)


def test_what_is_approved_is_applied_only_by_what_the_latest_round_saw() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        await world.approve(await world.interrupt())
        await stage.rounds()
        stage.source.complete = False
        await stage.rounds()
        await world.apply()
        assert world.commands == [] and world.only().state is PlanState.APPROVED

    play(scene)


def test_a_run_that_is_gone_from_disk_withdraws_its_plan_and_a_root_that_is_away_does_not() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        await world.interrupt()
        stage.source.complete = False
        await stage.rounds(3)
        assert world.told() == ["planned"]
        stage.source.complete = True
        del stage.source.runs["r"]
        await stage.rounds()
        assert world.told() == ["planned", "withdrawn"]

    play(scene)


def test_fifty_interrupted_runs_have_fifty_plans_and_each_log_is_read_once() -> None:
    async def scene(stage: Stage) -> None:
        world, read = Scene(stage), list[str]()

        def log(folder: str) -> LogSeen:
            read.append(folder)
            return LogSeen(3)

        stage.patrol.recovering.logs = {"fake": log}
        for number in range(50):
            made = world.run(run_id=f"r{number}", folder=f"/crew/r{number}")
            stage.source.put(msgspec.structs.replace(made, runner=ProcessClaim(10_000 + number, None, (MARK,))))
        await stage.seconds(300)
        assert world.told() == ["planned"] * 50
        assert sorted(read) == sorted(f"/crew/r{number}" for number in range(50))

    play(scene)


def test_settled_plans_are_let_go_of_and_none_is_ever_made_twice() -> None:
    """Neither memory nor what a start recalls grows with the years; the ledger says what was settled."""

    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        plan = await world.interrupt()
        stage.patrol.recovering.was_planned = stage.ledger.recoveries.__contains__
        await world.applier.decline(plan.plan_id, by="ann", reason="", actor="operator:ann")
        stage.clock.wall += 30 * DAY
        await stage.rounds(2 * FORGET_EVERY)
        assert list(stage.patrol.recovering.plans) == [plan.plan_id]  # its run is still interrupted
        stage.source.put(world.run(1, RunStatus.CANCELLED))
        await stage.rounds(2 * FORGET_EVERY)
        assert not stage.patrol.recovering.plans and stage.ledger.recoveries
        stage.source.put(world.run())  # as somebody restored it from a backup
        await stage.rounds(20)
        assert world.told() == ["planned", "declined"] and not stage.patrol.recovering.plans
        stage.patrol.recovering.was_planned = lambda plan_id: False
        stage.patrol.recovering.reload(OPTIONS)
        await stage.rounds(20)
        assert world.told() == ["planned", "declined", "planned"]  # so that it was the ledger's word

    play(scene)


def test_a_plan_that_is_damaged_in_the_ledger_costs_itself_aloud_and_no_other_run_its_plan() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        recovering = stage.patrol.recovering
        broken: set[str] = set()

        def was_planned(plan_id: str) -> bool:
            if plan_id in broken:
                raise LedgerDamaged(Path("/state/ledger.sqlite3"), f"the row {plan_id!r} is not what was written")
            return False

        recovering.was_planned = was_planned
        other = world.run(run_id="other", folder="/crew/other")
        broken.add(plan_id_of(world.run(), 7))
        await world.begin()
        stage.source.put(other)
        await stage.seconds(60)
        for pid in (RUNNER, WORKER):
            stage.processes.kill(pid)
        await stage.rounds(5)
        assert [plan.run_id for plan in recovering.plans.values()] == ["other"]
        degraded = stage.patrol.picture.snapshot.health.degraded["recovery"]
        assert all(each in degraded for each in (*broken, "/state/ledger.sqlite3", "restore"))
        assert not stage.patrol.defects
        broken.clear()  # somebody mended the file
        await stage.rounds(3)
        assert {plan.run_id for plan in recovering.plans.values()} == {"other", world.run().run_id}
        assert "recovery" not in stage.patrol.picture.snapshot.health.degraded

    play(scene)


def test_what_is_said_of_a_damaged_plan_ends_with_its_run() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)

        def damaged(plan_id: str) -> bool:
            raise LedgerDamaged(Path("/state/ledger.sqlite3"), plan_id)

        stage.patrol.recovering.was_planned = damaged
        await world.begin()
        for pid in (RUNNER, WORKER):
            stage.processes.kill(pid)
        await stage.rounds(5)
        assert "recovery" in stage.patrol.picture.snapshot.health.degraded
        stage.source.put(world.run(1, RunStatus.CANCELLED))
        await stage.rounds(3)
        assert "recovery" not in stage.patrol.picture.snapshot.health.degraded

    play(scene)


def test_a_failed_plan_of_which_a_person_should_know_is_never_let_go_of() -> None:
    async def scene(stage: Stage) -> None:
        world = Scene(stage)
        await world.approve(await world.interrupt())
        await stage.rounds()
        await world.apply()
        await stage.seconds(90)
        assert world.only().state is PlanState.FAILED
        stage.clock.wall += 30 * DAY
        await stage.rounds(2 * FORGET_EVERY)
        assert world.only().state is PlanState.FAILED

    play(scene)


def test_only_so_many_settled_plans_are_kept() -> None:
    async def scene(stage: Stage) -> None:
        plan = await Scene(stage).interrupt()
        settled = [
            msgspec.structs.replace(
                plan, plan_id=f"{number:016x}", run_id=f"r{number}", state=PlanState.DECLINED, ended_at=float(number)
            )
            for number in range(1, KEPT_MAX + 50)
        ]
        plans = {each.plan_id: each for each in (*settled, plan)}
        gone = forgettable(plans, (), {}, plan.created_at)
        assert len(gone) == len(settled)  # of runs that are gone, and from long ago
        gone = forgettable(plans, (), {}, 1000.0)
        assert gone == [each.plan_id for each in settled[:49]]
        known = {settled[0].plan_id, settled[1].plan_id}
        assert not known & set(forgettable(plans, known, {}, 1000.0)), "of these a person should still know"

    play(scene)


def test_of_a_run_that_goes_on_the_latest_settled_plan_is_kept_and_no_earlier_one() -> None:
    async def scene(stage: Stage) -> None:
        plan = await Scene(stage).interrupt()
        early, late = (
            msgspec.structs.replace(plan, plan_id=f"{number:016x}", state=PlanState.DECLINED, ended_at=float(number))
            for number in (1, 2)
        )
        plans = {each.plan_id: each for each in (early, late)}
        assert forgettable(plans, (), stage.patrol.book.entries, 1e9) == [early.plan_id]

    play(scene)


FORMATS = Path(__file__).parent.parent / "formats" / "pi_crew"


def planned_for(name: str, tmp_path: Path, kill: Callable[[FakeProcesses], None] | None = None) -> list[RecoveryPlan]:
    """Watch a genuine folder for ten minutes, with those alive that lived; `kill` comes after half of it."""
    folder = tmp_path / name
    shutil.copytree(FORMATS / name, folder)
    meta = json.loads((folder / "META.json").read_text())
    plans: list[RecoveryPlan] = []

    async def scene(stage: Stage) -> None:
        stage.clock.wall, stage.clock.mono, stage.clock.boot = meta["snapshotEpochMs"] / 1000, 200_000.0, 200_000.0
        for pid, truth in meta["pids"].items():
            if truth["alive"]:
                run_id, *rest = truth["why"].split()
                marks = (run_id, *((f"PI_CREW_TASK_ID={rest[0]}",) if rest[-1] == "checkpoint.childPid" else ()))
                stage.processes.add(int(pid), 1000 + int(pid), started_at=stage.clock.wall - 7200, marks=marks)
        source = PiCrewSource(str(folder / "project"), PiCrewOptions())
        stage.patrol.lookout.discover = lambda known: list(known) or [source]
        stage.patrol.recovering.options = OPTIONS
        stage.patrol.recovering.logs = {"pi_crew": last_event}
        await stage.seconds(300)
        if kill is not None:
            assert not stage.patrol.recovering.plans
            kill(stage.processes)
        await stage.seconds(300)
        plans.extend(stage.patrol.recovering.plans.values())
        told = [event.type for event in stage.ledger.events if event.type.startswith("recovery.")]
        assert told == ["recovery.planned"] * len(plans)

    play(scene)
    return plans


def test_a_crew_that_was_killed_whole_is_planned_for(tmp_path: Path) -> None:
    (plan,) = planned_for("killed-stale-pid", tmp_path)
    assert (plan.event_seq, plan.preserved, plan.offers) == (83, (), ("resume", "cancel"))
    assert plan.resumable[0] == "01_explore" and len(plan.resumable) == 3


def test_an_orphaned_worker_keeps_a_run_until_it_is_dead_too(tmp_path: Path) -> None:
    (plan,) = planned_for("runner-sigkill-orphan-worker", tmp_path, lambda processes: processes.kill(20080))
    assert (plan.event_seq, plan.preserved[0], plan.resumable[0]) == (35, "01_explore", "02_execute")


def test_a_stopped_worker_under_a_living_runner_is_planned_for_only_once_both_are_dead(tmp_path: Path) -> None:
    meta = json.loads((FORMATS / "running-dead-heartbeat/META.json").read_text())
    pids = [int(pid) for pid, truth in meta["pids"].items() if truth["alive"]]

    def kill(processes: FakeProcesses) -> None:
        for pid in pids:
            processes.kill(pid)

    (plan,) = planned_for("running-dead-heartbeat", tmp_path, kill)
    assert plan.event_seq == 75


@pytest.mark.parametrize(
    "name",
    [
        "running-fresh-heartbeat", "running-false-dead-streaming", "running-dead-heartbeat",
        "harness-waiting-and-blocked", "completed", "deadlettered", "cancelled", "resumed-after-crash",
    ],
)  # fmt: skip
def test_nothing_is_planned_for_a_run_that_lives_waits_or_has_ended(name: str, tmp_path: Path) -> None:
    assert planned_for(name, tmp_path) == []
