"""`crewd completion`: what a shell needs so that the Tab key completes commands, options and names."""

import click
from click.shell_completion import get_completion_class

from crewd.cli.lazy import COMPLETING

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, and names of runs, tasks and what else there is.

    In ~/.bashrc: eval "$(crewd completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    script = kind(context.find_root().command, {}, "crewd", COMPLETING)
    # As its source() does, without starting a bash to ask for its version.
    click.echo(script.source_template % script.source_vars())
