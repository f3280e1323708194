"""The runbooks as a page: anchors that alerts lead to, and nothing that a browser would load or run."""

import asyncio
import re

import pytest

from crewd.host.runbooks import runbooks, sections
from crewd.web import runbooks as served
from crewd.web.app import build_app
from crewd.web.runbooks import as_html
from tests.security.world import asked
from tests.web.test_page import Read
from tests.web.world import State, ask

TEXT = """# Runbooks

## CrewdWorkerDead

Somebody is **gone**. See [recovery](recovery.md), [the other](#crewdworkerhung) and [Prometheus](https://prometheus.io/docs/).

    curl -s http://127.0.0.1:9464/readyz

| a | b |
|---|---|
| 1 | `<b>` |

## CrewdWorkerHung

<script>alert(1)</script> ![picture](https://evil.example/x.png) [bad](javascript:alert(1)) [file](file:///etc/passwd)
"""


def ids(html: str) -> list[str]:
    return re.findall(r'<h\d id="([^"]+)"', html)


def test_each_heading_has_the_anchor_that_its_alert_names() -> None:
    html = as_html(TEXT)
    assert ids(html) == ["runbooks", "crewdworkerdead", "crewdworkerhung"]
    assert [link for link in Read(html).links if link.startswith("#")] == [
        "#crewdworkerdead", "#crewdworkerhung", "#crewdworkerhung",
    ]  # fmt: skip


def test_links_lead_somewhere_or_are_words() -> None:
    html = as_html(TEXT)
    assert {link for link in Read(html).links if not link.startswith("#")} == {
        "/assets/plain.css", "/", "/plain", "https://prometheus.io/docs/",
    }  # fmt: skip
    words = " ".join(Read(html).words)
    assert "See recovery, the other and Prometheus" in words and "picture" in words


def test_nothing_becomes_markup_that_is_none_of_markdown() -> None:
    read = Read(as_html(TEXT))
    assert not read.tags & {"script", "img", "b", "iframe", "style", "form"} and "table" in read.tags
    assert "<script>alert(1)</script>" in " ".join(read.words)


def test_a_heading_is_words_in_the_list_of_alerts_too() -> None:
    read = Read(as_html('## <i>a</i> & "b"\n'))
    assert "i" not in read.tags and " ".join(read.words).count('<i>a</i> & "b"') == 2
    assert ids(as_html("## What to do, when-all_else fails?")) == ["what-to-do-when-all_else-fails"]


def test_the_page_is_made_once_however_many_ask_and_again_where_it_was_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    def read() -> str:
        made.append(TEXT)
        if len(made) == 1:
            raise FileNotFoundError("runbooks.md")
        return TEXT

    monkeypatch.setattr(served, "runbooks", read)

    async def several() -> list[int]:
        app, headers = build_app(State()), [("host", "127.0.0.1")]
        first = await asked(app, "GET", "/runbooks", headers)
        others = await asyncio.gather(*(asked(app, "GET", "/runbooks", headers) for _ in range(4)))
        return [first.status, *(each.status for each in others)]

    assert asyncio.run(several()) == [503, 200, 200, 200, 200]
    assert len(made) == 2


def test_the_shipped_page_is_served_with_every_alert(tmp_path: object) -> None:
    answer = ask(State(), "/runbooks")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    anchors = [each.anchor for each in sections(runbooks())]
    assert anchors and set(anchors) <= set(ids(answer.text))
    assert len(set(ids(answer.text))) == len(ids(answer.text)), "two headings have one anchor"
    assert ask(State(), "/runbooks?alert=x").status_code == 400


@pytest.mark.parametrize("path", ["/plain", "/assets/app.js"])
def test_it_is_linked_from_the_pages(path: str) -> None:
    assert '"/runbooks"' in ask(State(), path).text
