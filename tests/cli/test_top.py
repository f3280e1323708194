"""The full screen: what it shows, what its keys ask for, and what it never does unasked.

It is driven by textual's own pilot, with a stand-in for the desk behind which the daemon is; the genuine desk is
tried against the routes.
"""

import asyncio
import contextlib
import html
import json
import queue
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from crewd.cli.client import Answer, Daemon, find
from crewd.cli.picture import online, take
from crewd.cli.screen import Line, plain
from crewd.cli.top_desk import Desk, Item
from crewd.cli.top_panes import Rows
from crewd.cli.top_rows import chosen, rows
from crewd.cli.top_screen import HELP, Top
from crewd.cli.top_watch import Watching
from crewd.errors import DaemonUnreachable, NothingMatched, Refused
from crewd.model.snapshot import RunView, Snapshot
from crewd.model.verdict import Level
from crewd.web import shapes
from tests.cli.contract import Contract, attempt, letter, managed, serving
from tests.cli.contract import task as managed_task
from tests.cli.world import crewd, daemon, picture, run, snapshot, task, worker, write_ledger
from tests.fakes.clock import FakeClock

Body = dict[str, Any]
CHARACTER_WIDTH = 12.2  # of rich's pictures of a console
RICH_GREY = "#c5c8c6"

pytestmark = pytest.mark.real_time  # textual runs a loop of its own


def body_of(taken: Snapshot) -> Body:
    """What the daemon answers that sees this."""

    class Told:
        def json(self, path: str, query: Any = None) -> Any:
            if path.endswith("/status"):
                return shapes.status(taken)
            if path.endswith("/runs"):
                wanted = [view for view in taken.runs.values() if view.run.status.value in query["status"]]
                return {"runs": [shapes.run_working(view, taken) for view in wanted], "next": None}
            raise NothingMatched(path)

    return online(cast(Daemon, Told()), ended=False)


class Stand:
    """Stands in for the desk: answers at once, and remembers what it was told to do."""

    def __init__(self, taken: Snapshot) -> None:
        self.body = body_of(taken)
        self.away = ""  # the daemon does not answer
        self.broken = False  # it answers what nobody understands
        self.refuses = ""
        self.done: list[tuple[str, ...]] = []
        self.items = [Item("k-1", [("k-1 lost", "")], lambda: [[("all of k-1", "")]])]

    def picture(self) -> Body:
        if self.away:
            raise DaemonUnreachable(self.away)
        if self.broken:
            raise KeyError("runs")
        return self.body

    def hear(self) -> Iterator[bytes]:
        raise DaemonUnreachable("no stream")

    def run(self, run: str) -> list[Line]:
        return [[(f"all of {run}", "")]]

    def explain(self, run: str, task: str) -> list[Line]:
        return [[(f"evidence on {run} and {task}", "")]]

    def why(self, run: str) -> list[Line]:
        return [[(f"reasons of {run}", "")]]

    def log(self, run: str, task: str) -> Iterator[list[str]]:
        yield [f"{run} {task} says", "[red]hello[/]"]
        yield []

    def incidents(self) -> list[Item]:
        return [Item("i-1", [("i-1 is wrong", "")], lambda: [[("all of i-1", "")]])]

    def letters(self, run: str = "") -> list[Item]:
        return self.items

    def cancel(self, run: str, task: str, reason: str) -> str:
        return self._do("cancel", run, task, reason)

    def retry(self, run: str, task: str) -> str:
        return self._do("retry", run, task)

    def redrive(self, keys: Sequence[str]) -> str:
        return self._do("redrive", *keys)

    def _do(self, *what: str) -> str:
        self.done.append(what)
        if self.refuses:
            raise Refused(self.refuses)
        return f"{what[0]} it is"


@contextlib.asynccontextmanager
async def screen(
    taken: Snapshot | None = None, size: tuple[int, int] = (110, 30), notice: str = ""
) -> AsyncIterator[tuple[Top, "Pilot[None]", Stand, FakeClock]]:
    stand, clock = Stand(taken or picture()), FakeClock()
    app = Top(stand, Answer("daemon", "", stand.body, notice), clock, every=0.02)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot, stand, clock


def shown(app: Top) -> str:
    """The words on the screen, line by line."""
    drawn = app.export_screenshot()
    texts = re.findall(r'<text [^>]*?\bx="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', drawn.partition('-matrix">')[2])
    lines: dict[str, str] = {}
    for x, y, text in texts:
        # Blanks are not drawn: where a text stands says how many there are.
        before = lines.get(y, "").ljust(round(float(x) / CHARACTER_WIDTH))
        lines[y] = before + html.unescape(text).replace("\xa0", " ")
    return "\n".join(lines.values())


async def until(pilot: "Pilot[None]", holds: Callable[[], bool]) -> None:
    for _ in range(200):
        if holds():
            return
        await pilot.pause(0.03)
    raise AssertionError(shown(cast(Top, pilot.app)))


def test_trouble_comes_first_and_is_told_in_words() -> None:
    async def story() -> None:
        async with screen() as (app, _, _, _):
            lines = shown(app).splitlines()
            assert lines[0].startswith("crewd ready · round 7 · 3 runs · 3 workers · 1 dead · 1 warn · 1 healthy")
            assert lines[0].rstrip().endswith("every 0.02 s")
            assert lines[1].startswith("blue pi_crew · runs: 1 completed, 2 running · 1 DEAD · 1 warn · 1 healthy")
            found = [each.split()[:3] for each in lines[2:8]]
            assert found[0][:2] == [">", "r-bad"]
            assert found[1][:2] == ["DEAD", "t2"]
            assert found[2][:2] == ["warn", "t1"]
            assert found[3][0] == "r-well"
            assert "silent 6m40s" in lines[3]
            assert "pid 9 is gone" in lines[3]

    asyncio.run(story())


def test_silence_grows_between_two_pictures_and_stands_still_while_the_daemon_is_gone() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, stand, clock):
            await pilot.press("j")
            clock.advance(20)
            await until(pilot, lambda: "silent 7m00s" in shown(app))
            assert shown(app).count("silent for 7m00s") == 1, "the pane below agrees"
            stand.away = "it does not answer"
            await until(pilot, lambda: "DAEMON GONE" in shown(app))
            clock.advance(100)
            await until(pilot, lambda: "(1m40s)" in shown(app))
            assert "silent 7m00s" in shown(app)

    asyncio.run(story())


PAGES = (
    (["j", "e"], "evidence on r-bad and t2"),
    (["down", "down", "e"], "evidence on r-bad and t1"),
    (["G", "enter"], "all of r-well"),
    (["j", "k", "up", "w"], "reasons of r-bad"),
    (["j", "l"], "[red]hello[/]"),
    (["i"], "i-1 is wrong"),
    (["d"], "k-1 lost"),
    (["question_mark"], "what the task writes, as it comes"),
    (["e"], "this is the row of a run: choose one of its workers"),
)


def test_a_key_opens_its_page_and_q_leads_back() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, stand, _):
            for keys, words in PAGES:
                await pilot.press("g", *keys)
                await until(pilot, lambda words=words: words in shown(app))  # type: ignore[misc]  # by its default
                if len(app.screen_stack) > 1:
                    await pilot.press("q")
                    await until(pilot, lambda: len(app.screen_stack) == 1)
            assert app.is_running
            assert stand.done == []

    asyncio.run(story())


def test_a_list_opens_what_is_chosen() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, _, _):
            await pilot.press("i")
            await until(pilot, lambda: "> i-1" in shown(app))
            await pilot.press("enter")
            await until(pilot, lambda: "all of i-1" in shown(app))
            await pilot.press("q", "q")
            await until(pilot, lambda: len(app.screen_stack) == 1)

    asyncio.run(story())


def test_every_key_is_in_the_help() -> None:
    told = " ".join(keys for keys, _ in HELP).replace(",", "").split()
    names = {"question_mark": "?", "slash": "/", "enter": "Enter"}
    bound = {names.get(each.key, each.key) for each in cast(Any, Top.BINDINGS)} - {"escape", "ctrl+c"}
    assert bound <= set(told)


def test_a_filter_keeps_rows_that_hold_every_word_and_their_runs() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, _, _):
            await pilot.press("slash", *"Dead t2", "enter")
            await until(pilot, lambda: "2 of 5 rows" in shown(app))
            assert "r-bad" in shown(app)
            assert "r-well" not in shown(app)
            await pilot.press("escape")
            await until(pilot, lambda: "r-well" in shown(app))
            assert "of 5 rows" not in shown(app)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("", ["r-bad", "r-bad/t2", "r-bad/t1", "r-well", "r-well/t1"]),
        ("blue", ["r-bad", "r-bad/t2", "r-bad/t1", "r-well", "r-well/t1"]),
        ("WARN", ["r-bad", "r-bad/t1"]),
        ("healthy t1", ["r-well", "r-well/t1"]),
        ("pid 9", ["r-bad", "r-bad/t2"]),
        ("nowhere", []),
    ],
)
def test_what_a_filter_leaves(words: str, left: list[str]) -> None:
    assert [row.name for row in chosen(rows(body_of(picture())), words)] == left


def test_cancel_asks_for_a_reason_before_it_does_anything() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, stand, _):
            await pilot.press("j", "c")
            await until(pilot, lambda: "Cancel task t2 of run r-bad?" in shown(app))
            await pilot.press("enter")
            await until(pilot, lambda: "a reason is needed" in shown(app))
            await pilot.press("escape")
            await until(pilot, lambda: "nothing was done" in shown(app))
            assert stand.done == []
            await pilot.press("c", *"not q", "enter")
            await until(pilot, lambda: "cancel it is" in shown(app))
            await pilot.press("k", "c")
            await until(pilot, lambda: "Cancel run r-bad with 2 workers?" in shown(app))
            stand.refuses = "r-bad is not ours \x1b[2J[b]to cancel[/b]"
            await pilot.press("x", "enter")
            await until(pilot, lambda: "not done: r-bad is not ours \ufffd[2J[b]to cancel[/b]" in shown(app))
            assert stand.done == [("cancel", "r-bad", "t2", "not q"), ("cancel", "r-bad", "", "x")]

    asyncio.run(story())


def test_a_row_that_was_chosen_stays_so_wherever_it_moves_and_nobody_chooses_the_first() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, stand, _):
            worse = RunView(run("r-worse", task("t9")), "root", (worker("t9", Level.DEAD, 900.0),))
            old = stand.body
            for keys, marked in (([], "r-worse"), (["G", "k"], "r-well")):
                stand.body = old
                await until(pilot, lambda: "r-worse" not in shown(app))
                await pilot.press(*keys)
                stand.body = body_of(snapshot(worse, *picture().runs.values()))
                await until(pilot, lambda: "r-worse" in shown(app))
                assert [each.split()[1] for each in shown(app).splitlines() if each.startswith("> ")] == [marked]

    asyncio.run(story())


def test_what_is_asked_about_stays_the_same_while_rows_move() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, stand, _):
            await pilot.press("G", "c")
            await until(pilot, lambda: "Cancel task t1 of run r-well?" in shown(app))
            stand.body = body_of(snapshot(RunView(run("r-new", task("t9")), "root", (worker("t9", Level.DEAD),))))
            await until(pilot, lambda: "r-new" in shown(app))
            await pilot.press("x", "enter")
            await until(pilot, lambda: "cancel it is" in shown(app))
            assert stand.done == [("cancel", "r-well", "t1", "x")]

    asyncio.run(story())


def test_trying_again_asks_first() -> None:
    cases: tuple[tuple[list[str], str, tuple[str, ...]], ...] = (
        (["j", "r"], "Try task t2 of run r-bad again now?", ("retry", "r-bad", "t2")),
        (["r"], "Try 1 dead letter of run r-bad again?", ("redrive", "k-1")),
    )

    async def story() -> None:
        async with screen() as (app, pilot, stand, _):
            for keys, question, done in cases:
                for answer, words in (("n", "nothing was done"), ("y", f"{done[0]} it is")):
                    await pilot.press("g", *keys)
                    await until(pilot, lambda question=question: question in shown(app))  # type: ignore[misc]
                    assert done not in stand.done
                    await pilot.press(answer)
                    await until(pilot, lambda words=words: words in shown(app))  # type: ignore[misc]  # by its default
            assert stand.done == [done for _, _, done in cases]

    asyncio.run(story())


def test_a_dead_letter_is_tried_again_from_the_list_of_them() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, stand, _):
            await pilot.press("d")
            await until(pilot, lambda: "> k-1" in shown(app))
            await pilot.press("r")
            await until(pilot, lambda: "Try k-1 again?" in shown(app))
            await pilot.press("y")
            await until(pilot, lambda: "redrive it is" in shown(app))
            assert stand.done == [("redrive", "k-1")]
            stand.items = []
            await until(pilot, lambda: "none is open" in shown(app))

    asyncio.run(story())


def test_a_run_without_dead_letters_has_nothing_to_redrive() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, stand, _):
            stand.items = []
            await pilot.press("r")
            await until(pilot, lambda: "r-bad has no open dead letter" in shown(app))

    asyncio.run(story())


def test_a_daemon_that_goes_is_told_with_since_when_and_its_picture_stays_until_it_is_back() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, stand, clock):
            await pilot.press("j")
            stand.away = "it does not [b]answer[/b]"
            await until(pilot, lambda: "DAEMON GONE since 2026-01-01T00:00:00.000Z (0s)" in shown(app))
            assert "[b]answer[/b]" in shown(app)
            assert "not live" in shown(app)
            assert "pid 9 is gone" in shown(app)
            clock.advance(75)
            await until(pilot, lambda: "(1m15s)" in shown(app))
            stand.away = ""
            await until(pilot, lambda: "DAEMON GONE" not in shown(app))
            assert "> " in next(each for each in shown(app).splitlines() if " t2 " in each), "where one stood"

    asyncio.run(story())


def test_an_answer_that_is_not_understood_is_told_and_the_next_one_counts() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, stand, _):
            stand.broken = True
            await until(pilot, lambda: "the answer is not understood: KeyError" in shown(app))
            stand.broken = False
            await until(pilot, lambda: "DAEMON GONE" not in shown(app))

    asyncio.run(story())


HOSTILE = ("[red]x[/]", "[@click=app.quit]x[/]", "a\x1b[31mb", "\u202egnp", "日本語の名前", "")


def test_hostile_names_stay_text() -> None:
    async def story() -> None:
        named = tuple(task(name or "t", title=name, agent=name) for name in HOSTILE)
        working = tuple(
            msgspec.structs.replace(worker(each.task_id, because=each.task_id), tool=each.task_id) for each in named
        )
        async with screen(snapshot(RunView(run("[b]r[/b]", *named, crew="[i]c"), "root", working))) as story_of:
            app, pilot, _, _ = story_of
            for number in range(len(HOSTILE)):
                await pilot.click("#workers", offset=(18, number + 1))
                text = shown(app)
                for harmless in ("[red]x[/]", "[@click=app.quit]x[/]", "[b]r[/b]", "[i]c"):
                    assert harmless in text
                assert "\x1b" not in text
                assert "\u202e" not in text
                await pilot.click("#detail", offset=(14, 2))
            assert app.is_running
            await pilot.press("e", "q", "c", "escape")
            assert app.is_running

    asyncio.run(story())


def test_it_fits_whatever_the_terminal_becomes() -> None:
    async def story() -> None:
        async with screen() as (app, pilot, _, _):
            await pilot.press("j")
            for size in ((60, 20), (20, 6), (200, 60)):
                await pilot.resize_terminal(*size)
                await until(pilot, lambda size=size: app.size == size)  # type: ignore[misc]  # by its default
                await pilot.pause(0.05)
                assert all(len(line) <= size[0] for line in shown(app).splitlines())
                if size[1] >= 20:
                    await until(pilot, lambda: "DEAD       t2       silent 6m40s" in shown(app))
                await pilot.press("e")
                await until(pilot, lambda: len(app.screen_stack) == 2)
                await pilot.press("q")
                await until(pilot, lambda: len(app.screen_stack) == 1)

    asyncio.run(story())


def test_a_thousand_workers_are_painted_well_within_a_tenth_of_a_second() -> None:
    """By the time of this thread alone: what else the machine does is none of its business."""
    many = [RunView(run(f"r-{n:03}", *(task(f"t{m}") for m in range(10))), "root", _ten(n)) for n in range(100)]

    async def story() -> None:
        async with screen(snapshot(*many)) as (app, pilot, stand, _):
            assert len(rows(stand.body)) == 1100
            spent = []
            for n in range(5):
                newer = {**stand.body, "taken_at": f"2026-01-01T00:00:0{n}.000Z"}
                began = time.thread_time()
                app.seen(newer)
                app.query_one("#workers", Rows).render_lines(app.query_one("#workers", Rows).size.region)
                spent.append(time.thread_time() - began)
                await pilot.pause()
            assert min(spent) < 0.1

    asyncio.run(story())


def test_of_any_number_of_rows_only_those_in_sight_are_drawn() -> None:
    drawn: list[int] = []

    def draw(number: int) -> Text:
        drawn.append(number)
        return Text(f"row {number}")

    class Many(App[None]):
        def compose(self) -> ComposeResult:
            yield Rows()

        def on_mount(self) -> None:
            self.query_one(Rows).fill(100_000, draw, range(100_000))

    async def story() -> None:
        async with Many().run_test(size=(40, 10)) as pilot:
            await pilot.press("G")
            await pilot.pause()
            assert 99_999 in drawn
            assert len(set(drawn)) <= 20

    asyncio.run(story())


def _ten(n: int) -> Any:
    return tuple(worker(f"t{m}", Level.HEALTHY if (n + m) % 7 else Level.STALE, 60.0 + m) for m in range(10))


def test_a_picture_of_the_screen_holds_the_words_and_without_colour_only_greys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def drawn() -> str:
        async with screen() as (app, _, _, _):
            return app.export_screenshot(title="crewd top")

    def colours(svg: str) -> set[str]:
        # Those of the words; the frame around a picture has colours of its own, and that of text that has none.
        return {RICH_GREY} ^ {RICH_GREY, *re.findall(r"\.terminal-[^{]*-r\d+ \{ fill: (#[0-9a-f]{6})", svg)}

    coloured = asyncio.run(drawn())
    assert "DEAD" in coloured
    assert any(len({each[1:3], each[3:5], each[5:7]}) > 1 for each in colours(coloured))
    monkeypatch.setenv("NO_COLOR", "1")
    plain_one = asyncio.run(drawn())
    assert "DEAD" in plain_one
    assert colours(plain_one)
    assert all(len({each[1:3], each[3:5], each[5:7]}) == 1 for each in colours(plain_one))


class Bell(Stand):
    """A desk with a stream."""

    def __init__(self) -> None:
        super().__init__(picture())
        self.pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def hear(self) -> Iterator[bytes]:
        while piece := self.pieces.get():
            yield piece


def test_whatever_the_stream_tells_is_looked_at_without_waiting_for_the_next_look() -> None:
    bell, looks, missed = Bell(), queue.SimpleQueue[Body](), queue.SimpleQueue[str]()
    watching = Watching(bell, looks.put, missed.put, every=60.0)
    watching.start()
    looks.get(timeout=10)
    bell.pieces.put(b": keepalive\n\n")
    with pytest.raises(queue.Empty):
        looks.get(timeout=0.2)
    bell.pieces.put(b"event: round\ndata: {}\n\n")
    assert looks.get(timeout=10) == bell.body
    was_live = watching.live
    bell.away = "killed"
    bell.pieces.put(b"")  # the stream ends
    assert missed.get(timeout=10) == "killed"
    assert (was_live, watching.live) == (True, False)
    watching.stop()


# The desk, against the routes.


@pytest.fixture
def state(tmp_path: Path) -> Path:
    write_ledger(tmp_path / "state")
    return tmp_path / "state"


def words(lines: Sequence[Line]) -> str:
    return "\n".join(map(plain, lines))


def test_the_desk_asks_what_the_commands_ask(state: Path) -> None:
    with daemon(state):
        desk = Desk(find(state, None))
        assert desk.picture()["runs"][0]["run_id"] == "r-bad"
        for found, arguments in (
            (desk.explain("r-bad", "t2"), ("explain", "r-bad", "t2")),
            (desk.run("r-bad"), ("show", "r-bad")),
            (desk.why("r-bad"), ("why", "r-bad")),
        ):
            assert words(found) == crewd(*arguments, "--state-dir", str(state), folder=state).stdout.rstrip("\n")
        assert desk.incidents() == []
        with pytest.raises(NothingMatched):
            desk.explain("r-bad", "nobody")


class Streamless(Desk):
    """A desk whose daemon tells nothing by itself, as the one of these tests."""

    def hear(self) -> Iterator[bytes]:
        raise DaemonUnreachable("no stream")


def test_what_begins_with_the_ledger_goes_on_with_the_daemon(state: Path) -> None:
    async def story() -> None:
        place = find(state, None)
        app = Top(Streamless(place), take(place, ended=False), FakeClock(), every=0.05)
        async with app.run_test(size=(110, 30)) as pilot:
            await until(pilot, lambda: "DAEMON GONE" in shown(app))
            assert "crewd not running" in shown(app)
            assert "below is what its ledger holds" in shown(app)
            assert "DEAD       t2" in shown(app)
            with daemon(state):
                await until(pilot, lambda: "crewd ready" in shown(app))
                assert "DAEMON GONE" not in shown(app)
                await pilot.press("j", "e")
                await until(pilot, lambda: "the table: its first row that fits" in shown(app))
                await pilot.press("q", "l")
                await until(pilot, lambda: "crewd: output may hold anything, and is told only" in shown(app))

    asyncio.run(story())


def test_the_desk_gives_no_picture_of_the_ledger_but_its_evidence_saying_so(state: Path) -> None:
    desk = Desk(find(state, None))
    with pytest.raises(DaemonUnreachable):
        desk.picture()
    with pytest.raises(DaemonUnreachable):
        next(desk.hear())
    assert words(desk.explain("r-bad", "t2")).startswith("daemon unreachable")


def test_the_desk_changes_what_the_commands_change(tmp_path: Path) -> None:
    done = {"what": "so it is\x1b[2J", "ids": [], "details": {}}
    posts = {
        "/api/v1/runs/r-1/cancel": {"reason": "late"},
        "/api/v1/runs/r-1/tasks/a/cancel": {"reason": "late"},
        "/api/v1/runs/r-1/tasks/a/retry": {},
        "/api/v1/deadletters/redrive": {"keys": ["k-1"], "limit": 100, "dry_run": False},
    }
    found = {"dead_letters": [letter("k-1"), letter("k-2", run_id="r-2")]}
    contract = Contract({f"POST {path}": done for path in posts} | {"GET /api/v1/deadletters": found})
    with serving(tmp_path, contract):
        desk = Desk(find(tmp_path, None))
        told = {desk.cancel("r-1", "", "late"), desk.cancel("r-1", "a", "late"), desk.retry("r-1", "a")}
        assert told | {desk.redrive(["k-1"])} == {"so it is\ufffd[2J"}
        (only,) = desk.letters("r-1")
        assert only.key == "k-1"
        assert "max-retries" in words(list(only.whole()))
    assert {path: contract.posted(path) for path in posts} == {path: [body] for path, body in posts.items()}


def test_the_desk_listens_to_the_stream_and_its_rounds(tmp_path: Path) -> None:
    asked: list[dict[str, str]] = []

    def told(query: dict[str, str], _: Any) -> Any:
        asked.append(query)
        return 200, b"retry: 2000\n\nevent: round\ndata: {}\n\n", {"Content-Type": "text/event-stream"}

    contract = Contract({"GET /api/v1/events": told})
    with serving(tmp_path, contract):
        assert b"".join(Desk(find(tmp_path, None)).hear()).endswith(b"event: round\ndata: {}\n\n")
    assert asked == [{"rounds": "true"}]
    assert [headers["accept"] for *_, headers in contract.asked] == ["text/event-stream"]


def test_a_log_goes_on_over_attempts_to_the_end_of_the_task(tmp_path: Path) -> None:
    texts = (b"old\n", b"new \x1b[1m\nlast")

    def output(query: dict[str, str], _: Any) -> Any:
        whole, offset = texts[int(query["attempt"]) - 1], int(query["offset"])
        headers = {"X-Crewd-Next-Offset": str(len(whole)), "X-Crewd-Ended": "true"}
        return 200, whole[offset:], headers

    looks = [managed_task("a", "running", attempt(1)), managed_task("a", "completed", attempt(1), attempt(2))]

    def look(_: Any, __: Any) -> Any:
        return managed("running", looks.pop(0) if len(looks) > 1 else looks[0])

    contract = Contract({"GET /api/v1/runs/r-1/managed": look, "GET /api/v1/runs/r-1/tasks/a/output": output})
    with serving(tmp_path, contract, tcp=True):
        told = [line for lines in Desk(find(tmp_path, None)).log("r-1", "a") for line in lines]
    assert told == [
        "old",
        "-- attempt 2 --",
        "new \ufffd[1m",
        "last",
        "-- attempt 2 has ended; the task is completed --",
    ]


# The command.


def test_once_prints_what_status_prints_and_needs_no_textual(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual", None)
    for context in (daemon(state), contextlib.nullcontext()):
        with context:
            for options in ((), ("--json",)):
                once = crewd("top", "--once", *options, "--state-dir", str(state), folder=state)
                status = crewd("status", *options, "--state-dir", str(state), folder=state)
                assert (once.exit_code, once.stdout, once.stderr) == (0, status.stdout, status.stderr)
    assert json.loads(crewd("top", "--json", "--state-dir", str(state), folder=state).stdout)["source"] == "ledger"


def test_without_textual_the_remedy_is_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual", None)
    result = crewd("top", "--state-dir", str(state), folder=state)
    assert result.exit_code == 1
    assert "pip install 'crewd[tui]'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_where_there_is_no_terminal_it_says_what_prints_it(state: Path) -> None:
    result = crewd("top", "--state-dir", str(state), folder=state)
    assert result.exit_code == 2
    assert result.stderr == "crewd: crewd top fills a terminal, and this is none: crewd top --once prints it\n"


def test_without_daemon_and_ledger_there_is_nothing_to_show(tmp_path: Path) -> None:
    result = crewd("top", "--once", "--state-dir", str(tmp_path / "none"), folder=tmp_path)
    assert result.exit_code == 69


def test_the_command_itself_imports_nothing_of_the_screen() -> None:
    code = "import sys, crewd.cli.top; print([name for name in sys.modules if name.startswith(('textual', 'rich'))])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "[]\n"
