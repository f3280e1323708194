"""Which error class an attempt that is over belongs to. Texts come redacted.

The sources, in this order: what the worker said structurally; what crewd knows, by
its own timers, the signal or the exit status; and only then words at the end of the output of an attempt that did not
succeed. A worker that writes "429 rate limit" and exits well has succeeded.
"""

from typing import Any

from msgspec.structs import replace

from crewd.model.action import Ended
from crewd.model.failure import ErrorClass, Failure
from crewd.model.plan import Success
from crewd.policy.handling import handling_of
from crewd.policy.last_words import MESSAGE_MAX, LastWords, last_words, one_line, wait_in
from crewd.policy.retry import named_wait

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # exit statuses with which a shell says that a command did not start
SHELL_SIGNAL = 128  # a shell exits with this plus the signal that ended its command
# Signals that end a process which does not expect them. The others are refused here: exit statuses above 143 are
# no signals, but HTTP statuses cut to a byte (401 is 145, 429 is 173).
SIGNALS = {
    1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 5: "TRAP", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1",
    11: "SEGV", 12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM",
}  # fmt: skip
NO_RECORD = "no_exit_record"
UNDIAGNOSED = "undiagnosed_failure"  # it left not a single word
MISSING_SHOWN_MAX = 20


def classify(ended: Ended, success: Success, terminal: Failure | None) -> Failure | None:
    """Say what went wrong with an attempt that is over; None: nothing that its end shows.

    `terminal` is the worker's own word, where it spoke structurally. None means that the exit status is one that
    promises success: whether the promise was kept is for the success contract to say.
    """
    if terminal is not None and not _is_answer_to_a_stop(terminal, ended):
        return _said(terminal, ended)
    if ended.stopped_for is not None:
        return _failure(ended.stopped_for, ended.stopped_why or _words(ended).message)
    if ended.signal is not None:
        return _killed(ended.signal, ended)
    if ended.code is None:
        # The shim outlives every signal that can be caught: whatever ended it left it no time to write.
        return _failure(ErrorClass.WORKER_KILLED, "ended without an exit status being recorded", code=NO_RECORD)
    if ended.code in success.exit_codes:
        return None
    return _by_exit_code(ended.code, ended, success)


def _by_exit_code(code: int, ended: Ended, success: Success) -> Failure:
    words = _words(ended)
    message = words.message or f"exit status {code}, and not a word of why"
    if code in success.task_error_codes:
        return _failure(ErrorClass.TASK_ERROR, message)
    if code in (NOT_EXECUTABLE, NOT_FOUND):
        return _failure(ErrorClass.SPAWN_FAILED, message)
    if code - SHELL_SIGNAL in SIGNALS:
        return _killed(code - SHELL_SIGNAL, ended)
    if words.error_class is not None:
        return _failure(words.error_class, message, retry_after=words.retry_after)
    return _failure(ErrorClass.UNKNOWN, message, code="" if words.message else UNDIAGNOSED)


def _is_answer_to_a_stop(terminal: Failure, ended: Ended) -> bool:
    """Whether a worker only confirms that crewd ended it: why it was ended is what crewd knows."""
    return terminal.error_class is ErrorClass.CANCELLED and ended.stopped_for is not None


def _said(terminal: Failure, ended: Ended) -> Failure:
    """Complete the worker's own word by what it left out. Its class stays, whatever its output says."""
    message = one_line(terminal.message) or _words(ended).message
    retry_after = named_wait(terminal.retry_after) or wait_in(terminal.message)
    return replace(
        terminal,
        message=message[:MESSAGE_MAX],
        retry_after=retry_after or None,
        guidance=terminal.guidance or _guidance(terminal),
    )


def _guidance(terminal: Failure) -> str:
    guidance = handling_of(terminal.error_class).guidance
    missing = _names(terminal.details.get("missing_fields"))
    return f"{guidance} Missing: {', '.join(missing)}." if missing else guidance


def _names(value: Any) -> list[str]:
    """The names in a list that a worker wrote, which may be anything."""
    if not isinstance(value, list | tuple):
        return []
    return [one_line(name)[:100] for name in value[:MISSING_SHOWN_MAX] if isinstance(name, str)]


def _killed(signal: int, ended: Ended) -> Failure:
    name = f"SIG{SIGNALS[signal]}" if signal in SIGNALS else f"signal {signal}"
    words = _words(ended).message
    message = f"ended by {name}; its last words: {words}" if words else f"ended by {name}"
    return _failure(ErrorClass.WORKER_KILLED, message)


def _failure(error_class: ErrorClass, message: str, *, code: str = "", retry_after: float = 0.0) -> Failure:
    return Failure(
        error_class,
        one_line(message)[:MESSAGE_MAX],
        code=code,
        retry_after=retry_after or None,
        guidance=handling_of(error_class).guidance,
    )


def _words(ended: Ended) -> LastWords:
    return last_words(ended.stderr_tail, ended.stdout_tail)
