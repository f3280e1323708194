"""`/runbooks`: what each alert means and what to do, as a page that `runbook_url` of an alert leads to."""

import asyncio
import re
from collections.abc import Iterator
from html import escape

from fastapi import FastAPI, Response
from markdown_it import MarkdownIt
from markdown_it.token import Token

from crewd.host.runbooks import anchor, runbooks
from crewd.web.query import NO_QUERY
from crewd.web.refusal import refusal

# Within the page, or to the web; pages of the documentation are not served beside it.
LEADS_SOMEWHERE = re.compile(r"#[\w-]+|https?://.+")


def add_runbooks(app: FastAPI) -> None:
    """Serve the page. It is made when somebody asks for the first time, and kept."""
    made: list[str] = []
    making = asyncio.Lock()  # once, however many ask for it at the same time

    @app.get("/runbooks", include_in_schema=False, dependencies=NO_QUERY)
    async def page() -> Response:
        """Show the runbooks; works without JavaScript."""
        async with making:
            try:
                if not made:
                    made.append(await asyncio.to_thread(lambda: as_html(runbooks())))
            except OSError:
                raise refusal(503, "incomplete", "the runbooks are not installed", "install crewd again") from None
        return Response(made[0], media_type="text/html")


def as_html(markdown: str) -> str:
    """Draw the page: a list of all alerts, then the text, each heading with the anchor that addresses name."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    for heading, words in _headings(tokens):
        heading.attrSet("id", anchor(words.content))
    for token in tokens:
        token.children = [_harmless(each) for each in _linked(token.children or [])]
    alerts = [words.content for heading, words in _headings(tokens) if heading.tag == "h2"]
    body = str(reader.renderer.render(tokens, reader.options, {}))
    return "".join(_page(alerts, body))


def _page(alerts: list[str], body: str) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>crewd runbooks</title>'
    yield '<meta name="viewport" content="width=device-width">'
    yield '<link rel="stylesheet" href="/assets/plain.css"></head><body class="text">'
    yield '<nav class="quiet">' + " · ".join(f'<a href="#{anchor(each)}">{escape(each)}</a>' for each in alerts)
    yield f"</nav><main>{body}</main>"
    yield '<footer class="quiet"><a href="/">crewd</a> · <a href="/plain">plain page</a></footer></body></html>'


def _headings(tokens: list[Token]) -> Iterator[tuple[Token, Token]]:
    """Find each heading with what it says."""
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            yield token, tokens[at + 1]


def _linked(tokens: list[Token]) -> Iterator[Token]:
    """Leave out links that lead nowhere from here, and keep their words."""
    leads = True
    for token in tokens:
        if token.type == "link_open":
            leads = bool(LEADS_SOMEWHERE.fullmatch(str(token.attrGet("href"))))
        if leads or token.type not in ("link_open", "link_close"):
            yield token


def _harmless(token: Token) -> Token:
    """Turn a picture into its words: none is served here, and none is loaded from elsewhere."""
    return Token("text", "", 0, content=token.content) if token.type == "image" else token
