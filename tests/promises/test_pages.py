"""Every page that is named exists, and the evidence table of the page is the one that judges."""

import re
from pathlib import Path

from crewd.detection.liveness import TABLE

ROOT = Path(__file__).parent.parent.parent


def test_every_page_that_a_page_or_a_module_names_exists() -> None:
    missing = []
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "crewd").rglob("*.py")]:
        for name in re.findall(r"[\w./-]+\.md\b", re.sub(r"https?://\S+", "", path.read_text())):
            if not any((base / name).exists() for base in (path.parent, ROOT)) and "/artifacts/" not in name:
                missing.append((str(path.relative_to(ROOT)), name))
    assert missing == []


def test_the_evidence_table_on_the_page_is_the_one_in_the_code() -> None:
    lines = (ROOT / "docs" / "detection.md").read_text().splitlines()
    for row in TABLE:
        assert f"| {row.number} | {row.process} | {row.silence} | {row.verdict} |" in lines
