"""The committed dashboards, and ways to walk through one."""

import json
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
GRAFANA = ROOT / "deploy/grafana"
NAMES = ("overview", "crew", "detection", "retries", "daemon")

Dashboard = dict[str, Any]
Panel = dict[str, Any]


@cache
def text_of(name: str) -> str:
    return (GRAFANA / "dashboards" / f"{name}.json").read_text(encoding="utf-8")


def dashboard(name: str) -> Dashboard:
    """A fresh copy, which a test may spoil."""
    read: Dashboard = json.loads(text_of(name))
    return read


def panels(of: Dashboard) -> Iterator[Panel]:
    """Every panel that shows something, also those inside of rows."""
    for panel in of["panels"]:
        yield from (each for each in panel.get("panels") or [] if each["type"] != "row")
        if panel["type"] != "row":
            yield panel


def expressions(of: Dashboard) -> Iterator[tuple[str, str]]:
    """Every query with where it stands: of panels and of annotations."""
    for panel in panels(of):
        for target in panel["targets"]:
            yield f"{of['uid']}, {panel['title']}, {target['refId']}", target["expr"]
    for annotation in of["annotations"]["list"]:
        yield f"{of['uid']}, annotation {annotation['name']}", annotation["target"]["expr"]


def grafanas_packages() -> Path:
    """The folder of Grafana's packages of npm; skips where they are missing."""
    folder = Path(os.environ.get("CREWD_GRAFANA_TYPES") or "/nonexistent") / "node_modules"
    if not (folder / "@grafana/data").is_dir() or shutil.which("node") is None:
        pytest.skip("`make grafana-types` (it needs npm) installs Grafana's packages, and runs this with them")
    return folder.resolve()


def links(of: Dashboard) -> Iterator[tuple[str, str]]:
    """Every address that somebody can click, with where it stands."""
    for link in of["links"]:
        yield f"{of['uid']}, {link['title']}", link["url"]
    for panel in panels(of):
        where = f"{of['uid']}, {panel['title']}"
        found = [*panel.get("links", []), *panel["fieldConfig"]["defaults"].get("links", [])]
        for override in panel["fieldConfig"]["overrides"]:
            for each in override["properties"]:
                found += each["value"] if each["id"] == "links" else []
        for link in found:
            yield f"{where}, {link['title']}", link["url"]
