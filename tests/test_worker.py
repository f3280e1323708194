"""The module for workers: real processes that speak crewd-worker/1, and what a handler may do to them."""

import ast
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crewd import worker
from crewd.sources.managed.conversation import Conversation, TerminalHeard
from crewd.sources.managed.framing import Lines
from crewd.sources.managed.messages import (
    Busy,
    Cancel,
    Chunk,
    Error,
    FromWorker,
    Heartbeat,
    Ping,
    Pong,
    Result,
    Shutdown,
    TaskMessage,
    ToWorker,
    decode,
    encode,
)

pytestmark = pytest.mark.real_time

ID = "run/task/2"
SOURCE = Path(worker.__file__)
PATIENCE = 20.0  # seconds of silence; nothing here takes one

PREAMBLE = "import asyncio, os, signal, subprocess, sys, time\nimport worker\n"


class Spoken:
    """A worker process and its conversation."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.said = Conversation(ID)
        self.messages: list[FromWorker] = []
        self._lines = Lines()

    def tell(self, *messages: ToWorker) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(encode(each) for each in messages))
        self.process.stdin.flush()

    def give(self, payload: Any = None, **fields: Any) -> None:
        self.tell(
            TaskMessage(id=ID, run_id="run", task_id="task", attempt=2, fence=5, payload=payload, **fields),
        )

    def hear_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self._hear_some(), self.messages

    def end(self) -> int:
        """Hear it out to its end. Everything that it wrote was a message in its place."""
        while self._hear_some():
            pass
        status = self.process.wait(PATIENCE)
        assert (self.said.bad_lines, self.said.late, self._lines.rest()) == (0, 0, b"")
        return status

    def _hear_some(self) -> bool:
        """Wait for something to hear. False: nothing will come any more."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], self.messages
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        for line in self._lines.feed(data):
            self.said.hear(line, 0.0)
            message = decode(line)
            assert isinstance(message, FromWorker), line
            self.messages.append(message)
        return bool(data)

    def heard(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.messages if isinstance(each, kind)]

    @property
    def stderr(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@contextlib.contextmanager
def running(folder: Path, handler: str, run: str = "sys.exit(worker.run(handle, 0.05))") -> Iterator[Spoken]:
    """Run a handler with a copy of the module beside it, as a project would that has no crewd."""
    (folder / "worker.py").write_bytes(SOURCE.read_bytes())
    (folder / "main.py").write_text(f"{PREAMBLE}{handler}\n{run}\n")
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); import main"],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=folder,
    )
    with process:
        try:
            yield Spoken(process)
        finally:
            process.kill()


def outcome(folder: Path, handler: str, payload: Any = None) -> tuple[Spoken, Any, int]:
    """Give a handler one task and hear it out."""
    with running(folder, handler) as spoken:
        spoken.give(payload)
        status = spoken.end()
        return spoken, spoken.said.terminal, status


def error_of(folder: Path, handler: str, payload: Any = None) -> Error:
    spoken, terminal, status = outcome(folder, handler, payload)
    assert isinstance(terminal, Error), spoken.messages
    assert status == 1
    return terminal


def test_the_syntax_is_that_of_python_3_9_and_nothing_but_the_standard_library_is_imported() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names


def test_a_handler_returns_its_output(tmp_path: Path) -> None:
    spoken, terminal, status = outcome(tmp_path, "def handle(task): return {'got': task.payload}", {"a": [1]})
    assert (terminal, status) == (Result(ID, {"got": {"a": [1]}}), 0)
    assert spoken.said.heartbeat_interval == 0.05


def test_a_task_carries_what_crewd_said(tmp_path: Path) -> None:
    with running(tmp_path, "def handle(task): return task[:-1]") as spoken:
        spoken.give("p", deadline_s=9.0, variants={"a": "b"}, traceparent="00-x", kind="preview", resume={"r": 1})
        spoken.end()
    assert spoken.said.terminal == Result(
        ID, [ID, "run", "task", 2, 5, "preview", "p", 9.0, {"a": "b"}, "00-x", {"r": 1}]
    )


def test_everything_that_a_handler_may_say_is_heard(tmp_path: Path) -> None:
    handler = """
def handle(task):
    with worker.busy(60, "make"):
        worker.progress(1, step="one")
    worker.usage("m", 10, 2, cost_usd=0.5)
    worker.usage("m", 1)
    worker.chunk("a\\u2028b" * 50_000)
    worker.log("hello")
    open("made", "w").write("abc")
    worker.artifact("made")
    worker.progress("half")
"""
    spoken, terminal, _ = outcome(tmp_path, handler)
    said = spoken.said
    assert terminal == Result(ID)
    assert said.usage is not None and (said.usage.input, said.usage.cost_usd) == (11, 0.5)
    assert "".join(each.text for each in spoken.heard(Chunk)) == "a\u2028b" * 50_000
    (made,) = said.artifacts
    assert (made.path, made.bytes) == ("made", 3)
    assert made.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert [each.until_s for each in spoken.heard(Busy)] == [60, 0]
    assert said.progress == "half"


def test_prints_of_the_handler_and_its_children_go_to_stderr_and_nobody_else_reads_stdin(tmp_path: Path) -> None:
    handler = """
print("noise at import")
def handle(task):
    print("noise")
    os.write(1, b"more noise\\n")
    subprocess.run(["echo", "noise of a child"])
    return [sys.stdin.read(), subprocess.run(["cat"], capture_output=True).stdout.decode()]
"""
    with running(tmp_path, handler) as spoken:
        spoken.give()
        spoken.tell(Ping())
        spoken.hear_until(lambda: spoken.said.terminal is not None)
        stderr = spoken.stderr
    assert spoken.said.terminal == Result(ID, ["", ""])
    assert sorted(stderr.split("\n")) == ["", "more noise", "noise", "noise at import", "noise of a child"]


def test_heartbeats_come_while_the_handler_works_and_none_after_the_end(tmp_path: Path) -> None:
    spoken, _, _ = outcome(tmp_path, "def handle(task): time.sleep(0.5)")
    beats = [each.seq for each in spoken.heard(Heartbeat)]
    assert len(beats) >= 4
    assert beats == list(range(1, len(beats) + 1))
    assert isinstance(spoken.messages[-1], Result)


def test_heartbeats_alone_do_not_claim_that_the_work_moves(tmp_path: Path) -> None:
    handler = """
def handle(task):
    worker.progress(1)
    time.sleep(0.4)
    worker.progress(2)
"""
    spoken, _, _ = outcome(tmp_path, handler)
    # ready, 1, 2, result
    assert spoken.said.moves == 4
    assert spoken.said.seq > 6


def test_a_ping_is_answered_before_and_during_the_task(tmp_path: Path) -> None:
    with running(tmp_path, "def handle(task): worker.sleep(30)") as spoken:
        spoken.tell(Ping())
        spoken.hear_until(lambda: spoken.said.is_ready)
        spoken.give()
        spoken.tell(Ping())
        spoken.hear_until(lambda: len(spoken.heard(Pong)) == 2)


def test_failed_says_what_went_wrong(tmp_path: Path) -> None:
    handler = "def handle(task): raise worker.Failed('rate_limited', 'slow down', retry_after=7, details={'n': 1})"
    assert error_of(tmp_path, handler) == Error(ID, "rate_limited", "slow down", retry_after_s=7.0, details={"n": 1})


def test_an_exception_is_a_crash_with_its_traceback(tmp_path: Path) -> None:
    error = error_of(tmp_path, "def handle(task): return task.payload['absent']", {})
    assert (error.error_class, error.message) == ("worker_crash", "KeyError: 'absent'")
    assert "in handle" in error.details["traceback"]


@pytest.mark.parametrize("code", ["0", "3", "'words'"])
def test_a_handler_cannot_leave_without_a_word(tmp_path: Path, code: str) -> None:
    error = error_of(tmp_path, f"def handle(task): sys.exit({code})")
    assert error.error_class == "worker_crash"
    assert error.message.startswith("SystemExit")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("object()", "not JSON serializable"),
        ("float('nan')", "not JSON compliant"),
        ("'x' * (1 << 20)", "bytes in one message"),
        ("{1: 'a', '1': 'b'}", "is no text"),
        ("__import__('functools').reduce(lambda inner, _: [inner], range(100), 1)", "nested deeper"),
    ],
)
def test_an_output_that_cannot_be_sent_is_said_to_be_one(tmp_path: Path, output: str, words: str) -> None:
    error = error_of(tmp_path, f"def handle(task): return {output}")
    assert error.error_class == "output_invalid"
    assert words in error.message


def test_the_class_of_a_failure_survives_details_that_cannot_be_sent(tmp_path: Path) -> None:
    error = error_of(tmp_path, "def handle(task): raise worker.Failed('disk_full', details={'x': object()})")
    assert error.error_class == "disk_full"


def test_progress_that_cannot_be_sent_fails_where_it_is_said_and_stops_no_heartbeat(tmp_path: Path) -> None:
    handler = """
def handle(task):
    try:
        worker.progress(object())
    except TypeError:
        time.sleep(0.5)
        return "caught"
"""
    spoken, terminal, _ = outcome(tmp_path, handler)
    assert terminal == Result(ID, "caught")
    assert len(spoken.heard(Heartbeat)) >= 4


@pytest.mark.parametrize(
    "work",
    [
        "worker.sleep(30)",
        "[worker.check() or time.sleep(0.01) for _ in range(3000)]",
        "[worker.progress(n) or time.sleep(0.01) for n in range(3000)]",
        "[worker.log('on') or time.sleep(0.01) for n in range(3000)]",
    ],
)
@pytest.mark.parametrize("how", [Cancel(ID, "enough", 5.0), Shutdown()])
def test_a_cancel_ends_a_handler_at_its_next_word(tmp_path: Path, work: str, how: ToWorker) -> None:
    with running(tmp_path, f"def handle(task):\n    {work}") as spoken:
        spoken.give()
        spoken.hear_until(lambda: bool(spoken.heard(Heartbeat)))
        spoken.tell(how)
        assert spoken.end() == 1
    assert spoken.said.terminal == Error(ID, "cancelled", "cancelled")


def test_a_cancel_of_another_attempt_is_none(tmp_path: Path) -> None:
    with running(tmp_path, "def handle(task):\n    worker.sleep(0.3)\n    return 'whole'") as spoken:
        spoken.give()
        spoken.tell(Cancel("run/task/1"))
        spoken.end()
    assert spoken.said.terminal == Result(ID, "whole")


def test_a_coroutine_is_cancelled_where_it_waits(tmp_path: Path) -> None:
    handler = """
async def handle(task):
    try:
        worker.progress(1)
        await asyncio.sleep(30)
    finally:
        worker._lines[0].send("log", msg="cleaned up")
"""
    with running(tmp_path, handler) as spoken:
        spoken.give()
        spoken.hear_until(lambda: spoken.said.progress == "1")
        spoken.tell(Cancel(ID))
        assert spoken.end() == 1
    assert spoken.said.terminal == Error(ID, "cancelled", "cancelled")
    assert "cleaned up" in spoken.said.hint


def test_a_coroutine_returns_its_output(tmp_path: Path) -> None:
    handler = "async def handle(task):\n    await asyncio.sleep(0)\n    return 7"
    assert outcome(tmp_path, handler)[1:] == (Result(ID, 7), 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "handler",
    [
        "def handle(task):\n    worker.progress(1)\n    time.sleep(30)",
        "def handle(task):\n    worker.progress(1)\n    subprocess.run(['sleep', '30'])",
        "def handle(task):\n    worker.progress(1)\n    while True: pass",
        "async def handle(task):\n    worker.progress(1)\n    await asyncio.sleep(30)",
        "def handle(task):\n    worker.progress(1)\n    while True: worker.progress(time.monotonic())",
    ],
)
def test_a_signal_is_a_cancel_wherever_the_handler_is(tmp_path: Path, handler: str, number: int) -> None:
    with running(tmp_path, handler) as spoken:
        spoken.give()
        spoken.hear_until(lambda: bool(spoken.said.progress))
        spoken.process.send_signal(number)
        assert spoken.end() == 1
    assert spoken.said.terminal == Error(ID, "cancelled", "cancelled")


def test_a_storm_of_signals_tears_no_message_and_leaves_one_terminal(tmp_path: Path) -> None:
    handler = "def handle(task):\n    while True: worker.progress(time.monotonic(), step='x' * 1000)"
    for _ in range(5):
        with running(tmp_path, handler) as spoken:
            spoken.give()
            spoken.hear_until(lambda: bool(spoken.said.progress))
            for _ in range(20):
                spoken.process.send_signal(signal.SIGTERM)
                time.sleep(0.001)
            spoken.end()
        assert spoken.said.terminal == Error(ID, "cancelled", "cancelled")


def test_a_signal_in_the_middle_of_a_message_waits_for_its_end(tmp_path: Path) -> None:
    with running(tmp_path, "def handle(task):\n    while True: worker.chunk('x' * 60_000)") as spoken:
        spoken.give()
        spoken.hear_until(lambda: bool(spoken.heard(Chunk)))
        time.sleep(0.3)  # nobody reads: the pipe is full, and a message is half written
        spoken.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        spoken.end()
    assert spoken.said.terminal == Error(ID, "cancelled", "cancelled")


def test_a_handler_that_finishes_in_spite_of_a_cancel_has_finished(tmp_path: Path) -> None:
    handler = "def handle(task):\n    worker.cancelled.wait()\n    return 'whole'"
    with running(tmp_path, handler) as spoken:
        spoken.give()
        spoken.tell(Cancel(ID))
        assert spoken.end() == 0
    assert spoken.said.terminal == Result(ID, "whole")


def test_threads_may_speak_at_the_same_time(tmp_path: Path) -> None:
    handler = """
import threading
def handle(task):
    def speak(name):
        for number in range(100):
            worker.chunk(f"{name}{number} " * 9000)
    threads = [threading.Thread(target=speak, args=(name,)) for name in "abcd"]
    [each.start() for each in threads]
    [each.join() for each in threads]
"""
    spoken, terminal, _ = outcome(tmp_path, handler)
    assert terminal == Result(ID)
    assert len(spoken.heard(Chunk)) == 400


@pytest.mark.parametrize("last", [b"", encode(Shutdown())])
def test_without_a_task_a_worker_ends_quietly(tmp_path: Path, last: bytes) -> None:
    with running(tmp_path, "def handle(task): pass") as spoken:
        assert spoken.process.stdin is not None
        spoken.process.stdin.write(last)
        spoken.process.stdin.close()
        assert spoken.end() == 0
    assert [type(each).__name__ for each in spoken.messages] == ["Ready"]


def test_what_is_no_message_of_crewd_is_passed_over(tmp_path: Path) -> None:
    with running(tmp_path, "def handle(task): return 1") as spoken:
        assert spoken.process.stdin is not None
        spoken.process.stdin.write(b'\n[]\nnoise\n{"type":"later"}\n\xff\n')
        spoken.give()
        spoken.end()
    assert spoken.said.terminal == Result(ID, 1)


def test_words_outside_a_task_are_an_error_that_says_so() -> None:
    with pytest.raises(RuntimeError, match="from the handler"):
        worker.progress(1)


@pytest.mark.parametrize("interval", [0, -1, 4000, float("nan")])
def test_an_interval_that_crewd_would_refuse_is_refused_before_a_word_is_said(interval: float) -> None:
    with pytest.raises(ValueError, match="heartbeat_interval"):
        worker.run(lambda task: None, interval)


def test_there_is_one_terminal_heard_for_every_conversation(tmp_path: Path) -> None:
    with running(tmp_path, "def handle(task): return 1") as spoken:
        spoken.give()
        spoken.end()
    said = Conversation(ID)
    heard = [each for message in spoken.messages for each in said.hear(encode(message)[:-1], 0.0)]
    assert sum(isinstance(each, TerminalHeard) for each in heard) == 1
