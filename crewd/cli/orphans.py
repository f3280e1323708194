"""`crewd orphans`: processes that outlived the run they belong to."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.options import config_option, environment, json_option, print_json, state_option
from crewd.cli.screen import Line, columns, print_lines
from crewd.cli.text import clean, span
from crewd.errors import UsageProblem

if TYPE_CHECKING:
    from crewd.config.settings import Settings
    from crewd.engine.orphans import Places, Search
    from crewd.ledger.reader import Reader
    from crewd.model.orphan import Bystander, Orphan, Spared

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LEFT = ("refused", "remains")  # outcomes after which a process is still there


@click.command()
@click.option(
    "--root",
    "roots",
    multiple=True,
    metavar="PATH",
    help="Look at this folder, instead of the configured roots; repeatable.",
)
@click.option(
    "--beat-root", "beat_roots", multiple=True, metavar="PATH", help="Look at this folder of beat files; repeatable."
)
@click.option("--stop", is_flag=True, help="Stop them: SIGTERM, later SIGKILL. Asks before.")
@click.option("--yes", is_flag=True, help="With --stop: do not ask.")
@click.option(
    "--grace",
    type=click.FloatRange(0.0, 600.0),
    default=GRACE,
    show_default=True,
    help="With --stop: seconds between SIGTERM and SIGKILL.",
)
@config_option
@state_option
@json_option
def orphans(
    roots: tuple[str, ...],
    beat_roots: tuple[str, ...],
    stop: bool,
    yes: bool,
    grace: float,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """List processes that outlived their run: proven by environment or recorded identity, never by name.

    Leaves with 1 if there are any; with --stop, if one of them is still there afterwards.
    """
    if yes and not stop:
        raise UsageProblem("--yes agrees to --stop: without it nothing is stopped")
    settings = _settings(config_file, roots, beat_roots)
    found = _search(settings, state_dir)
    for complaint in found.complaints:
        click.echo(f"crewd: {clean(complaint)}", err=True)
    if not stop or not found.sighting.orphans:
        _show(found, as_json)
        raise SystemExit(1 if found.sighting.orphans else 0)
    _agree(found.sighting.orphans, yes)
    # While somebody made up their mind a run may have gone on: only what is proven now as well is stopped.
    again = _search(settings, state_dir)
    outcomes = _stop(found.sighting.orphans, again.sighting.orphans, grace)
    _show_outcomes(outcomes, as_json)
    raise SystemExit(1 if any(outcome in LEFT for _, outcome in outcomes) else 0)


def _settings(config_file: Path | None, roots: tuple[str, ...], beat_roots: tuple[str, ...]) -> "Settings":
    """Load the settings. Raises SettingsError: where roots are unknown, nothing could be found."""
    from crewd.config.load import load

    named = {"sources.roots": roots, "sources.beat_roots": beat_roots}
    given = {
        key: tuple(str(Path(path).expanduser().absolute()) for path in paths) for key, paths in named.items() if paths
    }
    return load(config_file, environment(), given).settings


def _search(settings: "Settings", state_dir: Path | None) -> "Search":
    from crewd.engine.orphans import find_orphans
    from crewd.host.clock import SystemClock
    from crewd.host.processes import ProcProcesses

    places = _places(settings, state_dir)
    try:
        return find_orphans(places, ProcProcesses(), SystemClock())
    finally:
        for source in places.sources:
            source.close()
        if places.reader is not None:
            places.reader.close()


def _places(settings: "Settings", state_dir: Path | None) -> "Places":
    from crewd import assembly
    from crewd.config.folders import state_folder
    from crewd.engine.orphans import Places

    environ = environment()
    state = (state_dir or state_folder(environ, settings.ledger.folder)).absolute()
    return Places(
        sources=assembly.discoverer(settings, state)(()),
        reader=_reader(state),
        attempts=assembly.task_options(settings, environ, state).folder,
        daemon=_daemon(state),
        file_max=settings.sources.max_file_bytes,
        sees=settings.sources.processes == "here",
        look_timeout=settings.patrol.look_timeout,
    )


def _reader(state: Path) -> "Reader | None":
    """Open the ledger. None: there is none, or it cannot be read, which is told; attempts are not known then."""
    from crewd.errors import CrewdError
    from crewd.ledger.errors import LedgerMissing
    from crewd.ledger.reader import Reader

    try:
        return Reader.open(state)
    except LedgerMissing:
        return None
    except CrewdError as error:
        click.echo(f"crewd: {clean(str(error))}; processes of managed runs are left alone", err=True)
        return None


def _daemon(state: Path) -> int:
    """Name the pid that the daemon of this state folder wrote; 0: none. A wrong one spares somebody at most."""
    import json

    try:
        pid = json.loads((state / "daemon.json").read_bytes())["pid"]
    except (OSError, ValueError, TypeError, KeyError):
        return 0
    return pid if isinstance(pid, int) and pid > 0 else 0


def _agree(found: "Sequence[Orphan]", yes: bool) -> None:
    """Let a person agree by typing how many it is. Elsewhere than on a terminal --yes must say so."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageProblem(f"this would stop {_processes(len(found))}: add --yes; without --stop they are listed")
    for line in columns(_rows(found)):
        click.echo(clean("".join(text for text, _ in line)).rstrip(), err=True)
    typed = click.prompt(f"type {len(found)} to stop {'it' if len(found) == 1 else 'them'}", default="", err=True)
    if typed.strip() != str(len(found)):
        raise UsageProblem(f"not {len(found)}: nothing was stopped")


def _stop(agreed: "Sequence[Orphan]", proven: "Sequence[Orphan]", grace: float) -> list[tuple["Orphan", str]]:
    """Stop those that were agreed to and are still proven; what became of each."""
    from crewd.host.ending import end
    from crewd.host.processes import ProcProcesses

    processes = ProcProcesses()
    still = {each.process.identity for each in proven}
    due = [each for each in agreed if each.process.identity in still]
    became = dict(end([each.process.identity for each in due], processes, grace))
    outcomes = []
    for each in agreed:
        identity = each.process.identity
        if identity in became:
            outcomes.append((each, became[identity].value))
        else:
            alive = processes.facts(identity.pid)
            there = alive is not None and alive.identity.start_ticks == identity.start_ticks
            outcomes.append((each, "spared" if there else "gone"))
    return outcomes


def _show(found: "Search", as_json: bool) -> None:
    sighting = found.sighting
    if as_json:
        print_json(
            {
                "orphans": [_told(each) for each in sighting.orphans],
                "spared": [
                    {"pid": each.identity.pid, "name": each.name, "because": why.because}
                    for each, why in sighting.spared
                ],
                "rss_bytes": sum(each.process.rss for each in sighting.orphans),
                "complaints": found.complaints,
            }
        )
        return
    if not sighting.orphans:
        click.echo("no orphans")
    print_lines(columns(_rows(sighting.orphans)))
    serving = [(each, why) for each, why in sighting.spared if why.serves]
    if serving:
        click.echo("left alone, although an ended run began them:")
        print_lines(columns([_serving_row(each, why) for each, why in serving]))
    if sighting.spared:
        click.echo(f"{_processes(len(sighting.spared))} left alone, as not proven; --json says why")


def _serving_row(each: "Bystander", why: "Spared") -> Line:
    return [
        (f"  {each.identity.pid}", ""),
        (clean(each.name), ""),
        (clean(why.because), "faint"),
    ]


def _show_outcomes(outcomes: "Sequence[tuple[Orphan, str]]", as_json: bool) -> None:
    if as_json:
        print_json({"stopped": [{**_told(each), "outcome": outcome} for each, outcome in outcomes]})
        return
    rows = []
    for each, outcome in outcomes:
        style = "fail" if outcome in LEFT else "ok"
        rows.append([(outcome, style), (str(each.process.identity.pid), ""), (clean(each.process.name), "")])
    print_lines(columns(rows))


def _rows(found: "Sequence[Orphan]") -> list[Line]:
    return [_HEAD, *_each(found)] if found else []


_HEAD: Line = [(word, "faint") for word in ("pid", "name", "run", "age", "memory", "with children", "proof")]


def _each(found: "Sequence[Orphan]") -> Iterator[Line]:
    from crewd.cli.times import wall_now

    now = wall_now()
    for each in found:
        process, proof = each.process, each.proof
        whose = f"{proof.owner.run_id}/{proof.task_id}" if proof.task_id else proof.owner.run_id
        state = " (stopped)" if process.letter in "Tt" else ""
        yield [
            (str(process.identity.pid), ""),
            (clean(process.name) + state, ""),
            (clean(whose), ""),
            (span(max(0.0, now - process.started_at)), ""),
            (_size(process.rss), ""),
            (_size(each.rss_with_children), ""),
            (clean(proof.because), "faint"),
        ]


def _told(each: "Orphan") -> dict[str, Any]:
    from crewd.cli.times import wall_now
    from crewd.model.moment import rfc3339

    process, proof = each.process, each.proof
    return {
        "pid": process.identity.pid,
        "start_ticks": process.identity.start_ticks,
        "name": process.name,
        "state": process.letter,
        "runtime": proof.owner.runtime,
        "run_id": proof.owner.run_id,
        "task_id": proof.task_id or None,
        "folder": proof.owner.folder,
        "because": proof.because,
        "rss_bytes": process.rss,
        "rss_with_children_bytes": each.rss_with_children,
        "started_at": rfc3339(process.started_at),
        "age_seconds": round(max(0.0, wall_now() - process.started_at), 3),
        "run_ended_at": rfc3339(proof.owner.ended_at) if proof.owner.ended_at is not None else None,
    }


def _size(number: int) -> str:
    return f"{number / (1 << 30):.1f} GB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MB"


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"
