"""`crewd man`: manual pages, made of the commands themselves, so that both say the same."""

from collections.abc import Iterator
from pathlib import Path

import click

from crewd import __version__
from crewd.cli import roff
from crewd.cli.lazy import LazyGroup
from crewd.errors import CrewdError, NothingMatched, Refused

EXIT_CODES = (
    ("0", "Done; also where whoever reads the output has seen enough, and after ^C of something that follows."),
    ("1", "Found something wrong, or failed."),
    ("2", "The command line makes no sense."),
    ("3", "Nothing matched: no such run, task, dead letter or metric."),
    ("69", "Neither the daemon nor its ledger could be asked; or it cannot answer now."),
    ("77", "Refused: another crewd holds the ledger, a permission is missing, or things do not stand so that it could"
     " be done."),
    ("78", "The settings, or a run file, are not usable; every complaint is told."),
    ("124", "`crewd wait --timeout`: the run has not ended yet."),
    ("130", "^C before it was done."),
)  # fmt: skip
FILES = (
    ("~/.config/crewd/crewd.toml", "The settings, in `$XDG_CONFIG_HOME/crewd`, or in the folder that systemd gives."
     " `crewd config schema --format toml` prints every setting with its default."),
    ("~/.local/state/crewd", "The state folder, in `$XDG_STATE_HOME/crewd`, or in the folder that systemd gives."),
    ("STATE/ledger.sqlite3", "The ledger: what happened, and how everything stands."),
    ("STATE/daemon.json", "Where the running daemon listens."),
    ("STATE/crewd.sock", "The unix socket through which things are changed; it knows who is at the other end."),
    ("STATE/runs/RUN/TASK/ATTEMPT", "What an attempt of a managed task was given, and what it wrote."),
)  # fmt: skip
ENVIRONMENT = (
    ("CREWD_CONFIG", "The configuration file."),
    ("CREWD_STATE_DIR", "The state folder."),
    ("CREWD_TOKEN", "Lets you change things through TCP, where the socket is not to be had."),
    ("CREWD_GROUP__KEY", "Any setting, such as `CREWD_HTTP__PORT`; it counts more than the file."),
    ("CREWD_RUN, CREWD_TASK, CREWD_BEAT_ROOT", "Whose beat `crewd beat` writes, and where."),
    ("STATE_DIRECTORY, CONFIGURATION_DIRECTORY, CREDENTIALS_DIRECTORY, LOGS_DIRECTORY", "As systemd gives them."),
    ("NO_COLOR", "No colour; it never says anything that the words do not."),
)  # fmt: skip
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("Watch the crews of a project:", "crewd serve --root ~/project"),
        ("See how everybody is, and keep seeing it:", "crewd status --watch"),
        ("Find out why a run stands still, and what to do:", "crewd why RUN"),
        ("Submit a run file, and follow it to its end:", "crewd run nightly.toml"),
    ),
    "beat": (("A worker says that it is alive, and silent for at most ten minutes:",
              "crewd beat --run nightly --task build --busy-for 10m --pid $PPID"),),
    "completion": (("For every bash from now on:", "echo 'eval \"$(crewd completion bash)\"' >> ~/.bashrc"),),
    "deadletter": (
        ("What was given up, by cause:", "crewd deadletter list --group"),
        ("Try all of one cause again:", "crewd deadletter redrive --fingerprint F"),
    ),
    "diagnose": (("Gather everything about a run:", "crewd diagnose RUN -o run.tar.gz"),),
    "events": (("Follow changes of level:", "crewd events -f --type worker.level_changed"),),
    "incidents": (("Hear nothing of it for two hours:", "crewd incidents snooze RUN/TASK --for 2h --note 'known'"),),
    "log-level": (("See more for a while:", "crewd log-level debug"),),
    "logs": (("Follow a task, over retries:", "crewd logs RUN TASK -f"),),
    "man": (("Read about a command:", "crewd man why | man -l -"),),
    "metrics": (("All that is told of tasks:", "crewd metrics 'crew_task*'"),),
    "recover": (("Have an interrupted run resumed:", "crewd recover approve RUN --by anna"),),
    "run": (("Run a file without a daemon:", "crewd run nightly.toml"),),
    "serve": (("On a port of its own, with a round each second:", "crewd serve --port 0 --interval 1s"),),
    "status": (("For a program:", "crewd status --json"),),
    "wait": (("Go on once a run is done, or after ten minutes:", "crewd wait RUN --timeout 10m && ./deploy"),),
    "why": (("The one cause, and what to do:", "crewd why RUN"),),
}  # fmt: skip
HELP = "-h, --help"
SHOWN_BY_ALL = "`crewd`(1) tells exit codes, files and environment."


@click.command()
@click.argument("about", metavar="[COMMAND]", required=False)
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write all pages there, as crewd.1, crewd-why.1 and so on.",
)
@click.pass_context
def man(context: click.Context, about: str | None, folder: Path | None) -> None:
    """Print the manual page of COMMAND, or of crewd itself, as roff: `crewd man why | man -l -`"""
    root = context.find_root()
    assert isinstance(root.command, LazyGroup)
    if folder is not None:
        written = _write(
            folder, {name: page(root, name, _date()) for name in ("", *root.command.list_commands(root))}
        )
        click.echo(f"{written} pages in {folder}")
        return
    if about is not None and about not in root.command.list_commands(root):
        raise NothingMatched(f"no command {about!r}; `crewd --help` names them all")
    click.echo(page(root, about or "", _date()), nl=False)


def page(root: click.Context, name: str, date: str) -> str:
    """Write the page of a command, "" for that of crewd. `date`: as 2026-11-21, shown at its foot."""
    group = root.command
    assert isinstance(group, LazyGroup)
    if not name:
        return "\n".join([*_whole(root, group, date), ""])
    command = group.get_command(root, name)
    assert command is not None
    return "\n".join([*_single(root, command, name, date), ""])


def _whole(root: click.Context, group: LazyGroup, date: str) -> Iterator[str]:
    yield roff.title("crewd", date, __version__)
    yield from _name("crewd", "keep crews of AI agents working, and tell the truth about them")
    yield roff.section("synopsis")
    yield f"{roff.bold('crewd')} [OPTIONS] COMMAND [ARGUMENTS]"
    yield roff.section("description")
    yield from roff.paragraphs(group.help or "")
    yield ".PP"
    yield from roff.paragraphs(
        "The daemon, `crewd serve`, watches crews and runs tasks. Every other command asks it, and reading commands"
        " read its ledger where it does not answer, saying so."
    )
    yield roff.section("commands")
    for command in group.list_commands(root):
        yield ".TP"
        yield f"{roff.bold(f'crewd-{command}')}(1)"
        yield from roff.running(group.line(command))
    yield from _options(root, group)
    yield roff.section("exit status")
    yield from roff.terms(EXIT_CODES)
    yield roff.section("files")
    yield from roff.terms(FILES)
    yield roff.section("environment")
    yield from roff.terms(ENVIRONMENT)
    yield from _examples("")


def _single(root: click.Context, command: click.Command, name: str, date: str) -> Iterator[str]:
    group = root.command
    assert isinstance(group, LazyGroup)
    yield roff.title(f"crewd-{name}", date, __version__)
    yield from _name(f"crewd-{name}", group.line(name).rstrip("."))
    context = click.Context(command, info_name=name, parent=root)
    inner = sorted(command.commands.items()) if isinstance(command, click.Group) else []
    yield roff.section("synopsis")
    if not inner:
        yield from _usage(context, command)
    for number, (word, each) in enumerate(inner):
        yield from [".br"] if number else []
        yield from _usage(click.Context(each, info_name=word, parent=context), each)
    yield roff.section("description")
    yield from roff.paragraphs(_help(command))
    yield from _options(context, command)
    if inner:
        yield roff.section("commands")
    for word, each in inner:
        yield roff.subsection(f"crewd {name} {word}")
        yield from roff.paragraphs(_help(each))
        records = _records(click.Context(each, info_name=word, parent=context), each)
        yield from roff.terms(record for record in records if record[0] != HELP)
    yield roff.section("exit status")
    yield from roff.paragraphs(SHOWN_BY_ALL)
    yield from _examples(name)
    yield roff.section("see also")
    yield f"{roff.bold('crewd')}(1)"


def _name(name: str, line: str) -> Iterator[str]:
    yield roff.section("name")
    yield f"{roff.escaped(name)} \\- {roff.escaped(line[:1].lower() + line[1:])}"


def _usage(context: click.Context, command: click.Command) -> Iterator[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"{roff.bold(context.command_path)} {roff.escaped(pieces)}".rstrip()


def _options(context: click.Context, command: click.Command) -> Iterator[str]:
    records = list(_records(context, command))
    if records:
        yield roff.section("options")
        yield from roff.terms(records)


def _records(context: click.Context, command: click.Command) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):  # the description tells of arguments
            yield record


def _help(command: click.Command) -> str:
    import inspect

    return inspect.cleandoc(command.help or "").replace("\b", "")


def _examples(name: str) -> Iterator[str]:
    for number, (words, line) in enumerate(EXAMPLES.get(name, ())):
        yield roff.section("examples") if not number else ".PP"
        yield from roff.running(words)
        yield ".PP"
        yield from roff.example([f"    {line}"])


def _date() -> str:
    """Name today, or the day of $SOURCE_DATE_EPOCH, so that a package that is built again is the same."""
    from crewd.cli.options import environment
    from crewd.cli.times import wall_now
    from crewd.model.moment import rfc3339

    given = environment().get("SOURCE_DATE_EPOCH", "")
    return rfc3339(float(given) if given.isdecimal() else wall_now())[:10]


def _write(folder: Path, pages: dict[str, str]) -> int:
    from crewd.host.writing import write_atomically

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            write_atomically(folder / (f"crewd-{name}.1" if name else "crewd.1"), text.encode(), 0o644, durable=False)
    except PermissionError:
        raise Refused(f"{folder} may not be written; name a folder of yours with --write") from None
    except OSError as error:
        raise CrewdError(f"{folder} cannot be written: {error.strerror}; name another with --write") from None
    return len(pages)
