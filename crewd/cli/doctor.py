"""`crewd doctor`: whether this machine gives crewd what it needs."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli import agent_findings, findings, notify_findings
from crewd.cli.findings import FAIL, OK, WARN, Finding
from crewd.cli.options import config_option, environment, json_option, print_json, state_option
from crewd.cli.screen import columns, print_lines
from crewd.cli.text import clean

if TYPE_CHECKING:
    from crewd.config.settings import Settings


@click.command()
@click.option("--root", "roots", multiple=True, metavar="PATH", help="Also look at this folder; repeatable.")
@click.option(
    "--agent",
    "agents",
    multiple=True,
    type=click.Choice(["claude", "codex", "gemini", "pi"]),
    help="Also look at this agent's program, version and login; repeatable.",
)
@click.option(
    "--executor",
    "executors",
    multiple=True,
    metavar="NAME",
    help="The same, with the command, the variables and the credentials of this executor; repeatable.",
)
@click.option(
    "--canary",
    is_flag=True,
    help="Instead: kill a process of its own, and measure how long the message about it takes to arrive.",
)
@config_option
@state_option
@json_option
def doctor(
    roots: tuple[str, ...],
    agents: tuple[str, ...],
    executors: tuple[str, ...],
    canary: bool,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Check what crewd needs of this machine. Leaves with 1 if something fails; warnings do not count.

    Nobody asks a model for --agent, and no token is spent.
    """
    found = list(_fly() if canary else examine(config_file, state_dir, roots, agents, executors))
    failed = any(finding.state == FAIL for finding in found)
    if as_json:
        print_json({"ok": not failed, "findings": [asdict(finding) for finding in found]})
    else:
        styles = {OK: "ok", WARN: "warn", FAIL: "fail"}
        rows = [
            [(finding.state, styles[finding.state]), (finding.name, ""), (clean(_words(finding)), "")]
            for finding in found
        ]
        print_lines(columns(rows))
    raise SystemExit(1 if failed else 0)


def examine(
    config_file: Path | None,
    state_dir: Path | None,
    roots: tuple[str, ...] = (),
    agents: tuple[str, ...] = (),
    executors: tuple[str, ...] = (),
) -> Iterator[Finding]:
    """Look at everything, one finding after the other."""
    environ = environment()
    settings, about_settings = findings.settings(config_file, environ)
    yield from about_settings
    wanted = agent_findings.wanted_of(agents, executors, settings)
    state = state_dir or findings.state_of(settings, environ)
    checks: list[Callable[[], Iterator[Finding]]] = [
        findings.python,
        findings.sqlite,
        lambda: findings.state_folder(state),
        lambda: findings.roots([*_roots(settings), *roots]),
        _lingering,
        findings.watching,
        findings.clocks,
        findings.process_handles,
        findings.process_visibility,
        findings.pressure,
        lambda: findings.daemon(config_file, state_dir),
    ]
    for check in checks:
        yield from check()
    yield from notify_findings.notifications(settings, environ)
    for each in wanted:
        yield from agent_findings.look(each, settings, environ)


def _roots(settings: "Settings | None") -> tuple[str, ...]:
    return (*settings.sources.roots, *settings.sources.beat_roots) if settings is not None else ()


def _lingering() -> Iterator[Finding]:
    from crewd.cli.installing import Service

    service = Service.of("user", None)
    return findings.lingering(service.unit_path, service.account)


def _fly() -> Iterator[Finding]:
    """Go the whole path from a death to its message, apart from the crewd and the channels of this machine."""
    from crewd.cli.canary import SECONDS_MAX, fly

    for step in fly():
        if step.seconds is not None:
            yield Finding("canary", OK, f"{step.seconds:7.3f} s  {step.name}")
        else:
            what = f"not within {SECONDS_MAX:.0f} s  {step.name}"
            yield Finding("canary", FAIL, what, "look at the other findings of `crewd doctor`, pressure above all")


def _words(finding: Finding) -> Any:
    return f"{finding.what}; {finding.remedy}" if finding.remedy else finding.what
