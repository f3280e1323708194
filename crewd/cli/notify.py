"""`crewd notify`: try the channels on which people are told of incidents."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.options import config_option, environment, json_option, print_json
from crewd.cli.text import clean
from crewd.errors import NothingMatched

if TYPE_CHECKING:
    from crewd.telemetry.notify.options import ChannelOptions


@click.group()
def notify() -> None:
    """Try the channels on which people are told of incidents."""


@notify.command()
@click.argument("channel", required=False)
@config_option
@json_option
def test(channel: str | None, config_file: Path | None, as_json: bool) -> None:
    """Send a test message on CHANNEL, or on all of them, once and at once.

    It is sent from here, with the settings that `crewd serve` would use, whether a daemon runs or not, and whatever
    severity, crews and quiet hours the channel is for. Leaves with 1 if a channel did not take it.
    """
    from crewd import assembly
    from crewd.config.load import load
    from crewd.telemetry.redact import Redactor

    environ = environment()
    settings = load(config_file, environ).settings
    channels = assembly.notify_options(settings, environ).channels
    named = [each for each in channels if channel in (None, each.name)]
    if not named:
        known = ", ".join(each.name for each in channels) or "none"
        what = f"there is no channel {channel}" if channel else "there is no channel"
        raise NothingMatched(f"{what}; notifications.channels has: {known}")
    redactor = Redactor(assembly.secrets(settings))
    told = [_try(each, redactor) for each in named]
    failed = any(not each["ok"] for each in told)
    if as_json:
        print_json({"ok": not failed, "channels": told})
    else:
        for each in told:
            took = f"{each['seconds']:.2f} s"
            click.echo(clean(f"{each['channel']}: {'sent' if each['ok'] else each['error']} ({took})"))
    raise SystemExit(1 if failed else 0)


def _try(options: "ChannelOptions", redactor: Any) -> dict[str, Any]:
    from crewd.host.clock import SystemClock
    from crewd.model.notice import trial_notice
    from crewd.telemetry.notify.delivery import Delivery, NotDelivered

    clock = SystemClock()
    began, error = clock.read(), ""
    try:
        Delivery(options, clock, redactor).deliver([trial_notice(began.wall)])
    except NotDelivered as failure:
        error = str(failure)
    seconds = round(clock.read().mono - began.mono, 3)
    found: dict[str, Any] = {"channel": options.name, "kind": options.kind, "ok": not error, "seconds": seconds}
    return found | ({"error": error} if error else {})
