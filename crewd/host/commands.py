"""Commands: a short program of the operator's, run to its end within a bounded time. No shell.

Blocking, for a thread of its own: not even the start of a program keeps a round waiting, and another thread can end
it. What is run for a recovery (operator_command.py) differs in all of that: it is awaited, heard, and ended gently.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import BinaryIO

KILLED_SECONDS = 5.0


class CannotRun(Exception):
    """The program could not be started. `passing`: it may be possible later."""

    def __init__(self, words: str, passing: bool) -> None:
        super().__init__(words)
        self.passing = passing


class Commands:
    """Runs one program at a time, which another thread can end together with all that come after it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None  # started, and not reaped yet: its number is its own
        self._aborted = False

    def run(self, command: Sequence[str], environ: Mapping[str, str], stdin: bytes, seconds: float) -> int | None:
        """Run a program with `stdin`, its output thrown away; returns its exit code. None: killed for its time.

        It stays in crewd's own session: whoever has another one is taken for what an attempt left behind.
        Raises CannotRun.
        """
        # A file, since a program need not read what it is given, and a pipe would wait for it.
        with tempfile.TemporaryFile() as given:
            given.write(stdin)
            given.seek(0)
            process = self._start(command, environ, given)
        exited = False
        try:
            exited = _is_over(process, seconds)
        finally:
            with self._turn:
                self._process = None  # from here on nobody else ends it: its number may soon be another's
            if not exited:
                _kill_group(process)
            # Whoever aborts does not wait here as well: the kernel may hold on to it for a while.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(KILLED_SECONDS)
        return process.returncode if exited else None

    def abort(self) -> None:
        """End the program at hand with whatever it started in its group, and start none any more."""
        with self._turn:
            self._aborted = True
            if self._process is not None:
                _kill_group(self._process)

    def _start(
        self, command: Sequence[str], environ: Mapping[str, str], given: BinaryIO
    ) -> "subprocess.Popen[bytes]":
        with self._turn:
            if self._aborted:
                raise CannotRun(f"{command[0]}: crewd is stopping", passing=True)
            try:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=dict(environ),
                    process_group=0,
                )
            except (OSError, ValueError) as error:
                passing = isinstance(error, BlockingIOError | MemoryError)
                words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                raise CannotRun(f"{command[0]}: {words}", passing) from None
            return self._process


def _is_over(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Wait for the end of a program, which is not reaped by that; False: it has not come in time."""
    descriptor = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000.0))
    finally:
        os.close(descriptor)


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def find_program(name: str, environ: Mapping[str, str]) -> str | None:
    """Where a program is; None: nowhere."""
    return shutil.which(name, path=environ.get("PATH", os.defpath))
