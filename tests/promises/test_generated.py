"""What is generated of the reference pages is what the code says: run `python docs/generate.py` where it is not."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs import generate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The pages once more, in a folder of their own."""
    for page in generate.generated():
        there = tmp_path / page.relative_to(ROOT)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(page.read_text())
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "REFERENCE", tmp_path / "docs/reference")
    yield tmp_path / "docs/reference"


def test_every_generated_part_is_up_to_date() -> None:
    assert generate.main(["--check"]) is None


@pytest.mark.parametrize(
    ("page", "old", "new"),
    [
        ("metrics.md", "Dead letters that crewd sees.", "Letters."),
        ("events.md", "crewd started.", "It began."),
        ("commands.md", "Begin with the last N lines.", "Fewer lines."),
        ("http.md", "Start a waiting retry now", "Start now"),
        ("http.md", "Also an unfinished last line.", "The last line."),
        ("settings.md", "## [http]", "## http"),
    ],
)
def test_a_word_that_is_not_the_codes_is_found_and_put_right(copy: Path, page: str, old: str, new: str) -> None:
    path = copy / page
    right = path.read_text()
    assert right.count(old) >= 1
    path.write_text(right.replace(old, new))
    assert page in (generate.main(["--check"]) or "")
    assert generate.main([]) is None
    assert path.read_text() == right


def test_a_command_without_a_section_gets_one_and_prose_is_left_alone(copy: Path) -> None:
    path = copy / "commands.md"
    before = path.read_text()
    start, end = re.search(r"^## crewd why.*?(?=^## )", before, re.MULTILINE | re.DOTALL).span()  # type: ignore[union-attr]  # it is there
    path.write_text(before[:start] + before[end:])
    generate.main([])
    after = path.read_text()
    assert (
        "\n## crewd why\n\nSay why RUN stands where it stands" in after and "    crewd why [OPTIONS] RUN\n" in after
    )
    assert set(prose(before[:start] + before[end:])) <= set(prose(after))


def prose(page: str) -> list[str]:
    return generate.BLOCK.sub("", page).splitlines()


def test_every_page_with_generated_parts_says_so_at_its_top_and_every_family_and_route_is_in_one() -> None:
    for page in generate.generated():
        if "<!-- generated: " in (text := page.read_text()):
            assert "python docs/generate.py" in text[:400], page.name
            assert text.count("<!-- generated: ") == text.count("<!-- end -->")


def test_a_part_that_nobody_knows_is_named() -> None:
    with pytest.raises(ValueError, match="generated: metrix crew"):
        generate.renewed("<!-- generated: metrix crew -->\n<!-- end -->")


def test_the_generator_runs_as_the_pages_say() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
