"""`python -m deploy.grafana.source [FOLDER]`: write the dashboards, or `--check` which differ."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.source import crew, daemon, detection, overview, retries

DASHBOARDS = Path(__file__).parents[1] / "dashboards"
MODULES = {"overview": overview, "crew": crew, "detection": detection, "retries": retries, "daemon": daemon}
# The SDK gives these to every variable; Grafana knows them of intervals only.
OF_INTERVALS = ("auto", "auto_min", "auto_count")


def texts() -> dict[str, str]:
    """The text of each dashboard, by the name of its file."""
    return {f"{name}.json": _text(module.built()) for name, module in MODULES.items()}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana.source", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DASHBOARDS)
    parser.add_argument("--check", action="store_true", help="write nothing, and leave with 1 if one differs")
    given = parser.parse_args(arguments)
    made = texts()
    differ = [name for name, text in made.items() if _read(given.folder / name) != text]
    for name in differ:
        if given.check:
            sys.stdout.write(f"{given.folder / name} differs: run python -m deploy.grafana.source\n")
        else:
            (given.folder / name).write_text(made[name], encoding="utf-8")
            sys.stdout.write(f"{given.folder / name}\n")
    return 1 if given.check and differ else 0


def _text(built: Any) -> str:
    laid_out = json.loads(JSONEncoder().encode(built))
    for variable in laid_out["templating"]["list"]:
        for key in OF_INTERVALS:
            variable.pop(key, None)
        variable["skipUrlSync"] = variable["name"] == "page"
    for annotation in laid_out["annotations"]["list"]:
        annotation.pop("placement", None)  # the SDK hides them in a menu
    for panel in laid_out["panels"]:
        panel.get("options", {}).pop("footer", None)  # of tables: no longer known to Grafana
    return json.dumps(laid_out, indent=2, ensure_ascii=False) + "\n"


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
