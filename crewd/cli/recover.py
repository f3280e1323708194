"""`crewd recover`: what is proposed for interrupted runs of other runtimes, and a person's word on it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.change import change
from crewd.cli.client import Answer, Daemon, Place, ask, find, say_notice, segment
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import API
from crewd.cli.screen import Line, columns, print_lines
from crewd.cli.text import clean
from crewd.errors import CrewdError, NothingMatched

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader

STATES = ("planned", "approved", "declined", "applied", "verified", "failed", "withdrawn")
LIMIT = 1000
ROLES = {"planned": "alert", "failed": "alert"}


@click.group()
def recover() -> None:
    """Look at what is proposed for interrupted runs of other runtimes, and approve or decline it."""


@recover.command("list")
@click.option(
    "--state", type=click.Choice([*STATES, "all"]), default="all", show_default=True, help="In which state."
)
@click.option(
    "--limit", type=click.IntRange(1, LIMIT), default=100, show_default=True, help="At most so many, the newest."
)
@config_option
@state_option
@json_option
def list_plans(state: str, limit: int, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """List recovery plans, the newest first."""
    answer = _take(find(state_dir, config_file), state, limit)
    say_notice(answer)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, "recoveries": answer.body})
    else:
        print_lines(_rows(answer.body))


@recover.command()
@click.argument("plan")
@config_option
@state_option
@json_option
def show(plan: str, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show one plan. PLAN is its id, or the id of a run for the newest plan of that run."""
    place = find(state_dir, config_file)
    answer = _take(place, "all", LIMIT)
    found = _find(answer.body, plan)
    say_notice(answer)
    if answer.source == "daemon":
        found = _with_output(place, found)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, **found})
    else:
        print_lines(_whole(found))


@recover.command()
@click.argument("plan")
@click.option("--by", metavar="NAME", required=True, help="Who approves it; it is recorded.")
@click.option("--reason", metavar="TEXT", default="", help="Why; it is recorded.")
@click.option("--action", type=click.Choice(["resume", "cancel"]), help="Without it: resume, where that is offered.")
@config_option
@state_option
@json_option
def approve(
    plan: str,
    by: str,
    reason: str,
    action: str | None,
    config_file: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Have the configured command run for an interrupted run. PLAN is the id of the plan, or of its run."""
    place = find(state_dir, config_file)
    body = {"by": by, "reason": reason, "action": action}
    change(place, f"{API}/recoveries/{segment(_id(place, plan))}/approve", body, as_json)


@recover.command()
@click.argument("plan")
@click.option("--by", metavar="NAME", required=True, help="Who declines it; it is recorded.")
@click.option("--reason", metavar="TEXT", default="", help="Why; it is recorded.")
@config_option
@state_option
@json_option
def decline(plan: str, by: str, reason: str, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Settle a plan without doing anything. PLAN is the id of the plan, or of its run."""
    place = find(state_dir, config_file)
    body = {"by": by, "reason": reason}
    change(place, f"{API}/recoveries/{segment(_id(place, plan))}/decline", body, as_json)


def _take(place: Place, state: str, limit: int) -> Answer:
    def online(daemon: Daemon) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = daemon.json(f"{API}/recoveries", {"state": state, "limit": limit})["recoveries"]
        return found

    def offline(reader: "Reader") -> list[dict[str, Any]]:
        from crewd.model.recovery import portrait

        plans = reader.recoveries("" if state == "all" else state, limit)
        return [place.redactor.value(portrait(plan, output=True)) for plan in plans]

    return ask(place, online, offline)


def _with_output(place: Place, plan: dict[str, Any]) -> dict[str, Any]:
    """Ask for what its command said too; whoever may not hear it is told the rest."""
    try:
        with place.daemon() as daemon:
            whole: dict[str, Any] = daemon.json(f"{API}/recoveries/{segment(plan['plan_id'])}", {"output": "true"})
            return whole
    except CrewdError:
        return plan


def _id(place: Place, name: str) -> str:
    """Turn what a person calls a plan into its id: whoever names the run means its newest plan."""
    return str(_find(_take(place, "all", LIMIT).body, name)["plan_id"])


def _find(plans: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    for plan in plans:
        if name in (plan["plan_id"], plan["run_id"]):
            return plan
    raise NothingMatched(f"no recovery plan {name!r}; `crewd recover list` names them")


def _rows(plans: Sequence[dict[str, Any]]) -> Iterator[Line]:
    if not plans:
        yield [("no recovery plans", "faint")]
        return
    yield from columns(
        [
            [
                (clean(plan["plan_id"]), "head"),
                (clean(plan["state"]), ROLES.get(plan["state"], "")),
                (clean(plan["run_id"]), ""),
                (clean(plan["cause"]), "faint"),
                (f"{len(plan['resumable'])} to do, {len(plan['preserved'])} done", ""),
                (clean(plan["created_at"]), "faint"),
                (clean(plan["error"] or plan["note"], 100), "faint"),
            ]
            for plan in plans
        ]
    )


def _whole(plan: dict[str, Any]) -> Iterator[Line]:
    yield [(clean(plan["plan_id"]), "head"), (f"  {plan['state']}", ROLES.get(plan["state"], ""))]
    seq = plan["event_seq"]
    decided = " by ".join(each for each in (plan["decided_at"], plan["decided_by"]) if each)
    facts = [
        ("run", plan["run_id"]),
        ("folder", plan["folder"]),
        ("cause", f"{plan['cause']}: {plan['because']}"),
        ("to be resumed", ", ".join(plan["resumable"])),
        ("preserved", ", ".join(plan["preserved"])),
        ("last event", "the log cannot be read" if seq is None else str(seq)),
        ("offers", ", ".join(plan["offers"])),
        ("planned", plan["created_at"]),
        ("decided", decided),
        ("action", plan["action"]),
        ("reason", plan["reason"]),
        ("applied", plan["applied_at"]),
        ("attempts", str(plan["attempts"] or "")),
        ("not before", plan["due_at"]),
        ("ended", plan["ended_at"]),
        ("note", plan["note"]),
        ("error", plan["error"]),
    ]
    yield from columns([[("  " + name, "faint"), (clean(str(text)), "")] for name, text in facts if text])
    if plan["output"]:
        yield []
        yield [("the end of what its command said", "head")]
        yield from ([("  " + clean(line), "")] for line in plan["output"].splitlines())
    if plan["state"] in ("planned", "failed"):
        yield []
        yield [(f"crewd recover approve {plan['plan_id']} --by NAME   has the configured command run", "faint")]
