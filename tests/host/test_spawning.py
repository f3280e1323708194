"""The shim and its gate: what a command finds, what it does not inherit, and what is recorded of its end."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from crewd.host.brand import brand_of, read_brand
from crewd.host.proc_stat import read_stat
from crewd.host.processes import ProcProcesses
from crewd.host.shim import SCRIPT, ExitRecord, parse_record, read_exit, told_by_shell
from crewd.host.signalling import reap, send_group
from crewd.host.spawning import Spawn, keep_descriptors_private, resolve, spawn
from crewd.model.failure import Exit
from tests.fakes.workers import PATIENCE, attempt, python, until
from tests.host.limits import no_descriptor_left

pytestmark = pytest.mark.real_time


def test_nothing_begins_before_the_gate_is_opened(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("touch", "began")) as this:
        assert not select.select([this.held.pidfd], [], [], 0.1)[0]
        assert not (tmp_path / "a" / "began").exists()
        this.begin()
        assert this.end() == ExitRecord(Exit(code=0))
        assert (tmp_path / "a" / "began").exists()


def test_a_shim_whose_crewd_is_gone_ends_without_having_begun(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("touch", "began")) as this:
        this.held._shut()  # what the kernel does when crewd ends
        assert this.end() == ExitRecord(began=False)
        assert not (tmp_path / "a" / "began").exists()


def test_an_abandoned_shim_is_ended_and_reaped(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("touch", "began")) as this:
        signal.pidfd_send_signal(this.held.pidfd, signal.SIGSTOP)
        this.held.abandon()
        assert read_stat("/proc", this.shim) is None
        assert not (tmp_path / "a" / "began").exists()


def test_what_began_is_not_abandoned(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("true",)) as this:
        this.begin()
        with pytest.raises(ValueError, match="must be stopped"):
            this.held.abandon()


def test_a_gate_without_a_shim_is_told(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("true",)) as this:
        signal.pidfd_send_signal(this.held.pidfd, signal.SIGKILL)
        this.end()
        with pytest.raises(BrokenPipeError):
            this.begin()


def test_the_identity_is_that_of_a_leader_of_session_and_group(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sleep", "30")) as this:
        facts = ProcProcesses().facts(this.shim)
        assert facts is not None and facts.identity == this.held.identity
        stat = read_stat("/proc", this.shim)
        assert stat is not None and (stat.session, stat.group, stat.parent) == (this.shim, this.shim, os.getpid())
        assert read_brand(this.shim) == brand_of(this.shim, this.since)


@pytest.mark.parametrize(
    ("argv", "end"),
    [
        (("true",), Exit(code=0)),
        (("sh", "-c", "exit 7"), Exit(code=7)),
        (("sh", "-c", "exit 127"), Exit(code=127)),
        (("sh", "-c", "exit 173"), Exit(code=173)),
        (("sh", "-c", "kill -TERM $$"), Exit(signal=15)),
        (("sh", "-c", "kill -KILL $$"), Exit(signal=9)),
        (("sh", "-c", "kill -SEGV $$"), Exit(signal=11)),
        (("exit", "3"), None),  # a word of the shell's is no program
    ],
)
def test_the_end_is_told_as_it_was(argv: tuple[str, ...], end: Exit | None, tmp_path: Path) -> None:
    if end is None:
        with pytest.raises(FileNotFoundError):
            spawn(Spawn(argv, {"PATH": os.environ["PATH"]}, str(tmp_path), str(tmp_path)))
        return
    with attempt(tmp_path / "a", argv) as this:
        ended = this.begin().end()
        assert ended is not None and ended.exit == end
        assert read_exit(str(this.folder)) == ended
        (this.folder / "exit").unlink()
        assert this.end() == ended, "the shim ends as its command did"


@pytest.mark.parametrize(
    ("code", "end"),
    [(0, Exit(code=0)), (128, Exit(code=128)), (129, Exit(signal=1)), (143, Exit(signal=15)), (144, Exit(code=144)),
     (145, Exit(code=145)), (152, Exit(signal=24)), (153, Exit(signal=25)), (159, Exit(signal=31)),
     (160, Exit(code=160)), (173, Exit(code=173)), (255, Exit(code=255))],
)  # fmt: skip
def test_only_what_ends_programs_is_a_signal(code: int, end: Exit) -> None:
    assert told_by_shell(code) == end


@pytest.mark.parametrize(
    ("data", "record"),
    [
        (b"", None),
        (b"exit 0", None),
        (b"exit 1", None),
        (b"exit 1\nexit ", ExitRecord(Exit(code=1))),
        (b"exit 0\nexit 3\n", ExitRecord(Exit(code=3))),
        (b"\0\xff\nexit 3\nrubbish\n\n", ExitRecord(Exit(code=3))),
        (b"exit -1\n", None),
        (b"exit 99999999999\n", None),
        (b"unopened\n", ExitRecord(began=False)),
    ],
)
def test_only_whole_lines_are_a_record(data: bytes, record: ExitRecord | None) -> None:
    assert parse_record(data) == record


def test_no_record_is_read_from_what_is_not_a_plain_file(tmp_path: Path) -> None:
    assert read_exit(str(tmp_path)) is None
    assert read_exit(str(tmp_path / "nowhere")) is None
    (tmp_path / "elsewhere").write_text("exit 0\n")
    (tmp_path / "exit").symlink_to(tmp_path / "elsewhere")
    assert read_exit(str(tmp_path)) is None
    (tmp_path / "exit").unlink()
    os.mkfifo(tmp_path / "exit")
    assert read_exit(str(tmp_path)) is None


HARD = ("-x", "--", "two words", "line\nbreak", "", "*", "$HOME", "`id`", "a=b", "'", '"', "\\", "\u00e9\udcff")


def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    code = "import os; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    with attempt(tmp_path / "a b\nc", (*python(code), *HARD)) as this:
        assert this.begin().end() == ExitRecord(Exit(code=0))
        assert this.stdout() == b"\0".join(map(os.fsencode, HARD))
        assert this.stderr() == b""


@pytest.mark.parametrize("name", ["-dash", "a=b", "two words", "$(id)"])
def test_a_program_may_bear_any_name(name: str, tmp_path: Path) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\necho it was $1\n")
    program.chmod(0o755)
    for folder, argv0, path in (("one", name, str(tmp_path)), ("two", f"./{name}", "/bin")):
        with attempt(tmp_path / folder, (argv0, "me"), {"PATH": path}, tmp_path) as this:
            this.begin().end()
            assert this.stdout() == b"it was me\n"


def test_the_command_inherits_nothing_that_it_should_not(tmp_path: Path) -> None:
    code = (
        "print(sorted(map(int, os.listdir('/proc/self/fd'))), os.getcwd())\n"
        "print([l for l in open('/proc/self/status') if l[:6] in ('SigBlk', 'SigIgn', 'SigCgt')])\n"
        "print(sorted(os.environ), os.getpgid(0) == os.getppid() == os.getsid(0))\n"
    )
    inherited = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(inherited, True)  # as one that a service manager handed over
    keep_descriptors_private()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with attempt(tmp_path / "a", python(code), {"X": "1", "LC_ALL": "C"}, stdin="fifo") as this:
            status = Path(f"/proc/{this.shim}/status").read_text()
            this.begin().end()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        os.close(inherited)
    descriptors, signals, names = this.stdout().decode().splitlines()
    assert "SigBlk:\t0000000000000000\n" in status
    assert descriptors == f"[0, 1, 2, 3] {tmp_path / 'a'}", "3: the one that lists them"
    # Python itself ignores PIPE and XFSZ and catches INT.
    python_ignores = (1 << signal.SIGPIPE - 1) | (1 << signal.SIGXFSZ - 1)
    # 32 and 33 are the C library's own, and no call of it touches them.
    own = 0b11 << 31
    masks = [int(text.split("\\t")[1][:16], 16) & ~own for text in signals.split(", ")]
    assert masks == [0, python_ignores, 1 << signal.SIGINT - 1]
    assert names == "['CREWD_ATTEMPT_DIR', 'LC_ALL', 'PATH', 'PWD', 'X'] True"


def test_a_broken_pipe_ends_the_command_as_it_would_in_a_shell(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sh", "-c", "kill -PIPE $$; echo survived")) as this:
        assert this.begin().end() == ExitRecord(Exit(signal=13))


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2"])
def test_a_signal_to_the_group_ends_the_command_and_not_the_shim(name: str, tmp_path: Path) -> None:
    number = signal.Signals[f"SIG{name}"]
    with attempt(tmp_path / "a", ("sh", "-c", "echo ready; exec sleep 30")) as this:
        this.begin().ready()
        assert send_group(this.held.identity, number, ProcProcesses())
        assert this.end() == ExitRecord(Exit(signal=number))
        assert this.reaped == Exit(code=128 + number), "the shim itself was not killed"


def test_a_fifo_is_read_by_the_command_and_held_by_the_shim(tmp_path: Path) -> None:
    with attempt(tmp_path / "a", ("sh", "-c", "read a; read b; echo $a $b"), stdin="fifo") as this:
        this.begin()
        for line in (b"one\n", b"two\n"):
            # Each time by another writer, as after a restart: in between nobody else holds it open.
            with open(this.folder / "stdin", "wb", buffering=0) as writer:
                writer.write(line)
        this.end()
        assert this.stdout() == b"one two\n"
        assert (this.folder / "stdin").stat().st_mode & 0o777 == 0o600
        with pytest.raises(OSError, match="No such device"):
            os.open(this.folder / "stdin", os.O_WRONLY | os.O_NONBLOCK)


def test_a_file_is_stdin(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "stdin").write_text("given")
    with attempt(tmp_path / "a", ("cat",), stdin="file") as this:
        this.begin().end()
        assert this.stdout() == b"given"


def test_output_is_the_owners_alone_and_appended(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "stdout").write_text("before\n")
    with attempt(tmp_path / "a", ("sh", "-c", "echo out; echo err >&2")) as this:
        this.begin().end()
        assert (this.stdout(), this.stderr()) == (b"before\nout\n", b"err\n")
        assert (this.folder / "stderr").stat().st_mode & 0o777 == 0o600


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    cwd = tmp_path / "gone"
    cwd.mkdir()
    with attempt(tmp_path / "a", ("true",), cwd=cwd) as this:
        cwd.rmdir()
        ended = this.begin().end()
        assert ended is not None and not ended.began
        assert "working folder" in ended.spawn_error
        assert b"gone" in this.stderr()


@pytest.mark.parametrize(
    ("argv", "folder", "error", "named"),
    [
        (("no-such-program",), "a", FileNotFoundError, "no-such-program"),
        (("./a",), "a", FileNotFoundError, "./a"),
        (("true",), "nowhere", FileNotFoundError, "nowhere/stdout"),
        (("true", "a\0b"), "a", OSError, "NUL"),
    ],
)
def test_what_is_missing_is_named(
    argv: tuple[str, ...], folder: str, error: type[OSError], named: str, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(error, match=named):
        spawn(Spawn(argv, {"PATH": os.environ["PATH"]}, str(tmp_path), str(tmp_path / folder)))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_without_a_descriptor_left_nothing_is_started(tmp_path: Path) -> None:
    with no_descriptor_left(), pytest.raises(OSError, match="Too many open files"):
        spawn(Spawn(("true",), {"PATH": os.environ["PATH"]}, str(tmp_path), str(tmp_path)))


def test_a_link_in_the_place_of_output_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "stdout").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="stdout"):
        spawn(Spawn(("true",), {"PATH": os.environ["PATH"]}, str(tmp_path), str(tmp_path)))
    assert not (tmp_path / "elsewhere").exists()


def test_a_daemon_without_standard_streams_can_start_workers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    code = f"""
        import os
        from crewd.host.signalling import await_ends
        from crewd.host.spawning import Spawn, spawn
        os.closerange(0, 3)
        argv = ("sh", "-c", "echo out; echo err >&2; exit 4")
        held = spawn(Spawn(argv, {{"PATH": os.environ["PATH"]}}, "/", {str(tmp_path / "a")!r}, "fifo"))
        held.open_gate()
        await_ends([held.pidfd], {PATIENCE})
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=PATIENCE)
    assert (tmp_path / "a" / "stdout").read_bytes() == b"out\n"
    assert (tmp_path / "a" / "stderr").read_bytes() == b"err\n"
    assert read_exit(str(tmp_path / "a")) == ExitRecord(Exit(code=4))


def test_a_command_outlives_its_crewd_and_so_does_the_record(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    code = f"""
        import os
        from crewd.host.spawning import Spawn, spawn
        argv = ("sh", "-c", "read line; echo $line; exit 6")
        held = spawn(Spawn(argv, {{"PATH": os.environ["PATH"]}}, "/", {str(tmp_path / "a")!r}, "fifo"))
        held.open_gate()
        os.kill(os.getpid(), 9)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=PATIENCE)
    with open(tmp_path / "a" / "stdin", "wb") as door:
        door.write(b"from the next\n")
    until(lambda: read_exit(str(tmp_path / "a")) == ExitRecord(Exit(code=6)))
    assert (tmp_path / "a" / "stdout").read_bytes() == b"from the next\n"


def test_a_program_is_found_as_the_shell_finds_it(tmp_path: Path) -> None:
    for folder, mode in (("one", 0o644), ("two", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").write_text("#!/bin/sh\n")
        (tmp_path / folder / "tool").chmod(mode)
    path = f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"
    assert resolve("tool", "/", path) == f"{tmp_path}/two/tool"
    assert resolve("two/tool", str(tmp_path), "") == f"{tmp_path}/two/tool"
    assert resolve("tool", f"{tmp_path}/two", ":/bin") == f"{tmp_path}/two/tool"
    assert resolve("tool", f"{tmp_path}", "two") == f"{tmp_path}/two/tool"
    for name in ("one/tool", "two", ".", "", "a\0b", "x" * 5000):
        assert resolve(name, str(tmp_path), path) is None


@pytest.mark.parametrize("shell", ["bash --posix", "busybox sh", "dash", "mksh", "yash"])
def test_the_shim_is_understood_by_other_shells(shell: str, tmp_path: Path) -> None:
    program, *options = shell.split()
    if resolve(program, "/", os.environ["PATH"]) is None:
        pytest.skip(f"no {program} on this machine")
    setting = 'exec 3<gate 5>>exit; exec "$@"'
    (tmp_path / "gate").write_text("\n")
    command = ("sh", "-c", "test ! -e /proc/self/fd/5 && kill -TERM 0; sleep 30")
    ended = subprocess.run(
        ["sh", "-c", setting, "sh", program, *options, "-c", SCRIPT, "shim", str(tmp_path), *command],
        cwd=tmp_path, start_new_session=True, timeout=PATIENCE,
    )  # fmt: skip
    assert ended.returncode == 143
    assert read_exit(str(tmp_path)) == ExitRecord(Exit(signal=15))


def test_what_is_no_child_of_ours_is_not_reaped(tmp_path: Path) -> None:
    assert reap(1) is None
    with attempt(tmp_path / "a", ("sleep", "30")) as this:
        assert reap(this.shim) is None
