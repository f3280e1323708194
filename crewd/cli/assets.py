"""`crewd assets`: units, rules, dashboards, examples and runbooks, for those who have installed a package."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from crewd.cli.assets_fitted import ADDRESS, GRAFANA, JOB, Fit, fitted
from crewd.cli.options import json_option, print_json
from crewd.cli.refusals import Problem
from crewd.cli.screen import columns, print_lines
from crewd.cli.text import clean, count
from crewd.errors import CrewdError, NothingMatched, Refused
from crewd.host import assets as shipped

# What each part is, and what one does with it; {} is where it was written.
PARTS = {
    "systemd": ("units", "crewd install --user, or sudo crewd install --system, puts them in place"),
    "prometheus": (
        "scrape configuration, recording rules, alerts",
        "copy rules.yml and alerts.yml beside prometheus.yml, name them in rule_files, and add the job of scrape.yml;"
        " then promtool check config, and reload Prometheus",
    ),
    "alertmanager": ("routes and inhibition", "merge routes and inhibit_rules into yours; then amtool check-config"),
    "grafana": (
        "dashboards and their provisioning",
        "import dashboards/*.json, or have Grafana read provisioning/ and dashboards/ at its start",
    ),
    "container": ("Containerfile and Compose", "its comments say how it is built and started"),
    "kubernetes": (
        "manifests",
        "put your images into {}/sidecar/kustomization.yaml, then kubectl apply -k {}/sidecar",
    ),
    "lnav": ("format of the day files", "lnav -i {}/*.json"),
    "logs": ("examples for logrotate, journald, promtail, vector", "each says at its top where it belongs"),
    "runbooks": ("what to do about each alert", "crewd runbook shows it, and so does /runbooks of the daemon"),
}
URL_HELP = f"Address of crewd as others reach it, instead of {ADDRESS}."
GRAFANA_HELP = f"Address of Grafana, to which alerts lead, instead of {GRAFANA}."
WRITTEN, UNCHANGED, REPLACED = "written", "unchanged", "replaced"


@dataclass(frozen=True)
class Asset:
    """One shipped file as it is to be written."""

    name: str  # beneath the folder, such as prometheus/alerts.yml
    data: bytes

    @property
    def part(self) -> str:
        return part_of(self.name)


class Differing(Refused):
    """Files are in the way, all of them told; nothing was written."""

    def __init__(self, message: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([message, *map(str, self.problems)]))


def only_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--only PART`, repeatable."""
    return click.option(
        "--only", type=click.Choice(tuple(PARTS)), multiple=True, help="Only this part; may be repeated."
    )(command)


@click.group()
def assets() -> None:
    """Show or write what crewd ships besides its code: units, rules, alerts, dashboards, examples, runbooks."""


@assets.command("list")
@only_option
@json_option
def list_assets(only: tuple[str, ...], as_json: bool) -> None:
    """List what is shipped, with its size."""
    found = _shipped(only, Fit())
    if as_json:
        print_json([{"name": each.name, "part": each.part, "bytes": len(each.data)} for each in found])
        return
    for part in dict.fromkeys(each.part for each in found):
        print_lines([[(part, "head"), (f"  {PARTS[part][0]}", "faint")]])
        rows = [[(f"  {each.name}", ""), (f"{len(each.data)} bytes", "faint")] for each in found if each.part == part]
        print_lines(columns(rows))


@assets.command("dump")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--url", default=ADDRESS, metavar="URL", help=URL_HELP)
@click.option("--job", default=JOB, metavar="NAME", help=f"Job label of crewd in Prometheus, instead of {JOB}.")
@click.option("--grafana", default=GRAFANA, metavar="URL", help=GRAFANA_HELP)
@click.option("--force", is_flag=True, help="Replace files that differ.")
@only_option
@json_option
def dump(folder: Path, url: str, job: str, grafana: str, force: bool, only: tuple[str, ...], as_json: bool) -> None:
    """Write everything that is shipped to DIR, and say what to do next with each part.

    A file that is there and differs is never replaced without --force: then nothing is written.
    """
    fit = Fit(url, job, grafana)
    found = _shipped(only, fit)
    done = _write(folder, found, force)
    parts = list(dict.fromkeys(each.part for each in found))
    if as_json:
        files = [{"name": each.name, "bytes": len(each.data), "state": done[each.name]} for each in found]
        next_steps = {part: _next(part, folder, fit) for part in parts}
        fitted_to = {"url": fit.url, "job": fit.job, "grafana": fit.grafana}
        print_json({"folder": str(folder), **fitted_to, "files": files, "next": next_steps})
        return
    for part in parts:
        _tell(part, [each for each in found if each.part == part], folder, fit, done)


def part_of(name: str) -> str:
    """Name the part that a shipped file belongs to."""
    return "runbooks" if name == shipped.RUNBOOKS else name.partition("/")[0]


def _shipped(only: tuple[str, ...], fit: Fit) -> list[Asset]:
    """Read what is shipped. Raises CrewdError where the installation is not whole."""
    try:
        names = [name for name in shipped.names() if not only or part_of(name) in only]
        found = []
        for name in names:
            found.append(Asset(name, fitted(name, shipped.asset(name).read_bytes(), fit)))
    except OSError as error:
        raise CrewdError(str(error)) from None
    if not found:
        raise NothingMatched(f"nothing of {', '.join(only)} is shipped with this version")
    return found


def _write(folder: Path, found: Sequence[Asset], force: bool) -> dict[str, str]:
    """Write everything, nothing if a file is in the way, and say of each what became of it.

    Raises Differing, Refused, CrewdError.
    """
    try:
        target = shipped.Target(folder, make=True)
    except PermissionError:
        raise Refused(f"{folder} may not be written; name a folder of yours") from None
    except OSError as error:
        raise CrewdError(f"{folder} is no folder to write into: {error.strerror}; name another") from None
    try:
        # Everything is looked at before the first is written.
        states, problems = _look(target, found, force)
        if problems:
            raise Differing(
                f"{count(len(problems), 'file')} in {folder} stand in the way; nothing is written", problems
            )
        _write_all(folder, target, [each for each in found if states[each.name] != UNCHANGED])
        return states
    finally:
        target.close()


def _write_all(folder: Path, target: shipped.Target, wanted: Sequence[Asset]) -> None:
    for done, each in enumerate(wanted):
        path, so_far = folder / each.name, f"{done} of {count(len(wanted), 'file')} written"
        try:
            target.write(each.name, each.data)
        except PermissionError:
            raise Refused(f"{path} may not be written ({so_far}); name a folder of yours") from None
        except OSError as error:
            raise CrewdError(
                f"{path} cannot be written: {error.strerror} ({so_far}); mend that and call again, "
                "or name another folder"
            ) from None


def _look(target: shipped.Target, found: Sequence[Asset], force: bool) -> tuple[dict[str, str], list[Problem]]:
    states: dict[str, str] = {}
    problems: list[Problem] = []
    for each in found:
        try:
            present = target.present(each.name, len(each.data) + 1)
        except PermissionError:
            problems.append(Problem(each.name, "may not be read", "name another folder"))
        except OSError as error:
            if error.errno == errno.ELOOP and force:
                states[each.name] = REPLACED  # the link itself, never what it leads to
                continue
            problems.append(_obstacle(each.name, error))
        else:
            states[each.name] = WRITTEN if present is None else UNCHANGED if present == each.data else REPLACED
            if states[each.name] == REPLACED and not force:
                problems.append(Problem(each.name, "differs", "--force replaces it"))
    return states, problems


def _obstacle(name: str, error: OSError) -> Problem:
    if error.errno == errno.ELOOP:
        return Problem(name, "is a link", "--force replaces the link, and leaves alone what it leads to")
    if isinstance(error, NotADirectoryError):
        return Problem(name, "a link or a file stands where its folder belongs", "move it away")
    return Problem(name, "is no file", "move it away")


def _tell(part: str, written: Sequence[Asset], folder: Path, fit: Fit, done: dict[str, str]) -> None:
    states = [done[each.name] for each in written]
    many = ", ".join(f"{states.count(each)} {each}" for each in (WRITTEN, REPLACED, UNCHANGED) if each in states)
    print_lines([[(part, "head"), (f"  {many}", "faint")]])
    click.echo(f"  {clean(_next(part, folder, fit))}")


def _next(part: str, folder: Path, fit: Fit) -> str:
    where = folder / (shipped.RUNBOOKS if part == "runbooks" else part)
    words = PARTS[part][1].replace("{}", str(where))
    if part == "prometheus" and fit.needs_more:
        words += f"; the job needs {fit.needs_more}"
    return words
