"""Workers that do not want to end: whatever they do, nothing of them is left, and their end is told as it was."""

import os
import time
from pathlib import Path

import pytest

from crewd.host.brand import read_brand
from crewd.host.proc_stat import read_stat
from crewd.host.remains import prove_gone
from crewd.host.subreaper import children, orphans, reap_orphans
from crewd.model.failure import Exit
from tests.fakes.workers import attempt, python, subreaper, until

pytestmark = pytest.mark.real_time

DAEMON = "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n  {}\n os._exit(0)\nos.wait()\n"
NAMELESS = "os.execve('/bin/sh', ['sh', '-c', 'echo ready; sleep 30; :'], {})"
# Behaviour, lines of Python, how it ends: the kernel's SIGKILL wherever it does not end by itself.
KILLED = Exit(signal=9)
HOSTILE: list[tuple[str, str, Exit]] = [
    ("is a daemon", DAEMON.format("say(); wait()") + "os._exit(3)", Exit(code=3)),
    ("is a daemon without environment", DAEMON.format(NAMELESS) + "os._exit(0)", Exit(code=0)),
    ("is a daemon below a daemon", DAEMON.format("os.setsid(); os.fork(); say(); wait()") + "wait()", KILLED),
    ("gives up its environment", NAMELESS, KILLED),
    ("takes another name", "os.execv('/bin/sh', ['[kworker/0:1]', '-c', 'echo ready; sleep 30; :'])", KILLED),
    ("ignores signals", "for n in (1, 2, 3, 10, 12, 15):\n signal.signal(n, signal.SIG_IGN)\nsay(); wait()", KILLED),
    ("stops itself", "say(); os.kill(os.getpid(), signal.SIGSTOP)", KILLED),
    ("stops its shim", "os.kill(os.getppid(), signal.SIGSTOP); say(); wait()", KILLED),
    ("has a hundred children", "for _ in range(100):\n if os.fork() == 0:\n  wait()\nsay(); wait()", KILLED),
    ("closes its streams", "say(); os.closerange(0, 3); wait()", KILLED),
    ("leaves its stdout to a child", "if os.fork() == 0:\n say(); wait()\nos._exit(0)", Exit(code=0)),
    ("leaves the session", "if os.fork() == 0:\n os.setsid(); say(); wait()\nwait()", KILLED),
    ("leaves the group", "os.setpgid(0, 0); say(); wait()", KILLED),
    ("kills its shim", "os.kill(os.getppid(), signal.SIGKILL); say(); wait()", KILLED),
    ("kills its group", "if os.fork() == 0:\n os.setsid(); say(); wait()\ntime.sleep(.1); os.killpg(0, 9)", KILLED),
    ("takes its record away", "os.unlink('exit'); say(); os._exit(5)", Exit(code=5)),
    ("writes into its record", "open('exit', 'w').write('exit 0\\n'); say(); os._exit(5)", Exit(code=5)),
    ("adopts orphans", "ctypes.CDLL(None).prctl(36, 1)\n" + DAEMON.format("say(); wait()") + "wait()", KILLED),
    ("lives on in its second thread", "threading.Thread(target=lambda: (say(), wait())).start()\n"
     "ctypes.CDLL(None).pthread_exit(None)", KILLED),
]  # fmt: skip


@pytest.mark.parametrize(("what", "code", "end"), HOSTILE, ids=[what for what, _, _ in HOSTILE])
def test_nothing_is_left_of_a_worker_that(what: str, code: str, end: Exit, tmp_path: Path) -> None:
    with subreaper() as known, attempt(tmp_path / "a", python(code)) as this:
        this.begin().ready()
        if end.code is not None:
            this.end()
        assert this.left() or end.code == 5, "something to end"
        assert this.kill(known | {this.shim}) == []
        ended = this.end()
        assert ended is not None and ended.exit == end
        reap_orphans(known)
        assert set(children()) <= known


LASTS = 30  # seconds, should nobody put it out
CHAIN = f"say()\nends = time.monotonic() + {LASTS}\nwhile time.monotonic() < ends:\n os.write(1, b'.')\n"
CHAIN += " if os.fork():\n  os._exit(0)\n"
CHAIN_OF_SESSIONS = CHAIN + " os.setsid()\n"
CHAINS = "for _ in range(7):\n if os.fork() == 0:\n  break\n" + CHAIN
# 6 + 36 + 144 processes, each of which replaces every child that it loses.
HYDRA = f"""
ends = time.monotonic() + {LASTS}
for width in (6, 6, 4):
    living = 0
    while time.monotonic() < ends:
        while living < width:
            if os.fork() == 0:
                break
            living += 1
        else:
            os.write(1, b'ready ' * 30)
            os.wait()
            living -= 1
            continue
        break
while time.monotonic() < ends:
    time.sleep(.01)
"""


BOMBS = {"chain": CHAIN, "sessions": CHAIN_OF_SESSIONS, "chains": CHAINS, "hydra": HYDRA}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("is_child", [True, False], ids=["ours", "taken over"])
def test_a_bomb_of_forks_is_put_out(name: str, is_child: bool, tmp_path: Path) -> None:
    with subreaper() as known, attempt(tmp_path / "a", python(BOMBS[name])) as this:
        known.add(this.shim)
        this.begin().ready()
        until(lambda: len(this.stdout()) >= 200)
        assert this.kill(known if is_child else None) == []
        assert orphans(known) == []


def test_a_chain_that_no_walk_sees_is_not_taken_for_gone(tmp_path: Path) -> None:
    with subreaper() as known, attempt(tmp_path / "a", python(CHAIN_OF_SESSIONS)) as this:
        known.add(this.shim)
        started = time.monotonic()
        this.begin().ready().end()
        for _ in range(8):
            assert prove_gone(this.mark, this.shim, since=this.since, known=known)
            by_walks = prove_gone(this.mark, this.shim, since=this.since)
            assert by_walks or time.monotonic() > started + LASTS
        assert this.kill(known) == []
        assert prove_gone(this.mark, this.shim, since=this.since, known=known) == []


def test_the_daemon_of_one_attempt_is_not_taken_for_another_ones(tmp_path: Path) -> None:
    code = DAEMON.format(NAMELESS)
    with (
        subreaper() as known,
        attempt(tmp_path / "one", python(code)) as one,
        attempt(tmp_path / "two", python(code)) as two,
    ):
        one.begin().ready().end()
        two.begin().ready().end()
        assert len(orphans(known)) == 2
        (theirs,) = [left for left in two.left() if left.parent == os.getpid()]
        assert one.kill() == []
        assert read_brand(theirs.identity.pid) > 0
        found = read_stat("/proc", theirs.identity.pid)
        assert found is not None and not found.is_over and found.letter != "T"
        assert two.kill() == []
        reap_orphans(known)
        assert orphans(known) == []
