"""The pictures of README and pages: each is there and shown, with words for who cannot see it, as it is today."""

import html
import re
from pathlib import Path

from crewd.cli.demo_agents import ACTS

REPOSITORY = Path(__file__).parents[2]


def test_every_picture_is_shown_with_words_for_it_on_the_readme_or_on_a_page() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    shown = {
        (page.parent / path).resolve()
        for page in pages
        for path in re.findall(r"!\[[^\]]+\]\(([^)]*images/[^)]+)\)", page.read_text())
    }
    assert shown == set((REPOSITORY / "docs/images").iterdir())


def test_the_picture_of_the_agents_has_a_line_for_each_recorded_run() -> None:
    """`python -m tests.promises.pictures` draws it anew."""
    text = html.unescape(re.sub(r"<[^>]+>", "\n", (REPOSITORY / "docs/images/demo-agents.svg").read_text()))
    words = text.replace("\xa0", " ")
    assert [act.case for act in ACTS if act.case not in words] == []
    assert f"{len(ACTS)} of {len(ACTS)} verdicts as expected" in words
