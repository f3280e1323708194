"""Running one command that the operator configured: no shell, bounded time, the end of what it said."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_random_exponential

OUTPUT_MAX = 4096  # bytes kept of what a command says
GRACE = 2.0  # seconds between SIGTERM and SIGKILL
SPAWNS_MAX = 5  # tries while the machine is short of something
PASSING = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True)
class Ended:
    """How a command ended. One that was never started has `spawn_error`, and no code."""

    code: int | None = None  # negative: the number of the signal that ended it
    timed_out: bool = False
    output: str = ""  # the end of stdout and stderr, as they came
    spawn_error: str = ""
    passing: bool = False  # it could not be started because the machine was short of something


async def run_command(argv: Sequence[str], env: Mapping[str, str], cwd: str, seconds: float) -> Ended:
    """Run it to its end, or end it and its process group after `seconds`.

    What it left running in sessions of its own is left alone: a command that starts a runner is over once that runs.
    Never raises OSError.
    """
    with tempfile.TemporaryFile() as said:
        try:
            process = await _started(argv, env, cwd, said)
        except (OSError, ValueError) as error:
            words = f"{argv[0]}: {getattr(error, 'strerror', None) or error}"
            return Ended(spawn_error=words, passing=_is_passing(error))
        timed_out = not await _over(process, seconds)
        return Ended(process.returncode, timed_out, _tail(said))


async def _started(
    argv: Sequence[str], env: Mapping[str, str], cwd: str, said: BinaryIO
) -> "subprocess.Popen[bytes]":
    retrying = AsyncRetrying(
        retry=retry_if_exception(_is_passing),
        stop=stop_after_attempt(SPAWNS_MAX),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            # A group of its own, so that it can be ended whole; in crewd's session, by which crewd knows its children
            # from what attempts leave behind (subreaper.py). A file takes what it says: whoever holds a pipe open
            # after it would be waited for.
            return subprocess.Popen(  # noqa: ASYNC220 -- a fork waits for nobody
                list(argv),
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                process_group=0,
            )
    raise AssertionError("unreachable: tenacity returns or raises")


async def _over(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Wait for the end of a command; False: it was ended."""
    exited = asyncio.Event()
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, exited.set)
    in_time = False
    try:
        async with asyncio.timeout(seconds):
            await exited.wait()
        in_time = True
        return True
    except TimeoutError:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await exited.wait()
        return False
    finally:
        # Its leader is not reaped yet, so that the number of its group is nobody else's. One that heard SIGTERM may
        # leave others in the group who did not: its next attempt must not run beside them.
        if not in_time:
            _signal(process, signal.SIGKILL)
        loop.remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel may hold on to it for a while
            process.wait(1.0)


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _is_passing(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in PASSING


def _tail(said: BinaryIO) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - OUTPUT_MAX))
    return said.read(OUTPUT_MAX).decode("utf-8", "replace").strip()
