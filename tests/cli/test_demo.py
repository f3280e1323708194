"""The played crew is written as pi-crew writes, its processes end with the demo, its screen says what happened."""

import asyncio
import contextlib
import io
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from crewd.cli.demo import SHORT, _settings
from crewd.cli.demo_screen import PlainScreen, event_line, picture
from crewd.cli.screen import plain
from crewd.demo.actors import Actor
from crewd.demo.clock import SuspendableClock
from crewd.demo.crew import Crew, CrewRun
from crewd.demo.event_log import COMPACT_ABOVE, KEPT
from crewd.demo.play import ASLEEP, Play, Script
from crewd.demo.records import Plan
from crewd.model.event import Event
from crewd.model.process import HIDDEN
from crewd.model.report import RoundReport
from crewd.model.run import Run, RunStatus, Task, TaskStatus
from crewd.model.snapshot import EMPTY, Health, RunView, Snapshot, WorkerView
from crewd.model.verdict import Level, Reason, Standing, Verdict, Wedge
from crewd.sources.pi_crew import PiCrewOptions, PiCrewSource
from tests.fakes import virtual_time
from tests.fakes.clock import FakeClock

PATIENCE = 10.0  # seconds of real time for a process to end


class FakeActor:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.alive = True
        self.tools: list[float] = []

    def run_tool(self, seconds: float) -> None:
        self.tools.append(seconds)

    def kill(self) -> None:
        self.alive = False

    end = kill


class FakeActors:
    def __init__(self) -> None:
        self.hired: list[FakeActor] = []

    def runner(self, run: CrewRun) -> FakeActor:
        self.hired.append(FakeActor(1000 + len(self.hired)))
        return self.hired[-1]

    def worker(self, run: CrewRun, task_id: str, runner: FakeActor) -> FakeActor:
        return self.runner(run)


def new_run(project: Path, clock: FakeClock | None = None) -> CrewRun:
    crew = Crew(project, clock or FakeClock())
    return crew.new_run("one", "a goal", (Plan("explore", "explorer"), Plan("execute", "executor", ("explore",))))


def looked_at(project: Path) -> Run:
    source = PiCrewSource(str(project), PiCrewOptions(follow_index=False))
    try:
        (run,) = source.look(FakeClock().read()).changed
        return run
    finally:
        source.close()


def played(project: Path, script: Script, seconds: float) -> tuple[list[str], FakeActors, SuspendableClock]:
    clock = FakeClock()
    suspendable = SuspendableClock(clock)
    told: list[str] = []
    actors = FakeActors()

    async def main() -> None:
        play = Play(Crew(project, suspendable), actors, suspendable, script, told.append)  # type: ignore[arg-type]
        task = asyncio.create_task(play.run())
        await asyncio.sleep(seconds)
        assert not task.done() or task.result() is None
        task.cancel()
        await asyncio.wait([task])

    virtual_time.run(main(), clock)
    return told, actors, suspendable


def tasks_of(project: Path) -> dict[str, dict[str, object]]:
    found = {}
    for path in project.glob(".crew/state/runs/*/tasks.json"):
        found |= {task["id"]: task for task in json.loads(path.read_bytes())}
    return found


def ended(pid: int) -> bool:
    """Wait until a process that is no child of ours is gone."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], PATIENCE)[0])
    finally:
        os.close(handle)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_the_source_reads_a_played_run_as_it_reads_a_genuine_one(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.begin(41)
    run.spawn("01_explore", 42)
    run.beat("01_explore", "read", "three files")
    run.enter_tool("01_explore", "bash")
    seen = looked_at(tmp_path)
    first, second = seen.tasks
    assert (seen.status, seen.goal, seen.extra) == (RunStatus.RUNNING, "a goal", {})
    assert (first.status, first.tool, first.extra) == (TaskStatus.RUNNING, "bash", {})
    assert first.claim is not None
    assert (first.claim.pid, first.claim.marks) == (42, (run.run_id,))
    assert json.loads((run.folder / "ownership-map.json").read_bytes())["entries"]["01_explore"]["pid"] == 42
    assert second.status is TaskStatus.QUEUED
    assert seen.runner is not None
    assert seen.runner.pid == 41


def test_a_question_makes_the_task_wait_until_it_is_answered(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.begin(41)
    run.spawn("01_explore", 42)
    run.ask("01_explore", ("yes", "no"))
    asked = looked_at(tmp_path).tasks[0]
    run.answer("01_explore")
    answered = looked_at(tmp_path).tasks[0]
    assert asked.waiting is not None
    assert (asked.status, asked.waiting.reason) == (TaskStatus.WAITING, "human")
    assert (answered.status, answered.waiting) == (TaskStatus.RUNNING, None)


def test_a_finished_run_is_told_as_such(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    run.begin(41)
    run.spawn("01_explore", 42)
    run.finish("01_explore")
    run.finish("02_execute", "failed", "no such file")
    run.end("failed")
    seen = looked_at(tmp_path)
    assert seen.status is RunStatus.FAILED
    assert [task.status for task in seen.tasks] == [TaskStatus.COMPLETED, TaskStatus.FAILED]
    assert seen.tasks[1].error == "no such file"
    assert seen.tasks[0].finished_at is not None


def test_a_long_event_log_is_replaced_by_its_end(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    path = run.folder / "events.jsonl"
    before = path.stat().st_ino
    while run.log.bytes_written <= COMPACT_ABOVE:
        run.flood("01_explore", lines=500)
    lines = path.read_bytes().splitlines()
    assert len(lines) == KEPT
    assert json.loads(lines[-1])["metadata"]["seq"] == run.log.seq
    assert path.stat().st_ino != before


def test_an_actor_ends_when_its_pipe_is_closed() -> None:
    actor = Actor()
    assert actor.alive
    actor.end()
    assert not actor.alive


@pytest.mark.real_time
def test_the_tool_of_an_actor_that_is_killed_ends_with_it() -> None:
    actor = Actor()
    try:
        actor.run_tool(600)
        tool = _first_child(actor.pid)
        actor.kill()
        assert ended(tool)
    finally:
        actor.end()


@pytest.mark.slow
@pytest.mark.real_time
def test_a_demo_that_is_killed_leaves_no_process_behind() -> None:
    script = (
        "from crewd.demo.actors import Actor\n"
        "actors = [Actor(), Actor()]\n"
        "actors[0].run_tool(600)\n"
        "print(*(actor.pid for actor in actors), flush=True)\n"
        "input()\n"
    )
    demo = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert demo.stdin is not None
    assert demo.stdout is not None
    with demo:
        pids = [int(word) for word in demo.stdout.readline().split()]
        tool = _first_child(pids[0])
        demo.send_signal(signal.SIGKILL)
        assert all(ended(pid) for pid in (*pids, tool))


def test_the_play_shows_every_kind_of_trouble(tmp_path: Path) -> None:
    told, actors, _ = played(tmp_path, Script(flood_bytes=1 << 20), seconds=60)
    tasks = tasks_of(tmp_path)
    assert tasks["01_explore"]["status"] == "completed"
    assert tasks["02_execute"]["status"] == "running"
    assert tasks["01_migrate"]["status"] == "running"
    assert [actor.tools for actor in actors.hired if actor.tools] == [[36.0]]
    assert sum(1 for actor in actors.hired if not actor.alive) == 3
    assert [word for word in ("hangs", "one command", "kill -9", "floods", "asks a human", "has answered")
            if not any(word in words for words in told)] == []  # fmt: skip


def test_a_worker_that_hangs_writes_nothing_any_more(tmp_path: Path) -> None:
    played(tmp_path, Script(flood_bytes=0), seconds=20)
    tasks = tasks_of(tmp_path)
    assert str(tasks["02_write"]["heartbeat"]) < str(tasks["04_index"]["heartbeat"]).replace("04_index", "02_write")
    hung, healthy = (tasks[name]["agentProgress"]["toolCount"] for name in ("02_write", "04_index"))  # type: ignore[index]
    assert hung < 5 < healthy


def test_the_flood_is_bounded(tmp_path: Path) -> None:
    played(tmp_path, Script(flood_bytes=6 << 20), seconds=60)
    sizes = [path.stat().st_size for path in tmp_path.rglob("events.jsonl")]
    assert max(sizes) < COMPACT_ABOVE + (1 << 20)
    written = [int(path.read_text()) for path in tmp_path.rglob("events.jsonl.seq")]
    assert max(written) < (6 << 20) / 700 + 1000  # a line of the flood has more than 700 bytes
    with pytest.raises(ValueError, match="flood_bytes must lie between"):
        Script(flood_bytes=21 << 20)


def test_a_pretended_suspend_moves_wall_and_boot_time_only(tmp_path: Path) -> None:
    real = FakeClock()
    clock = SuspendableClock(real)
    before = clock.read()
    clock.suspend(60.0)
    real.advance(1.0)
    after = clock.read()
    assert (after.wall - before.wall, after.mono - before.mono, after.boot - before.boot) == (61.0, 1.0, 61.0)


def test_the_play_suspends_when_it_is_told_to(tmp_path: Path) -> None:
    told, _, clock = played(tmp_path, Script(flood_bytes=0, suspend_at=5.0), seconds=8)
    now = clock.read()
    assert now.boot - now.mono == ASLEEP
    assert any("laptop slept" in words for words in told)


def test_the_demo_takes_nothing_from_the_persons_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREWD_PATROL__INTERVAL", "60")
    monkeypatch.setenv("CREWD_CONFIG", str(tmp_path / "missing.toml"))
    settings = _settings(tmp_path, port=0, fast=True).settings
    assert settings.patrol.interval == SHORT["patrol.interval"]
    assert settings.sources.roots == (str(tmp_path / "project"),)
    assert not settings.sources.follow_index
    assert settings.ledger.folder == str(tmp_path / "state")


def test_real_time_keeps_the_genuine_thresholds(tmp_path: Path) -> None:
    heartbeat = _settings(tmp_path, port=0, fast=False).settings.heartbeat
    assert (heartbeat.warn_after, heartbeat.stale_after, heartbeat.dead_after) == (30.0, 60.0, 300.0)


def test_a_change_of_level_is_one_line_with_its_reason() -> None:
    data = {"from_level": "warn", "to_level": "stale", "reason": "silent", "because": "silent for 9 s"}
    line = plain(event_line(Event("worker.level_changed", 0.0, data, "team_1_abcdef", "01_write")))
    assert line == "00:00:00 worker.level_changed  abcdef/01_write   warn -> stale (silent): silent for 9 s"


def test_the_picture_names_level_reason_and_diagnosis_of_each_worker() -> None:
    standing = Standing(Level.STALE, Reason.SILENT, "silent for 22 s", wedge=Wedge.TOOL_RUNNING)
    verdict = Verdict(Level.STALE, Reason.SILENT, "silent for 22 s", 8)
    task = Task("01_write", TaskStatus.RUNNING, "running")
    run = Run("team_1", "pi_crew", "docs", RunStatus.RUNNING, "running", "/crew", (task,), goal="Write the page")
    worker = WorkerView("01_write", 1, standing, verdict, 10.0, None, HIDDEN)
    view = RunView(run, "pi_crew:/crew", (worker,))
    hold = Health(hold="the machine slept 3600 s", hold_seconds_left=3.0)
    snapshot = Snapshot(0.0, hold, {"team_1": view}, {"pi_crew:/crew": 32.0})
    head, row, held = (plain(line) for line in picture(snapshot))
    assert head == "Write the page team_1  running: 1 running"
    assert " ".join(row.split()) == "01_write stale 22s silent tool_running silent for 22 s"
    assert "the machine slept 3600 s" in held


class _Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_goes_away_ends_the_demo() -> None:
    gone: list[str] = []
    screen = PlainScreen(gone=lambda: gone.append("gone"))
    with contextlib.redirect_stdout(_Gone()):
        screen.direct("something happens", 0.0)
    assert gone == ["gone"]


def test_a_flood_is_told_once_while_it_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PlainScreen(gone=lambda: None)
    for dropped in (0, 700, 900, 0):
        screen.on_round(RoundReport(1, 0.0, 0.1, happenings_dropped=dropped), EMPTY)
    (line,) = capsys.readouterr().out.splitlines()
    assert "700 lines of event logs left out" in line


@pytest.mark.slow
@pytest.mark.real_time
def test_the_demo_plays_watches_and_cleans_up() -> None:
    from crewd.cli.main import cli

    result = CliRunner().invoke(cli, ["demo", "--seconds", "6"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "run.discovered" in result.output
    assert "hangs: its process lives" in result.output
    (folder,) = {word for word in result.output.split() if word.endswith("/project/.crew")}
    assert not Path(folder).exists()
    assert result.output.rstrip().endswith("everything is stopped and removed")


def _first_child(pid: int) -> int:
    """Wait for a child to appear: its parent is about to start it."""
    for _ in range(1000):
        if children := children_of(pid):
            return children[0]
        select.select([], [], [], 0.01)
    raise AssertionError(f"process {pid} started no tool")
