"""Commands of the operator end, or are ended; what they leave running is left alone; no shell is involved."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crewd.host.operator_command import OUTPUT_MAX, Ended, run_command

pytestmark = pytest.mark.real_time
ENV = {"PATH": os.environ.get("PATH", os.defpath)}


def run(script: str, *words: str, seconds: float = 20.0, cwd: str = "/") -> Ended:
    return asyncio.run(run_command([sys.executable, "-c", script, *words], ENV, cwd, seconds))


def test_a_command_tells_its_exit_and_the_end_of_what_it_said(tmp_path: Path) -> None:
    ended = run("import os,sys; print('x' * 9000); print(os.getcwd(), sys.argv[1]); sys.exit(3)", "$HOME; *", cwd=str(tmp_path))  # fmt: skip  # noqa: E501
    assert ended.code == 3 and not ended.timed_out
    assert ended.output.endswith(f"{tmp_path} $HOME; *") and len(ended.output) <= OUTPUT_MAX


def test_a_command_that_does_not_end_is_ended_with_its_group() -> None:
    began = time.monotonic()
    ended = run("import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", seconds=0.5)
    assert ended.timed_out and ended.code == -signal.SIGKILL and time.monotonic() - began < 20


def test_a_runner_that_it_leaves_behind_is_neither_waited_for_nor_ended(tmp_path: Path) -> None:
    script = (
        "import subprocess,sys,pathlib; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        "start_new_session=True); pathlib.Path(sys.argv[1]).write_text(str(p.pid))"
    )
    began = time.monotonic()
    ended = run(script, str(tmp_path / "pid"))
    pid = int((tmp_path / "pid").read_text())
    try:
        assert ended.code == 0 and time.monotonic() - began < 20
        os.kill(pid, 0)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_program_that_is_not_there_is_told_by_name() -> None:
    ended = asyncio.run(run_command(["/no/such/program"], ENV, "/", 5))
    assert ended.code is None and "/no/such/program" in ended.spawn_error and not ended.passing


@pytest.mark.parametrize(("failures", "starts"), [(2, True), (9, False)])
def test_what_passes_is_tried_again_and_what_does_not_pass_is_told(
    failures: int, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = subprocess.Popen, [failures]

    def short_of_processes(*words: object, **more: object) -> object:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return real(*words, **more)  # type: ignore[call-overload]  # the same words as they came

    monkeypatch.setattr(subprocess, "Popen", short_of_processes)
    ended = run("")
    assert (ended.code == 0, ended.passing) == (starts, not starts)
