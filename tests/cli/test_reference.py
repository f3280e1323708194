"""The reference page names every command and every option, and nothing that is not there."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from crewd.cli.main import COMMANDS, cli

PAGE = (Path(__file__).parents[2] / "docs/reference/commands.md").read_text()
SECTIONS = dict(re.findall(r"^## crewd ([\w-]+)[^\n]*\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command


def options(command: click.Command) -> set[str]:
    inner = [command, *command.commands.values()] if isinstance(command, click.Group) else [command]
    return {
        option
        for each in inner
        for parameter in each.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert SECTIONS.keys() == COMMANDS.keys()


def test_every_option_is_in_the_section_of_its_command_and_no_other() -> None:
    for name, command in commands():
        named = set(re.findall(r"(?<![\w-])(--?[a-z][a-z-]*)", SECTIONS[name]))
        assert named == options(command), name


def test_every_line_of_the_help_is_the_beginning_of_a_sentence() -> None:
    for name, (_, line) in COMMANDS.items():
        assert line.endswith("."), name
        assert line[0].isupper(), name
