"""The pages of the documentation as a reader meets them: blocks, headings, links."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"))
)
# What a block that is only indented begins with, if it is to be typed.
USAGE = re.compile(r"crewd [^\n]*\[OPTIONS\][^\n]*\n\Z")  # is generated, and a test of its own holds it to the code
TYPED = re.compile(
    r"(?:[A-Z_]+=\S* )?(?:amtool|cd|crewd|curl|docker|eval|journalctl|jq|kubectl|lnav|loginctl|mkdir|openssl|"
    r"podman|promtool|python3?|sudo|systemctl|tail|zcat) "
)


@dataclass(frozen=True)
class Block:
    """A piece of code on a page."""

    page: str
    line: int
    language: str  # as the fence says; "sh" of an indented block that begins with a command; "" of a picture
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Link:
    """A link or an image on a page."""

    page: str
    line: int
    target: str
    image: bool


@cache
def tokens(page: str) -> tuple[Token, ...]:
    return tuple(MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8")))


@cache
def blocks(page: str) -> tuple[Block, ...]:
    return tuple(_blocks(page))


def _blocks(page: str) -> Iterator[Block]:
    for token in tokens(page):
        if token.type not in ("fence", "code_block"):
            continue
        assert token.map is not None
        text = textwrap.dedent(token.content)
        language = (
            token.info.strip()
            if token.type == "fence"
            else "sh"
            if TYPED.match(text) and not USAGE.match(text)
            else ""
        )
        yield Block(page, token.map[0] + 1, language, text)


@cache
def links(page: str) -> tuple[Link, ...]:
    return tuple(_links(page))


def _links(page: str) -> Iterator[Link]:
    for line, token in _inline(page):
        if token.type == "link_open":
            yield Link(page, line, str(token.attrs["href"]), False)
        elif token.type == "image":
            yield Link(page, line, str(token.attrs["src"]), True)


def spoken(page: str) -> Iterator[tuple[int, str]]:
    """Everything that stands between two backquotes, with its line."""
    for line, token in _inline(page):
        if token.type == "code_inline":
            yield line, token.content


def _inline(page: str) -> Iterator[tuple[int, Token]]:
    line = 0
    for token in tokens(page):
        line = token.map[0] + 1 if token.map else line
        for child in token.children or ():
            yield line, child


@cache
def anchors(page: str) -> frozenset[str]:
    """The anchors of a page's headings, made as the usual readers of Markdown make them."""
    found: dict[str, int] = {}
    names = []
    opened = False
    for token in tokens(page):
        if token.type == "heading_open":
            opened = True
        elif opened and token.type == "inline":
            opened = False
            words = "".join(each.content for each in token.children or () if each.type in ("text", "code_inline"))
            slug = re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-")
            seen = found.get(slug, 0)
            found[slug] = seen + 1
            names.append(f"{slug}-{seen}" if seen else slug)
    return frozenset(names)
