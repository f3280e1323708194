"""Every event that crewd tells is in the catalogue, and the reference page is the catalogue."""

import ast
from pathlib import Path

from crewd.model.catalogue import EVENTS

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reference" / "events.md"


def test_the_reference_page_lists_exactly_the_catalogue_with_its_meanings() -> None:
    rows = [line.split("|")[1:3] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert {name.strip().strip("`"): meaning.strip() for name, meaning in rows} == dict(EVENTS)


def test_no_part_makes_an_event_that_the_catalogue_does_not_know() -> None:
    made = {
        (path.name, node.args[0].value)
        for path in (ROOT / "crewd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _name(node.func) in ("Event", "run_event", "task_event")
        if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }
    assert {type for _, type in made} <= set(EVENTS), made
    assert len(made) > 10


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
