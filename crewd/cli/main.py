"""The command line: the names of all commands, and where each lives."""

import click

from crewd import __version__
from crewd.cli.lazy import LazyGroup

COMMANDS = {
    "serve": ("crewd.cli.serve:serve", "Watch crews and tell what is true of them."),
    "demo": ("crewd.cli.demo:demo", "Play a crew in a temporary folder and watch it."),
    "status": ("crewd.cli.status:status", "Show runs and workers, those in trouble first."),
    "show": ("crewd.cli.show:show", "Show one run with its tasks."),
    "explain": ("crewd.cli.explain:explain", "Show the evidence behind the verdict on one task."),
    "events": ("crewd.cli.events:events", "Show what happened, and follow what happens."),
    "metrics": ("crewd.cli.metrics:metrics", "Show the daemon's metrics."),
    "beat": ("crewd.cli.beat:beat", "Write a sign of life of a worker."),
    "config": ("crewd.cli.config:config", "Check, show and describe the settings."),
    "doctor": ("crewd.cli.doctor:doctor", "Check what crewd needs of this machine."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Exit codes: 0 ok, 1 found or failed, 2 usage, 3 nothing matched, 69 daemon unreachable, 77 refused,"
    " 78 bad configuration.",
)
@click.version_option(__version__, message="crewd %(version)s")
def cli() -> None:
    """crewd keeps crews of AI agents working and tells the truth about them."""
