"""The runbooks: what each alert means, and what to do; a section of a page that is shipped."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from crewd.host.assets import RUNBOOKS, asset


@dataclass(frozen=True)
class Section:
    """What stands below one heading, and the heading itself."""

    alert: str  # as CrewdWorkerDead
    text: str  # Markdown

    @property
    def anchor(self) -> str:
        """Name it as the fragment of an address does: `runbook_url` of an alert ends with it."""
        return anchor(self.alert)

    @property
    def line(self) -> str:
        """Return its first sentence."""
        words = " ".join(_first_paragraph(self.text).replace("**", "").split())
        end = words.find(". ")
        return words if end < 0 else words[: end + 1]


def runbooks() -> str:
    """Read the whole page. Raises FileNotFoundError where the installation is not whole."""
    return asset(RUNBOOKS).read_text(encoding="utf-8")


def sections(text: str) -> list[Section]:
    """Take the page apart at its headings of the second level: those are the names of alerts."""
    from markdown_it import MarkdownIt  # costs 40 ms, and only whoever reads runbooks needs it

    lines = text.splitlines()
    tokens = MarkdownIt("commonmark").parse(text)
    # What looks like a heading within a block of code is none, which a search for lines would not see.
    heads = [
        (token.map[0], tokens[at + 1].content.strip())
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h2" and token.level == 0 and token.map
    ]
    stretches = pairwise([*(start for start, _ in heads), len(lines)])
    return [
        Section(title, "\n".join(lines[start:end]).strip() + "\n")
        for (_, title), (start, end) in zip(heads, stretches, strict=True)
    ]


def anchor(title: str) -> str:
    """Make of a heading what a link to it ends with, as GitHub does."""
    kept = "".join(each for each in title.strip().lower() if each.isalnum() or each in " -_")
    return kept.replace(" ", "-")


def find(found: Sequence[Section], name: str) -> Section | None:
    """Find a section by its name, in letters of any size."""
    return next((each for each in found if each.anchor == anchor(name)), None)


def _first_paragraph(text: str) -> str:
    blocks = text.partition("\n")[2].strip().split("\n\n")
    return blocks[0] if blocks else ""
