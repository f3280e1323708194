"""Every dashboard as a literal of Grafana's own types, compiled by TypeScript."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.grafana.dashboards import NAMES, dashboard, grafanas_packages, panels

pytestmark = pytest.mark.grafana

KINDS = {
    "stat": "Stat",
    "timeseries": "TimeSeries",
    "state-timeline": "StateTimeline",
    "table": "Table",
    "bargauge": "BarGauge",
    "heatmap": "Heatmap",
}
WITH_FIELDS = ("timeseries", "state-timeline", "table", "heatmap")
# JSON has the values of enums where the types have their names. What is left out gets a default.
PREAMBLE = """
import type { AnnotationQuery, Dashboard as Known, DataQuery } from '@grafana/schema';
// What Prometheus adds to an annotation is in no published package.
type Told = { titleFormat: string; textFormat: string; tagKeys?: string; useValueForTime?: boolean };
type Asked = AnnotationQuery<DataQuery & { expr: string; interval: string }> & Told;
type Dashboard = Omit<Known, 'annotations'> & { annotations: { list: Asked[] } };
type Literal<T> = T extends string ? `${T}` : T extends Array<infer U> ? Literal<U>[]
  : T extends object ? { [K in keyof T]: Literal<T[K]> } : T;
type Some<T> = T extends string ? `${T}` : T extends Array<infer U> ? Some<U>[]
  : T extends object ? { [K in keyof T]?: Some<T[K]> } : T;
"""
SETTINGS = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "skipLibCheck": True,
        "types": [],
    }
}


def source_of(name: str, of: dict[str, Any]) -> str:
    """A module that declares the dashboard, and each part whose type the dashboard's own leaves open."""
    lines = [PREAMBLE]
    for kind, word in KINDS.items():
        folder = kind.replace("-", "")
        lines.append(
            f"import type * as {folder} from "
            f"'@grafana/schema/dist/esm/raw/composable/{folder}/panelcfg/x/{word}PanelCfg_types.gen';"
        )
    lines.append(f"export const {name}: Literal<Dashboard> = {json.dumps(of)};")
    for panel in panels(of):
        id, kind = panel["id"], panel["type"].replace("-", "")
        lines.append(f"export const options{id}: Some<{kind}.Options> = {json.dumps(panel.get('options', {}))};")
        if panel["type"] in WITH_FIELDS:
            custom = panel["fieldConfig"]["defaults"].get("custom", {})
            lines.append(f"export const custom{id}: Some<{kind}.FieldConfig> = {json.dumps(custom)};")
    return "\n".join(lines) + "\n"


def complaints(folder: Path, dashboards: dict[str, dict[str, Any]]) -> list[str]:
    """What TypeScript says about the dashboards."""
    packages = grafanas_packages()
    (folder / "node_modules").symlink_to(packages)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "tsconfig.json").write_text(json.dumps(SETTINGS))
    for name, each in dashboards.items():
        (folder / f"{name}.ts").write_text(source_of(name, each))
    said = subprocess.run([packages / ".bin/tsc", "-p", "."], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (said.returncode == 0) == (said.stdout == ""), said
    return [line for line in said.stdout.splitlines() if re.match(r"\w+\.ts\(", line)] or said.stdout.splitlines()


def test_every_dashboard_is_one_by_grafanas_own_types(tmp_path: Path) -> None:
    assert complaints(tmp_path, {name: dashboard(name) for name in NAMES}) == []


def test_what_grafana_does_not_know_is_found(tmp_path: Path) -> None:
    spoilt = dashboard("overview")
    spoilt["refresh"] = 30
    kinds = {panel["type"]: panel for panel in panels(spoilt)}
    kinds["stat"]["options"]["graphMode"] = "mountain"
    kinds["timeseries"]["fieldConfig"]["defaults"]["custom"]["drawStyle"] = "wave"
    kinds["table"]["options"]["feet"] = True
    said = complaints(tmp_path, {"overview": spoilt})
    assert len(said) == 4, said
