"""`crewd config`: check, show and describe the settings."""

from pathlib import Path
from typing import Any

import click

from crewd.cli.options import config_option, environment, json_option, print_json
from crewd.cli.text import clean
from crewd.config.keys import field_at, kind_of
from crewd.config.load import MASKED, Loaded, flat, load, masked
from crewd.config.pages import as_markdown, as_toml, toml_value
from crewd.config.run_file.page import as_markdown as run_page
from crewd.config.run_file.schema import run_schema
from crewd.config.settings import Settings
from crewd.errors import SettingsError, UsageProblem
from crewd.telemetry.redact import names_secret


@click.group()
def config() -> None:
    """Check, show and describe the settings."""


@config.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@config_option
@json_option
def check(file: Path | None, config_file: Path | None, as_json: bool) -> None:
    """Say everything that is wrong with the settings: FILE, or those that `crewd serve` would use.

    Leaves with 78 if anything is.
    """
    try:
        loaded = load(file or config_file, environment())
    except SettingsError as error:
        if as_json:
            print_json({"ok": False, "complaints": [vars(each) for each in error.complaints]})
            raise SystemExit(error.exit_code) from None
        raise
    if as_json:
        print_json({"ok": True, "complaints": [], "file": str(loaded.path or "")})
    else:
        click.echo(f"{clean(str(loaded.path or 'built-in defaults'))}: ok")


@config.command()
@click.option("--origin", is_flag=True, help="Say where each value came from.")
@config_option
@json_option
def show(origin: bool, config_file: Path | None, as_json: bool) -> None:
    """Print the settings that count, as TOML. Secrets are masked."""
    loaded = load(config_file, environment())
    if as_json:
        print_json(laid_out(loaded, origin))
        return
    group = ""
    for key, value in flat(loaded.settings).items():
        field = field_at(key.split("."))
        if value is None or field is None:
            continue
        above, _, name = key.rpartition(".")
        if above != group:
            click.echo(f"{chr(10) if group else ''}[{above}]")
            group = above
        line = f"{name} = {toml_value(_shown(key, value), kind_of(field).word)}"
        click.echo(clean(f"{line:<40}  # {_origin_text(loaded, key)}" if origin else line))


@config.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "toml", "markdown"]),
    default="json",
    help="JSON Schema, the commented example file, or the reference page.",
)
@click.option("--run", "of_run", is_flag=True, help="Of run files instead.")
def schema(form: str, of_run: bool) -> None:
    """Describe every setting, or every field of a run file."""
    match form:
        case "toml" if of_run:
            raise UsageProblem("--run has no --format toml: config/examples holds run files (use json or markdown)")
        case "markdown" if of_run:
            click.echo(run_page(), nl=False)
        case _ if of_run:
            print_json(run_schema())
        case "toml":
            click.echo(as_toml(), nl=False)
        case "markdown":
            click.echo(as_markdown(), nl=False)
        case _:
            print_json(Settings.model_json_schema())


def laid_out(loaded: Loaded, origin: bool) -> dict[str, Any]:
    """Lay the settings out, each under its dotted key; secrets are masked."""
    values = flat(loaded.settings)
    result: dict[str, Any] = {
        "file": str(loaded.path or ""),
        "settings": {key: _shown(key, value) for key, value in values.items()},
    }
    if origin:
        result["origins"] = {key: vars(loaded.origin(key)) for key in values}
    return result


def _shown(key: str, value: Any) -> Any:
    """Mask what is a secret by its kind, or by its name: a variable that an executor is given is any text."""
    return MASKED if ".env." in key and value and names_secret(key) else masked(value)


def _origin_text(loaded: Loaded, key: str) -> str:
    found = loaded.origin(key)
    return f"{found.kind} {found.where}" if found.where else found.kind
