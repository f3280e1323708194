"""`crewd orphans`: processes that outlived their run, with real processes."""

import asyncio
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crewd.detection import orphan
from crewd.engine.orphans import Places, find_orphans
from crewd.host.clock import boot_id
from crewd.host.processes import ProcProcesses
from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.model.failure import ErrorClass
from crewd.model.managed import AttemptRecord, DeadLettered, ManagedRun, ManagedTask
from crewd.model.moment import rfc3339
from crewd.model.plan import RunPlan, TaskPlan
from crewd.model.run import RunStatus
from crewd.sources.beat import encode_beat
from tests.cli.world import crewd
from tests.fakes.clock import FakeClock
from tests.fakes.slow_source import Slow
from tests.sources.crew_folder import CrewFolder

pytestmark = pytest.mark.real_time
ENDED, LIVE = "r-ended", "r-live"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of these tests end a moment ago; nobody waits until their processes could have left by themselves."""
    monkeypatch.setattr(orphan, "LEAVING", -1.0)


@contextmanager
def process(script: str = "sleep 60; :", **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    child = subprocess.Popen(
        ["sh", "-c", f"echo ready; {script}"],
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **environ},
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield child
    finally:
        with_group = child.poll() is None
        if with_group:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def crew_with(tmp_path: Path, run_id: str, status: str, *tasks: dict[str, Any], began: float = 60.0) -> CrewFolder:
    now = time.time()
    crew = CrewFolder(tmp_path / "shop")
    crew.run(run_id, status, createdAt=rfc3339(now - began), updatedAt=rfc3339(now))
    crew.tasks(*tasks, run_id=run_id)
    return crew


def marked(tmp_path: Path, run_id: str, task_id: str = "01_a") -> dict[str, str]:
    folder = tmp_path / "shop/.crew/state/runs" / run_id
    return {"PI_CREW_STATE_ROOT": str(folder), "PI_CREW_RUN_ID": run_id, "PI_CREW_TASK_ID": task_id}


def listed(tmp_path: Path, *more: str) -> tuple[int, dict[str, Any]]:
    named = ("--root", str(tmp_path / "shop"), "--state-dir", str(tmp_path / "state"), "--json", *more)
    result = crewd("orphans", *named, folder=tmp_path)
    return result.exit_code, json.loads(result.stdout) if result.stdout else {"error": result.stderr}


def pids(answer: dict[str, Any]) -> set[int]:
    return {each["pid"] for each in answer["orphans"]}


def test_a_process_of_an_ended_run_is_listed_and_one_of_a_living_run_is_not(tmp_path: Path) -> None:
    with process(**marked(tmp_path, ENDED)) as left, process(**marked(tmp_path, LIVE)) as at_work, process():
        crew_with(tmp_path, ENDED, "failed")
        crew_with(tmp_path, LIVE, "running")
        code, answer = listed(tmp_path)
        assert code == 1
        (found,) = [each for each in answer["orphans"] if each["pid"] == left.pid]
        assert (found["run_id"], found["task_id"], found["runtime"]) == (ENDED, "01_a", "pi_crew")
        assert found["rss_with_children_bytes"] > found["rss_bytes"] > 0
        assert at_work.pid not in pids(answer)
        assert "r-live has not ended" in {each["because"] for each in answer["spared"]}


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    crew_with(tmp_path, ENDED, "failed")
    code, answer = listed(tmp_path)
    assert (code, answer["orphans"]) == (0, [])


def test_a_run_that_cannot_be_read_spares_its_processes(tmp_path: Path) -> None:
    with process(**marked(tmp_path, ENDED)) as left:
        crew_with(tmp_path, ENDED, "failed").write(ENDED, "manifest.json", '{"runId": "r-en')
        code, answer = listed(tmp_path)
        assert (code, left.pid in pids(answer)) == (0, False)


def test_a_process_that_started_after_the_end_is_spared(tmp_path: Path) -> None:
    crew = crew_with(tmp_path, ENDED, "failed")
    crew.run(ENDED, "failed", createdAt=rfc3339(time.time() - 60), updatedAt=rfc3339(time.time() - 30))
    with process(**marked(tmp_path, ENDED)) as resumed:
        assert resumed.pid not in pids(listed(tmp_path)[1])


def test_a_recorded_worker_is_proven_by_the_time_of_its_start_and_a_reused_pid_is_not(tmp_path: Path) -> None:
    before = time.time()
    with process() as worker:
        record = {"id": "01_a", "status": "failed", "startedAt": rfc3339(before)}
        spawned = {"phase": "child-spawned", "childPid": worker.pid, "updatedAt": rfc3339(time.time())}
        crew = crew_with(tmp_path, ENDED, "failed", {**record, "checkpoint": spawned})
        assert worker.pid in pids(listed(tmp_path)[1])
        settings = tmp_path / "crewd.toml"
        settings.write_text('[sources]\nprocesses = "elsewhere"\n')
        # A bare pid of another container may be anybody's here.
        assert worker.pid not in pids(listed(tmp_path, "--config", str(settings))[1])
        spawned["updatedAt"] = rfc3339(before - 30)
        crew.tasks({**record, "startedAt": rfc3339(before - 60), "checkpoint": spawned}, run_id=ENDED)
        assert worker.pid not in pids(listed(tmp_path)[1])


def test_the_pid_of_a_heartbeat_may_be_the_persons_own_session(tmp_path: Path) -> None:
    before = time.time()
    with process() as session:
        beat = {"pid": session.pid, "lastSeenAt": rfc3339(time.time())}
        crew = crew_with(
            tmp_path,
            ENDED,
            "failed",
            {"id": "a", "status": "failed", "startedAt": rfc3339(before), "heartbeat": beat},
        )
        crew.write(ENDED, "heartbeat.json", json.dumps({"pid": session.pid, "at": int(time.time() * 1000)}))
        assert session.pid not in pids(listed(tmp_path)[1])


def test_the_worker_of_an_ended_beat_is_proven_by_its_recorded_identity(tmp_path: Path) -> None:
    with process() as worker:
        facts = ProcProcesses().facts(worker.pid)
        assert facts is not None
        path = tmp_path / "beats/b-1/t.json"
        path.parent.mkdir(parents=True)

        def write(start_ticks: int) -> None:
            end = encode_beat(
                run="b-1",
                task="t",
                seq=2,
                at=time.time(),
                status="failed",
                pid=worker.pid,
                start_ticks=start_ticks,
                boot_id=boot_id(),
            )
            path.write_bytes(end)

        write(facts.identity.start_ticks)
        assert worker.pid in pids(listed(tmp_path, "--beat-root", str(tmp_path / "beats"))[1])
        write(facts.identity.start_ticks + 1)
        assert worker.pid not in pids(listed(tmp_path, "--beat-root", str(tmp_path / "beats"))[1])


def write_attempt(state: Path, task_id: str) -> None:
    now = time.time()
    attempt = AttemptRecord(1, 1, now - 60, now, ErrorClass.WORKER_CRASH)
    plan = RunPlan(run_id="m-1", crew="c", tasks=(TaskPlan(task_id=task_id, command=("true",), cwd="/"),))
    over = DeadLettered(now, 1, "max-retries", ErrorClass.WORKER_CRASH, "key")

    async def write() -> None:
        ledger = Ledger.open(state, FakeClock())
        task = ManagedTask("m-1", task_id, over, 1, (attempt,))
        await ledger.commit(Batch(managed=(ManagedRun(plan, RunStatus.FAILED, now - 60),), tasks=(task,)))
        await ledger.close()

    asyncio.run(write())


def test_what_is_left_of_a_managed_attempt_that_is_over_is_listed(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    attempts = tmp_path / "state/runs/m-1"
    with (
        process(CREWD_ATTEMPT_DIR=f"{attempts}/build/1") as left,
        process(CREWD_ATTEMPT_DIR=f"{attempts}/build/2") as unknown,
        process(CREWD_ATTEMPT_DIR=f"{attempts}/../m-1/build/1") as odd,
    ):
        write_attempt(tmp_path / "state", "build")
        answer = listed(tmp_path)[1]
        assert left.pid in pids(answer)
        assert not {unknown.pid, odd.pid} & pids(answer)


def stopped(tmp_path: Path, *more: str) -> tuple[int, dict[int, str], str]:
    named = ("--root", str(tmp_path / "shop"), "--state-dir", str(tmp_path / "state"), "--json", "--stop", *more)
    result = crewd("orphans", *named, folder=tmp_path)
    told = json.loads(result.stdout)["stopped"] if result.stdout else []
    return result.exit_code, {each["pid"]: each["outcome"] for each in told}, result.stderr


def test_they_are_stopped_one_by_one_and_nobody_else_is(tmp_path: Path) -> None:
    environ = marked(tmp_path, ENDED)
    with (
        process("exec sleep 60", **environ) as listens,
        process("trap '' TERM; while :; do :; done", **environ) as ignores,
        process("exec sleep 60", **environ) as halted,
        process("exec sleep 60", **marked(tmp_path, LIVE)) as at_work,
    ):
        os.kill(halted.pid, signal.SIGSTOP)
        os.waitpid(halted.pid, os.WUNTRACED)
        crew_with(tmp_path, ENDED, "failed")
        crew_with(tmp_path, LIVE, "running")
        code, outcomes, _ = stopped(tmp_path, "--yes", "--grace", "0.5")
        assert code == 0
        assert (outcomes[listens.pid], outcomes[ignores.pid], outcomes[halted.pid]) == ("ended", "killed", "ended")
        assert at_work.poll() is None
        assert listed(tmp_path)[0] == 0


def test_without_a_terminal_stopping_wants_a_yes(tmp_path: Path) -> None:
    with process("exec sleep 60", **marked(tmp_path, ENDED)) as left:
        crew_with(tmp_path, ENDED, "failed")
        code, outcomes, words = stopped(tmp_path)
        assert (code, outcomes) == (2, {})
        assert "add --yes" in words
        assert left.poll() is None


@pytest.mark.parametrize(("typed", "code"), [("1", 0), ("y", 2), ("", 2)])
def test_on_a_terminal_the_number_is_typed(tmp_path: Path, typed: str, code: int) -> None:
    with process("exec sleep 60", **marked(tmp_path, ENDED)) as left:
        crew_with(tmp_path, ENDED, "failed")
        ours, theirs = pty.openpty()
        script = (
            "import sys; from crewd.detection import orphan; orphan.LEAVING = -1.0; "
            "from crewd.cli.main import cli; cli(sys.argv[1:])"
        )
        named = ["orphans", "--root", str(tmp_path / "shop"), "--state-dir", str(tmp_path / "state"), "--stop"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CREWD_", "PI_CREW_"))}
        asked = subprocess.Popen(
            [sys.executable, "-c", script, *named], stdin=theirs, env={**kept, "HOME": str(tmp_path)}
        )
        os.write(ours, typed.encode() + b"\n")
        assert asked.wait(30) == code
        assert (left.poll() is None) is (code != 0)
        os.close(ours)
        os.close(theirs)


def test_a_name_with_escapes_does_no_harm(tmp_path: Path) -> None:
    odd = tmp_path / "\x1b[31mx"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(odd), "60"], env=marked(tmp_path, ENDED))
    try:
        time.sleep(0.1)
        crew_with(tmp_path, ENDED, "failed")
        named = ("--root", str(tmp_path / "shop"), "--state-dir", str(tmp_path / "state"))
        result = crewd("orphans", *named, folder=tmp_path)
        assert result.exit_code == 1
        assert str(child.pid) in result.stdout
        assert "\x1b" not in result.stdout
    finally:
        child.kill()
        child.wait()


def test_yes_without_stop_makes_no_sense(tmp_path: Path) -> None:
    assert crewd("orphans", "--yes", folder=tmp_path).exit_code == 2


def test_unusable_settings_leave_with_78(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("patrol = 7\n")
    assert crewd("orphans", "--config", str(tmp_path / "bad.toml"), folder=tmp_path).exit_code == 78


SERVER = """
import pty, sys, time
for line in sys.stdin:
    if pty.fork()[0] == 0:
        time.sleep(60)
    print("opened", flush=True)
"""


def spared_why(answer: dict[str, Any], pid: int) -> str:
    return next((str(each["because"]) for each in answer["spared"] if each["pid"] == pid), "")


def until_spared(tmp_path: Path, pid: int) -> dict[str, Any]:
    """A child leads a session a moment after it was begun."""
    until = time.monotonic() + 20
    while pid in pids(answer := listed(tmp_path)[1]) and time.monotonic() < until:
        time.sleep(0.05)
    assert pid not in pids(answer)
    return answer


def test_a_server_that_an_agent_began_is_left_alone_once_somebody_opened_a_terminal_in_it(tmp_path: Path) -> None:
    """A stand-in for a multiplexer: whatever is opened in it inherits the marks of the run that is over."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], **marked(tmp_path, ENDED)},
        start_new_session=True,
    )
    try:
        assert server.stdin is not None and server.stdout is not None
        crew = crew_with(tmp_path, ENDED, "completed")
        crew.run(ENDED, "completed", createdAt=rfc3339(time.time() - 60), updatedAt=rfc3339(time.time()))
        assert server.pid in pids(listed(tmp_path)[1])
        time.sleep(orphan.CLOCK_SLACK + 0.2)
        server.stdin.write(b"another\n")
        server.stdin.flush()
        assert server.stdout.readline() == b"opened\n"
        answer = until_spared(tmp_path, server.pid)
        assert "terminal was opened below it after its run had ended" in spared_why(answer, server.pid)
        named = ("--root", str(tmp_path / "shop"), "--state-dir", str(tmp_path / "state"))
        told = crewd("orphans", *named, folder=tmp_path).stdout
        line = next(line for line in told.splitlines() if line.split()[0] == str(server.pid))
        assert "terminal was opened below it" in line and "left alone, although" in told
    finally:
        server.kill()
        server.communicate()


def test_a_server_with_a_session_below_it_that_bears_no_mark_is_left_alone(tmp_path: Path) -> None:
    script = "env -i setsid sleep 60 & echo begun; wait"
    with process(script, **marked(tmp_path, ENDED)) as server:
        assert server.stdout is not None and server.stdout.readline() == b"begun\n"
        crew_with(tmp_path, ENDED, "completed")
        answer = until_spared(tmp_path, server.pid)
        assert "bears no mark" in spared_why(answer, server.pid)
        for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_real_multiplexer_that_an_agent_began_is_left_alone_once_a_person_uses_it(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as short:  # the path of a socket is short

        def tmux(*words: str, **environ: str) -> str:
            program = ["tmux", "-S", f"{short}/s", "-f", "/dev/null", *words]
            done = subprocess.run(
                program, env={"PATH": os.environ["PATH"], **environ}, check=True, capture_output=True, timeout=20
            )
            return done.stdout.decode().strip()

        tmux("new-session", "-d", "-s", "agents", "sleep 60", **marked(tmp_path, ENDED))
        try:
            server = int(tmux("display-message", "-p", "#{pid}"))
            crew_with(tmp_path, ENDED, "completed")
            answer = listed(tmp_path)[1]
            assert server in pids(answer), answer
            time.sleep(orphan.CLOCK_SLACK + 0.2)
            pane = int(tmux("new-session", "-d", "-P", "-F", "#{pane_pid}", "-s", "mine", "sleep 61"))
            answer = until_spared(tmp_path, server)
            assert pane not in pids(answer)
            assert "terminal was opened below it" in spared_why(answer, server)
            assert listed(tmp_path, "--stop", "--yes")[1]["orphans"] == []
            assert tmux("list-sessions", "-F", "#{session_name}").split() == ["agents", "mine"]
        finally:
            tmux("kill-server")


def test_a_root_that_does_not_answer_is_told_and_waited_for_no_longer() -> None:
    hung = Slow("hung", hangs=True)
    began = time.monotonic()
    found = find_orphans(Places((hung, Slow("well")), None, "/none", look_timeout=0.2), ProcProcesses(), FakeClock())
    hung.let.set()
    assert time.monotonic() - began < 10
    assert [each for each in found.complaints if "/hung: it does not answer within 0.2 s" in each]
