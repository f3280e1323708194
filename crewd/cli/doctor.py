"""`crewd doctor`: whether this machine gives crewd what it needs."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from crewd.cli import findings
from crewd.cli.findings import FAIL, OK, WARN, Finding
from crewd.cli.options import config_option, environment, json_option, print_json, state_option
from crewd.cli.screen import columns, print_lines
from crewd.cli.text import clean


@click.command()
@click.option("--root", "roots", multiple=True, metavar="PATH", help="Also look at this folder; repeatable.")
@config_option
@state_option
@json_option
def doctor(roots: tuple[str, ...], config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Check what crewd needs of this machine. Leaves with 1 if something fails; warnings do not count."""
    found = list(_examine(config_file, state_dir, roots))
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


def _examine(config_file: Path | None, state_dir: Path | None, roots: tuple[str, ...]) -> Iterator[Finding]:
    environ = environment()
    settings, about_settings = findings.settings(config_file, environ)
    yield from about_settings
    state = state_dir or findings.state_of(settings, environ)
    checks: list[Callable[[], Iterator[Finding]]] = [
        findings.python,
        findings.sqlite,
        lambda: findings.state_folder(state),
        lambda: findings.roots([*(settings.sources.roots if settings else ()), *roots]),
        findings.watching,
        findings.clocks,
        findings.process_handles,
        findings.process_visibility,
        findings.pressure,
        lambda: findings.daemon(config_file, state_dir),
    ]
    for check in checks:
        yield from check()


def _words(finding: Finding) -> Any:
    return f"{finding.what}; {finding.remedy}" if finding.remedy else finding.what
