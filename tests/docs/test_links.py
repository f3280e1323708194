"""Every link leads somewhere, every page can be reached from the front door, and few links leave the house."""

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import PAGES, ROOT, Link, anchors, links

DOCS = [page for page in PAGES if page.startswith("docs/")]
LOCAL = re.compile(r"https?://(?:127\.0\.0\.1|localhost)\b")
# Where links may lead outside: standards, and the manuals of the programs that crewd is used with.
OUTSIDE = {
    "arxiv.org",
    "doi.org",
    "keepachangelog.com",
    "semver.org",
    "github.com",
    "prometheus.io",
    "grafana.com",
    "docs.lnav.org",
    "www.freedesktop.org",
    "supervisord.org",
    "sre.google",
    "aws.amazon.com",
    "en.wikipedia.org",
    "man7.org",
}
OUTSIDE_MAX = 60


def inside(link: Link) -> tuple[str, str]:
    """Which file and which anchor a link means."""
    path, _, anchor = link.target.partition("#")
    target = (ROOT / PurePosixPath(link.page).parent / path).resolve() if path else ROOT / link.page
    return (target.relative_to(ROOT).as_posix() if target.is_relative_to(ROOT) else ""), anchor


def leads_outside(link: Link) -> bool:
    return bool(re.match(r"[a-z]+:", link.target))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_the_project_leads_to_a_file_and_a_heading(page: str) -> None:
    broken = []
    for link in links(page):
        if leads_outside(link):
            continue
        path, anchor = inside(link)
        if not path or not (ROOT / path).exists():
            broken.append(f"{page}:{link.line}: {link.target}: there is no such file")
        elif anchor and path.endswith(".md") and anchor not in anchors(path):
            broken.append(f"{page}:{link.line}: {link.target}: {path} has no such heading")
    assert broken == []


def test_links_out_of_the_project_are_few_and_lead_to_known_places() -> None:
    outside = [link for page in PAGES for link in links(page) if leads_outside(link) and not LOCAL.match(link.target)]
    strange = [
        f"{link.page}:{link.line}: {link.target}"
        for link in outside
        if (parts := urlsplit(link.target)).scheme != "https" or parts.hostname not in OUTSIDE or link.image
    ]
    assert strange == []
    assert len(outside) <= OUTSIDE_MAX


def test_every_page_is_reached_from_the_readme_or_the_index() -> None:
    met, ahead = set(), ["README.md", "docs/README.md"]
    while ahead:
        page = ahead.pop()
        met.add(page)
        for link in links(page):
            path = "" if leads_outside(link) else inside(link)[0]
            if path in PAGES and path not in met:
                ahead.append(path)
    assert sorted(set(PAGES) - met) == []


def test_the_index_names_every_page() -> None:
    named = {inside(link)[0] for link in links("docs/README.md") if not leads_outside(link)}
    assert sorted({*DOCS} - named - {"docs/README.md"}) == []


def test_a_page_has_one_title_and_it_comes_first() -> None:
    for page in DOCS:
        lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# "), page
        outside_of_code = re.sub(r"^```.*?^```", "", "\n".join(lines), flags=re.MULTILINE | re.DOTALL)
        assert len(re.findall(r"^# ", outside_of_code, re.MULTILINE)) == 1, page


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [("docs/history.md", "summaries"), ("docs/agents.md", "see-it-without-installing-anything")],
)
def test_anchors_are_made_as_readers_of_markdown_make_them(heading: str, anchor: str) -> None:
    assert anchor in anchors(heading)
