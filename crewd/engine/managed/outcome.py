"""Outcome: whether an attempt that is over kept what it promised. Exit 0 alone proves nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from crewd.engine.managed.attempt import Attempt, Over
from crewd.host.attempt_folder import STDERR, STDOUT, size_beneath
from crewd.host.shim import ExitRecord
from crewd.host.tails import Follow, tail
from crewd.model.action import Ended
from crewd.model.failure import ErrorClass, Exit, Failure
from crewd.model.plan import Mode
from crewd.policy.classify import classify
from crewd.policy.handling import handling_of

STDERR_TAIL = 16 * 1024
STDOUT_TAIL = 64 * 1024
TAIL_KEPT = 2 * 1024
MESSAGE_MAX = 500


@dataclass(frozen=True, slots=True)
class Facts:
    """What is on disk of an attempt that has ended."""

    exit: Exit
    spawn_error: str
    stdout_bytes: int
    stderr_bytes: int
    stdout_tail: str
    stderr_tail: str

    @property
    def tail(self) -> str:
        return (self.stderr_tail or self.stdout_tail)[-TAIL_KEPT:]


def gather(folder: str, record: ExitRecord | None, redact: Callable[[str], str], wanted: bool) -> Facts:
    """Read what an attempt left: its exit, and the end of what it wrote where that is `wanted`."""
    if not folder:
        return Facts(Exit(), "", 0, 0, "", "")
    out, err = (_written(f"{folder}/{name}") for name in (STDOUT, STDERR))
    exit = record.exit if record is not None else Exit()
    spawn_error = record.spawn_error if record is not None else ""
    if not wanted:
        return Facts(exit, spawn_error, out, err, "", "")
    stderr = redact(_end_of(f"{folder}/{STDERR}", STDERR_TAIL)) if err else ""
    stdout = redact(_end_of(f"{folder}/{STDOUT}", STDOUT_TAIL)) if out else ""
    return Facts(exit, spawn_error, out, err, stdout, stderr)


def first_word(
    attempt: Attempt, over: Over, facts: Facts, terminal: Failure | None, succeeded: bool
) -> Failure | None:
    """Class of an attempt before its promises are looked at; None: it says that it did its work.

    What the worker said in its terminal message comes first, then what crewd itself knows, then the exit and what was
    written to stderr.
    """
    if succeeded:
        return None
    ended = Ended(
        code=facts.exit.code,
        signal=facts.exit.signal,
        stderr_tail=facts.stderr_tail,
        stdout_tail=facts.stdout_tail,
        output_bytes=facts.stdout_bytes,
    )
    # Whoever was told to stop, and says that it was cancelled, tells nothing new: why it was stopped is known.
    confirms = over.failure is not None and terminal is not None and terminal.error_class is ErrorClass.CANCELLED
    if terminal is not None and not confirms:
        if terminal.error_class is ErrorClass.CANCELLED:
            # Nobody asked: whoever gives up by himself has not been cancelled.
            terminal = msgspec.structs.replace(terminal, error_class=ErrorClass.UNKNOWN, code="cancelled_unasked")
        return classify(ended, attempt.plan.success, terminal)
    if over.failure is not None:
        return over.failure
    if facts.spawn_error:
        return Failure(
            ErrorClass.SPAWN_FAILED, facts.spawn_error, guidance=handling_of(ErrorClass.SPAWN_FAILED).guidance
        )
    if facts.exit.code is None and facts.exit.signal is None:
        words = "it ended, and no exit status was recorded: its shim was killed, or the machine went down"
        return Failure(ErrorClass.WORKER_KILLED, words, guidance=handling_of(ErrorClass.WORKER_KILLED).guidance)
    failure = classify(ended, attempt.plan.success, None)
    if failure is not None and failure.error_class is ErrorClass.UNKNOWN and attempt.plan.mode is Mode.PROTOCOL:
        # Its protocol has a message for every way to fail: whoever leaves without one has crashed.
        guidance = handling_of(ErrorClass.WORKER_CRASH).guidance
        return msgspec.structs.replace(failure, error_class=ErrorClass.WORKER_CRASH, guidance=guidance)
    return failure


async def broken_promise(
    attempt: Attempt, facts: Facts, output_bytes: int, check: Callable[[Attempt], Awaitable[tuple[Exit, str]]]
) -> Failure | None:
    """Look whether what the success contract promises is there; None: all of it is."""
    success = attempt.plan.success
    if output_bytes < success.output_bytes_min:
        return _empty(f"it wrote {output_bytes} bytes of output; {success.output_bytes_min} were promised")
    for file in success.files:
        found = await asyncio.to_thread(size_beneath, attempt.plan.cwd, file.path)
        if found is None:
            return _empty(f"{file.path} was promised, and is not there")
        if found < file.bytes_min:
            return _empty(f"{file.path} has {found} bytes; {file.bytes_min} were promised")
    if success.command:
        exit, words = await check(attempt)
        if exit.code != 0:
            return Failure(
                ErrorClass.OUTPUT_INVALID,
                f"the success command {_how(exit, words)}",
                code="success_command",
                guidance=handling_of(ErrorClass.OUTPUT_INVALID).guidance,
            )
    return None


def _how(exit: Exit, words: str) -> str:
    if exit.code is None and exit.signal is None:
        return words
    how = f"ended with signal {exit.signal}" if exit.signal is not None else f"ended with code {exit.code}"
    return f"{how}: {words}" if words else how


def shortened(failure: Failure, redact: Callable[[str], str]) -> Failure:
    """A failure as it may be stored and told."""
    return msgspec.structs.replace(
        failure,
        message=redact(failure.message)[:MESSAGE_MAX],
        guidance=redact(failure.guidance)[:MESSAGE_MAX],
        details=_redacted(failure.details, redact),
    )


def _written(path: str) -> int:
    """Bytes that were written there. A worker may have put anything in its place: of that, nothing was."""
    try:
        with Follow.open(path) as file:
            return file.size()
    except OSError:
        return 0


def _end_of(path: str, limit: int) -> str:
    try:
        return tail(path, limit).decode("utf-8", "replace")
    except OSError:
        return ""


def _empty(words: str) -> Failure:
    guidance = handling_of(ErrorClass.OUTPUT_EMPTY).guidance
    return Failure(ErrorClass.OUTPUT_EMPTY, words, code="success_contract", guidance=guidance)


def _redacted(value: object, redact: Callable[[str], str]) -> dict[str, object]:
    text = redact(msgspec.json.encode(value).decode())
    try:
        decoded = msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return {}
    return decoded if isinstance(decoded, dict) and len(text) <= 4096 else {}
