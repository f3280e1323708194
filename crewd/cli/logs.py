"""`crewd logs`: what a task wrote."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crewd.cli.client import find
from crewd.cli.options import config_option, state_option
from crewd.cli.output import Output, Stretch
from crewd.cli.screen import is_terminal, pause
from crewd.cli.text import clean
from crewd.errors import DaemonUnreachable, NothingMatched, UsageProblem

if TYPE_CHECKING:
    from crewd.cli.spoken import Spoken

POLL_SECONDS_MIN, POLL_SECONDS_MAX = 0.1, 1.0
NO_MORE = ("completed", "dead_lettered", "cancelled", "skipped", "failed", "needs_attention", "blocked")


@click.command()
@click.argument("run")
@click.argument("task")
@click.option(
    "-f", "--follow", "following", is_flag=True, help="Go on with what comes, over retries, until the task has ended."
)
@click.option(
    "--attempt",
    type=click.IntRange(min=1),
    metavar="N",
    help="This attempt instead of the newest; following ends with it.",
)
@click.option("--stderr", is_flag=True, help="What it wrote to stderr instead of stdout.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines.")
@click.option("--pretty", is_flag=True, help="What an agent printed, in words; on a terminal that is the default.")
@click.option("--raw", is_flag=True, help="Every byte as it was written, on a terminal too.")
@config_option
@state_option
def logs(
    run: str,
    task: str,
    following: bool,
    attempt: int | None,
    stderr: bool,
    tail: int | None,
    pretty: bool,
    raw: bool,
    config_file: Path | None,
    state_dir: Path | None,
) -> None:
    """Print what TASK of RUN wrote, without secrets. On a terminal, control characters are left out.

    What agents print (Claude Code, Codex, Gemini CLI, pi) is told in words there: what they said, their tools, how
    they ended, what they used.

    While the daemon is down it is read in the attempt's folder.
    """
    if pretty and raw:
        raise UsageProblem("--pretty and --raw say the opposite: give one of them")
    place = find(state_dir, config_file)
    output = Output(place, run, task, "stderr" if stderr else "stdout")
    showing = _Showing(output, attempt, tail, in_words=not stderr and not raw and (pretty or is_terminal()), raw=raw)
    try:
        if following:
            showing.follow()
        else:
            showing.once()
    except KeyboardInterrupt:
        return
    finally:
        showing.close()


@dataclass
class _Showing:
    output: Output
    attempt: int | None
    tail: int | None
    in_words: bool  # where it is understood
    raw: bool
    _spoken: "Spoken | None" = None
    _unfinished: bytes = b""  # the beginning of a line of which the rest has not come
    _said: dict[str, str] = field(default_factory=dict)

    def once(self) -> None:
        """Print what is there now."""
        attempt = self.attempt or self._newest()
        if attempt == 0:
            raise NothingMatched(f"no attempt of {self.output.run}/{self.output.task} was started yet")
        if self.tail is not None:
            self._write(self.output.tail(attempt, self.tail))
        else:
            for stretch in self.output.rest(attempt, 0):
                self._write(stretch)
        self._say_away()

    def follow(self) -> None:
        """Print what is there and what comes, until the attempt that was named is over, or else the task."""
        attempt = self.attempt or self._newest()
        offset, every = self._begin(attempt), POLL_SECONDS_MIN
        while True:
            stretch = self._read(attempt, offset) if attempt else None
            if stretch is not None:
                self._write(stretch)
                if stretch.after > offset:
                    offset, every = stretch.after, POLL_SECONDS_MIN
                    continue
            if attempt == 0 or (stretch is not None and stretch.ended):
                newest = self._next(attempt)
                if newest is None:
                    return
                if newest != attempt:
                    attempt, offset, every = newest, 0, POLL_SECONDS_MIN
                    continue
            pause(every)
            every = min(every * 1.5, POLL_SECONDS_MAX)

    def _begin(self, attempt: int) -> int:
        if self.tail is None or attempt == 0:
            return 0
        stretch = self.output.tail(attempt, self.tail)
        self._write(stretch)
        return stretch.after

    def _read(self, attempt: int, offset: int) -> Stretch | None:
        try:
            stretch = self.output.read(attempt, offset)
        except NothingMatched:
            if offset or self.attempt is not None:
                raise
            return None  # it is being started
        self._say_away()
        return stretch

    def _next(self, attempt: int) -> int | None:
        """Name the attempt to go on with; None: there will be none."""
        if self.attempt is not None:
            return None
        try:
            run, task = self.output.look()
        except DaemonUnreachable:
            return attempt
        if task["attempt"] > attempt:
            self.close()
            self._say(f"attempt {task['attempt']}")
            return attempt + 1
        if task["state"] in NO_MORE:
            words = f": {task['why']}" if task["why"] and task["state"] != "completed" else ""
            self._say(f"{self.output.task} is {task['state']}{words}")
            return None
        why = (run.get("held") or {}).get(task["task_id"]) or task["why"]
        self._say(f"{task['state']}{f': {why}' if why else ''}; waiting for the next attempt")
        return attempt

    def _newest(self) -> int:
        _, task = self.output.look()
        return int(task["attempt"])

    def close(self) -> None:
        """Tell what is left to be told of an agent."""
        if self._spoken is not None:
            self._speak([self._unfinished] if self._unfinished else [])
            self._print(self._spoken.end())
        self._spoken, self._unfinished = None, b""

    def _begin_words(self) -> None:
        if not self.in_words:
            return
        from crewd.cli.spoken import Spoken, is_understood

        _, task = self.output.look()
        ended = [(each.get("details") or {}).get("profile") for each in task["attempts"][-1:]]
        profile = str(task.get("profile") or next(filter(None, ended), ""))
        self.in_words = is_understood(profile)
        self._spoken = Spoken(profile) if self.in_words else None

    def _say_away(self) -> None:
        if self.output.away:
            self._say(f"{self.output.away}; reading the attempt's folder", about="daemon")

    def _say(self, words: str, about: str = "task") -> None:
        # Once for each change, not at every look.
        if words != self._said.get(about):
            click.echo(f"crewd: {clean(words)}", err=True)
        self._said[about] = words

    def _write(self, stretch: Stretch) -> None:
        if not stretch.data:
            return
        if self.in_words and self._spoken is None:
            self._begin_words()
        if self._spoken is not None:
            *whole, self._unfinished = (self._unfinished + stretch.data).split(b"\n")
            self._speak(whole)
        elif is_terminal() and not self.raw:
            lines = stretch.data.decode("utf-8", "replace").split("\n")
            click.echo("\n".join(clean(line.expandtabs()) for line in lines), nl=False)
        else:
            sys.stdout.buffer.write(stretch.data)
            sys.stdout.buffer.flush()

    def _speak(self, lines: Sequence[bytes]) -> None:
        if self._spoken is not None:
            for line in lines:
                self._print(self._spoken.hear(line))

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            click.echo(line)
