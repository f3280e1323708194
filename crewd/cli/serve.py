"""`crewd serve`: the daemon."""

import asyncio
from pathlib import Path
from typing import Any

import click

from crewd.cli.options import config_option, environment, state_option
from crewd.cli.settling import settle_process


@click.command()
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="PATH",
    help="Project or crew folder to watch, instead of sources.roots; repeatable.",
)
@click.option(
    "--beat-root",
    "beat_roots",
    multiple=True,
    metavar="PATH",
    help="Folder of beat files, instead of sources.beat_roots; repeatable.",
)
@config_option
@state_option
@click.option("--host", help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 = any free one, told in daemon.json."
)
@click.option("--interval", metavar="DURATION", help="Time between two rounds, such as 5s.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="The least that is logged."
)
@click.option("--log-format", type=click.Choice(["auto", "json", "console"]), help="How it is logged.")
def serve(config_file: Path | None, **options: Any) -> None:
    """Watch crews and tell what is true of them, until SIGTERM or ^C. SIGHUP loads the settings again.

    An option counts more than the environment, which counts more than the file.
    """
    from crewd import daemon
    from crewd.config.load import Loaded, load
    from crewd.host.aside import leave

    environ, overrides = environment(), _overrides(options)

    def load_settings() -> Loaded:
        return load(config_file, environ, overrides)

    serving = daemon.serve(load_settings(), environ, reload=load_settings, on_ready=lambda _: settle_process())
    leave(asyncio.run(serving))


def _overrides(options: dict[str, Any]) -> dict[str, Any]:
    names = {
        "roots": "sources.roots",
        "beat_roots": "sources.beat_roots",
        "host": "http.host",
        "port": "http.port",
        "interval": "patrol.interval",
        "log_level": "log.level",
        "log_format": "log.format",
    }
    given = {names[name]: value for name, value in options.items() if name in names and value not in (None, ())}
    if options["state_dir"] is not None:
        given["ledger.folder"] = str(options["state_dir"].absolute())
    for key in ("sources.roots", "sources.beat_roots"):
        if key in given:
            # Absolute at once: a reload must not depend on where the daemon stands by then.
            given[key] = tuple(str(Path(path).expanduser().absolute()) for path in given[key])
    return given
