"""Promises and invariants stand on their page with tests that are there; so does every file that a page names."""

import re

from crewd.telemetry.families import INVARIANTS
from tests.docs.pages import PAGES, ROOT, spoken

PAGE = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")
PROMISES = {f"P{number}" for number in range(1, 22)}
# Of parts that crewd does not have (gates, other hosts) there is nothing to hold.
WITHOUT_A_PART = {"I12", "I17", "I21", "I23", "I24"}
NUMBERED = {f"I{number}" for number in range(1, 26)}


def rows(letter: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.splitlines()
        if re.match(rf"\| {letter}\d+ \|", line)
    ]


def test_every_promise_and_every_invariant_is_told() -> None:
    assert {row[0] for row in rows("P")} == PROMISES
    assert {row[0] for row in rows("I")} == NUMBERED - WITHOUT_A_PART


def test_what_is_said_to_be_looked_at_while_crewd_runs_is_counted() -> None:
    online = {row[0] for row in rows("I") if row[2] != "by tests"}
    assert online == set(INVARIANTS)


def test_every_line_names_tests_and_each_of_them_is_there() -> None:
    for row in (*rows("P"), *rows("I")):
        named = re.findall(r"`(tests/[\w/.]+)`", row[-1])
        assert named, row
        for path in named:
            found = ROOT / path
            assert found.exists(), f"{row[0]}: {path}"
            tests = found.read_text() if found.is_file() else "".join(p.read_text() for p in found.rglob("test_*.py"))
            assert re.search(r"^\s*(?:async )?def test_|^class \w+.*Machine", tests, re.MULTILINE), (
                f"{row[0]}: {path}"
            )


def test_every_file_of_the_project_that_a_page_names_is_there() -> None:
    missing = []
    for page in PAGES:
        for line, text in spoken(page):
            for path in re.findall(r"^((?:crewd|tests|config|deploy|bench)/[\w/.-]*[\w])$", text):
                beside = any((folder / path).exists() for folder in (ROOT, ROOT / "crewd"))
                if not beside and not path.startswith("deploy/source"):
                    missing.append(f"{page}:{line}: {path}")
    assert missing == []
