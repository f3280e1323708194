"""The shim: the few lines of POSIX shell that stand around every command, and how what they record is read.

The text goes to `/bin/sh -c` and not into a file, so that an upgrade of crewd never changes what a running shim
reads next. The descriptors below are open when it begins.
"""

import errno
import os
import stat

import msgspec

from crewd.model.failure import Exit

GATE = 3  # read end of a pipe: one line, and the command begins; its end, and nothing does
HOLD = 4  # a FIFO that is stdin, opened for reading and writing: it lives as long as the shim
RECORD = 5  # the file `exit` of the attempt folder, opened for appending
RECORD_NAME = "exit"

# The traps keep signals to the group from ending the shim; unlike ignored signals, the command does not inherit them.
# One write to an open file costs a fifth of `mv`, and the command cannot take the file away; a line without its end
# is no record. The name that `cd` puts into OLDPWD is crewd's own folder, and nobody's business.
SCRIPT = f"""\
trap : HUP INT QUIT USR1 USR2 PIPE ALRM TERM
read -r gate <&{GATE} || {{ echo unopened >&{RECORD}; exit 0; }}
cd "$1" || {{ echo "cwd $?" >&{RECORD}; exit 126; }}
shift
unset OLDPWD
"$@" {GATE}<&- {HOLD}<&- {RECORD}>&-
code=$?
echo "exit $code" >&{RECORD}
exit $code
"""

RECORD_READ_MAX = 4096
# What the shell adds to a signal's number (POSIX.1-2017, 2.8.2: greater than 128; dash, bash and busybox: 128 + n).
SIGNAL_BASE = 128
# Signals that end programs. Others are codes: gemini ends with 144, 145 and 173 (an HTTP status modulo 256).
SIGNALS = frozenset((*range(1, 16), 24, 25, 31))  # HUP..TERM, XCPU, XFSZ, SYS


class ExitRecord(msgspec.Struct, frozen=True, gc=False):
    """What a shim recorded. `spawn_error`: why the command was never started; "": it was, or it never should be."""

    exit: Exit = Exit()
    spawn_error: str = ""
    began: bool = True  # False: nothing was run


def read_exit(folder: str) -> ExitRecord | None:
    """Read what the shim of an attempt recorded; None: nothing yet, or nothing whole. Raises OSError.

    A folder or file that is not there has nothing; a link or special file in its place neither, for it is not ours.
    """
    try:
        handle = os.open(f"{folder}/{RECORD_NAME}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise
    try:
        seen = os.fstat(handle)
        if not stat.S_ISREG(seen.st_mode):
            return None
        data = os.pread(handle, RECORD_READ_MAX, max(0, seen.st_size - RECORD_READ_MAX))
    finally:
        os.close(handle)
    return parse_record(data)


def how_it_ended(folder: str, reaped: Exit | None) -> ExitRecord | None:
    """Tell how an attempt's command ended: as recorded, or, where the record is gone, as the shim itself ended.

    `reaped`: what the kernel said of the shim, where it was our child. None: nobody can say. A shim that was killed
    before its command ended has that signal for an answer.
    """
    recorded = read_exit(folder)
    if recorded is not None or reaped is None:
        return recorded
    return ExitRecord(reaped if reaped.code is None else told_by_shell(reaped.code))


def parse_record(data: bytes) -> ExitRecord | None:
    """Understand the last whole line that a shim wrote; None: there is none."""
    for line in reversed(data.split(b"\n")[:-1]):  # what follows the last line's end is torn
        match line.split():
            case [b"exit", code] if code.isdigit() and len(code) <= 5:
                return ExitRecord(told_by_shell(int(code)))
            case [b"cwd", _]:
                return ExitRecord(Exit(code=126), "the working folder cannot be entered", began=False)
            case [b"unopened"]:
                return ExitRecord(began=False)
    return None


def told_by_shell(code: int) -> Exit:
    """Translate `$?`. A program that ends with 143 by itself cannot be told from one that SIGTERM ended."""
    number = code - SIGNAL_BASE
    return Exit(signal=number) if number in SIGNALS else Exit(code=code)
