"""A process whose conversation is tried out: started, spoken to, heard, and ended with all that it leaves behind."""

import contextlib
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from crewd.model.failure import Exit
from crewd.sources.managed.conversation import Conversation, Heard, TerminalHeard
from crewd.sources.managed.framing import Lines, TooLong
from crewd.sources.managed.messages import ToWorker, encode

INTERVAL = 10.0  # seconds between heartbeats of a worker that declares none
STDERR_KEPT = 16 * 1024
READS_AT_END = 1024  # of what a descendant may go on to write for ever


class CannotStart(Exception):
    """The command is not there, or may not be run."""


@dataclass
class Talk:
    """What was seen of one conversation, besides what the worker said."""

    began: float
    ready: float | None = None  # seconds after the start
    tasked: float | None = None
    ended: float | None = None  # when the terminal message came
    cancelled: float | None = None
    beats: list[float] = field(default_factory=list)  # times of life while it worked
    leased: bool = False
    heard: list[Heard] = field(default_factory=list)
    exit: Exit | None = None


class Worker:
    """The process that is examined, and the other side of its conversation. Use it with `with`: it ends there."""

    def __init__(self, command: Sequence[str], id: str, folder: str) -> None:
        self.id = id
        self.conversation = Conversation(id)
        self._lines = Lines()
        self._stderr = b""
        self._unsent = b""
        self._process = _start(command, {**os.environ, **_environment(id, folder)})
        self.pid = self._process.pid
        self.talk = Talk(time.monotonic())
        self.looked = self.talk.began
        self._pidfd = os.pidfd_open(self.pid)
        self._selector = selectors.DefaultSelector()
        for file, react in ((self._process.stdout, self._read), (self._process.stderr, self._read_stderr)):
            assert file is not None
            os.set_blocking(file.fileno(), False)
            self._selector.register(file, selectors.EVENT_READ, react)
        assert self._process.stdin is not None
        self._stdin = self._process.stdin.fileno()
        os.set_blocking(self._stdin, False)
        self._selector.register(self._pidfd, selectors.EVENT_READ, self._note_exit)

    @property
    def interval(self) -> float:
        """Seconds from one heartbeat to the next."""
        return self.conversation.heartbeat_interval or INTERVAL

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come of its task."""
        return self.talk.ended is not None or self.talk.exit is not None or self.conversation.is_refused

    @property
    def stderr(self) -> str:
        """The end of what it wrote there."""
        return self._stderr.decode(errors="replace")

    def send(self, message: ToWorker) -> None:
        """Send a message, as far as the worker reads; the rest follows while others are waited for."""
        self._unsent += encode(message)
        self._write()

    def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Listen until the condition holds, or the time is over."""
        end = time.monotonic() + seconds
        while not condition() and (left := end - time.monotonic()) > 0:
            # What it does not read at once is offered anew: a full pipe must not hold us up.
            for key, _ in self._selector.select(min(left, 0.05) if self._unsent else left):
                key.data(key.fd)
            self._write()
        self.looked = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not reaped yet, so that the number of its group is nobody else's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        _kill_marked(f"CREWD_ATTEMPT={self.id}")
        self._selector.close()
        os.close(self._pidfd)
        for file in (self._process.stdin, self._process.stdout, self._process.stderr):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
        self._process.wait()

    def _write(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._stdin, self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent = b""

    def _read(self, fd: int) -> None:
        data = _read_some(fd)
        if data == b"":
            self._selector.unregister(fd)
        for line in self._lines.feed(data or b""):
            self._hear(line)

    def _read_stderr(self, fd: int) -> None:
        data = _read_some(fd)
        if data == b"":
            self._selector.unregister(fd)
        self._stderr = (self._stderr + (data or b""))[-STDERR_KEPT:]

    def _note_exit(self, fd: int) -> None:
        self._selector.unregister(fd)
        # What it wrote before its end is there already; a descendant may hold the other end open for ever.
        assert self._process.stdout is not None
        stdout = self._process.stdout.fileno()
        for _ in range(READS_AT_END):
            if stdout not in self._selector.get_map() or not _is_readable(stdout):
                break
            self._read(stdout)
        if rest := self._lines.rest():
            self._hear(rest)
        told = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
        if told is not None:
            by_itself = told.si_code == os.CLD_EXITED
            self.talk.exit = Exit(code=told.si_status) if by_itself else Exit(signal=told.si_status)

    def _hear(self, line: bytes | TooLong) -> None:
        now, talk = time.monotonic(), self.talk
        before = self.conversation.seq
        heard = self.conversation.hear(line, now)
        talk.heard += heard
        if talk.ready is None and self.conversation.is_ready:
            talk.ready = now - talk.began
        if talk.tasked is not None and self.conversation.seq != before:
            talk.beats.append(now)
        talk.leased |= self.conversation.lease(now) is not None
        if any(isinstance(each, TerminalHeard) for each in heard):
            talk.ended = now


def _start(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, env=environ, start_new_session=True, bufsize=0
        )
    except OSError as error:
        raise CannotStart(f"{command[0]} cannot be started: {error.strerror or error}") from None


def _environment(id: str, folder: str) -> Mapping[str, str]:
    run_id, task_id, attempt = id.split("/")
    return {
        "CREWD_ATTEMPT": id,
        "CREWD_RUN_ID": run_id,
        "CREWD_TASK_ID": task_id,
        "CREWD_ATTEMPT_NUMBER": attempt,
        "CREWD_FENCE": attempt,
        "CREWD_ATTEMPT_DIR": folder,
    }


def _read_some(fd: int) -> bytes | None:
    """Read what is there. b"": nothing will come any more; None: nothing just now."""
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return None


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _kill_marked(mark: str) -> None:
    """End whatever carries the mark in its environment, in whichever session it hides, until nothing does."""
    for _ in range(100):
        found = list(_marked(mark.encode()))
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                try:
                    if _carries(pid, mark.encode()):  # still the one that was found: the handle is its own
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)
        if not found:
            return
        time.sleep(0.01)


def _marked(mark: bytes) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _carries(int(entry.name), mark):
            yield int(entry.name)


def _carries(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False  # gone, or another user's
