"""The command line as a process: how it starts, and how it ends."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from crewd import __version__
from tests.cli.world import event, write_ledger

READS = (
    ["status"],
    ["show", "r-bad"],
    ["explain", "r-bad", "t2"],
    ["why", "r-bad"],
    ["deadletter", "list"],
    ["events"],
)
READING = ("pydantic", "pydantic_settings", "fastapi", "uvicorn", "prometheus_client", "structlog", "rich", "asyncio")
CREWD = [sys.executable, "-m", "crewd"]


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CREWD_")}
    return {**kept, "HOME": str(folder)}


def crewd(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CREWD, *arguments], capture_output=True, text=True, env=environment(folder), timeout=30)


def test_version_is_told(tmp_path: Path) -> None:
    result = crewd(tmp_path, "--version")
    assert (result.returncode, result.stdout) == (0, f"crewd {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--version"], ("msgspec", "pydantic", "rich", "apsw", "http", "asyncio")),
        (["--help"], ("msgspec", "pydantic", "rich", "apsw", "http", "asyncio")),
        (["beat", "--run", "r", "--task", "t"], ("pydantic", "rich", "apsw", "http", "asyncio", "prometheus_client")),
        *(([*command, "--state-dir", "state"], READING) for command in READS),
        (["status"], READING),
        (["events"], READING),
    ],
)
def test_a_command_imports_what_it_uses_and_no_more(
    tmp_path: Path, arguments: list[str], heavy: tuple[str, ...]
) -> None:
    for state in ("state", ".local/state/crewd"):
        write_ledger(tmp_path / state)
    code = (
        "import sys, atexit\n"
        "names = lambda: ' '.join({name.split('.')[0] for name in sys.modules})\n"
        "atexit.register(lambda: print(names(), file=sys.stderr))\n"
        f"sys.argv = ['crewd', *{arguments!r}]\n"
        "from crewd.__main__ import main\nmain()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        timeout=30,
        cwd=tmp_path,
    )
    assert result.returncode == 0
    loaded = set(result.stderr.splitlines()[-1].split())
    assert "click" in loaded
    assert not loaded & set(heavy)


def test_completion_offers_names_without_importing_the_commands(tmp_path: Path) -> None:
    variables = {"_CREWD_COMPLETE": "bash_complete", "COMP_WORDS": "crewd st", "COMP_CWORD": "1"}
    code = (
        "import sys, atexit\n"
        "seen = lambda: {'rich', 'crewd.cli.status'} & set(sys.modules)\n"
        "atexit.register(lambda: print(seen() != set(), file=sys.stderr))\n"
        "from crewd.cli.main import cli\ncli(prog_name='crewd')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**environment(tmp_path), **variables}
    )
    assert result.stdout == "plain,status\n"
    assert result.stderr == "False\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["statsu"], 2),
        (["status", "--nope"], 2),
        (["status", "--state-dir", "none"], 69),
        (["config", "check", "missing.toml"], 78),
        (["serve", "--config", "missing.toml"], 78),
    ],
)
def test_each_kind_of_end_has_its_exit_code(tmp_path: Path, arguments: list[str], code: int) -> None:
    result = crewd(tmp_path, *arguments)
    assert result.returncode == code
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    write_ledger(tmp_path / "state", events=[event(seq) for seq in range(1, 5001)])
    command = [*CREWD, "events", "--after", "0", "--json", "--state-dir", str(tmp_path / "state")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert '"seq":1,' in process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(30) == 0
    assert len(errors.splitlines()) == 1, errors  # that the daemon is away


def test_the_process_of_the_daemon_is_settled_once() -> None:
    code = (
        "import gc, sys\n"
        "from crewd.cli.settling import settle_process\n"
        "settle_process()\n"
        "print(gc.get_freeze_count() > 1000, sys.getswitchinterval(), gc.isenabled())\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert result.stdout == "True 0.001 True\n"


def test_an_interrupt_ends_quietly_with_130(tmp_path: Path) -> None:
    code = (
        "import sys, types, click\n"
        "def interrupted(): raise KeyboardInterrupt\n"
        "sys.modules['slow'] = types.SimpleNamespace(command=click.command()(interrupted))\n"
        "from crewd.cli.lazy import LazyGroup\n"
        "LazyGroup('crewd', lazy={'slow': ('slow:command', '')})(['slow'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "module",
    [
        *(
            "serve",
            "demo",
            "status",
            "show",
            "explain",
            "events",
            "metrics",
            "beat",
            "config",
            "run",
            "submit",
            "wait",
        ),
        *("logs", "cancel", "retry", "pause", "resume", "drain", "deadletter", "handover", "why", "worker", "doctor"),
    ],
)
def test_every_command_has_a_help_that_begins_with_its_line(tmp_path: Path, module: str) -> None:
    result = crewd(tmp_path, module, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"Usage: crewd {module}")


def start(folder: Path, *arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[str]":
    unbuffered = {**environment(folder), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*CREWD, *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True, env=unbuffered, start_new_session=True
    )


@pytest.mark.slow
def test_following_shows_what_comes_and_ends_well_on_interrupt(tmp_path: Path) -> None:
    write_ledger(tmp_path / "state", events=[event(1)])
    with start(tmp_path, "events", "-f", "--json", "--after", "0", "--state-dir", str(tmp_path / "state")) as process:
        assert process.stdout is not None
        assert '"seq":1,' in process.stdout.readline()
        write_ledger(tmp_path / "state", events=[event(2)])
        assert '"seq":2,' in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@pytest.mark.slow
def test_watching_off_a_terminal_prints_one_picture_below_the_other(tmp_path: Path) -> None:
    write_ledger(tmp_path / "state")
    with start(tmp_path, "status", "--watch", "--every", "0.5", "--state-dir", str(tmp_path / "state")) as process:
        assert process.stdout is not None
        heads = 0
        while heads < 2:
            heads += process.stdout.readline().startswith("crewd not running")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


@pytest.mark.slow
@pytest.mark.parametrize("watch", [False, True])
def test_on_a_terminal_there_is_colour_besides_the_words(tmp_path: Path, watch: bool) -> None:
    write_ledger(tmp_path / "state")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    arguments = ["status", "--state-dir", str(tmp_path / "state"), *(["--watch"] if watch else [])]
    with start(tmp_path, *arguments, stdout=theirs) as process:
        os.close(theirs)
        seen = b""
        while b"healthy  t1" not in seen.replace(b"\x1b[0m", b"").replace(b"\x1b[32m", b""):
            seen += os.read(ours, 4096)
        if watch:
            process.send_signal(signal.SIGINT)
        # Read on, or the process waits for us.
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while more := os.read(ours, 4096):
                seen += more
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    os.close(ours)
    assert b"\x1b[1;31mDEAD" in seen
    assert (b"\x1b[?1049h" in seen) is watch, "the whole screen is used only for watching, and given back"
    assert (b"\x1b[?1049l" in seen) is watch
