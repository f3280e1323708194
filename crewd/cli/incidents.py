"""`crewd incidents`: what is wrong and lasts, and what a person says of it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crewd.cli.change import change
from crewd.cli.client import Answer, Daemon, Place, ask, find, say_notice
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import API
from crewd.cli.screen import Line, columns, print_lines
from crewd.cli.text import clean
from crewd.errors import NothingMatched, UsageProblem

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader

F = TypeVar("F", bound=Callable[..., Any])
STATES = ("open", "resolved", "all")
LIMIT = 1000
SUMMARY_MAX = 100
LOOK = {"critical": "alert", "warning": "warn", "info": ""}
ROUTE = f"{API}/incidents"


@click.group()
def incidents() -> None:
    """Look at what is wrong and lasts; say that you have seen it, or want to hear nothing of it for a while."""


@incidents.command("list")
@click.option("--state", type=click.Choice(STATES), default="open", show_default=True, help="In which state.")
@click.option("--crew", metavar="NAME", help="Only those of this crew.")
@click.option("--limit", type=click.IntRange(1, LIMIT), default=100, show_default=True, help="At most so many.")
@config_option
@state_option
@json_option
def list_incidents(
    state: str, crew: str | None, limit: int, config_file: Path | None, state_dir: Path | None, as_json: bool
) -> None:
    """List incidents, the gravest open ones first."""
    answer = take_incidents(find(state_dir, config_file), state, crew, limit)
    say_notice(answer)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, "incidents": answer.body})
    else:
        print_lines(rows(answer.body))


@incidents.command()
@click.argument("subject")
@click.argument("cause", required=False)
@config_option
@state_option
@json_option
def show(subject: str, cause: str | None, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show the incidents of SUBJECT (RUN/TASK, RUN or crewd), also those that are resolved."""
    answer = take_incidents(find(state_dir, config_file), "all", None, LIMIT)
    found = [each for each in answer.body if each["subject"] == subject and cause in (None, each["cause"])]
    if not found:
        raise NothingMatched(f"no incident of {subject!r}; `crewd incidents list --state all` names them")
    say_notice(answer)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, "incidents": found})
    else:
        print_lines(line for each in found for line in whole(each))


def said_of(command: F) -> F:
    """Which incidents are meant, and who says it."""
    options = [
        click.argument("subject"),
        click.argument("cause", required=False),
        click.option("--by", metavar="NAME", help="Whose word it is, instead of your user name."),
        click.option("--note", metavar="TEXT", help="Why; it is shown to whoever looks."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@incidents.command()
@said_of
@config_option
@state_option
@json_option
def ack(config_file: Path | None, state_dir: Path | None, as_json: bool, **said: Any) -> None:
    """Say that you have seen the open incidents of SUBJECT, or the one of CAUSE."""
    change(find(state_dir, config_file), f"{ROUTE}/ack", said, as_json)


@incidents.command()
@said_of
@click.option("--for", "duration", metavar="DURATION", required=True, help="For how long, such as 2h; at most 30d.")
@config_option
@state_option
@json_option
def snooze(duration: str, config_file: Path | None, state_dir: Path | None, as_json: bool, **said: Any) -> None:
    """Let nobody be woken by the open incidents of SUBJECT, or the one of CAUSE, for so long."""
    change(find(state_dir, config_file), f"{ROUTE}/snooze", {**said, "for_seconds": _seconds(duration)}, as_json)


@incidents.command()
@click.argument("subject")
@click.argument("cause", required=False)
@config_option
@state_option
@json_option
def unsnooze(
    subject: str, cause: str | None, config_file: Path | None, state_dir: Path | None, as_json: bool
) -> None:
    """Let people be woken by them again."""
    change(find(state_dir, config_file), f"{ROUTE}/unsnooze", {"subject": subject, "cause": cause}, as_json)


def take_incidents(place: Place, state: str, crew: str | None, limit: int) -> Answer:
    """Ask for incidents. Raises DaemonUnreachable."""

    def online(daemon: Daemon) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = daemon.json(ROUTE, {"state": state, "crew": crew, "limit": limit})["incidents"]
        return found

    def offline(reader: "Reader") -> list[dict[str, Any]]:
        from crewd.cli.times import wall_now
        from crewd.model.incident import SEVERITIES, portrait

        now = wall_now()
        kept = [each for each in reader.incidents(open_only=state == "open") if crew in (None, each.crew)]
        opened = [each for each in kept if each.resolved_at is None]
        resolved = [each for each in kept if each.resolved_at is not None]
        opened.sort(key=lambda each: SEVERITIES.index(each.severity) if each.severity in SEVERITIES else 9)
        resolved.sort(key=lambda each: each.resolved_at or 0.0, reverse=True)
        chosen = {"open": opened, "resolved": resolved, "all": [*opened, *resolved]}[state][:limit]
        return [place.redactor.value(portrait(each, now)) for each in chosen]

    return ask(place, online, offline)


def rows(found: Sequence[dict[str, Any]]) -> Iterator[Line]:
    """Lay incidents out, one a line."""
    if not found:
        yield [("no incidents", "faint")]
        return
    yield from columns(
        [
            [
                (clean(each["severity"]), LOOK.get(each["severity"], "")),
                (clean(each["subject"]), "head"),
                (clean(each["cause"]), ""),
                (_standing(each), "faint"),
                (each["opened_at"], "faint"),
                (clean(each["summary"], SUMMARY_MAX), "faint"),
            ]
            for each in found
        ]
    )


def whole(incident: dict[str, Any]) -> Iterator[Line]:
    """Lay one incident out."""
    yield [(clean(incident["subject"]), "head"), (clean(f"  {incident['cause']}"), "")]
    seen, quiet = incident["acknowledged_at"], incident["snoozed_until"]
    facts = [
        ("state", _standing(incident)),
        ("severity", incident["severity"]),
        ("what", incident["summary"]),
        ("kind", incident["kind"]),
        ("opened", incident["opened_at"]),
        ("resolved", incident["resolved_at"]),
        ("acknowledged", seen and f"{seen} by {incident['acknowledged_by']}"),
        ("snoozed until", quiet and f"{quiet} by {incident['snoozed_by']}"),
        ("note", incident["note"]),
        ("crew", incident["crew"]),
    ]
    yield from columns([[("  " + name, "faint"), (clean(str(text)), "")] for name, text in facts if text])


def _standing(incident: dict[str, Any]) -> str:
    more = [f"opened {incident['openings']} times"] if incident["openings"] > 1 else []
    more += ["damped"] if incident["damped"] else []
    return clean(", ".join([incident["state"], *more]))


def _seconds(duration: str) -> float:
    from crewd.config.quantities import seconds

    try:
        return seconds(duration)
    except ValueError as error:
        raise UsageProblem(f"--for {duration}: {error}") from None
