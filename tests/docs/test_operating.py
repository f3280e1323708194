"""The sentences that the page of operating explains are sentences of crewd."""

import re

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs/operating.md").read_text(encoding="utf-8")


def sentences() -> list[str]:
    table = PAGE.partition("## When crewd says\n")[2]
    cells = [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `")]
    return [sentence for cell in cells for sentence in re.findall(r"`([^`]+)`", cell)]


def code() -> str:
    """All of crewd's words, with texts that are broken over lines joined, and what is filled in left out."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "crewd").rglob("*.py")))
    return re.sub(r'"\s*\n\s*f?"', "", text)


def test_every_sentence_that_is_explained_is_one_that_crewd_says() -> None:
    told, words = sentences(), code()
    assert len(told) > 10
    # "held back by" and "HOLD" are the first words of a row, and what follows stands in a cell of its own.
    pieces = [piece for each in told for piece in re.split(r"(?<=held back by) |(?<=HOLD) |: ", each)]
    # After a colon stands what the system itself says.
    assert [each for each in pieces if each not in words and each not in ("Address already in use", "hold")] == []


@pytest.mark.parametrize("sentence", ["this crewd is tired"])
def test_another_sentence_is_found(sentence: str) -> None:
    assert sentence not in code()
