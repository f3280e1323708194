"""Asking the daemon to change something, and telling what became of it."""

from collections.abc import Mapping
from typing import Any

import click

from crewd.cli.client import Place
from crewd.cli.options import print_json
from crewd.cli.text import clean

IDS_MAX = 20


def change(place: Place, path: str, body: Mapping[str, Any], as_json: bool) -> None:
    """Have it done and tell it. What is None in the body is left out. Raises what `Daemon.post` raises."""
    tell(post(place, path, body), as_json)


def post(place: Place, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Have it done."""
    with place.daemon() as daemon:
        answer: dict[str, Any] = daemon.post(path, {name: value for name, value in body.items() if value is not None})
    return answer


def tell(answer: Mapping[str, Any], as_json: bool) -> None:
    """Tell what was done: the daemon's sentence, and whom it concerns where that is more than one."""
    if as_json:
        print_json(answer)
        return
    click.echo(clean(str(answer.get("what") or "done")))
    ids = answer.get("ids") or []
    if len(ids) > 1:
        for each in ids[:IDS_MAX]:
            click.echo(f"  {clean(str(each))}")
        if len(ids) > IDS_MAX:
            click.echo(f"  and {len(ids) - IDS_MAX} more")
