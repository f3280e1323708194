"""Shell blocks taken apart into lines, and crewd's own command lines held against the commands that there are."""

import re
import shlex
from collections.abc import Iterator, Sequence

import click

from crewd.cli.main import COMMANDS, cli

REDIRECTS = re.compile(r"[<>]+&?|&>+")
BEFORE_A_COMMAND = {"sudo", "nohup", "exec", "time", "then", "do", "!", "nice"}


def lines(text: str) -> Iterator[tuple[int, str]]:
    """Each command of a block with the number of its line: continued lines, quotes and here-documents as one."""
    held: list[str] = []
    begun = 0
    ends_with = ""
    for number, line in enumerate(text.splitlines()):
        if not held and (not line.strip() or line.lstrip().startswith("#")):
            continue
        begun = begun if held else number
        held.append(line)
        if ends_with:
            if line.strip() != ends_with:
                continue
            ends_with = ""
        elif found := re.search(r"<<-?\s*'?(\w+)'?", line):
            ends_with = found[1]
            continue
        elif line.endswith("\\") or not _closed("\n".join(held)):
            continue
        yield begun, "\n".join(held)
        held = []
    assert not held, f"this line has no end: {held}"


def _closed(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


def words(line: str) -> list[str]:
    """The words of a line, operators of the shell as words of their own, comments left out."""
    parted = shlex.shlex(line.replace("\\\n", " "), posix=True, punctuation_chars=True)
    parted.whitespace_split = True
    parted.commenters = "#"
    return list(parted)


def commands(line: str) -> list[list[str]]:
    """The simple commands of a line, without redirections, assignments and `sudo`; those in `$(...)` as well."""
    line = line.partition("<<")[0] if "<<" in line else line
    found = _commands(re.sub(r"\$\(([^()]*)\)", "4242", line))
    for inner in re.findall(r"\$\(([^()]*)\)", line):
        found += _commands(inner)
    return found


def _commands(line: str) -> list[list[str]]:
    found: list[list[str]] = [[]]
    skip = False
    for word in words(line):
        if skip:
            skip = False
        elif REDIRECTS.fullmatch(word):
            skip = True
            if found[-1] and found[-1][-1] in ("1", "2"):
                found[-1].pop()
        elif set(word) <= set("|&;()"):
            found.append([])
        elif not found[-1] and (word in BEFORE_A_COMMAND or re.match(r"[A-Z_a-z]\w*=", word)):
            continue
        else:
            found[-1].append(word)
    return [each for each in found if each]


def programs(line: str) -> list[str]:
    """What a line calls; `sudo` as well, wherever it stands."""
    return [each[0] for each in commands(line)] + (["sudo"] if re.search(r"\bsudo\b", line) else [])


def complaint(arguments: Sequence[str]) -> str:
    """What crewd would say against a command line before it does anything; "" if nothing."""
    context = click.Context(cli, info_name="crewd")
    command: click.Command = cli
    rest = list(arguments)
    while isinstance(command, click.Group):
        if not rest or rest[0] in ("--help", "-h", "--version"):
            return ""
        if rest[0].startswith("-") and command.invoke_without_command:
            break
        name = rest.pop(0)
        inner = command.get_command(context, name)
        if inner is None:
            return f"there is no command {name!r}"
        command, context = inner, click.Context(inner, parent=context, info_name=name)
    try:
        with command.make_context(context.info_name, rest, parent=context.parent):
            return ""
    except click.exceptions.Exit:  # --help
        return ""
    except click.UsageError as error:
        told = error.format_message()
        return "" if "does not exist" in told else told


def spoken_complaint(text: str) -> str:
    """What is wrong with `crewd ...` in the middle of a sentence, where arguments are often left out."""
    names = text.split(" && ")[0].split()[1:]
    if not names or not re.fullmatch(r"[a-z-]+", names[0]) or names[0].startswith("-"):
        return ""
    if names[0] not in COMMANDS:
        return f"there is no command {names[0]!r}"
    command = cli.get_command(click.Context(cli), names[0])
    assert command is not None
    known = {"-h", "--help", *_options(command)}
    if isinstance(command, click.Group):
        known.update(option for each in command.commands.values() for option in _options(each))
        inner = names[1].split("|") if len(names) > 1 and re.fullmatch(r"[a-z|-]+", names[1]) else []
        if strange := [each for each in inner if not each.startswith("-") and each not in command.commands]:
            return f"crewd {names[0]} has no {', '.join(strange)}"
    before = names[: names.index("--")] if "--" in names else names
    options = {option for word in before if word.startswith("-") for option in re.split(r"[=|\[\]]", word)[:1]}
    return f"crewd {names[0]} does not take {', '.join(unknown)}" if (unknown := sorted(options - known)) else ""


def _options(command: click.Command) -> set[str]:
    return {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
