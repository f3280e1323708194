"""`crewd install`: crewd as a service of systemd, for one person or for an account of a server; and the way back."""

import click

from crewd.cli.installing import Plan, Service, do, plan_install, plan_remove
from crewd.cli.options import json_option, print_json
from crewd.cli.text import clean
from crewd.errors import UsageProblem

WIDTH_MAX = 60  # of a command whose explanation stands below that of the others


@click.command()
@click.option("--user", "scope", flag_value="user", help="A service of yours: ~/.config/systemd/user/crewd.service.")
@click.option("--system", "scope", flag_value="system", help="A service of the machine: crewd@NAME.service.")
@click.option("--user-name", metavar="NAME", help="With --system: whose agents they are; else whoever calls sudo.")
@click.option("--dry-run", is_flag=True, help="Show everything that would be done, and do nothing.")
@click.option("--remove", is_flag=True, help="Undo it; settings, ledger and logs stay.")
@json_option
def install(scope: str | None, user_name: str | None, dry_run: bool, remove: bool, as_json: bool) -> None:
    """Make this crewd a service of systemd: write its unit, verify it, and say what comes next. Starts nothing.

    A unit that something else wrote is left as it is.
    """
    if scope is None:
        raise UsageProblem("say for whom: --user for yourself, --system for an account of this machine")
    if user_name is not None and scope == "user":
        raise UsageProblem("--user-name goes with --system: --user is for whoever calls it")
    service = Service.of(scope, user_name)
    plan = plan_remove(service, dry_run) if remove else plan_install(service, dry_run)
    if not dry_run:
        do(plan)
    if as_json:
        print_json({"dry_run": dry_run, **plan.laid_out()})
        return
    _tell(plan, dry_run)


def _tell(plan: Plan, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    for file in plan.files:
        click.echo(f"{would}written: {clean(str(file.path))}" if file.needed else f"kept: {clean(str(file.path))}")
        if dry_run and file.needed and file.shown:
            click.echo("\n".join(f"    {clean(line)}" for line in file.text.splitlines()))
    for path in plan.removed:
        click.echo(f"{would}removed: {clean(str(path))}")
    for command in plan.commands:
        click.echo(f"{'would run' if dry_run else 'ran'}: {clean(' '.join(command))}")
    for note in plan.notes:
        click.echo(f"note: {clean(note)}")
    if plan.after:
        click.echo("next:")
        width = max(len(line) for line, _ in plan.after if len(line) <= WIDTH_MAX)
        for line, why in plan.after:
            click.echo(f"  {clean(line).ljust(width)}  # {why}" if why else f"  {clean(line)}")
