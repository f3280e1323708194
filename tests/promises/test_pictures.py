"""The pictures of the README: each is there and is shown, with words for those who cannot see it, as it is today."""

import html
import re
from pathlib import Path

from crewd.cli.demo_agents import ACTS

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()


def test_every_picture_is_shown_in_the_readme_with_words_for_it() -> None:
    shown = dict(re.findall(r"!\[([^\]]+)\]\((docs/images/[^)]+)\)", README))
    assert sorted(shown.values()) == sorted(
        str(each.relative_to(REPOSITORY)) for each in (REPOSITORY / "docs/images").iterdir()
    )


def test_the_picture_of_the_agents_has_a_line_for_each_recorded_run() -> None:
    """`python -m tests.promises.pictures` draws it anew."""
    text = html.unescape(re.sub(r"<[^>]+>", "\n", (REPOSITORY / "docs/images/demo-agents.svg").read_text()))
    words = text.replace("\xa0", " ")
    assert [act.case for act in ACTS if act.case not in words] == []
    assert f"{len(ACTS)} of {len(ACTS)} verdicts as expected" in words
