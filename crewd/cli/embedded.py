"""A daemon for the length of one command, where none runs."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import click

from crewd.cli.client import Place
from crewd.cli.embedded_daemon import READY
from crewd.errors import CrewdError, DaemonUnreachable

LOG = "run.log"  # in the state folder: what the daemon of the newest `crewd run` logged
STOP_SECONDS = 90.0  # it stops what it runs first
WORDS_MAX = 4096


class DidNotStart(CrewdError):
    """The daemon of this command ended before it served. Says what it said."""

    def __init__(self, words: str, exit_code: int) -> None:
        super().__init__(words)
        self.problems = tuple(words.split("\n"))[1:]  # one a line, as it told them
        self._code = exit_code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # its child tells it
        return self._code


@dataclass
class Embedded:
    """A child process that serves `place` until it is closed. It outlives nobody: its stdin ends with us."""

    place: Place
    config_file: Path | None = None
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def ensure(self) -> bool:
        """Start it if no daemon answers; returns whether it was started. Raises DidNotStart."""
        if self._process is not None and self._process.poll() is None:
            return False  # it is there, and slow
        try:
            with self.place.daemon() as daemon:
                daemon.json("/healthz")
        except DaemonUnreachable:
            self._start()
            return True
        return False

    def close(self) -> None:
        """Stop it: what it runs is stopped first, and waits for the next crewd. A second time does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            click.echo(f"crewd: the daemon did not stop within {STOP_SECONDS:.0f} s and is killed", err=True)
            process.kill()
            process.wait()
        finally:
            _close(process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        self.close()
        state = self.place.state.absolute()
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [sys.executable, "-m", "crewd.cli.embedded_daemon", str(state)]
        command += [str(self.config_file.absolute())] if self.config_file is not None else []
        log = state / LOG
        with log.open("wb") as file:
            log.chmod(0o600)
            # A session of its own: ^C is ours, and it is told in turn.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, start_new_session=True
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != READY:
            code = self._process.wait()
            self.close()
            words = log.read_bytes()[-WORDS_MAX:].decode("utf-8", "replace").strip()
            raise DidNotStart(f"the daemon did not start; {log} says:\n{words}", max(code, 1))


def _close(stream: "IO[bytes] | None") -> None:
    if stream is not None:
        stream.close()
