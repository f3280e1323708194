"""`crewd worker check -- CMD`: whether a command keeps the contract of crewd-worker/1, tried out on itself."""

import itertools
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from crewd.cli.options import json_option, print_json
from crewd.cli.screen import columns, print_lines
from crewd.cli.text import clean, count
from crewd.cli.worker_process import STDERR_KEPT, CannotStart, Worker
from crewd.errors import UsageProblem
from crewd.model.failure import Exit
from crewd.sources.managed.conversation import BadHeard, VersionRefused, contradicts, failure_of
from crewd.sources.managed.messages import PROTOCOL, Cancel, Ping, Result, TaskMessage

OK, FAIL, SKIP = "ok", "FAIL", "skip"
SLACK = 0.5  # seconds by which a heartbeat may be late on a busy machine
EXIT_WAIT = 5.0  # seconds from the terminal message to the end of the process
GRACE = 10.0
NOT_REACHED = "not reached"
# What the task asks for; a worker that has never heard of it may do with it what it likes.
ECHO = {"check": "echo", "text": "one line"}
WAIT = {"check": "wait"}


@dataclass(frozen=True)
class Check:
    """One point of the contract."""

    name: str
    state: str
    words: str


@click.group()
def worker() -> None:
    """Help to write workers."""


@worker.command()
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1, max=3600),
    default=30.0,
    show_default=True,
    help="Seconds for each step.",
)
@click.option("--payload", metavar="JSON", help="Payload of the task, instead of one that asks to echo or to wait.")
@json_option
def check(command: tuple[str, ...], timeout: float, payload: str | None, as_json: bool) -> None:
    """Try out whether COMMAND keeps the contract of crewd-worker/1.

    It is run twice: once to do a task, once to be cancelled in the middle of one. Nothing of it is left behind.
    Leaves with 1 if it breaks the contract.
    """
    checks, stderr = _examine(command, timeout, _payload(payload))
    failed = any(each.state == FAIL for each in checks)
    if as_json:
        print_json({"ok": not failed, "checks": [asdict(each) for each in checks], "stderr": stderr})
    else:
        styles = {OK: "ok", SKIP: "faint", FAIL: "fail"}
        rows = [[(each.state, styles[each.state]), (each.name, ""), (clean(each.words), "")] for each in checks]
        print_lines(columns(rows))
        if failed and stderr:
            click.echo("\nits stderr ended with:", err=True)
            for line in stderr.splitlines()[-10:]:
                click.echo(f"  {clean(line)}", err=True)
    raise SystemExit(1 if failed else 0)


def _payload(text: str | None) -> Any:
    if text is None:
        return None
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageProblem(f"--payload is no JSON: {error}") from None


def _examine(command: Sequence[str], timeout: float, payload: Any) -> tuple[list[Check], str]:
    mark = f"worker-check/{os.getpid()}-{time.monotonic_ns()}"
    try:
        with tempfile.TemporaryDirectory(prefix="crewd-worker-check-") as folder:
            with Worker(command, f"{mark}/1", folder) as first:
                _do_a_task(first, timeout, payload if payload is not None else ECHO)
            if first.talk.tasked is None:
                return _judge(first, None, timeout), first.stderr
            with Worker(command, f"{mark}/2", folder) as second:
                _be_cancelled(second, timeout, payload if payload is not None else {**WAIT, "seconds": timeout})
    except CannotStart as error:
        names = ("ready", "task", "heartbeat", "cancel", "stdout", "terminal", "exit")
        return [Check("start", FAIL, str(error)), *(Check(name, SKIP, NOT_REACHED) for name in names)], ""
    return _judge(first, second, timeout), (first.stderr + second.stderr)[-STDERR_KEPT:]


def _do_a_task(worker: Worker, timeout: float, payload: Any) -> None:
    if not _begin(worker, timeout, payload):
        return
    worker.until(lambda: worker.is_over, timeout)
    _await_exit(worker)


def _be_cancelled(worker: Worker, timeout: float, payload: Any) -> None:
    if not _begin(worker, timeout, payload):
        return
    worker.until(lambda: worker.is_over, min(2 * worker.interval + 2 * SLACK, timeout))
    if not worker.is_over:
        worker.talk.cancelled = time.monotonic()
        grace = min(GRACE, timeout)
        worker.send(Cancel(worker.id, "crewd worker check", grace))
        worker.until(lambda: worker.is_over, grace)
    _await_exit(worker)


def _await_exit(worker: Worker) -> None:
    if worker.talk.ended is not None:
        worker.until(lambda: worker.talk.exit is not None, EXIT_WAIT)


def _begin(worker: Worker, timeout: float, payload: Any) -> bool:
    run_id, task_id, attempt = worker.id.split("/")
    said = worker.conversation
    worker.until(lambda: said.is_ready or said.is_refused or worker.talk.exit is not None, timeout)
    if not said.is_ready or worker.talk.exit is not None:
        return False
    worker.send(Ping())
    worker.send(
        TaskMessage(
            id=worker.id,
            run_id=run_id,
            task_id=task_id,
            attempt=int(attempt),
            fence=int(attempt),
            payload=payload,
            deadline_s=timeout,
        )
    )
    worker.talk.tasked = time.monotonic()
    return True


def _judge(first: Worker, second: Worker | None, timeout: float) -> list[Check]:
    both = [first] if second is None else [first, second]
    checks = [Check("start", OK, f"pid {first.pid}"), _ready(first, timeout)]
    if second is None:
        skipped = [Check(name, SKIP, NOT_REACHED) for name in ("task", "heartbeat", "cancel")]
        rest = [Check(name, SKIP, NOT_REACHED) for name in ("terminal", "exit")]
        return [*checks, *skipped, _stdout(both), *rest]
    return [
        *checks,
        _task(first, timeout),
        _heartbeat(both, timeout),
        _cancel(second, timeout),
        _stdout(both),
        _terminal(both),
        _exit(both),
    ]


def _ready(worker: Worker, timeout: float) -> Check:
    talk = worker.talk
    if talk.ready is not None and talk.tasked is not None:
        interval = worker.conversation.heartbeat_interval
        words = f"after {talk.ready:.1f} s, " + (f"a heartbeat every {interval:g} s" if interval else "no interval")
        return Check("ready", OK, words)
    for heard in talk.heard:
        if isinstance(heard, VersionRefused):
            return Check("ready", FAIL, f"speaks {heard.protocol!r}, not {PROTOCOL!r}")
    if talk.ready is not None:
        return Check("ready", FAIL, f"{_exit_words(talk.exit)} before it had a task")
    bad = next((each.words for each in talk.heard if isinstance(each, BadHeard)), "")
    why = _exit_words(talk.exit) if talk.exit is not None else f"within {timeout:g} s"
    return Check("ready", FAIL, f"no ready: {why}" + (f"; instead {bad}" if bad else ""))


def _task(worker: Worker, timeout: float) -> Check:
    talk, terminal = worker.talk, worker.conversation.terminal
    if terminal is None:
        why = _exit_words(talk.exit) if talk.exit is not None else f"within {timeout:g} s"
        if worker.conversation.is_refused:
            why = f"given up after {count(worker.conversation.bad_lines, 'bad line')}"
        return Check("task", FAIL, f"no result or error with the id of the task: {why}")
    took = _between(talk.tasked, talk.ended)
    if isinstance(terminal, Result):
        return Check("task", OK, f"result after {took:.1f} s")
    failure = failure_of(terminal)
    return Check("task", OK, f"error {failure.error_class.value} after {took:.1f} s: {failure.message}")


def _heartbeat(workers: Sequence[Worker], timeout: float) -> Check:
    interval = workers[0].interval
    longest, worst = 0.0, 0.0
    for worker in workers:
        talk = worker.talk
        if talk.tasked is None or talk.leased:
            continue  # a silence that was announced says nothing
        end = min(each for each in (talk.ended, talk.cancelled, worker.looked) if each is not None)
        times = [talk.tasked, *(each for each in talk.beats if each < end), end]
        longest = max(longest, end - talk.tasked)
        worst = max([worst, *(later - sooner for sooner, later in itertools.pairwise(times))])
    if worst > 2 * interval + SLACK:
        return Check("heartbeat", FAIL, f"silent for {worst:.1f} s, with an interval of {interval:g} s")
    if longest >= 2 * interval:
        return Check("heartbeat", OK, f"at most {worst:.1f} s of silence within {longest:.1f} s of work")
    if any(worker.talk.leased for worker in workers):
        return Check("heartbeat", SKIP, "it announced its silence with `busy`")
    if 2 * interval > timeout:
        return Check("heartbeat", SKIP, f"two intervals are longer than --timeout {timeout:g}")
    return Check("heartbeat", SKIP, 'no task took two intervals; let {"check": "wait"} in the payload take its time')


def _cancel(worker: Worker, timeout: float) -> Check:
    talk = worker.talk
    if talk.tasked is None:
        return Check("cancel", FAIL, "the second process was not ready")
    if talk.cancelled is None:
        return Check("cancel", SKIP, "its task was over before it could be cancelled")
    terminal = worker.conversation.terminal
    if terminal is not None:
        said = "result" if isinstance(terminal, Result) else f"error {failure_of(terminal).error_class.value}"
        return Check("cancel", OK, f"{said} after {_between(talk.cancelled, talk.ended):.1f} s")
    if talk.exit is not None:
        return Check("cancel", FAIL, f"{_exit_words(talk.exit)} after the cancel, without a terminal message")
    return Check("cancel", FAIL, f"still at work {min(GRACE, timeout):g} s after the cancel")


def _stdout(workers: Sequence[Worker]) -> Check:
    bad = [each for worker in workers for each in worker.talk.heard if isinstance(each, BadHeard)]
    if bad:
        return Check("stdout", FAIL, f"stdout noise: {count(len(bad), 'bad line')}, the first: {bad[0].words}")
    strange = sorted({name for worker in workers for name in worker.conversation.unknown})
    sound = sum(sum(worker.conversation.messages.values()) for worker in workers)
    words = count(sound, "message") + (f"; crewd ignores {', '.join(strange)}" if strange else "")
    return Check("stdout", OK, words)


def _terminal(workers: Sequence[Worker]) -> Check:
    late = max(worker.conversation.late for worker in workers)
    if late:
        return Check("terminal", FAIL, f"{late + 1} terminal messages for one task; only the first counts")
    ended = sum(worker.conversation.terminal is not None for worker in workers)
    state = OK if ended == len(workers) else FAIL
    return Check("terminal", state, f"one each in {ended} of {count(len(workers), 'conversation')}")


def _exit(workers: Sequence[Worker]) -> Check:
    for worker in workers:
        terminal, exit = worker.conversation.terminal, worker.talk.exit
        if terminal is None:
            continue
        if exit is None:
            return Check("exit", FAIL, f"still there {EXIT_WAIT:g} s after its terminal message")
        if contradicts(terminal, exit):
            return Check("exit", FAIL, f"{_exit_words(exit)} after a result")
    return Check("exit", OK, "by itself, after its terminal message")


def _exit_words(exit: Exit | None) -> str:
    if exit is None:
        return "still there"
    return f"ended by signal {exit.signal}" if exit.signal is not None else f"ended with {exit.code}"


def _between(start: float | None, end: float | None) -> float:
    return end - start if start is not None and end is not None else 0.0
