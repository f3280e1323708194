"""The panes of the full screen: rows of which only those in sight are drawn, a page to read, and a question."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Region, Size
from textual.message import Message
from textual.screen import ModalScreen, Screen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input, Static

from crewd.cli.screen import Line, as_text
from crewd.cli.text import clean
from crewd.cli.top_desk import Item
from crewd.cli.top_watch import in_background

LOG_LINES_MAX = 5000
INDENT = "      "  # before what did not fit in the line above
MARK = "> "  # before the row that is meant: reverse video alone would be colour alone


class Rows(ScrollView, can_focus=True, inherit_bindings=False):
    """Rows of one line each; where they have keys one of them is meant. Only those in sight are drawn."""

    DEFAULT_CSS = """
    Rows { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "down", show=False),
        Binding("k,up", "move(-1)", "up", show=False),
        Binding("pagedown,space,ctrl+f", "page(1)", "page down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "page up", show=False),
        Binding("g,home", "edge(0)", "top", show=False),
        Binding("G,end", "edge(1)", "bottom", show=False),
    ]

    class Moved(Message):
        """Another row is meant now."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._keys: Sequence[Hashable] = ()
        self._many = 0
        self._draw: Callable[[int], Text] = lambda _: Text()
        self._grey = False
        self._moved = False  # by a person
        self.cursor = -1

    @property
    def key(self) -> Hashable | None:
        """The key of the row that is meant; None: there is none."""
        return self._keys[self.cursor] if 0 <= self.cursor < len(self._keys) else None

    @property
    def at_end(self) -> bool:
        """Whether the last row is in sight."""
        return self.scroll_offset.y + self.size.height >= self._many

    def fill(self, many: int, draw: Callable[[int], Text], keys: Sequence[Hashable] = (), grey: bool = False) -> None:
        """Show other rows.

        The one that was chosen still is, wherever it stands now; if it is gone, its neighbour. Until somebody chooses
        it is the first.
        """
        meant = self.key if self._moved else None
        self._keys, self._many, self._draw, self._grey = keys, many, draw, grey
        if not keys:
            self.cursor = -1
        elif meant is not None and meant in keys:
            self.cursor = keys.index(meant)
        else:
            self.cursor = min(max(self.cursor, 0), len(keys) - 1)
        size = Size(self.size.width, many)
        if size != self.virtual_size:
            self.virtual_size = size
        self._keep_in_sight()
        self.refresh()

    def redraw(self, grey: bool) -> None:
        """Draw the same rows anew: time has passed."""
        self._grey = grey
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        number = self.scroll_offset.y + y
        if number >= self._many:
            return Strip.blank(width, self.rich_style)
        text = self._draw(number)
        if self._grey:
            text = Text(text.plain, "dim")
        if self._keys:
            text = Text(MARK if number == self.cursor else " " * len(MARK)).append_text(text)
        text.truncate(width, overflow="ellipsis", pad=True)
        base = self.rich_style
        if self._keys and number == self.cursor:
            text = Text(text.plain, "reverse")  # in one colour: reversed, several are patches
        text.stylize_before(base)
        text.end = ""
        return Strip(text.render(self.app.console), width).adjust_cell_length(width, base)

    def action_move(self, by: int) -> None:
        self._go_to(self.cursor + by, by)

    def action_page(self, by: int) -> None:
        step = by * max(1, self.size.height - 1)
        self._go_to(self.cursor + step, step)

    def action_edge(self, end: int) -> None:
        self._go_to(self._many - 1 if end else 0, self._many if end else -self._many)

    def on_click(self, event: events.Click) -> None:
        self._go_to(self.scroll_offset.y + event.y, 0)

    def _go_to(self, number: int, by: int) -> None:
        if not self._keys:
            self.scroll_to(y=self.scroll_offset.y + by, animate=False)
            return
        self.cursor, self._moved = min(max(number, 0), len(self._keys) - 1), True
        self._keep_in_sight()
        self.refresh()
        self.post_message(self.Moved())

    def _keep_in_sight(self) -> None:
        if self.cursor >= 0:
            self.scroll_to_region(Region(0, self.cursor, 1, 1), animate=False)


class Page(Screen[None]):
    """Something to read over the whole screen: asked for in a thread, and again whenever there is a new picture."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,backspace", "leave", "back", show=False)]
    KEYS = "q back · j k move"

    def __init__(self, title: str, tell: Callable[[Callable[[], object]], object]) -> None:
        """`tell` has something called in the thread of the screen."""
        super().__init__()
        self._title = title
        self._tell = tell
        self._asking = False
        self._left = False
        self._lines: list[Text] = [Text("asking…", "dim")]

    def compose(self) -> ComposeResult:
        yield Static(Text(clean(self._title), "bold"), id="title")
        yield Rows(id="rows")
        yield Static(Text(self.KEYS, "dim"), id="keys")

    def on_mount(self) -> None:
        self._fill()
        self.reload()

    def on_resize(self) -> None:
        # Only now is it known how wide lines may be.
        self.call_after_refresh(self._fill)

    def reload(self) -> None:
        """There may be something new to show."""

    def action_leave(self) -> None:
        self._left = True
        self.dismiss()

    def show_lines(self, lines: Iterable[Line]) -> None:
        self._lines = [as_text(line) for line in lines]
        self._fill()

    def say(self, words: str) -> None:
        """Tell what became of something, in place of the keys."""
        self.query_one("#keys", Static).update(Text(words))

    def show_failure(self, why: str) -> None:
        self.show_lines([[(each, "alert")] for each in why.split("\n")])

    def _fill(self) -> None:
        if self._left or not self.is_mounted:
            return
        rows = self.query_one(Rows)
        wrapped = list(self._wrapped(max(20, rows.size.width - 1)))
        rows.fill(len(wrapped), lambda number: wrapped[number].copy())

    def _wrapped(self, width: int) -> Iterator[Text]:
        console = self.app.console
        for line in self._lines:
            if line.cell_len <= width:
                yield line
                continue
            first, *others = line.wrap(console, width - len(INDENT), overflow="fold", no_wrap=False)
            yield first
            for other in others:
                yield Text(INDENT).append_text(other)

    def _later(self, call: Callable[[], object]) -> None:
        """Have something called in the screen's thread, unless this page has been left by then."""
        self._tell(lambda: None if self._left else call())


class Reading(Page):
    """A page of lines."""

    def __init__(
        self, title: str, ask: Callable[[], list[Line]], tell: Callable[[Callable[[], object]], object]
    ) -> None:
        super().__init__(title, tell)
        self._ask = ask

    def reload(self) -> None:
        if not self._asking:
            self._asking = True
            in_background(self._ask, lambda lines: self._later(lambda: self._found(lines)), self._failed)

    def _found(self, lines: list[Line]) -> None:
        self._asking = False
        self.show_lines(lines)

    def _failed(self, why: str) -> None:
        def show() -> None:
            self._asking = False
            self.show_failure(why)

        self._later(show)


class Log(Page):
    """What a task writes, with what comes."""

    KEYS = "q back · j k move · G end: goes on with what comes"

    def __init__(
        self, title: str, ask: Callable[[], Iterator[list[str]]], tell: Callable[[Callable[[], object]], object]
    ) -> None:
        super().__init__(title, tell)
        self._ask = ask
        self._told: list[str] = []

    def reload(self) -> None:
        if not self._asking:  # once: it follows by itself
            self._asking = True
            in_background(self._follow, lambda _: None, lambda why: self._later(lambda: self._add([f"crewd: {why}"])))

    def _follow(self) -> None:
        for lines in self._ask():
            if self._left:
                return
            if lines:
                self._later(partial(self._add, lines))

    def _add(self, lines: list[str]) -> None:
        rows = self.query_one(Rows)
        follows = rows.at_end or not self._told
        self._told = [*self._told, *lines][-LOG_LINES_MAX:]
        self.show_lines([[(line, "")] for line in self._told])
        if follows:
            self.call_after_refresh(rows.action_edge, 1)


class Picking(Page):
    """A list of which one is meant."""

    KEYS = "q back · j k move · Enter all of it"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "all of it", show=False),
        Binding("r", "redrive", "try again", show=False),
    ]

    def __init__(
        self,
        title: str,
        ask: Callable[[], list[Item]],
        tell: Callable[[Callable[[], object]], object],
        redrive: Callable[[list[str]], object] | None = None,
    ) -> None:
        """`redrive` asks whether, and has it done; without it nothing of the list can be."""
        super().__init__(title, tell)
        self._ask = ask
        self._redrive = redrive
        self._items: dict[str, Item] | None = None
        if redrive is not None:
            self.KEYS = f"{self.KEYS} · r try again"

    def reload(self) -> None:
        if not self._asking:
            self._asking = True
            in_background(self._ask, lambda items: self._later(lambda: self._found(items)), self._failed)

    def action_open(self) -> None:
        item = self._meant()
        if item is not None:
            lines = list(item.whole())
            self.app.push_screen(Reading(item.key, lambda: lines, self._tell))

    def action_redrive(self) -> None:
        item = self._meant()
        if item is not None and self._redrive is not None:
            self._redrive([item.key])

    def _meant(self) -> Item | None:
        key = self.query_one(Rows).key
        return (self._items or {}).get(key) if isinstance(key, str) else None

    def _found(self, items: list[Item]) -> None:
        self._asking = False
        self._items = {item.key: item for item in items}
        if not items:
            self.show_lines([[("none is open", "faint")]])
            return
        self._fill()

    def _failed(self, why: str) -> None:
        def show() -> None:
            self._asking, self._items = False, None
            self.show_failure(why)

        self._later(show)

    def _fill(self) -> None:
        if not self._items or self._left or not self.is_mounted:
            super()._fill()
            return
        texts = [as_text(item.line) for item in self._items.values()]
        self.query_one(Rows).fill(len(texts), lambda number: texts[number].copy(), list(self._items))


class Asking(ModalScreen[str | None]):
    """Asks before something is done. Gives the reason, "" where none is asked for, or None: leave it alone."""

    DEFAULT_CSS = """
    Asking { align: center middle; }
    Asking > Vertical { width: 76; max-width: 96%; height: auto; border: solid $warning; padding: 0 1; }
    Asking Static { width: 100%; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,q", "answer(False)", "leave it alone", show=False),
        Binding("y", "answer(True)", "do it", show=False),
    ]

    def __init__(self, question: str, with_reason: bool) -> None:
        super().__init__()
        self._question = question
        self._with_reason = with_reason

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(clean(self._question), "bold"))
            if self._with_reason:
                yield Input(placeholder="reason; it is recorded", id="reason")
            told = (
                "Enter: do it · Esc: leave it alone" if self._with_reason else "y: do it · n or Esc: leave it alone"
            )
            yield Static(Text(told, "dim"), id="told")

    def action_answer(self, do_it: bool) -> None:
        self.dismiss("" if do_it and not self._with_reason else None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        reason = event.value.strip()
        if reason:
            self.dismiss(reason)
        else:
            self.query_one("#told", Static).update(Text("a reason is needed: type one, or Esc leaves it alone"))
