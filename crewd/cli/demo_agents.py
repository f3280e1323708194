"""`crewd demo agents`: recorded agents under the real daemon, and what it makes of them."""

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.options import json_option, print_json
from crewd.cli.screen import is_terminal, pause

if TYPE_CHECKING:
    from crewd.cli.client import Place
    from crewd.cli.demo_agents_screen import Screen
    from crewd.demo.agent_cases import Case

SPEED = 10.0
OVERTIME = 45.0  # seconds beyond the longest case, for waits that no speed shortens
LOOK_SECONDS = 0.25
AT_ONCE = 12
PROMPT = "Run the command in the task and report."
# At the speed of the recording. The first is half of what it is in earnest: a busy machine stretches all thresholds.
HANG_SECONDS, WARN_SECONDS, STALE_SECONDS, DEAD_SECONDS, HUNG_SECONDS = 120.0, 30.0, 60.0, 300.0, 900.0
PARK_AFTER = 2.0


@dataclass(frozen=True)
class Act:
    """One case as it is played, and what crewd is expected to make of it."""

    case: str
    then: str = ""  # what later attempts play where they begin afresh: whatever was wrong is over
    ends: str = "completed"  # state of the task at its end
    error: str | None = None  # class of the first attempt, "" for none; None: the one of the case
    speed_max: float = 50.0
    fields: Mapping[str, Any] = field(default_factory=dict)  # of the task in the run file


# The long ones first: so all is over soonest.
ACTS = (
    Act(
        "gemini/hang",
        then="gemini/ok",
        error="provider_error",
        speed_max=2.0,  # it stays silent for longer than crewd looks on
        fields={"watch": {"on_stream_hang": "stop"}},
    ),
    Act("claude/long"),
    Act("pi/long"),
    Act("gemini/429", then="gemini/ok"),
    Act("claude/sigkill_tool"),
    Act("codex/sigkill_tool"),
    Act("claude/401", ends="dead_lettered"),
    Act("codex/429", then="codex/ok"),
    Act("pi/429", then="pi/ok"),
    Act("pi/500", then="pi/ok"),
    Act("codex/slow"),
    Act("claude/perm", ends="dead_lettered"),
    Act("gemini/perm", ends="dead_lettered"),
    Act("pi/401", ends="dead_lettered"),
    Act("codex/no_auth", ends="dead_lettered"),
    Act("codex/ctx", ends="dead_lettered"),
    Act("claude/max_turns", ends="dead_lettered"),
    Act("claude/sub_warning"),
    Act("claude/ok_partial"),
    Act("codex/ok"),
    Act("gemini/ok"),
    Act("pi/ok"),
)


@click.command()
@click.option(
    "--speed", type=click.FloatRange(1, 50), default=SPEED, help="So many times as fast as it was recorded."
)
@click.option("--no-color", is_flag=True, help="Show the live picture without colour.")
@json_option
def agents(speed: float, no_color: bool, as_json: bool) -> None:
    """Play recorded runs of Claude Code, Codex, Gemini CLI and pi, none of which need be installed.

    What they printed is genuine, also where they were refused, hung, or were killed. They are tasks of a real daemon,
    which judges them as it would the programs themselves. Leaves with 0 where every verdict is the one expected.
    """
    from crewd.cli.demo_agents_screen import screen_for, summary_lines, told
    from crewd.cli.screen import print_lines

    with tempfile.TemporaryDirectory(prefix="crewd-demo-", ignore_cleanup_errors=True) as name, _own_settings():
        stage = Stage(Path(name), speed)
        screen = screen_for(as_json, no_color and is_terminal())
        try:
            screen.say(f"{len(ACTS)} recorded runs of agents; a crewd of their own is being started for them")
            played, seconds = _play(stage, screen)
        finally:
            screen.close()
    results = told(ACTS, stage.cases, played)
    is_right = all(each["as_expected"] for each in results)
    if as_json:
        print_json({"ok": is_right, "seconds": round(seconds, 1), "speed": speed, "cases": results})
    else:
        print_lines(summary_lines(results, seconds, shutil.get_terminal_size().columns if is_terminal() else 0))
    raise SystemExit(0 if is_right else 1)


class Stage:
    """A folder with everything that is needed: programs that stand in, a home, folders to work in, settings."""

    def __init__(self, folder: Path, speed: float) -> None:
        from crewd.demo.agent_cases import load

        self.folder = folder
        self.speed = speed
        self.cases: Mapping[str, Case] = {act.case: load(act.case) for act in ACTS}
        self._write_programs()
        self._write_settings()

    @property
    def settings(self) -> Path:
        return self.folder / "crewd.toml"

    @property
    def seconds_max(self) -> float:
        return max(case.seconds for case in self.cases.values()) / self.speed + OVERTIME

    def run(self) -> dict[str, Any]:
        """The run file: a task for each act."""
        return {"name": "agents", "tasks": [self._task(act) for act in ACTS]}

    def _task(self, act: Act) -> dict[str, Any]:
        cli = self.cases[act.case].cli
        work = self.folder / "work" / task_id(act.case)
        work.mkdir(parents=True)
        watch = {"stream_hang_after": max(1.0, HANG_SECONDS / self.speed), "park_after": PARK_AFTER}
        then = ["--then", act.then] if act.then else []
        speed = min(self.speed, act.speed_max)
        return {
            "id": task_id(act.case),
            "profile": cli,
            "command": [str(self.folder / "bin" / cli), act.case, "--speed", f"{speed:g}", *then],
            "prompt": PROMPT,
            "cwd": str(work),
            "env": {"HOME": str(self.folder / "home")},
            # Each its own: what befalls one is to be seen on that one alone.
            "account": task_id(act.case),
            "retry": {"base": "1s", "jitter": "none"},
            **{name: value for name, value in act.fields.items() if name != "watch"},
            "watch": watch | act.fields.get("watch", {}),
        }

    def _write_programs(self) -> None:
        """Programs with the names of the real ones, so that a profile finds its program in the command."""
        from crewd.demo import agent_stand_in

        python = f"{shlex.quote(sys.executable)} -I -S {shlex.quote(agent_stand_in.__file__)}"
        text = f'#!/bin/sh\nexec {python} --attempt "${{CREWD_ATTEMPT_NUMBER:-1}}" --home "$HOME" "$@"\n'
        (self.folder / "bin").mkdir()
        (self.folder / "home").mkdir()
        for cli in {case.cli for case in self.cases.values()}:
            path = self.folder / "bin" / cli
            path.write_text(text)
            path.chmod(0o700)

    def _write_settings(self) -> None:
        """The thresholds of a genuine crewd, made shorter as the play is faster; and no crews but this one."""
        heartbeat = {
            "warn_after": WARN_SECONDS,
            "stale_after": STALE_SECONDS,
            "dead_after": DEAD_SECONDS,
            "hung_after": HUNG_SECONDS,
        }
        lines = [
            "[sources]",
            "roots = []",
            "follow_index = false",
            "[patrol]",
            'interval = "1s"',
            "[tasks]",
            f"max_parallel = {AT_ONCE}",
            "inbox_enabled = false",
            'poll_seconds = "100ms"',
            'drain_timeout = "0s"',
            "[heartbeat]",
            *(
                f"{name} = {max(least, value / self.speed):g}"
                for least, (name, value) in enumerate(heartbeat.items(), 2)
            ),
        ]
        self.settings.write_text("\n".join(lines) + "\n")


def task_id(case: str) -> str:
    return case.replace("/", "-")


def _play(stage: Stage, screen: "Screen") -> tuple[dict[str, Any], float]:
    """Let the daemon run all of it; returns how the run stands at its end, and how long that took."""
    from crewd.cli.client import Place
    from crewd.cli.embedded import Embedded
    from crewd.cli.managed_run import over
    from crewd.cli.submission import RunFile, submit_run
    from crewd.host.clock import SystemClock

    clock = SystemClock()
    began = clock.read().mono
    place = Place(stage.folder / "state")
    with Embedded(place, stage.settings) as embedded:
        embedded.ensure()
        run_id = submit_run(place, RunFile(stage.run(), str(stage.folder), "demo"), None).run_id
        while True:
            seconds = clock.read().mono - began
            body, workers = _look(place, run_id)
            screen.show(stage, body, workers, seconds)
            if over(body) or seconds > stage.seconds_max:
                return body, seconds
            pause(LOOK_SECONDS)


def _look(place: "Place", run_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the tasks stand, and their workers by task."""
    from crewd.cli.client import segment
    from crewd.cli.picture import API
    from crewd.errors import NothingMatched

    with place.daemon() as daemon:
        body: dict[str, Any] = daemon.json(f"{API}/runs/{segment(run_id)}/managed")
        try:
            seen: Sequence[Mapping[str, Any]] = daemon.json(f"{API}/runs/{segment(run_id)}")["tasks"]
        except NothingMatched:
            seen = ()  # no round has seen it yet
    return body, {task["task_id"]: task for task in seen}


@contextmanager
def _own_settings() -> Iterator[None]:
    """Hide the person's own settings from the daemon that is started: it inherits our environment."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith("CREWD_")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
