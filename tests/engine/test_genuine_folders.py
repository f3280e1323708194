"""Every genuine crew folder, judged by the whole patrol, against what its META.json says is true of the processes."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crewd.engine.lookout import Lookout
from crewd.engine.patrol import Patrol
from crewd.engine.witness import Witness
from crewd.model.run import TASK_ENDED, RunStatus
from crewd.model.snapshot import Snapshot
from crewd.model.verdict import Level, Reason
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from tests.engine.stage import MemoryLedger
from tests.fakes.clock import FakeClock
from tests.fakes.processes import FakeProcesses
from tests.sources.test_frozen_formats import COUNTS

FORMATS = Path(__file__).parent.parent / "formats" / "pi_crew"
HZ = 100
UPTIME = 200_000.0  # seconds; longer ago than any record in the folders


@dataclass
class Watched:
    """One folder, watched for a while."""

    meta: dict[str, Any]
    snapshot: Snapshot
    ledger: MemoryLedger

    def statuses(self) -> Counter[str]:
        return Counter(view.run.status.value for view in self.snapshot.runs.values())

    def tasks(self) -> Counter[str]:
        return Counter(task.status.value for view in self.snapshot.runs.values() for task in view.run.tasks)

    def standings(self) -> dict[str, tuple[Level, Reason]]:
        return {
            worker.task_id: (worker.standing.level, worker.standing.reason)
            for view in self.snapshot.runs.values()
            for worker in view.workers
        }


def watch(
    name: str,
    tmp_path: Path,
    seconds: float = 120,
    arrange: Callable[[FakeProcesses, dict[str, Any]], None] = lambda processes, meta: None,
    each_round: Callable[[FakeProcesses], None] = lambda processes: None,
) -> Watched:
    """Watch a frozen folder from the moment of its snapshot on, with exactly those processes alive that lived."""
    folder = tmp_path / name
    shutil.copytree(FORMATS / name, folder)
    meta = json.loads((folder / "META.json").read_text())
    clock = FakeClock(wall=meta["snapshotEpochMs"] / 1000, mono=UPTIME, boot=UPTIME)
    processes = FakeProcesses(clock)
    for pid, truth in meta["pids"].items():
        if truth["alive"]:
            # Argv and environment as FORMATS says they are: the runner's --run-id, the worker's own names.
            words = tuple(truth["why"].split())
            run_id, *rest = words
            task_marks = (f"PI_CREW_TASK_ID={rest[0]}",) if rest[-1] == "checkpoint.childPid" else ()
            processes.add(int(pid), 1000 + int(pid), started_at=clock.wall - 7200, marks=(run_id, *task_marks))
    arrange(processes, meta)
    ledger = MemoryLedger()

    async def play() -> Snapshot:
        patrol = Patrol(
            clock=clock,
            lookout=Lookout(lambda known: list(known) or [source], 30.0, lambda path: 1 << 30),
            witness=Witness(processes, "here", lambda: None),
            ledger=ledger,
            listeners=(),
        )
        try:
            for _ in range(round(seconds / 5)):
                clock.advance(5)
                each_round(processes)
                snapshot = await patrol.round()
        finally:
            patrol.witness.close()
            patrol.lookout.close()
            processes.close()
        return snapshot

    source = PiCrewSource(str(folder / "project"), PiCrewOptions())
    return Watched(meta, asyncio.run(play()), ledger)


def test_every_genuine_folder_has_its_expectation() -> None:
    assert {folder.name for folder in FORMATS.iterdir() if folder.is_dir()} == set(COUNTS)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_runs_tasks_and_deaths_are_as_the_truth_about_the_folder_says(name: str, tmp_path: Path) -> None:
    watched = watch(name, tmp_path)
    runs, tasks = COUNTS[name]
    assert (watched.statuses(), watched.tasks()) == (Counter(runs), Counter(tasks))
    lived = any(truth["alive"] for truth in watched.meta["pids"].values())
    for view in watched.snapshot.runs.values():
        for worker in view.workers:
            # Nobody may be dead whose process lives; whoever's recorded process is gone must be.
            named_gone = worker.process.state.value == "exited"
            assert (worker.standing.level is Level.DEAD) == named_gone, (worker.task_id, worker.standing)
            assert not (lived and worker.standing.level is Level.DEAD)
        for task in view.run.tasks:
            if task.status in TASK_ENDED or view.run.status in (RunStatus.COMPLETED, RunStatus.FAILED):
                assert task.task_id not in {worker.task_id for worker in view.workers}


def test_killed_with_a_stale_pid_is_dead_although_its_files_say_running(tmp_path: Path) -> None:
    watched = watch("killed-stale-pid", tmp_path)
    assert watched.standings() == {"01_explore": (Level.DEAD, Reason.EXITED)}


def test_a_pid_that_another_process_has_now_is_dead(tmp_path: Path) -> None:
    def taken(processes: FakeProcesses, meta: dict[str, Any]) -> None:
        for pid in meta["pids"]:
            processes.add(int(pid), marks=("postgres",))

    watched = watch("harness-pid-reuse", tmp_path, arrange=taken)
    assert watched.standings() == {"01_step0": (Level.DEAD, Reason.EXITED)}


def test_a_worker_that_streams_tokens_is_never_dead_while_its_process_lives(tmp_path: Path) -> None:
    def streaming(processes: FakeProcesses) -> None:
        # What a token every half second costs: some ticks, and some hundred bytes from the socket.
        processes.work(11251, cpu_ticks=3, io_chars=1500)

    watched = watch("running-false-dead-streaming", tmp_path, seconds=3 * 3600, each_round=streaming)
    assert watched.standings() == {"01_explore": (Level.STALE, Reason.BUSY)}
    told = [event.data["to_level"] for event in watched.ledger.events if event.type == "worker.level_changed"]
    assert "dead" not in told


def test_a_frozen_worker_is_stopped_not_dead(tmp_path: Path) -> None:
    def frozen(processes: FakeProcesses, meta: dict[str, Any]) -> None:
        processes.stop(30453)

    watched = watch("running-dead-heartbeat", tmp_path, seconds=1800, arrange=frozen)
    assert watched.standings() == {"01_explore": (Level.STALE, Reason.STOPPED)}


def test_an_orphaned_worker_lives_although_its_runner_is_gone(tmp_path: Path) -> None:
    watched = watch("runner-sigkill-orphan-worker", tmp_path)
    assert watched.standings()["02_execute"][0] is not Level.DEAD


def test_a_worker_that_asked_a_human_waits(tmp_path: Path) -> None:
    watched = watch("harness-waiting-and-blocked", tmp_path, seconds=3600)
    assert watched.standings() == {"01_step0": (Level.WAITING, Reason.HUMAN)}


def test_workers_that_nothing_but_files_shows_are_presumed_dead_after_the_dead_window(tmp_path: Path) -> None:
    watched = watch("harness-heartbeat-dead-deadletter", tmp_path, seconds=330)
    assert set(watched.standings().values()) == {(Level.DEAD, Reason.PRESUMED)}


def test_a_hundred_and_fifty_that_fall_silent_together_are_one_incident(tmp_path: Path) -> None:
    watched = watch("large-50-running", tmp_path, seconds=600)
    assert Counter(level for level, _ in watched.standings().values()) == {Level.STALE: 3}
    causes = [event.data["cause"] for event in watched.ledger.events if event.type == "incident.opened"]
    assert causes == ["mass_brake"]


@pytest.mark.parametrize(
    ("name", "task_id", "reason"),
    [
        ("deadlettered", "01_explore", "max-retries"),
        ("harness-heartbeat-dead-deadletter", "01_step0", "heartbeat-dead"),
    ],
)
def test_dead_letters_of_the_runtime_are_merged(name: str, task_id: str, reason: str, tmp_path: Path) -> None:
    letters = list(watch(name, tmp_path, seconds=20).ledger.letters.values())
    assert [(letter.task_id, letter.reason) for letter in letters] == [(task_id, reason)]


def test_a_torn_task_list_is_unreadable_and_says_so(tmp_path: Path) -> None:
    watched = watch("harness-corrupt-tasks", tmp_path)
    (view,) = watched.snapshot.runs.values()
    assert view.unread is not None and view.run.status is RunStatus.RUNNING
    causes = [event.data["cause"] for event in watched.ledger.events if event.type == "incident.opened"]
    assert causes == ["unreadable"]
