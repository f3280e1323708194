"""`crewd diagnose`: everything about a run in one file that may be sent to somebody, without secrets."""

from pathlib import Path
from typing import Any

import click

from crewd.cli.client import find, say_notice
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.text import clean, count
from crewd.errors import CrewdError, Refused, UsageProblem


@click.command()
@click.argument("run")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where it is written: a .tar.gz"
)
@click.option("--force", is_flag=True, help="Replace a file of that name.")
@config_option
@state_option
@json_option
def diagnose(
    run: str, output: Path | None, force: bool, config_file: Path | None, state_dir: Path | None, as_json: bool
) -> None:
    """Gather everything about RUN in one file, without secrets: for whoever is to find out what is wrong.

    It also works while the daemon is down. With --json its manifest is printed; then FILE may be left out.
    """
    if output is None and not as_json:
        raise UsageProblem("say where to write it: -o FILE.tar.gz; or --json for the manifest alone")
    if output is not None and not force:
        _refuse_existing(output)
    from crewd.cli.gathering import gather

    gathered = gather(find(state_dir, config_file), run, config_file, state_dir)
    say_notice(gathered.answer)
    if output is not None:
        _write(output, gathered.packed(), force)
    manifest = gathered.manifest()
    if as_json:
        print_json(manifest)
        return
    for line in _lines(manifest, output):
        click.echo(clean(line))


def _lines(manifest: dict[str, Any], output: Path | None) -> list[str]:
    files, missing = manifest["files"], manifest["missing"]
    size = sum(each["bytes"] for each in files)
    cut = [f"  cut: {each['name']}: without {each['cut']}" for each in files if each["cut"]]
    gone = [f"  not there: {name}: {why}" for name, why in missing.items()]
    return [
        f"{output}: {count(len(files), 'file')}, {size:,} bytes before packing, without secrets",
        *cut,
        *gone,
        "names, goals and error texts are in it as they are: look before you send it",
    ]


def _refuse_existing(output: Path) -> None:
    if output.exists() or output.is_symlink():
        raise Refused(f"{output} is there already; name another file, or add --force")


def _write(output: Path, data: bytes, force: bool) -> None:
    from crewd.host.writing import write_atomically

    if not force:
        _refuse_existing(output)  # gathering takes a while
    try:
        write_atomically(output, data, 0o600)
    except PermissionError:
        raise Refused(f"{output} may not be written; name a file in a folder of yours") from None
    except OSError as error:
        raise CrewdError(f"{output} cannot be written: {error.strerror}; name another file") from None
