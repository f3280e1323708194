"""Hostile behaviours, as a table: what a worker does, and how that has to end.

Each line of `pids` in its working folder is the number of a process that a worker started and meant to hide.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from crewd.engine.managed.attempt import Over
from crewd.model.failure import ErrorClass as E
from crewd.model.plan import (
    Limits,
    Mode,
    RequiredFile,
    RetryPolicy,
    StopPlan,
    StopStep,
    Success,
    TaskPlan,
)
from tests.engine.managed.trial import OK, TASK, Case, Check, Meanwhile, Seen
from tests.engine.managed.workshop import Workshop, shell, task

MIB = 1 << 20
ONE = RetryPolicy(max_attempts=1)
SECRET = "swordfish-of-the-seas"
PRELUDE = """
import ctypes, json, os, resource, signal, sys, time
A = os.environ["CREWD_ATTEMPT_DIR"]; ID = os.environ["CREWD_ATTEMPT"]; N = int(os.environ["CREWD_ATTEMPT_NUMBER"])
def hide(pid=None):
    with open("pids", "a") as file: file.write(f"{pid or os.getpid()}\\n")
def wait(): time.sleep(60)
def say(type, **more): os.write(1, json.dumps({"type": type, **more}).encode() + b"\\n")
def ready(): say("ready", protocol="crewd-worker/1"); return json.loads(sys.stdin.readline())
def result(output="done"): say("result", id=ID, output=output)
def daemon(work):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: hide(); work()
        os._exit(0)
    os.wait()
"""


def python(script: str, **more: Any) -> TaskPlan:
    """A command in Python that starts as quickly as Python can."""
    return task(TASK, sys.executable, "-ISc", PRELUDE + script, **more)


def protocol(script: str, **more: Any) -> TaskPlan:
    return python(script, mode=Mode.PROTOCOL, **more)


def sh(script: str, **more: Any) -> TaskPlan:
    return shell(TASK, script, **more)


# --- what else must hold


def exited(code: int | None = None, signal: int | None = None) -> Check:
    """The last exit, as recorded."""

    def check(seen: Seen) -> None:
        assert (seen.last.exit.code, seen.last.exit.signal) == (code, signal)

    return check


def says(*words: str) -> Check:
    """The error, for a person."""

    def check(seen: Seen) -> None:
        for each in words:
            assert each in seen.last.error, seen.last.error

    return check


def guides(words: str) -> Check:
    """What a person should do next."""

    def check(seen: Seen) -> None:
        assert seen.letter is not None
        assert words in str(seen.letter.evidence["guidance"]), seen.letter.evidence["guidance"]

    return check


def ends_with(words: str, most: int = 2048) -> Check:
    """The tail that is kept."""

    def check(seen: Seen) -> None:
        assert words in seen.last.tail
        assert len(seen.last.tail) <= most

    return check


def wrote(least: int) -> Check:
    def check(seen: Seen) -> None:
        assert seen.last.output_bytes >= least

    return check


def told(type: str, **data: Any) -> Check:
    def check(seen: Seen) -> None:
        events = seen.told(type)
        assert len(events) == 1, events
        assert {name: events[0].data.get(name) for name in data} == data

    return check


def never(type: str) -> Check:
    def check(seen: Seen) -> None:
        assert seen.told(type) == []

    return check


def ended_within(least: float, most: float) -> Check:
    """Seconds from the beginning of the first attempt until crewd knew that it was over."""

    def check(seen: Seen) -> None:
        began = seen.told("attempt.started")[0].at
        over = (seen.told("attempt.ending") or seen.told("attempt.finished"))[0].at
        assert least <= over - began <= most, over - began

    return check


def lasted(least: float, most: float) -> Check:
    """Seconds of the last attempt, until nothing of it was left."""

    def check(seen: Seen) -> None:
        seconds = seen.last.ended_at - seen.last.started_at
        assert least <= seconds <= most, seconds

    return check


def result_is(output: Any) -> Check:
    def check(seen: Seen) -> None:
        assert json.loads((Path(seen.last.folder) / "result.json").read_bytes()) == output

    return check


def late(count: int) -> Check:
    def check(seen: Seen) -> None:
        assert seen.task.late == count

    return check


def hid(count: int) -> Check:
    """The worker did start what it meant to hide: otherwise that nothing is left proves nothing."""

    def check(seen: Seen) -> None:
        assert len((seen.work / "pids").read_text().split()) >= count

    return check


def keeps_no_more_than(most: int) -> Check:
    """Bytes on disk of everything in the attempt's folder."""

    def check(seen: Seen) -> None:
        files = Path(seen.last.folder).iterdir()
        assert sum(os.lstat(each).st_blocks * 512 for each in files) <= most

    return check


def shows_no(secret: str) -> Check:
    """Neither a record, nor an event, nor a dead letter, nor the result holds it; the worker did write it."""

    def check(seen: Seen) -> None:
        assert secret in (Path(seen.last.folder) / "stderr").read_text()
        assert "***" in seen.last.tail
        assert secret not in repr((seen.task, seen.events, seen.letter))

    return check


def apart(seconds: float) -> Check:
    """At least so long between the end of the first attempt and the beginning of the second."""

    def check(seen: Seen) -> None:
        first, second = seen.task.attempts
        assert second.started_at - first.ended_at >= seconds
        assert seen.told("task.retry_scheduled")[0].data["delay_seconds"] >= seconds

    return check


# --- what is done to it


def cancel_once(state: str, ready: str = "") -> Meanwhile:
    """Cancel it as soon as its task is in this state, and a file in its working folder says that it is ready."""

    async def meanwhile(workshop: Workshop, run_id: str) -> None:
        work = Path(workshop.board.runs[run_id].plans[TASK].cwd)
        await workshop.until(
            lambda: workshop.state_of(run_id, TASK) == state and (not ready or (work / ready).exists())
        )
        cancel(workshop, run_id)

    return meanwhile


def cancel(workshop: Workshop, run_id: str) -> None:
    attempt = workshop.conductor.attempts[run_id, TASK]
    attempt.end(Over("nobody wants it any more", cancelled=True, actor="operator:tester"))


# --- the table

EXITS: list[Case] = [
    Case("exits with 0", sh("exit 0"), (OK,), also=(exited(0),)),
    Case("exits with 1 and says nothing", sh("exit 1"), (E.UNKNOWN,) * 2, "undiagnosed_failure", (exited(1),)),
    Case("exits with 3 and says little", sh("echo something went wrong >&2; exit 3"), (E.UNKNOWN,) * 2,
         also=(exited(3), says("something went wrong"))),
    Case("exits with 126", sh("exit 126"), (E.SPAWN_FAILED,), also=(exited(126),)),
    Case("exits with 127", sh("echo 'command not found: claude' >&2; exit 127"), (E.SPAWN_FAILED,),
         also=(exited(127), says("claude"))),
    Case("exits with 137", sh("exit 137"), (E.WORKER_KILLED,) * 3, also=(exited(signal=9),)),
    Case("exits with 143", sh("exit 143"), (E.WORKER_KILLED,) * 3, also=(exited(signal=15),)),
    # 401 modulo 256: an HTTP status, and no signal.
    Case("exits with 145", sh("exit 145"), (E.UNKNOWN,) * 2, also=(exited(145),)),
    Case("exits with 145 after a refusal", sh("echo '401 Unauthorized: token expired' >&2; exit 145"),
         (E.AUTH_ERROR,), also=(exited(145),)),
    Case("sends itself KILL", sh("kill -9 $$"), (E.WORKER_KILLED,) * 3, also=(exited(signal=9),)),
    Case("sends itself TERM", sh("kill -15 $$"), (E.WORKER_KILLED,) * 3, also=(exited(signal=15),)),
    Case("breaks its own memory", python("ctypes.string_at(0)"), (E.WORKER_KILLED,) * 3,
         also=(exited(signal=signal.SIGSEGV),)),
    Case("leaves a stack on stderr", python("raise AssertionError('two is not three')"), (E.WORKER_CRASH,) * 3,
         also=(exited(1), says("two is not three"), ends_with("Traceback"))),
    Case("fails and then is well", sh('[ "$CREWD_ATTEMPT_NUMBER" = 2 ] || { echo "Traceback" >&2; kill -9 $$; }'),
         (E.WORKER_KILLED, OK)),
    Case("tells of a full disk", sh("echo 'write: No space left on device' >&2; exit 1"), (E.DISK_FULL,),
         also=(says("No space left"),)),
    Case("tells of a lost connection", sh("echo 'API error: connection reset' >&2; exit 1"),
         (E.PROVIDER_ERROR,) * 3),
    Case("prints a refusal and succeeds", sh("echo 'HTTP 429 rate limit' >&2; exit 0"), (OK,)),
]  # fmt: skip

STARTS: list[Case] = [
    Case("is not there", task(TASK, "no-such-agent", "--now"), (E.SPAWN_FAILED,),
         also=(says("no-such-agent"), guides("no-such-agent"), never("attempt.started"))),
    Case("has no folder to work in", task(TASK, "/bin/true", cwd="/nowhere/at/all"), (E.SPAWN_FAILED,),
         also=(says("/nowhere/at/all"), never("attempt.started"))),
    Case("works in a file", task(TASK, "/bin/true", cwd="/etc/passwd"), (E.SPAWN_FAILED,),
         also=(never("attempt.started"),)),
    Case("may not be executed", task(TASK, "/etc/passwd"), (E.SPAWN_FAILED,),
         also=(says("/etc/passwd"), never("attempt.started"))),
    Case("is a folder", task(TASK, "/etc"), (E.SPAWN_FAILED,), also=(never("attempt.started"),)),
    Case("wants an interpreter that is not there",
         sh("printf '#!/no/such/interpreter\\n' >tool; chmod +x tool; exec ./tool"), (E.SPAWN_FAILED,)),
    Case("has an argument of 128 KB", task(TASK, "/bin/sh", "-c", 'exit $((${#1} - 131071))', "sh", "x" * 131_071),
         (OK,)),
    Case("has an argument that the kernel refuses", task(TASK, "/bin/true", "x" * 200_000), (E.SPAWN_FAILED,),
         also=(says("too long"), never("attempt.started"))),
    Case("has an environment that the kernel refuses", task(TASK, "/bin/true", env={"BIG": "x" * 200_000}),
         (E.SPAWN_FAILED,), also=(never("attempt.started"),)),
    Case("has an end of text in its arguments", task(TASK, "/bin/echo", "a\0b"), (E.SPAWN_FAILED,),
         also=(never("attempt.started"),)),
    Case("wants a credential that is not there", task(TASK, "/bin/true", secrets={"KEY": "no-such-file"}),
         (E.CONFIG_INVALID,), also=(says("no-such-file", "KEY"), never("attempt.started"))),
]  # fmt: skip

HOLDS = "(sleep 60; :) & echo $! >>pids; exit 0"
FIFTY = "for i in $(seq 50); do sleep 60 & echo $! >>pids; done\n"
STUBBORN = "trap '' HUP INT TERM QUIT; echo $$ >>pids; touch ready; while :; do sleep 60; done"
SCRUBBED = "setsid env -i /bin/sh -c 'echo $$ >>pids; sleep 60 & echo $! >>pids; wait' >/dev/null 2>&1 & sleep 0.2"
CHAIN = """
if os.fork() == 0:
    ends = time.monotonic() + 15
    while time.monotonic() < ends:
        if os.fork(): os._exit(0)
        os.setsid()
    open("never-caught", "w")
os._exit(0)
"""
NOBODY = "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 10, 12, 13, 14, 15)]"

PROCESSES: list[Case] = [
    Case("leaves fifty children", sh(FIFTY + "exit 0"), (OK,), also=(hid(50), lasted(0, 6))),
    Case("waits for fifty children", sh(FIFTY + "wait", timeout=1.5, retry=ONE), (E.TIMEOUT,), "deadline",
         also=(hid(50), lasted(1.5, 6))),
    Case("becomes a daemon", python("daemon(wait)"), (OK,), also=(hid(1), lasted(0, 4))),
    Case("fails and leaves a daemon", python("daemon(wait); os._exit(3)"), (E.UNKNOWN,) * 2,
         also=(hid(2), exited(3))),
    Case("becomes a daemon without an environment", sh(SCRUBBED), (OK,), also=(hid(2), lasted(0, 4))),
    Case("becomes a daemon that ignores every signal", python(f"daemon(lambda: ({NOBODY}, wait()))"), (OK,),
         also=(hid(1), lasted(0, 4))),
    Case("leaves its stdout to a grandchild", sh(HOLDS), (OK,), also=(hid(1), lasted(0, 0.5 + 1.0 + 1.0))),
    Case("gives up its environment", sh("exec env -i /bin/sh -c 'echo $$ >>pids; sleep 60; :'",
         timeout=0.5, retry=ONE), (E.TIMEOUT,), also=(hid(1),)),
    Case("ignores TERM", sh("trap '' TERM; echo $$ >>pids; sleep 60; sleep 60", timeout=0.5, retry=ONE),
         (E.TIMEOUT,), "deadline", (hid(1), exited(signal=9), lasted(0.5, 4))),
    Case("ignores every signal that it may", sh(STUBBORN, timeout=0.5, retry=ONE), (E.TIMEOUT,), "deadline",
         (hid(1), exited(signal=9), lasted(0.5, 4))),
    Case("answers INT and not TERM", sh("trap '' TERM; trap 'exit 0' INT; while :; do sleep 0.05; done", timeout=0.5,
         retry=ONE, stop=StopPlan(steps=(StopStep("INT", 2.0), StopStep("TERM", 2.0)))),
         (E.TIMEOUT,), also=(exited(0), lasted(0.5, 3))),
    Case("stops itself", sh("echo $$ >>pids; kill -STOP $$", timeout=0.5, retry=ONE), (E.TIMEOUT,), "deadline",
         (hid(1), lasted(0.5, 4))),
    Case("stops its whole group", sh("echo $$ >>pids; kill -STOP 0", timeout=0.5, retry=ONE), (E.TIMEOUT,),
         "deadline", (hid(1), lasted(0.5, 4))),
    Case("stops its shim and leaves", sh("kill -STOP $PPID; exit 0", timeout=0.5, retry=ONE), (E.TIMEOUT,),
         also=(lasted(0.5, 4),)),
    Case("kills its shim", sh("echo $$ >>pids; kill -9 $PPID; sleep 60; :"), (E.WORKER_KILLED,) * 3,
         also=(hid(3), lasted(0, 4))),
    Case("kills its whole group", sh("setsid sleep 60 & echo $! >>pids; sleep 0.1; kill -9 0"),
         (E.WORKER_KILLED,) * 3, also=(hid(3), exited(signal=9))),
    Case("makes its parent a stranger", python("ctypes.CDLL(None).prctl(36, 1)\ndaemon(wait)\nos._exit(0)"), (OK,),
         also=(hid(1), lasted(0, 4))),
]  # fmt: skip

FOLDER = '"$CREWD_ATTEMPT_DIR"'
FILES: list[Case] = [
    Case("takes its attempt folder away", sh(f"rm -r {FOLDER}; exit 5"), (E.UNKNOWN,) * 2, also=(exited(5),)),
    Case("puts a file in place of its attempt folder", sh(f"rm -r {FOLDER}; echo >{FOLDER}; sleep 0.2; exit 5"),
         (E.UNKNOWN,) * 2, also=(exited(5),)),
    Case("puts a link in place of its attempt folder", sh(f"rm -r {FOLDER}; ln -s /etc {FOLDER}; exit 5"),
         (E.UNKNOWN,) * 2, also=(exited(5),)),
    Case("takes its exit record away", sh(f"rm {FOLDER}/exit; exit 5"), (E.UNKNOWN,) * 2, also=(exited(5),)),
    Case("makes its exit record a folder", sh(f"rm {FOLDER}/exit; mkdir {FOLDER}/exit; exit 5"), (E.UNKNOWN,) * 2,
         also=(exited(5),)),
    Case("makes its exit record a FIFO", sh(f"rm {FOLDER}/exit; mkfifo {FOLDER}/exit; exit 5"), (E.UNKNOWN,) * 2,
         also=(exited(5),)),
    Case("writes into its exit record", sh(f"echo 'exit 0' >{FOLDER}/exit; exit 5"), (E.UNKNOWN,) * 2,
         also=(exited(5),)),
    Case("makes its stdout a link", sh(f"rm {FOLDER}/stdout; ln -s /etc/passwd {FOLDER}/stdout; echo x; exit 1"),
         (E.UNKNOWN,) * 2, also=(exited(1),)),
    Case("makes its stderr a link", sh(f"rm {FOLDER}/stderr; ln -s /etc/passwd {FOLDER}/stderr; exit 1"),
         (E.UNKNOWN,) * 2, also=(exited(1), lambda seen: _shows_nothing_of("/etc/passwd", seen))),
    Case("makes its stdout a FIFO", sh(f"rm {FOLDER}/stdout; mkfifo {FOLDER}/stdout; exit 1"), (E.UNKNOWN,) * 2,
         also=(exited(1),)),
    Case("makes its stderr a folder", sh(f"rm {FOLDER}/stderr; mkdir {FOLDER}/stderr; exit 1"), (E.UNKNOWN,) * 2,
         also=(exited(1),)),
    Case("makes its stdout a link and succeeds", sh(f"ln -sf /dev/zero {FOLDER}/stdout; sleep 0.2"), (OK,)),
    Case("makes its stdout a folder that is larger than it may be",
         sh(f"rm {FOLDER}/stdout; mkdir {FOLDER}/stdout; sleep 0.2", limits=Limits(output_bytes=1024)), (OK,)),
    Case("takes its working folder away", sh('cd /; rm -r "$OLDPWD"; exit 0'), (OK,)),
    Case("fails without its working folder", sh('here=$PWD; cd /; rm -r "$here"; echo gone >&2; exit 1'),
         (E.UNKNOWN, E.SPAWN_FAILED), also=(says("is not there"),)),
    Case("leaves a folder that nobody may enter", sh(f"mkdir -p {FOLDER}/deep/er; chmod 0 {FOLDER}/deep; exit 5"),
         (E.UNKNOWN,) * 2, also=(exited(5),)),
]  # fmt: skip


def _shows_nothing_of(path: str, seen: Seen) -> None:
    assert Path(path).read_text().splitlines()[0] not in repr((seen.task, seen.events, seen.letter))


OUTPUT: list[Case] = [
    Case("writes 10 MB to stderr", python("for _ in range(160): os.write(2, b'x' * 65535 + b'\\n')\nos._exit(1)"),
         (E.UNKNOWN,) * 2, also=(exited(1), wrote(10 * MIB), ends_with("xxx"))),
    Case("writes a line without an end", python("for _ in range(320): os.write(1, b'x' * 65536)\nos._exit(1)"),
         (E.UNKNOWN,) * 2, also=(wrote(20 * MIB), ends_with("xxx"))),
    Case("writes no text", python("os.write(2, os.urandom(65536) + bytes(range(256)) * 16)\nos._exit(1)"),
         (E.UNKNOWN,) * 2, also=(wrote(65536),)),
    Case("writes half of a character", python(r"os.write(2, b'\xe2\x82' * 9 + b'\xed\xa0\x80 no \x00 sense')"
         "\nos._exit(1)"), (E.UNKNOWN,) * 2, also=(ends_with("sense"),)),
    Case("closes its stdout", sh("exec 1>&-; echo into the void; exit 0", success=Success(output_bytes_min=1)),
         (E.OUTPUT_EMPTY,) * 2, "success_contract"),
    Case("closes its stdin and stderr", sh("exec 0<&- 2>&-; echo fine"), (OK,)),
    Case("closes every descriptor", python("os.closerange(0, 100); time.sleep(0.3)"), (OK,), also=(lasted(0.3, 4),)),
    Case("shows its secrets", sh('echo "password $DB_PASSWORD API_TOKEN=abc123def456" >&2; exit 1',
         secrets={"DB_PASSWORD": "password"}), (E.UNKNOWN,) * 2, also=(shows_no(SECRET), shows_no("abc123def456"))),
    Case("reads what nobody writes", sh("cat; read line || echo end"), (OK,), also=(wrote(4), lasted(0, 4))),
    Case("is given a text and never reads it", sh("exit 0", stdin="x" * MIB), (OK,)),
]  # fmt: skip

HOG = "hog = bytearray(600 << 20)"
LIMITED: list[Case] = [
    Case("computes without end", python("while True: pass", limits=Limits(cpu_seconds=1), retry=ONE),
         (E.WORKER_KILLED,), also=(exited(signal=signal.SIGXCPU),)),
    Case("takes more memory than it may", python(HOG, limits=Limits(memory_bytes=128 * MIB)), (E.WORKER_KILLED,) * 3,
         also=(says("MemoryError"), exited(1))),
    Case("opens more files than it may", python("files = [open('/dev/null') for _ in range(100)]",
         limits=Limits(files=32)), (E.WORKER_CRASH,) * 3, also=(says("Too many open files"),)),
]  # fmt: skip

TWICE = "say('result', id=ID, output='first'); say('result', id=ID, output='second')"
FAULTS = """
os.write(1, b'{"type":"result","id":"%s","output":{"v":NaN}}\\n' % ID.encode())
os.write(1, b'{"type":"result","id":"%s","id":"%s"}\\n' % (ID.encode(), ID.encode()))
os.write(1, b'["result"]\\n')
os.write(1, b'{"type":"result","id":"%s","output":%s}\\n' % (ID.encode(), b"[" * 100 + b"]" * 100))
"""
RATED = "say('error', id=ID, **{'class': 'rate_limited', 'message': 'slow down', 'retry_after_s': 7})"
LACKS = """details = {"missing_fields": ["priority"]}
say("error", id=ID, **{"class": "output_invalid", "message": "no", "details": details})
"""
HONOURS = """ready(); open("ready", "w").close()
said = json.loads(sys.stdin.readline())
open("said", "w").write(said["type"])
say("error", id=ID, **{"class": "cancelled", "message": "as you wish"})
"""

TALK: list[Case] = [
    Case("keeps to the protocol", protocol("ready(); say('heartbeat', id=ID, seq=1, step='half'); result({'a': 1})"),
         (OK,), also=(result_is({"a": 1}), exited(0), never("worker.protocol_error"))),
    Case("is never ready", protocol("wait()", startup_timeout=1.0), (E.PROTOCOL_ERROR,) * 2, "startup_timeout",
         (ended_within(1.0, 2.5),)),
    Case("speaks another version", protocol("say('ready', protocol='crewd-worker/2'); wait()"), (E.PROTOCOL_ERROR,),
         "version", (says("crewd-worker/2"),)),
    Case("says what crewd does not know", protocol("ready(); say('sparkle', id=ID); result()"), (OK,),
         also=(never("worker.protocol_error"),)),
    Case("chatters on stdout", protocol("ready(); print('a\\nb\\nc', flush=True); result()"), (OK,),
         also=(told("worker.protocol_error", count=3, kinds={"bad_json": 3}),)),
    Case("chatters on stdout where that is forbidden",
         protocol("ready(); print('a\\nb\\nc', flush=True); result(); wait()", bad_lines_max=2),
         (E.PROTOCOL_ERROR,) * 2, "bad_lines"),
    Case("says a line of 2 MiB", protocol("ready(); say('log', msg='x' * (2 << 20)); result()"), (OK,),
         also=(told("worker.protocol_error", count=1, kinds={"line_too_long": 1}),)),
    Case("never ends a line", protocol("ready()\nfor _ in range(320): os.write(1, b'x' * 65536)"),
         (E.PROTOCOL_ERROR,) * 2, "no_result", (wrote(20 * MIB),)),
    Case("ends lines as others do", protocol(r"""ready()
text = json.dumps({"type": "result", "id": ID, "output": "one\u2028two\r\nthree"}, ensure_ascii=False)
os.write(1, text.encode() + b"\r\n\r\n")"""), (OK,), also=(result_is("one\u2028two\r\nthree"),)),
    Case("says NaN, a key twice, a list, and too deep a nest", protocol("ready()" + FAULTS + "result('sound')"),
         (OK,),
         also=(result_is("sound"),
               told("worker.protocol_error", count=4,
                    kinds={"nan": 1, "duplicate_key": 1, "not_object": 1, "too_deep": 1}))),
    Case("says nothing but faults", protocol("ready()" + FAULTS * 5 + "wait()"),
         (E.PROTOCOL_ERROR,) * 2, "bad_lines"),
    Case("counts with truth values", protocol("ready(); say('heartbeat', id=ID, seq=True); result()"), (OK,),
         also=(told("worker.protocol_error", count=1, kinds={"bad_field": 1}),)),
    Case("leaves before the handshake", protocol("pass"), (E.PROTOCOL_ERROR,) * 2, "no_result", (exited(0),)),
    Case("fails before the handshake", protocol("os._exit(3)"), (E.WORKER_CRASH,) * 3, also=(exited(3),)),
    Case("is killed before the handshake", protocol("os.kill(os.getpid(), 9)"), (E.WORKER_KILLED,) * 3,
         also=(exited(signal=9),)),
    Case("cannot be started and speaks the protocol", task(TASK, "no-such-agent", mode=Mode.PROTOCOL),
         (E.SPAWN_FAILED,), also=(never("attempt.started"),)),
    Case("answers for another attempt", protocol("ready(); say('result', id='other/t/1', output=1)"),
         (E.PROTOCOL_ERROR,) * 2, "no_result"),
    Case("answers twice", protocol("ready();" + TWICE), (OK,),
         also=(result_is("first"), late(1), told("attempt.fenced", late_results=1))),
    Case("succeeds and then exits with 3", protocol("ready(); result(); os._exit(3)"), (OK,),
         also=(told("worker.exit_mismatch", exit_code=3), exited(3))),
    Case("succeeds and is killed", protocol("ready(); result(); os.kill(os.getpid(), 9)"), (OK,),
         also=(told("worker.exit_mismatch", signal=9),)),
    Case("tells its failure and exits with 1",
         protocol("ready(); say('error', id=ID, **{'class': 'task_error', 'message': 'red'}); os._exit(1)"),
         (E.TASK_ERROR,), also=(says("red"), never("worker.exit_mismatch"))),
    Case("fails in a way of its own",
         protocol("ready(); say('error', id=ID, **{'class': 'moonstruck', 'message': 'full moon'})"),
         (E.UNKNOWN,) * 2, also=(says("full moon"),)),
    Case("fails for its input while 429 is on stderr",
         protocol("ready(); os.write(2, b'HTTP 429')\n"
                  "say('error', id=ID, **{'class': 'input_invalid', 'message': 'bad'}); os._exit(1)"),
         (E.INPUT_INVALID,)),
    Case("must wait seven seconds", protocol(f"ready()\nif N == 1: {RATED}\nelse: result()"), (E.RATE_LIMITED, OK),
         also=(apart(7.0),), within=25),
    Case("lacks a field", protocol("ready();" + LACKS), (E.OUTPUT_INVALID,) * 2, also=(guides("priority"),)),
    Case("never reads its stdin", protocol("say('ready', protocol='crewd-worker/1'); wait()",
         payload="x" * (5 * MIB), stdin_timeout=1.0), (E.PROTOCOL_ERROR,) * 2, "stdin_timeout", (lasted(1.0, 5.0),)),
    Case("reads its stdin slowly", protocol("""
say("ready", protocol="crewd-worker/1")
got = b""
while not got.endswith(b"\\n"): got += os.read(0, 1 << 16); time.sleep(0.005)
result(len(json.loads(got)["payload"]))""", payload="x" * MIB, stdin_timeout=1.0), (OK,), also=(result_is(MIB),)),
    Case("takes its folder away while it is told its task", protocol("""
import shutil
os.read(0, 10); shutil.rmtree(A); time.sleep(0.1)
while not os.read(0, 1 << 16).endswith(b"\\n"): pass
say("ready", protocol="crewd-worker/1"); result()""", payload="x" * (5 * MIB)), (OK,)),
    Case("is ready twice", protocol("ready(); say('ready', protocol='crewd-worker/1'); result()"), (OK,),
         also=(told("worker.protocol_error", count=1, kinds={"ready_again": 1}),)),
    Case("answers before it is ready", protocol("result()"), (E.PROTOCOL_ERROR,) * 2, "no_result"),
    Case("falls silent after some heartbeats",
         protocol("ready()\nfor n in range(5): say('heartbeat', id=ID, seq=n); time.sleep(0.05)\nwait()", timeout=1.0,
                  retry=ONE), (E.TIMEOUT,), "deadline", (lasted(1.0, 5.0),)),
    Case("succeeds and leaves a grandchild", protocol("ready(); result(); daemon(wait)"), (OK,), also=(hid(1),)),
    Case("succeeds and does not leave", protocol("ready(); result(); hide(); wait()"), (OK,),
         also=(hid(1), lasted(5.0, 9.0)), within=25),
    Case("does not end its last line", protocol(
         "ready(); os.write(1, json.dumps({'type': 'result', 'id': ID, 'output': 5}).encode())"), (OK,),
         also=(result_is(5),)),
    Case("closes its stdout before it answers", protocol("ready(); os.close(1); time.sleep(0.1)"),
         (E.PROTOCOL_ERROR,) * 2, "no_result"),
    Case("succeeds with too little", protocol("ready(); result('')", success=Success(output_bytes_min=100)),
         (E.OUTPUT_EMPTY,) * 2, "success_contract", (never("task.completed"),)),
    Case("puts another file in place of its stdout", protocol(
         "ready(); os.rename(A + '/stdout', A + '/old'); os.symlink('/etc/passwd', A + '/stdout'); result()"), (OK,)),
    Case("honours a cancel", protocol(HONOURS, stop=StopPlan(grace=5.0, steps=(StopStep("TERM", 5.0),))),
         ("cancelled",), meanwhile=cancel_once("running", "ready"), state="cancelled",
         also=(lambda seen: _heard_the_cancel(seen), lasted(0, 4), never("task.failed"), exited(0))),
    Case("answers its deadline as if it were cancelled", protocol(HONOURS, timeout=0.6, retry=ONE,
         stop=StopPlan(grace=5.0)), (E.TIMEOUT,), "deadline", (lasted(0.6, 4), never("task.cancelled"))),
    Case("ignores a cancel", protocol(
         "ready(); signal.signal(15, signal.SIG_IGN); hide(); open('ready', 'w'); wait()"),
         ("cancelled",), meanwhile=cancel_once("running", "ready"), state="cancelled",
         also=(hid(1), exited(signal=9), never("task.failed"))),
    Case("succeeds after the cancel came", protocol(
         "ready(); open('ready', 'w').close(); sys.stdin.readline(); result('after all')",
         stop=StopPlan(grace=5.0)), (OK,), meanwhile=cancel_once("running", "ready"),
         also=(result_is("after all"),)),
]  # fmt: skip


def _heard_the_cancel(seen: Seen) -> None:
    assert (seen.work / "said").read_text() == "cancel"


def promising(**more: Any) -> Success:
    return Success(files=(RequiredFile("report.md"),), **more)


PROMISES: list[Case] = [
    Case("does not write the file that it promised", sh("exit 0", success=promising()), (E.OUTPUT_EMPTY,) * 2,
         "success_contract", (says("report.md", "is not there"), never("task.completed"))),
    Case("writes the file that it promised", sh("echo x >report.md", success=promising()), (OK,)),
    Case("leaves the file empty", sh(": >report.md", success=promising()), (E.OUTPUT_EMPTY,) * 2, "success_contract"),
    Case("links the file to one elsewhere", sh("ln -sf /etc/passwd report.md", success=promising()),
         (E.OUTPUT_EMPTY,) * 2, "success_contract"),
    Case("makes the file a FIFO", sh("rm -f report.md; mkfifo report.md", success=promising()),
         (E.OUTPUT_EMPTY,) * 2, "success_contract"),
    Case("links the file to itself", sh("ln -sf report.md report.md", success=promising()), (E.OUTPUT_EMPTY,) * 2,
         "success_contract"),
    Case("writes less than it promised", sh("echo five", success=Success(output_bytes_min=100)),
         (E.OUTPUT_EMPTY,) * 2, "success_contract"),
    Case("does not pass its check", sh("exit 0", success=Success(command=("/bin/sh", "-c", "echo red >&2; exit 1"))),
         (E.OUTPUT_INVALID,) * 2, "success_command", (says("code 1", "red"),)),
    Case("passes its check", sh("echo x >report.md", success=promising(command=("/usr/bin/test", "-s", "report.md"))),
         (OK,)),
    Case("has a check that hangs", sh("exit 0", success=Success(
         command=("/bin/sh", "-c", "trap '' TERM; echo $$ >>pids; sleep 60; :"), command_timeout=0.4)),
         (E.OUTPUT_INVALID,) * 2, "success_command", (hid(2), lasted(0.4, 4))),
    Case("has a check that leaves a daemon", sh("exit 0", success=Success(
         command=("/bin/sh", "-c", "setsid sleep 60 & echo $! >>pids"))), (OK,), also=(hid(1), lasted(0, 4))),
    Case("has a check that is not there", sh("exit 0", success=Success(command=("no-such-check",))),
         (E.OUTPUT_INVALID,) * 2, "success_command", (says("no-such-check"),)),
    Case("has a check that shows a secret", sh("echo pass $DB >&2; exit 0", secrets={"DB": "password"},
         success=Success(command=("/bin/sh", "-c", "echo it was $DB >&2; exit 1"))),
         (E.OUTPUT_INVALID,) * 2, "success_command",
         (lambda seen: _shows(seen, SECRET, False),)),
]  # fmt: skip


def _shows(seen: Seen, words: str, whether: bool) -> None:
    assert (words in repr((seen.task, seen.events, seen.letter))) is whether


ENDING = "trap '' TERM; echo $$ >>pids; touch ready; while :; do sleep 60; done"
SLOW = StopPlan(grace=0.5, steps=(StopStep("TERM", 1.5),), drain=0.5)
CANCELS: list[Case] = [
    Case("is cancelled while it runs", sh("echo $$ >>pids; touch ready; sleep 60; :"), ("cancelled",),
         meanwhile=cancel_once("running", "ready"), state="cancelled",
         also=(hid(1), lasted(0, 4), never("task.failed"))),
    Case("is cancelled while it runs and ignores every signal", sh(STUBBORN), ("cancelled",),
         meanwhile=cancel_once("running", "ready"), state="cancelled", also=(hid(1), lasted(0, 4))),
    Case("is cancelled while it is ended for its time", sh(ENDING, timeout=0.5, stop=SLOW), ("cancelled",),
         meanwhile=cancel_once("ending"), state="cancelled", also=(hid(1), never("task.failed"))),
    Case("is cancelled after it ended by itself",
         sh("setsid sleep 60 & echo $! >>pids; exit 0", stop=StopPlan(drain=1.0)), (OK,),
         meanwhile=cancel_once("ending"), also=(hid(1),)),
]  # fmt: skip

BESIDE: list[Case] = [*EXITS, *STARTS, *PROCESSES, *FILES, *OUTPUT, *LIMITED, *TALK, *PROMISES, *CANCELS]

# These want the machine for themselves: what they cost is measured.
FLOOD = "piece = b'x' * 99 + b'\\n'\nfor _ in range(1250): os.write(1, piece * 2621)\n"
ALONE: list[Case] = [
    Case("leaves a chain of forks", python(CHAIN), (OK,), also=(lasted(0, 8),)),
    Case("floods its stdout with 300 MB", python(FLOOD + "time.sleep(0.3)", limits=Limits(output_bytes=8 * MIB)),
         (OK,), also=(wrote(300 * MIB), keeps_no_more_than(9 * MIB))),
    Case("floods its stdout and is gone", python(FLOOD, limits=Limits(output_bytes=8 * MIB)),
         (OK,), also=(wrote(300 * MIB), keeps_no_more_than(9 * MIB))),
    Case("floods its stderr with 300 MB and fails",
         python(FLOOD.replace("write(1", "write(2") + "os._exit(1)", retry=ONE, limits=Limits(output_bytes=8 * MIB)),
         (E.UNKNOWN,), also=(wrote(300 * MIB), ends_with("xxx"), keeps_no_more_than(9 * MIB))),
    Case("says more than is kept", protocol("""ready()
while True: say("chunk", id=ID, text="x" * 4000)""", retry=ONE, limits=Limits(output_bytes=4 * MIB)),
         (E.PROTOCOL_ERROR,), "output_limit"),
    Case("says a hundred thousand chunks", protocol("""ready()
piece = json.dumps({"type": "chunk", "id": ID, "text": "x" * 40}).encode() + b"\\n"
for _ in range(1000): os.write(1, piece * 100)
result(7)"""), (OK,), also=(result_is(7),)),
    Case("says one line of 900 KB after the other", protocol("""ready()
for n in range(100): say("chunk", id=ID, text="x" * 900_000)
result(7)"""), (OK,), also=(result_is(7),)),
    Case("nests as deep and wide as a line takes", protocol("""ready()
deep = "[" * 60 + "]" * 60
for n in range(30): say("heartbeat", id=ID, seq=n, progress=json.loads("[" + ",".join([deep] * 1000) + "]"))
result(7)"""), (OK,), also=(result_is(7),)),
]  # fmt: skip
