"""A group of commands that imports a command only when it is called, so that starting costs what is used."""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from crewd.cli.text import clean
from crewd.errors import CrewdError, DaemonUnreachable, SettingsError

COMPLETING = "_CREWD_COMPLETE"  # set by the script of `crewd completion`, while someone waits behind the Tab key
NOT_RUNNING = "it is not running, or does not listen"  # how client.Daemon ends where nothing else can be asked


class LazyGroup(click.Group):
    """Commands by name: where each lives, and its line in the help, so that the help imports none of them."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **named: Any) -> None:
        super().__init__(*args, **named)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        if COMPLETING in os.environ:
            from crewd.cli.suggestions import dress

            dress(command)
        return command

    def line(self, cmd_name: str) -> str:
        """Tell the line of a command in the help."""
        return self._lazy[cmd_name][1]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the names without importing what they stand for: someone waits behind the Tab key."""
        names = [
            CompletionItem(name, help=line) for name, (_, line) in self._lazy.items() if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what ends it into a message on stderr and an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except CrewdError as error:
            click.echo(_words(error), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            # The person knows why; 128 + SIGINT, as a shell would say.
            ctx.exit(130)
        except BrokenPipeError:
            # Whoever read us has seen enough, as in `crewd events | head`: no error, and nothing more to write.
            _abandon_stdout()
            ctx.exit(0)
        return result


def _words(error: CrewdError) -> str:
    if isinstance(error, DaemonUnreachable) and str(error).endswith(NOT_RUNNING):
        return clean(f"crewd: {error}; `crewd serve` starts it, --state-dir names the folder of another")
    if isinstance(error, SettingsError):
        # Complaints about settings name their own file, one a line; each holds what somebody wrote.
        return "\n".join(clean(line) for line in str(error).splitlines())
    if getattr(error, "problems", None):
        # Everything that is wrong, one a line: each was written by others.
        return "crewd: " + "\n".join(clean(line) for line in str(error).splitlines())
    return f"crewd: {clean(str(error))}"


def _abandon_stdout() -> None:
    # Otherwise the interpreter flushes what is left at its end, and complains of the pipe once more.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
