"""What `crewd doctor` says of channels and of the dead-man ping, without sending anything."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crewd.cli.findings import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from crewd.config.settings import Settings
    from crewd.telemetry.notify.options import ChannelOptions


def notifications(settings: "Settings | None", environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the form of each channel: programs that are there, addresses that can be used."""
    if settings is None:
        return
    from crewd import assembly

    options = assembly.notify_options(settings, environ)
    for channel in options.channels:
        yield from _channel(channel)
    if not options.channels:
        what = "switched off" if settings.notifications.channels else "no channel: nobody is told of incidents"
        yield Finding("notifications", OK, f"{what} (docs/notifications.md)")
    if options.dead_man.file:
        yield _file(options.dead_man.file)
    if options.dead_man.url:
        yield _address("dead man", options.dead_man.url)


def _channel(channel: "ChannelOptions") -> Iterator[Finding]:
    from crewd.host.commands import find_program

    name = f"channel {channel.name}"
    program = {"command": channel.command[:1], "desktop": ("notify-send",)}.get(channel.kind)
    if program:
        found = find_program(program[0], channel.environ)
        if found is None:
            yield Finding(name, FAIL, f"{program[0]} is not there", "install it, or give its whole path")
        else:
            yield Finding(name, OK, f"{channel.kind}: {found}")
    elif channel.kind == "webhook":
        yield _address(name, channel.url)
    else:
        yield Finding(name, OK, channel.kind)


def _address(name: str, url: str) -> Finding:
    from crewd.host.outgoing import address, is_open

    host = address(url).hostname
    if is_open(url):
        what = f"http to {host}: whoever is on the way reads it, with what the address and headers hold"
        return Finding(name, WARN, what, "use https")
    return Finding(name, OK, f"webhook to {host}; `crewd notify test` tries it")


def _file(path: str) -> Finding:
    folder = Path(path).parent
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("dead man", FAIL, f"{folder}: crewd may not write there", "make it, or name another file")
    return Finding("dead man", OK, path)
