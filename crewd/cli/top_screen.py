"""The full screen of `crewd top`: the picture, the keys, and what they ask for."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input, Static

from crewd.cli.client import Answer
from crewd.cli.screen import Line, as_text
from crewd.cli.text import clean, count, span
from crewd.cli.times import when
from crewd.cli.top_desk import Counter, Item
from crewd.cli.top_panes import Asking, Log, Page, Picking, Reading, Rows
from crewd.cli.top_rows import Row, chosen, detail_lines, head_lines, row_line, rows, task_width
from crewd.cli.top_watch import EVERY_SECONDS, Watching, in_background
from crewd.host.clock import Clock, SystemClock

KEYS = "? help  q quit  Enter run  e explain  w why  l log  c cancel  r retry  i incidents  d letters  / find"
HELP: tuple[tuple[str, str], ...] = (
    ("j k, arrows", "the next row, the one before; Page Up and Down, g and G for the ends; a click"),
    ("Enter", "the run with all its tasks (crewd show)"),
    ("e", "the evidence behind the level of the worker (crewd explain)"),
    ("w", "why the run stands where it stands, and what to do (crewd why)"),
    ("l", "what the task writes, as it comes (crewd logs -f)"),
    ("c", "cancel the task, or on the row of a run the whole run: asks for a reason first (crewd cancel)"),
    ("r", "try the task again now (crewd retry), or on the row of a run redrive its dead letters: asks first"),
    ("i", "open incidents (crewd incidents)"),
    ("d", "open dead letters; r there tries one again (crewd deadletter)"),
    ("/", "show only rows that hold every word: of run, crew, task, level, reason, wedge, tool, model; Esc ends it"),
    ("?", "this page"),
    ("q", "quit; on a page: back"),
)
LOW = 24  # rows of a terminal below which the panes around the workers are small


class Called(Message):
    """Something that a thread wants to have called in the thread of the screen."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self.call = call


class Top(App[None]):
    """Runs and workers, those in trouble first."""

    TITLE = "crewd top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; max-height: 40%; }
    #banner { height: auto; max-height: 3; display: none; }
    #detail { height: 7; border-top: solid $primary; }
    #filter { display: none; height: 1; border: none; padding: 0; }
    #note { height: auto; min-height: 1; max-height: 3; }
    #keys { height: 1; }
    Page #keys { height: auto; max-height: 3; }
    .low #detail { height: 4; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit", show=False),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
        Binding("question_mark", "help", "help", show=False),
        Binding("enter", "whole_run", "run", show=False),
        Binding("e", "explain", "explain", show=False),
        Binding("w", "why", "why", show=False),
        Binding("l", "logs", "logs", show=False),
        Binding("c", "cancel", "cancel", show=False),
        Binding("r", "retry", "retry", show=False),
        Binding("i", "incidents", "incidents", show=False),
        Binding("d", "letters", "dead letters", show=False),
        Binding("slash", "filter", "filter", show=False),
        Binding("escape", "no_filter", "no filter", show=False),
    ]

    def __init__(
        self, counter: Counter, first: Answer, clock: Clock | None = None, every: float = EVERY_SECONDS
    ) -> None:
        """`first` is the first picture, which may be the ledger's; `every` the seconds between two looks."""
        super().__init__()
        self._counter = counter
        self._clock = clock or SystemClock()
        self._watching = Watching(
            counter,
            lambda body: self.tell(lambda: self.seen(body)),
            lambda why: self.tell(lambda: self.missed(why)),
            every,
        )
        self._every = every
        self._body: dict[str, Any] = first.body
        self._all: list[Row] = []
        self._shown: list[Row] = []
        self._filter = ""
        self._note = ""
        self._gone = first.notice  # why the daemon does not answer; "": it does
        self._gone_since = self._clock.read()
        self._seen_at = self._gone_since  # when this picture was first seen
        self._painted: dict[str, tuple[int, list[Line]]] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="banner")
        yield Rows(id="workers")
        yield Static(id="detail")
        yield Static(id="note")
        yield Input(placeholder="words of run, crew, task, level, tool; Enter keeps, Esc ends it", id="filter")
        yield Static(id="keys")

    def on_mount(self) -> None:
        self._paint()
        self.query_one("#workers", Rows).focus()
        self._watching.start()
        self.set_interval(1.0, self._tick)

    def on_unmount(self) -> None:
        self._watching.stop()

    def on_resize(self) -> None:
        self.screen_stack[0].set_class(self.size.height < LOW, "low")
        self.call_after_refresh(self._paint)

    def tell(self, call: Callable[[], object]) -> None:
        """Have something called in the thread of the screen, from any other."""
        try:
            self.post_message(Called(call))
        except RuntimeError:
            return  # the screen was left, and there is nobody to tell

    def on_called(self, message: Called) -> None:
        if self.is_running:  # otherwise the panes may be gone already
            message.call()

    def seen(self, body: dict[str, Any]) -> None:
        """Show a newer picture."""
        if body["taken_at"] != self._body["taken_at"] or self._gone:
            self._seen_at = self._clock.read()
        if body != self._body or self._gone:
            self._body, self._gone = body, ""
            self._paint()
        if isinstance(self.screen, Page):
            self.screen.reload()

    def missed(self, why: str) -> None:
        """Tell that the daemon does not answer; the picture stays, grey."""
        if not self._gone:
            self._gone_since = self._clock.read()
        self._gone = why
        self._paint()

    def on_rows_moved(self) -> None:
        if not isinstance(self.screen, Page):
            self._paint_detail()

    # What the keys do.

    def action_help(self) -> None:
        lines: list[Line] = [[(f"{keys:<13}", "head"), (words, "")] for keys, words in HELP]
        self._read("keys", lambda: lines)

    def action_whole_run(self) -> None:
        if row := self._meant():
            self._read(row.run["run_id"], lambda: self._counter.run(row.run["run_id"]))

    def action_explain(self) -> None:
        if row := self._meant(worker=True):
            self._read(f"explain {row.name}", lambda: self._counter.explain(*row.key))

    def action_why(self) -> None:
        if row := self._meant():
            self._read(f"why {row.run['run_id']}", lambda: self._counter.why(row.run["run_id"]))

    def action_logs(self) -> None:
        if row := self._meant(worker=True):
            self._open(Log(f"logs {row.name}", lambda: self._counter.log(*row.key), self.tell))

    def action_incidents(self) -> None:
        self._open(Picking("open incidents", self._counter.incidents, self.tell))

    def action_letters(self) -> None:
        self._open(Picking("open dead letters", self._counter.letters, self.tell, self._redrive))

    def action_cancel(self) -> None:
        row = self._meant()
        if row is None:
            return
        run, task = row.key  # fixed now: rows may move while the person thinks
        what = f"task {task} of run {run}" if task else f"run {run} with {count(len(row.run['workers']), 'worker')}"
        self._agree(f"Cancel {what}?", True, lambda reason: self._counter.cancel(run, task, reason))

    def action_retry(self) -> None:
        row = self._meant()
        if row is None:
            return
        run, task = row.key
        if task:
            self._agree(f"Try task {task} of run {run} again now?", False, lambda _: self._counter.retry(run, task))
            return
        self._say(f"looking for dead letters of {run}")
        in_background(
            lambda: self._counter.letters(run),
            lambda found: self.tell(lambda: self._redrive_all(run, found)),
            lambda why: self.tell(lambda: self._say(why)),
        )

    def action_filter(self) -> None:
        if not self._is_covered():
            field = self.query_one("#filter", Input)
            field.display = True
            field.focus()

    def action_no_filter(self) -> None:
        if not self._is_covered():
            self._note = ""
            field = self.query_one("#filter", Input)
            field.value = ""
            self._end_typing(field)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter":
            self._filter = event.value
            self._paint()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "filter":
            self._end_typing(event.input)

    def _end_typing(self, field: Input) -> None:
        field.display = False
        self.query_one("#workers", Rows).focus()
        self._paint()

    def _redrive(self, keys: list[str]) -> None:
        self._agree(f"Try {', '.join(keys)} again?", False, lambda _: self._counter.redrive(keys))

    def _redrive_all(self, run: str, found: list[Item]) -> None:
        if not found:
            self._say(f"{run} has no open dead letter; r on the row of a worker tries its task again")
            return
        keys = [item.key for item in found]
        question = f"Try {count(len(keys), 'dead letter')} of run {run} again?"
        self._agree(question, False, lambda _: self._counter.redrive(keys))

    def _agree(self, question: str, with_reason: bool, do: Callable[[str], str]) -> None:
        """Ask, and have it done; what the daemon says of it, a refusal included, is told below."""

        def answered(reason: str | None) -> None:
            if reason is None:
                self._say("nothing was done")
                return
            self._say("asking the daemon…")
            in_background(lambda: do(reason), done, lambda why: self.tell(lambda: self._say(f"not done: {why}")))

        def done(words: str) -> None:
            self.tell(lambda: self._say(words))
            self._watching.look_now()

        self.push_screen(Asking(question, with_reason), answered)

    def _read(self, title: str, ask: Callable[[], list[Line]]) -> None:
        self._open(Reading(title, ask, self.tell))

    def _open(self, page: Page) -> None:
        # One page at a time: keys of this screen would open another above it.
        if not self._is_covered():
            self.push_screen(page)

    def _meant(self, worker: bool = False) -> Row | None:
        """The row that is meant, or None where there is none to do it with: then that is told."""
        if self._is_covered():
            return None
        key = self.query_one("#workers", Rows).key
        row = next((each for each in self._shown if each.key == key), None)
        if row is None:
            self._say("there is no row here")
        elif worker and row.task is None:
            self._say("this is the row of a run: choose one of its workers, or press Enter for its tasks")
            return None
        return row

    def _is_covered(self) -> bool:
        return len(self.screen_stack) > 1

    # What is painted.

    def _tick(self) -> None:
        """A second has passed: silence grows, and what is gone is gone for longer."""
        self._paint_head()
        self._base("#workers", Rows).redraw(bool(self._gone))
        self._paint_detail()

    def _paint(self) -> None:
        self._all = rows(self._body)
        self._shown = chosen(self._all, self._filter)
        self._paint_head()
        names = task_width(self._shown, self.size.width)
        shown = self._shown
        self._base("#workers", Rows).fill(
            len(shown),
            lambda number: as_text(row_line(shown[number], names, self._passed())),
            [row.key for row in shown],
            bool(self._gone),
        )
        self._paint_detail()
        self._paint_note()
        self._put("#keys", [[(KEYS, "faint")]])

    def _paint_head(self) -> None:
        head = list(head_lines(self._body, 5 if self.size.height >= LOW else 2))
        head[0] = [*head[0], (" · ", "faint"), self._how()]
        if not self._body["runs"]:
            head.append([("no run is at work", "faint")])
        self._put("#head", head, wraps=True)
        banner = self._base("#banner", Static)
        banner.display = bool(self._gone)
        if self._gone:
            self._put("#banner", [self._banner()], wraps=True)

    def _banner(self) -> Line:
        since, now = self._gone_since, self._clock.read()
        taken = self._body["taken_at"]
        of = f"the picture below is of {taken}" if taken else "below is what its ledger holds"
        return [
            (f"DAEMON GONE since {when(since.wall)} ({span(now.mono - since.mono)}): ", "alert"),
            (f"{clean(self._gone)}; {of}; trying again", ""),
        ]

    def _how(self) -> tuple[str, str]:
        if self._gone:
            return ("not live", "alert")
        return ("live", "ok") if self._watching.live else (f"every {self._every:g} s", "faint")

    def _paint_detail(self) -> None:
        key = self._base("#workers", Rows).key
        row = next((each for each in self._shown if each.key == key), None)
        self._put("#detail", detail_lines(row, self._passed()) if row is not None else [])

    def _paint_note(self) -> None:
        words = f"only {self._filter!r}: {len(self._shown)} of {len(self._all)} rows; Esc ends it"
        told = [each for each in (clean(self._note), words if self._filter else "") if each]
        self._put("#note", [[("  ·  ".join(told), "")]], wraps=True)

    def _say(self, words: str) -> None:
        self._note = words
        self._paint_note()
        for page in self.screen_stack:
            if isinstance(page, Page):
                page.say(clean(words))

    def _passed(self) -> float:
        """Seconds since the picture was first seen. While the daemon is gone nobody knows whether silence grows."""
        until = self._gone_since if self._gone else self._clock.read()
        return max(0.0, until.mono - self._seen_at.mono) if self._body["health"] is not None else 0.0

    def _put(self, where: str, lines: Iterable[Line], wraps: bool = False) -> None:
        """Show lines, unless they are what is shown already."""
        whole = [[(clean(text), style) for text, style in line] for line in lines]
        if self._gone and where == "#head":
            whole = [[(text, "faint") for text, _ in line] for line in whole]
        if self._painted.get(where) == (self.size.width, whole):
            return
        self._painted[where] = (self.size.width, whole)
        texts = [as_text(line) for line in whole]
        if not wraps:
            for text in texts:
                text.truncate(max(1, self.size.width), overflow="ellipsis")
        self._base(where, Static).update(Text("\n", no_wrap=False).join(texts))

    def _base(self, where: str, kind: Any) -> Any:
        """A pane of the picture, also while a page lies over it."""
        return self.screen_stack[0].query_one(where, kind)
