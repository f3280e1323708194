"""`crewd demo`: a played crew, the real daemon watching it, and a screen."""

import asyncio
import signal
import sys
import tempfile
from contextlib import ExitStack, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.demo_agents import agents
from crewd.cli.screen import is_terminal

if TYPE_CHECKING:
    from crewd.cli.demo_screen import LiveScreen, PlainScreen
    from crewd.config.load import Loaded
    from crewd.demo.clock import SuspendableClock
    from crewd.demo.play import Script
    from crewd.wired import Daemon

# So that levels change within half a minute. Seconds.
SHORT = {
    "patrol.interval": 1.0,
    "heartbeat.warn_after": 4.0,
    "heartbeat.stale_after": 8.0,
    "heartbeat.dead_after": 20.0,
    "heartbeat.hung_after": 25.0,
    "heartbeat.startup_grace": 0.0,
    "patrol.waiting_alert_after": 20.0,
}
STRETCH = 15.0  # from the short dead_after to the genuine one


@click.group(invoke_without_command=True)
@click.option("--seconds", type=click.FloatRange(min=1), help="How long; the default is 120, or 1800 in real time.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port for /metrics; 0 = any free one.")
@click.option("--keep", is_flag=True, help="Leave the folder behind.")
@click.option(
    "--fast/--real-time",
    default=True,
    help="Thresholds of seconds, so that something happens (the default), or those of a genuine crewd.",
)
@click.option(
    "--suspend-after",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Pretend after so long that the machine slept for an hour.",
)
@click.option("--no-color", is_flag=True, help="Show the live picture without colour.")
@click.pass_context
def demo(
    context: click.Context,
    seconds: float | None,
    port: int,
    keep: bool,
    fast: bool,
    suspend_after: float | None,
    no_color: bool,
) -> None:
    """Play a crew in a temporary folder and watch it, until ^C.

    The files are those of pi-crew, the workers are processes of their own: healthy ones, one inside a long tool call,
    one that hangs, one that is killed, one that floods its event log, one that waits for a human. crewd itself is
    the genuine one. At the end every process is stopped and the folder removed.
    """
    if context.invoked_subcommand is not None:
        return
    from crewd.demo.play import Script

    script = Script(stretch=1.0 if fast else STRETCH, suspend_at=suspend_after)
    length = seconds if seconds is not None else (120.0 if fast else 1800.0)
    with ExitStack() as stack:
        folder = Path(
            tempfile.mkdtemp(prefix="crewd-demo-")
            if keep
            else stack.enter_context(tempfile.TemporaryDirectory(prefix="crewd-demo-", ignore_cleanup_errors=True))
        )
        code = asyncio.run(_watch_a_play(folder, _settings(folder, port, fast), script, length, no_color))
    click.echo(f"the folder is left at {folder}" if keep else "everything is stopped and removed")
    raise SystemExit(code)


demo.add_command(agents)


async def _watch_a_play(folder: Path, loaded: "Loaded", script: "Script", length: float, no_color: bool) -> int:
    """Run crewd and the play side by side until the time is over, ^C, or crewd ends."""
    from crewd import daemon
    from crewd.demo.clock import SuspendableClock
    from crewd.host.clock import SystemClock

    clock = SuspendableClock(SystemClock())
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    screen = _screen(no_color, stop)

    def ready(running: "Daemon") -> None:
        # There is nothing to load again: a terminal that is closed ends the demo.
        loop.add_signal_handler(signal.SIGHUP, stop.set)
        screen.say(_where_to_look(folder, running.url))

    timer = loop.call_later(length, stop.set)
    play = asyncio.create_task(_play(folder, clock, script, screen), name="play")
    # A play that fails is the end of the demo; what it raised is raised below.
    play.add_done_callback(lambda _: stop.set())
    try:
        with (folder / "crewd.log").open("w") as log, redirect_stderr(log):
            code = await daemon.serve(
                loaded, _environment(folder), clock=clock, listeners=(screen,), on_ready=ready, stop=stop
            )
    finally:
        timer.cancel()
        play.cancel()
        await asyncio.wait([play])
        screen.close()
    if not play.cancelled():
        play.result()
    return code


async def _play(
    folder: Path, clock: "SuspendableClock", script: "Script", screen: "PlainScreen | LiveScreen"
) -> None:
    from crewd.demo.actors import Actors
    from crewd.demo.crew import Crew
    from crewd.demo.play import Play

    with Actors() as actors:
        crew = Crew(folder / "project", clock)
        await Play(crew, actors, clock, script, lambda words: screen.direct(words, clock.read().wall)).run()


def _settings(folder: Path, port: int, fast: bool) -> "Loaded":
    """Make settings of their own: neither this person's file nor environment, nor crews outside the folder."""
    from crewd.config.load import load

    values: dict[str, Any] = {
        "sources.roots": (str(folder / "project"),),
        "sources.beat_roots": (str(folder / "beats"),),
        "sources.follow_index": False,
        "ledger.folder": str(folder / "state"),
        "http.port": port,
        "log.format": "json",
    }
    return load(None, _environment(folder), values | (SHORT if fast else {}))


def _environment(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}


def _where_to_look(folder: Path, url: str) -> list[str]:
    return [
        f"metrics   {url}/metrics",
        f"crew      {folder}/project/.crew     (log of crewd: {folder}/crewd.log)",
        f"ask       crewd status --state-dir {folder}/state     (also: events -f, show RUN, explain RUN TASK)",
        "end       ^C",
    ]


def _screen(no_color: bool, stop: asyncio.Event) -> "PlainScreen | LiveScreen":
    from crewd.cli.demo_screen import LiveScreen, PlainScreen

    if not is_terminal():
        return PlainScreen(gone=stop.set)
    from rich.console import Console

    # None leaves it to NO_COLOR; False would override that.
    return LiveScreen(Console(file=sys.stdout, no_color=no_color or None, highlight=False))
