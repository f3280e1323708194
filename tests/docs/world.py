"""What the examples of the pages are run against: one daemon, a run that failed in part, and a worker that died."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from crewd.cli.main import cli
from tests.end_to_end.managed import managed, submit
from tests.end_to_end.running import Crewd, Worker, eventually
from tests.end_to_end.running import crewd as serving

ENDED = {"completed", "dead_lettered", "skipped", "cancelled"}
SHIPPED_ADDRESS = "127.0.0.1:9464"
LINE_SECONDS = 30.0
RUN_WORDS = re.compile(r"\b(?:RUN|TASK|KEY|F)\b")


# The run that stands for RUN: one task succeeds, two are given up for causes of their own, one is left out.
def run_file(word: str) -> dict[str, Any]:
    return {
        "name": "nightly",
        "defaults": {"retry": {"max_attempts": 1}, "cwd": "/", "executor": "claude"},
        "tasks": [
            {"id": "test", "command": ["/bin/sh", "-c", "echo 3 passed; echo a warning >&2"]},
            {"id": "broken", "command": ["/bin/sh", "-c", f"echo no such table: {word} >&2; exit 3"]},
            {"id": "spoiled", "command": ["/bin/sh", "-c", f"echo not allowed: {word}; exit 4"]},
            {"id": "report", "command": ["/bin/sh", "-c", "true"], "depends_on": ["broken"]},
        ],
    }


SETTINGS = "[executors.claude]\nsuccess = { task_error_codes = [3, 4] }\n"


@dataclass(frozen=True)
class Outcome:
    """How a line ended."""

    code: int
    output: str


class World:
    """A daemon to ask, and a home to ask from."""

    def __init__(self, daemon: Crewd, folder: Path, idle: subprocess.Popen[bytes]) -> None:
        self.daemon = daemon
        self.idle = idle  # a process that does nothing, where a page wants one
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        entry = self.bin / "crewd"
        entry.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m crewd "$@"\n')
        entry.chmod(0o755)
        self.address = daemon.get("/api/v1/status") and (daemon.state / "daemon.json").read_text()
        self.address = re.search(r"http://([\d.]+:\d+)", self.address)[1]  # type: ignore[index]  # the daemon is ready

    def names(self, page: str, lines: str) -> dict[str, str]:
        """Say what the words in capitals stand for in these lines; a run is made where they speak of one."""
        fixed = {"STATE": str(self.daemon.state), "NAME": "ann", "TEXT": "because", SHIPPED_ADDRESS: self.address}
        return {**self._run_names(re.sub(r"\W", " ", page)), **fixed} if RUN_WORDS.search(lines) else fixed

    def _run_names(self, word: str) -> dict[str, str]:
        """Make a run with causes of its own, and name it."""
        for scope in ([], ["--executor", "claude"]):  # what the page before may have closed
            self.crewd(["resume", *scope], self.folder)
        run_id = submit(self.daemon, run_file(word))
        eventually(lambda: all(task["state"] in ENDED for task in managed(self.daemon, run_id)["tasks"]))
        found = self.crewd(["deadletter", "show", f"{run_id}/broken", "--json"], self.folder)
        prints = re.search(r'"fingerprint": *"([^"]+)"', found.output)
        assert prints, found.output
        return {
            "RUN/TASK": f"{run_id}/broken",
            "RUN": run_id,
            "TASK": "test",
            "KEY": f"{run_id}/spoiled",
            "F": prints[1],
        }

    def environ(self, home: Path) -> dict[str, str]:
        return {
            "HOME": str(home),
            "PATH": f"{self.bin}:{os.environ.get('PATH', os.defpath)}",
            "CREWD_STATE_DIR": str(self.daemon.state),
            "NO_COLOR": "1",
            "TMPDIR": str(home),
        }

    def crewd(self, arguments: list[str], home: Path, **more: str) -> Outcome:
        """Run one command of crewd here, which is cheaper than a process of its own."""
        strange = [name for name in os.environ if name.startswith(("CREWD_", "XDG_")) or name.endswith("_DIRECTORY")]
        result = CliRunner(env={**dict.fromkeys(strange), **self.environ(home), **more}).invoke(cli, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.output)

    def shell(self, line: str, home: Path, where: Path) -> Outcome:
        """Run one line by a shell, with what it starts in its process group."""
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=where,
            env=self.environ(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LINE_SECONDS,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(errors="replace"))

    def follow(self, line: str, home: Path, where: Path) -> bytes:
        """Run one line that goes on until ^C until it says something on stdout, and end it; b"" where it does not."""
        process = subprocess.Popen(
            ["/bin/sh", "-c", line],
            cwd=where,
            env=self.environ(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            told, _, _ = select.select([process.stdout], [], [], LINE_SECONDS)
            return os.read(process.stdout.fileno(), 4096) if told else b""
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its leader is not reaped yet: the number is its own
            process.wait()
            process.stdout.close()


def with_names(text: str, names: Mapping[str, str]) -> str:
    """Put what there is in the place of the words that stand for it."""
    for word, value in names.items():
        text = re.sub(rf"(?<![\w/.-]){re.escape(word)}(?![\w-])" if word.isupper() else re.escape(word), value, text)
    return text


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """A daemon with a beat run of which one worker is dead, until the end of the block."""
    state, beats = folder / "state", folder / "state" / "beats"
    beats.mkdir(parents=True)
    (folder / "crewd.toml").write_text(SETTINGS)
    worker = Worker(beats, "nightly", "01_migrate")
    try:
        with serving(state, folder, "--config", str(folder / "crewd.toml")) as daemon:
            daemon.wait_ready()
            eventually(lambda: daemon.level("nightly", "01_migrate") == "healthy")
            worker.end()
            eventually(lambda: daemon.level("nightly", "01_migrate") == "dead")
            eventually(lambda: "01_migrate" in json.dumps(daemon.get("/api/v1/incidents")[1]))
            idle = Worker(folder / "elsewhere", "idle", "idle")
            try:
                yield World(daemon, folder, idle.process)
            finally:
                idle.end()
    finally:
        worker.end()
