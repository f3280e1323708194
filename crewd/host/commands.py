"""Commands: a short program of the operator's, run to its end within a bounded time. No shell."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

KILLED_SECONDS = 5.0


class CannotRun(Exception):
    """The program could not be started. `passing`: it may be possible later."""

    def __init__(self, words: str, passing: bool) -> None:
        super().__init__(words)
        self.passing = passing


def run_command(command: Sequence[str], environ: Mapping[str, str], stdin: bytes, seconds: float) -> int | None:
    """Run a program with `stdin`, its output thrown away; returns its exit code. None: it was killed for its time.

    It stays in crewd's own session: whoever has another one is taken for what an attempt left behind.
    Blocks; for a thread. Raises CannotRun.
    """
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            process_group=0,
        )
    except (OSError, ValueError) as error:
        passing = isinstance(error, BlockingIOError | MemoryError)
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotRun(f"{command[0]}: {words}", passing) from None
    try:
        process.communicate(stdin, seconds)
    except subprocess.TimeoutExpired:
        _kill(process)
        return None
    except BaseException:
        _kill(process)
        raise
    return process.returncode


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill it with whatever it started in its group. It is not reaped yet, so that the number is still its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILLED_SECONDS)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def find_program(name: str, environ: Mapping[str, str]) -> str | None:
    """Where a program is; None: nowhere."""
    return shutil.which(name, path=environ.get("PATH", os.defpath))
