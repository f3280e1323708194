"""Write a worker for crewd in a few lines: the worker's side of crewd-worker/1 (docs/reference/worker-protocol.md).

    import sys
    from crewd import worker

    def handle(task):
        for number, name in enumerate(task.payload["files"], 1):
            worker.progress(number, step=name)
            ...
        return {"files": number}

    sys.exit(worker.run(handle))

This file needs nothing but Python 3.9 or newer. It may be copied into any project, and imported from there.

`run` keeps stdout for messages: whatever the handler or a child of it prints goes to stderr. Heartbeats come from a
thread and say only that the process lives; that the work moves is said by `progress`, `chunk`, `log`, `usage` and
`artifact`. A cancel sets `cancelled` and makes the next of these calls raise `Cancelled`; SIGTERM, which follows if
that did not help, raises it wherever the handler is.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any, NamedTuple

__all__ = [
    "Cancelled", "Failed", "Task", "artifact", "busy", "cancelled", "check", "chunk", "log", "progress", "run",
    "sleep", "usage",
]  # fmt: skip

PROTOCOL = "crewd-worker/1"
LINE_BYTES_MAX = 1 << 20
CHUNK_MAX = 64 * 1024  # characters of one message
INTERVAL_MAX = 3600.0
DEPTH_MAX = 60  # of an output; the message around it is some levels deep itself
TEXT_MAX = 4096  # characters of a message or a traceback
STDIN, STDOUT, STDERR = 0, 1, 2


class Task(NamedTuple):
    """What is to be done."""

    id: str  # RUN/TASK/ATTEMPT
    run_id: str
    task_id: str
    attempt: int  # from 1
    fence: int  # grows with every attempt: pass it on to what must not obey a former one
    kind: str  # "task", or "preview": render, and do nothing
    payload: Any
    deadline_s: float | None  # seconds, from the start of the attempt
    variants: Mapping[str, str]
    traceparent: str
    resume: Any  # what an earlier attempt left to go on from; None: nothing
    message: Mapping[str, Any]  # the whole message, with fields that this file does not know


class Failed(Exception):
    """Raise it to say what went wrong. `error_class` is one of the classes of the protocol's page."""

    def __init__(
        self,
        error_class: str,
        message: str = "",
        retry_after: float | None = None,
        retryable: bool | None = None,
        guidance: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{error_class}: {message}")
        self.fields = {
            "class": error_class,
            "message": message[:TEXT_MAX],
            "retry_after_s": retry_after,
            "retryable": retryable,
            "guidance": guidance[:TEXT_MAX],
            "details": dict(details or {}),
        }


class Cancelled(BaseException):
    """The attempt was cancelled. Clean up and let it pass, like KeyboardInterrupt."""


cancelled = threading.Event()


def run(handler: Callable[[Task], Any], heartbeat_interval: float = 5.0) -> int:
    """Do one task and return the exit status for `sys.exit`.

    The handler may be a coroutine function, which is cancelled by asyncio. What it returns is the output. One that
    raises has failed: `Failed` says how, anything else is a worker_crash with the end of its traceback.
    """
    if not 0 < heartbeat_interval <= INTERVAL_MAX:
        raise ValueError(f"heartbeat_interval must lie between 0 and {INTERVAL_MAX:g} s: got {heartbeat_interval:g}")
    line = _Line(heartbeat_interval)
    _lines[:] = [line]
    line.send("ready", protocol=PROTOCOL, heartbeat_interval_s=heartbeat_interval)
    task = line.wait_for_task()
    if task is None:
        return 0
    with _signals(line):
        with line.beating():
            outcome, fields = _outcome_of(handler, task, line)
        return 0 if line.end(outcome, fields) == "result" else 1


def progress(value: Any = None, step: str = "") -> None:
    """Say that the work moves: a number, a text, anything that differs from the last time."""
    _current().move(value, step)


def chunk(text: str, stream: str = "stdout") -> None:
    """Give a piece of output as it comes; `stream` is "stdout" or "stderr"."""
    line = _current()
    for start in range(0, len(text), CHUNK_MAX):
        line.say("chunk", stream=stream, text=text[start : start + CHUNK_MAX])


def log(message: str, level: str = "info") -> None:
    """Leave a word in the log: debug, info, warning or error."""
    _current().say("log", msg=str(message)[:TEXT_MAX], level=level)


def usage(
    model: str,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cost_usd: float | None = None,
    cache_read_tokens: int = 0,
    cache_write_tokens: int = 0,
) -> None:
    """Say what one call of a model used. crewd adds up."""
    _current().say(
        "usage",
        model=model,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read_tokens,
        cache_write_tokens=cache_write_tokens,
        cost_usd=cost_usd,
    )


def artifact(path: str | os.PathLike[str]) -> None:
    """Name a file that was made, with its size and digest."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
            size += len(piece)
    _current().say("artifact", path=os.fspath(path), sha256=digest.hexdigest(), bytes=size)


@contextlib.contextmanager
def busy(seconds: float, tool: str = "") -> Iterator[None]:
    """Announce a silence: `with worker.busy(600, "make"): ...`. Nobody is worried before it is over."""
    line = _current()
    line.say("busy", until_s=seconds, tool=tool)
    try:
        yield
    finally:
        line.send("busy", id=line.id, until_s=0, tool=tool)


def check() -> None:
    """Raise Cancelled if the attempt was cancelled."""
    if cancelled.is_set():
        raise Cancelled


def sleep(seconds: float) -> None:
    """Wait; a cancel ends it with Cancelled."""
    cancelled.wait(seconds)
    check()


_lines: list[_Line] = []  # one, once `run` was called: a process works on one attempt


def _current() -> _Line:
    if not _lines or not _lines[0].id:
        raise RuntimeError("there is no task yet: call this from the handler that was given to run()")
    return _lines[0]


class _Line:
    """The two ends of the conversation, and what may be said on it."""

    def __init__(self, heartbeat_interval: float) -> None:
        self.id = ""
        self._interval = heartbeat_interval
        self._speaking = threading.RLock()
        self._ended = False
        self._torn = False  # a message could be written in part only
        self._seq = 0
        self._moved: dict[str, Any] = {}
        self._loop: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        # Of a signal: raise where the handler is, but never in the middle of a message.
        self._interruptible = False
        self._interrupted = False
        cancelled.clear()
        self._out, self._in = _take_standard_streams()
        self._heard = b""

    def send(self, kind: str, **fields: Any) -> None:
        """Write one message, whole."""
        self._write(_encode(kind, fields))

    def say(self, kind: str, **fields: Any) -> None:
        """Write a message of the handler. Raises Cancelled instead of going on with what nobody wants any more."""
        check()
        self.send(kind, id=self.id, **fields)

    def move(self, value: Any, step: str) -> None:
        said = {name: each for name, each in (("progress", value), ("step", step[:1024])) if each not in (None, "")}
        check()
        _encode("heartbeat", said)  # what cannot be said fails here, where its author sees it, and not in the thread
        with self._speaking:
            self._moved = said
        self._beat()

    def wait_for_task(self) -> Task | None:
        """Read until the task comes; None: it never will."""
        for message in self._messages():
            kind = message.get("type")
            if kind == "ping":
                self.send("pong")
            elif kind == "shutdown":
                return None
            elif kind == "task":
                self.id = message["id"]
                threading.Thread(target=self._listen, name="crewd-listen", daemon=True).start()
                return _task_of(message)
        return None

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Send heartbeats for as long as the handler works, and not a moment longer."""
        over = threading.Event()

        def beat() -> None:
            # Whoever cannot be told any more need not be told.
            with contextlib.suppress(OSError):
                while not over.wait(self._interval):
                    self._beat()

        self._beat()
        thread = threading.Thread(target=beat, name="crewd-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(self._interval + 1.0)

    def end(self, kind: str, fields: Mapping[str, Any]) -> str:
        """Write the terminal message, the only one and the last. Returns what it came to be."""
        try:
            data = _encode(kind, {"id": self.id, **fields})
        except (TypeError, ValueError, RecursionError) as error:
            # Of an error only the details can be at fault, and its class must not be lost with them.
            said = _unsayable(error) if kind == "result" else {**fields, "details": {"lost": str(error)[:TEXT_MAX]}}
            kind, data = "error", _encode("error", {"id": self.id, **said})
        with self._speaking:
            self._write(data)
            self._ended = True
        return kind

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Cancel from a signal handler."""
        cancelled.set()
        self._cancel_loop()
        if self._loop is not None:
            return
        if self._interruptible:
            self._interruptible = False  # once: what cleans up must not be hit again
            raise Cancelled
        self._interrupted = True

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a signal raise Cancelled within, in the main thread."""
        self._interruptible = True
        try:
            if self._interrupted:
                raise Cancelled
            yield
        finally:
            self._interruptible = False

    def run_coroutine(self, work: Any) -> Any:
        """Run a coroutine to its end; a cancel cancels it."""

        async def main() -> Any:
            own = asyncio.current_task()
            if own is None:
                raise RuntimeError("no task is current")
            self._loop = (asyncio.get_running_loop(), own)
            if cancelled.is_set():
                self._cancel_loop()
            return await work

        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            if not cancelled.is_set():
                raise
            raise Cancelled from None

    def _cancel_loop(self) -> None:
        if self._loop is not None:
            loop, task = self._loop
            with contextlib.suppress(RuntimeError):  # the loop is closed: the work is done
                loop.call_soon_threadsafe(task.cancel)

    def _beat(self) -> None:
        with self._speaking:
            if self._ended:
                return
            self._seq += 1
            self._write(_encode("heartbeat", {"id": self.id, "seq": self._seq, **self._moved}))

    def _write(self, data: bytes) -> None:
        if threading.current_thread() is not threading.main_thread():
            self._write_whole(data)
            return
        was, self._interruptible = self._interruptible, False
        try:
            self._write_whole(data)
        finally:
            self._interruptible = was
        if was and self._interrupted:
            self._interrupted = self._interruptible = False
            raise Cancelled

    def _write_whole(self, data: bytes) -> None:
        with self._speaking:
            if self._ended:
                return
            left = b"\n" + data if self._torn else data
            self._torn = True  # until the last byte is out
            while left:
                left = left[os.write(self._out, left) :]
            self._torn = False

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            for message in self._messages():
                kind = message.get("type")
                if kind == "ping":
                    self.send("pong")
                elif kind == "shutdown" or (kind == "cancel" and message.get("id") == self.id):
                    cancelled.set()
                    self._cancel_loop()

    def _messages(self) -> Iterator[dict[str, Any]]:
        # Not a buffered reader: a daemon thread inside one can block the end of the interpreter.
        while True:
            line, newline, rest = self._heard.partition(b"\n")
            if newline:
                self._heard = rest
                message = _decode(line)
                if message is not None:
                    yield message
                continue
            data = os.read(self._in, 1 << 16)
            if not data:
                return
            self._heard += data


def _outcome_of(handler: Callable[[Task], Any], task: Task, line: _Line) -> tuple[str, dict[str, Any]]:
    try:
        with line.interruptible():
            output = handler(task)
            if inspect.iscoroutine(output):
                output = line.run_coroutine(output)
        return "result", {"output": output}
    except Cancelled:
        return "error", {"class": "cancelled", "message": "cancelled"}
    except Failed as failed:
        return "error", {name: value for name, value in failed.fields.items() if value not in (None, "", {})}
    except BaseException as error:  # noqa: BLE001  # also SystemExit: the handler never says how a worker ends
        trace = traceback.format_exc()
        sys.stderr.write(trace)
        words = f"{type(error).__name__}: {error}"[:TEXT_MAX]
        return "error", {"class": "worker_crash", "message": words, "details": {"traceback": trace[-TEXT_MAX:]}}


def _unsayable(error: Exception) -> dict[str, Any]:
    """Say instead of an output why it cannot be sent."""
    return {
        "class": "output_invalid",
        "message": f"the output cannot be sent: {error}"[:TEXT_MAX],
        "guidance": "Return what JSON can hold; write what is large to a file and name it with worker.artifact().",
    }


def _encode(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Write a message as one line. Raises TypeError or ValueError where crewd would not read it."""
    sayable = {name: value for name, value in fields.items() if value is not None}
    _check_sayable(sayable, 0)
    text = json.dumps({"type": kind, **sayable}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A text that was cut within a surrogate pair is no UTF-8.
    data = text.encode("utf-8", "replace") + b"\n"
    if len(data) > LINE_BYTES_MAX:
        raise ValueError(f"{len(data)} bytes in one message, of at most {LINE_BYTES_MAX}")
    return data


def _check_sayable(value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        for name, each in value.items():
            # Of {1: .., "1": ..} json makes one key that stands twice.
            if not isinstance(name, str):
                raise TypeError(f"the key {name!r} is no text")
            _check_sayable(each, depth + 1)
    elif isinstance(value, (list, tuple)):
        for each in value:
            _check_sayable(each, depth + 1)


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _task_of(message: dict[str, Any]) -> Task:
    return Task(
        id=message["id"],
        run_id=message.get("run_id", ""),
        task_id=message.get("task_id", ""),
        attempt=message.get("attempt", 1),
        fence=message.get("fence", 0),
        kind=message.get("kind", "task"),
        payload=message.get("payload"),
        deadline_s=message.get("deadline_s"),
        variants=message.get("variants") or {},
        traceparent=message.get("traceparent", ""),
        resume=message.get("resume"),
        message=message,
    )


def _take_standard_streams() -> tuple[int, int]:
    """Keep stdout and stdin for the conversation; give everyone else stderr, and nothing to read."""
    out, into = os.dup(STDOUT), os.dup(STDIN)  # not inherited by children
    os.dup2(STDERR, STDOUT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, STDIN)
    os.close(nothing)
    return out, into


@contextlib.contextmanager
def _signals(line: _Line) -> Iterator[None]:
    """Treat SIGTERM and ^C as a cancel. In any other thread than the main one they are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, line.interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action if action is not None else signal.SIG_DFL)
