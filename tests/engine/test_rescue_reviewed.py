"""What rescue must never do: a second command beside the first, one for a run that goes on, silence that stays."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crewd.detection.identity import Here
from crewd.detection.orphan import search
from crewd.engine.applying import AT_ONCE, Applier
from crewd.engine.incidents import Incidents
from crewd.engine.options import PatrolOptions
from crewd.engine.recovering import Recovering
from crewd.engine.recovery_options import RecoveryOptions, RecoveryRule
from crewd.engine.shadowing import Shadowing
from crewd.host.operator_command import Ended, run_command
from crewd.host.outgoing import NoAnswer, Outgoing
from crewd.model.orphan import STATE_ROOT, Bystander, Known, Owner
from crewd.model.process import Identity, ProcessClaim
from crewd.model.recovery import Cause, LogSeen, PlanState, RecoveryPlan
from crewd.model.run import Run
from crewd.model.verdict import Incident
from tests.engine.stage import MARK, Stage, play, run, task

ENV = {"PATH": os.environ.get("PATH", os.defpath)}
RULE = RecoveryRule("auto", ("mend", "{run}"), ("stop", "{run}"))


@pytest.mark.real_time
def test_nothing_of_a_command_that_was_ended_for_its_time_is_left_beside_its_next_attempt(tmp_path: Path) -> None:
    script = (
        "import os,signal,sys,time,pathlib\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    ended = asyncio.run(run_command([sys.executable, "-c", script, str(tmp_path / "pid")], ENV, "/", 1.0))
    pid = int((tmp_path / "pid").read_text())
    try:
        assert ended.timed_out
        deadline = time.monotonic() + 5
        while _is_there(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _is_there(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_run_that_went_on_while_its_plan_waited_for_others_gets_no_command() -> None:
    async def scene(stage: Stage) -> None:
        many = AT_ONCE + 1

        def made(number: int, runner: int) -> Run:
            plain = run(task("build", 0, 500 + number), run_id=f"r{number}", folder=f"/crew/r{number}")
            return msgspec.structs.replace(plain, runner=ProcessClaim(runner, None, (MARK,), role="runner"))

        commands: list[str] = []
        slow = asyncio.Event()

        async def command(argv: Any, env: Any, cwd: str, seconds: float) -> Ended:
            commands.append(argv[1])
            await slow.wait()
            return Ended(0)

        recovering = stage.patrol.recovering
        recovering.options = RecoveryOptions((RULE,), deadline=600.0)
        recovering.logs = {"fake": lambda folder: LogSeen(7)}
        applier = Applier(
            recovering, stage.ledger, stage.clock, lambda events: None, lambda: stage.patrol.recorder.tidings,
            {}, lambda: 0.5, run_command=command,
        )  # fmt: skip
        for number in range(many):
            stage.processes.add(100 + number, marks=(MARK,))
            stage.processes.add(500 + number, marks=(MARK,))
            stage.source.put(made(number, 100 + number))
        await stage.seconds(60)
        for number in range(many):
            stage.processes.kill(100 + number)
            stage.processes.kill(500 + number)
        applying = asyncio.create_task(applier.run())
        try:
            await stage.rounds(5)
            assert len(commands) == AT_ONCE
            [left] = {f"r{number}" for number in range(many)} - set(commands)
            number = int(left[1:])
            stage.processes.add(900, marks=(MARK,))  # a person started it again by hand
            stage.source.put(made(number, 900))
            await stage.rounds(2)
            slow.set()
            await stage.rounds(3)
            assert left not in commands
            [plan] = [plan for plan in recovering.plans.values() if plan.run_id == left]
            assert plan.state is PlanState.WITHDRAWN
        finally:
            slow.set()
            applying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await applying

    play(scene)


def test_a_defect_of_what_watches_ends_no_round_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(stage: Stage) -> None:
        def broken(*words: Any, **more: Any) -> None:
            raise RuntimeError("a defect")

        stage.source.put(run(task("build", 0)))
        with monkeypatch.context() as patched:
            patched.setattr(Recovering, "look", broken)
            patched.setattr(Shadowing, "step", broken)
            snapshot = await stage.rounds(2)
        assert snapshot.health.round_number == 2
        assert all("RuntimeError" in snapshot.health.degraded[part] for part in ("recovery", "shadowing"))
        assert not (await stage.rounds(1)).health.degraded

    play(scene)


def test_a_clock_that_was_set_back_keeps_no_incident_damped_for_longer_than_its_noise_deserves() -> None:
    options = PatrolOptions()
    incidents, wall = Incidents(), 1_000_000.0
    dead = Incident("r/t", "dead", "critical", "dead", wall)
    for _ in range(8):
        incidents.set("r/t", [dead], wall, options=options)
        incidents.set("r/t", [], wall + 1, options=options)
        wall += 2
    incidents.set("r/t", [dead], wall, options=options)
    [known] = incidents.named("r/t", "dead")
    assert known.damped
    wall -= 900_000.0
    for _ in range(12):
        incidents.pass_time(wall, options)
        wall += options.damp_half_life
    [known] = incidents.named("r/t", "dead")
    assert not known.damped


@pytest.mark.real_time
def test_a_receiver_that_drips_after_a_slow_connection_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        taken, _ = listening.accept()
        with contextlib.suppress(OSError), taken:
            taken.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                taken.sendall(b"X: y\r\n"[:1])
                if over.wait(0.1):
                    return

    serving = threading.Thread(target=drip, daemon=True)
    serving.start()
    real = socket.create_connection

    def slowly(*words: Any, **more: Any) -> socket.socket:
        time.sleep(0.5)  # the first of its addresses did not answer
        return real(*words, **more)

    monkeypatch.setattr(socket, "create_connection", slowly)
    began = time.monotonic()
    try:
        with pytest.raises(NoAnswer, match="did not answer within"):
            Outgoing().ask("GET", f"http://127.0.0.1:{listening.getsockname()[1]}/", {}, b"", 0.3)
        assert time.monotonic() - began < 3
    finally:
        over.set()
        serving.join(5)
        listening.close()


def test_a_process_of_another_container_is_spared_though_its_folder_bears_the_same_name() -> None:
    folder = "/crews/r"
    owner = Owner("beat", "r", folder, began_at=5_000.0, ended_at=9_000.0)
    here = Here("host", "boot", 1, booted_at=1_000.0)

    def found(space: int) -> int:
        process = Bystander(
            Identity(40, 600_000, "boot", space), "node", "S", 1, 6_000.0, 100, ((STATE_ROOT, folder),)
        )
        return len(search([process], Known({folder: owner}, {}), here, (), 10_000.0).orphans)

    assert found(1) == 1 and found(0) == 1
    assert found(2) == 0


def test_a_sandbox_below_an_orphan_does_not_spare_the_orphan() -> None:
    folder = "/crews/r"
    owner = Owner("beat", "r", folder, began_at=5_000.0, ended_at=9_000.0)
    here = Here("host", "boot", 1, booted_at=1_000.0)
    marks = ((STATE_ROOT, folder),)
    agent = Bystander(Identity(40, 600_000, "boot", 1), "node", "S", 1, 6_000.0, 100, marks)
    sandbox = Bystander(Identity(41, 600_100, "boot", 2), "bwrap", "S", 40, 6_001.0, 100, marks)
    sighting = search([agent, sandbox], Known({folder: owner}, {}), here, (), 10_000.0)
    assert [each.process.identity.pid for each in sighting.orphans] == [40, 41]


def test_a_clock_that_was_set_back_puts_no_retry_of_a_command_off_for_ever() -> None:
    async def scene(stage: Stage) -> None:
        recovering = stage.patrol.recovering
        plan = RecoveryPlan(
            "0" * 16, "r", "fake", "fake:/crew", "crew", "/crew/r", Cause.ALL_EXITED, "", PlanState.APPROVED,
            (), (), 7, ("resume",), "", 1.0, due_at=1_000_000.0, delay=5.0,
        )  # fmt: skip
        recovering.keep(plan)
        recovering._ready[plan.plan_id] = None
        assert recovering.take_ready(999_996.0, 1) == []
        assert recovering.take_ready(100.0, 1) == [plan.plan_id]

    play(scene)
