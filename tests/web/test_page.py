"""The page, drawn from snapshots."""

import re
from html.parser import HTMLParser

import msgspec
import pytest

from crewd.model.run import RunStatus, Usage
from crewd.model.snapshot import Health, Snapshot
from crewd.model.verdict import Level
from crewd.telemetry.redact import Redactor
from crewd.web.page import CREWS_MAX, ENDED_MAX, RUNS_MAX, WORKERS_MAX, page
from tests.telemetry.pictures import snapshot, view, worker

HOSTILE = "</bdi><script>alert(1)</script><img src=//x>\x1b[2J\u202e\"'\ud800\x00"


class Read(HTMLParser):
    """What a browser would make of a page: its tags, their attributes, and its words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.others: set[str] = set()
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "href":
                self.links.append(value or "")
            else:
                self.others.add(name)

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def drawn(taken: Snapshot) -> str:
    return page(taken, Redactor())


def test_those_in_most_trouble_come_first_among_crews_runs_and_workers() -> None:
    html = drawn(
        snapshot(
            view("r1", "calm", worker("t1")),
            view("r2", "mixed", worker("t2"), worker("t3", Level.STALE), worker("t4", Level.WARN)),
            view("r3", "lost", worker("t5", Level.DEAD)),
        )
    )
    words = Read(html.partition("</head>")[2]).words
    for order in (("lost", "mixed", "calm"), ("r3", "r2", "r1"), ("t5", "t3", "t4", "t2", "t1")):
        assert sorted(order, key=words.index) == list(order)


def test_a_crew_tells_how_many_stand_where_and_its_dead_letters() -> None:
    taken = snapshot(view("r1", "blue", worker("t1"), worker("t2", Level.DEAD)), dead_letters={"blue": (2, None)})
    words = " ".join(Read(drawn(taken)).words)
    assert "1 dead 1 healthy 2 dead letters" in words


def test_runs_that_have_ended_stand_aside_unless_somebody_still_works_on_them() -> None:
    html = drawn(
        snapshot(
            view("r-over", "blue", status=RunStatus.COMPLETED),
            view("r-odd", "blue", worker("t1"), status=RunStatus.FAILED),
            view("r-open", "blue"),
        )
    )
    at_work, _, ended = html.partition("<h2>Ended</h2>")
    assert "r-over" in ended and "r-over" not in at_work
    assert "r-odd" in at_work and "r-open" in at_work


def test_nothing_hostile_becomes_more_than_text() -> None:
    bad = worker(HOSTILE, Level.STALE, standing=msgspec.structs.replace(worker().standing, because=HOSTILE))
    health = Health(
        hold=HOSTILE, brake=HOSTILE, degraded={HOSTILE: HOSTILE}, local_health=2.0, roots_stuck=(HOSTILE,)
    )
    html = drawn(
        snapshot(
            view(HOSTILE, HOSTILE, bad, goal=HOSTILE, runtime=HOSTILE),
            view("r2", HOSTILE, goal=HOSTILE, status=RunStatus.FAILED),
            health=health,
        )
    )
    read = Read(html)
    assert not read.tags & {"script", "img", "iframe", "object", "form", "style"}
    assert read.others <= {"lang", "charset", "http-equiv", "content", "name", "class", "rel"}
    assert html.count("<link") == 1 and '<link rel="stylesheet" href="/assets/plain.css">' in html
    assert not set(html) & set("\x1b\u202e\x00\ud800")
    assert "<script>alert(1)</script><img" in " ".join(read.words)


def test_nothing_is_loaded_or_linked_from_elsewhere() -> None:
    html = drawn(snapshot(view("r1", "blue", worker("t1"))))
    assert all(re.fullmatch(r"/(?!/)[\w./?=%-]*", link) for link in Read(html).links)
    assert "url(" not in html and "@import" not in html and "//" not in html


@pytest.mark.parametrize("number", [0, 1, CREWS_MAX, CREWS_MAX + 5])
def test_a_page_has_an_end_whatever_there_is_to_show(number: int) -> None:
    html = drawn(snapshot(*(view(f"r{each}", f"crew{each}", worker("t1")) for each in range(number))))
    assert html.count('class="crew"') == min(number, CREWS_MAX)
    assert ("5 more:" in html) is (number > CREWS_MAX)


def test_the_rest_of_many_runs_and_workers_is_counted() -> None:
    many = [worker(f"t{number}") for number in range(WORKERS_MAX + 7)]
    html = drawn(
        snapshot(
            view("r-many", "blue", *many, worker("t-bad", Level.DEAD)),
            *(view(f"r{number}", "blue") for number in range(RUNS_MAX)),
            *(view(f"e{number}", "blue", status=RunStatus.COMPLETED) for number in range(ENDED_MAX + 3)),
        )
    )
    assert "8 more are in less trouble" in html and "t-bad" in html
    assert "1 more are not shown" in html
    assert "3 more: " in html


def test_a_worker_is_shown_with_the_tool_it_is_inside_of_and_what_it_used() -> None:
    taken = view("r1", "blue", worker("t1", tool=f"Bash{HOSTILE}"), worker("t2"))
    done, task, other = taken.run.tasks
    used = Usage(input=1000, output=20, cache_read=300, cost_usd=0.5)
    tasks = (done, msgspec.structs.replace(task, usage=used), other)
    html = drawn(snapshot(msgspec.structs.replace(taken, run=msgspec.structs.replace(taken.run, tasks=tasks))))
    words = " ".join(Read(html).words)
    assert "as it is in Bash" in words
    assert "1,020 tokens, $0.50" in words
    assert words.count("tokens") == 1
    assert "script" not in Read(html).tags


def test_what_crewd_doubts_of_itself_stands_at_the_top() -> None:
    health = Health(
        round_number=1, hold="suspended", hold_seconds_left=90.0, brake="4 of 5", degraded={"ledger": "full"}
    )
    html = drawn(snapshot(view("r1", "blue"), health=health))
    top = " ".join(Read(html.partition("<h2>")[0]).words)
    for words in ("not ready", "ledger full", "Mass brake 4 of 5", "for 1m30s: suspended"):
        assert words in top
