"""What stands on the full screen, as lines: laid out from the picture of `crewd status` and the time since."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import set_cell_size

from crewd.cli.picture import TROUBLE
from crewd.cli.rescue import plan_line
from crewd.cli.screen import Line
from crewd.cli.status import doors, doubts, headline, level_word, run_line, worker_row
from crewd.cli.text import clean, count, span

LEVEL_WIDTH, SILENCE_WIDTH, REASON_WIDTH = 10, 13, 8  # of UNREADABLE, of "silent 59m59s", and of presumed
TASK_WIDTH_MIN = 8
GOAL_MAX = 200
DOUBTS_MAX = 4


@dataclass(frozen=True)
class Row:
    """A run, or one worker of it."""

    run: dict[str, Any]
    task: dict[str, Any] | None = None  # None: the run itself

    @property
    def key(self) -> tuple[str, str]:
        """What the row is known by from one picture to the next."""
        return self.run["run_id"], self.task["task_id"] if self.task is not None else ""

    @property
    def name(self) -> str:
        """What a person calls it."""
        return clean("/".join(filter(None, self.key)))


def rows(body: dict[str, Any]) -> list[Row]:
    """Lay the picture out as rows: each run, and below it its workers, in the order of the picture."""
    found = []
    for run in body["runs"]:
        found.append(Row(run))
        found += [Row(run, task) for task in run["workers"]]
    return found


def chosen(found: Sequence[Row], filter_text: str) -> list[Row]:
    """Keep the rows that hold every word of a filter, in whatever case, and the run above a worker that is kept."""
    words = filter_text.casefold().split()
    if not words:
        return list(found)
    kept: list[Row] = []
    above: Row | None = None
    for row in found:
        if row.task is None:
            above = row
        if not _fits(row, words):
            continue
        if row.task is not None and above is not None and (not kept or kept[-1].run is not row.run):
            kept.append(above)
        kept.append(row)
    return kept


def task_width(found: Iterable[Row], width: int) -> int:
    """Give the column of task names what it needs, and at most a third of the screen."""
    longest = max((len(row.task["task_id"]) for row in found if row.task is not None), default=0)
    return max(TASK_WIDTH_MIN, min(longest, width // 3))


def row_line(row: Row, names: int, passed: float) -> Line:
    """Lay one row out; `names` is the width of task names, `passed` the seconds since the picture was taken."""
    if row.task is None:
        return run_line(row.run)
    level, task, silence, reason, because = worker_row(_later(row.task, passed))
    return [
        ("  ", ""),
        (set_cell_size(level[0], LEVEL_WIDTH) + " ", level[1]),
        (set_cell_size(task[0], names) + " ", "head"),
        (set_cell_size(silence[0], SILENCE_WIDTH) + " ", ""),
        (reason[0].ljust(REASON_WIDTH) + "  ", ""),
        because,
    ]


def head_lines(body: dict[str, Any], crews_max: int) -> Iterator[Line]:
    """How crewd is, what keeps it from working, and the crews, those in trouble first."""
    yield headline(body)
    held = [*doubts(body["health"]), *doors(body)]
    yield from held[:DOUBTS_MAX]
    if len(held) > DOUBTS_MAX:
        yield [(f"and {len(held) - DOUBTS_MAX} more: crewd status", "warn")]
    for run_id, why in list(body.get("never_read", {}).items())[:1]:
        yield [("UNREAD ", "warn"), (f"{clean(run_id)}: nothing of it could ever be read ({why}); see the log", "")]
    yield from _crew_lines(body["crews"], crews_max)


def detail_lines(row: Row, passed: float) -> Iterator[Line]:
    """Tell more of one row than fits in its line."""
    run = row.run
    if row.task is None:
        yield run_line({**run, "goal": ""})
        yield from plan_line(run)
        yield [("goal     ", "faint"), (clean(run["goal"], GOAL_MAX) or "-", "")]
        yield [("updated  ", "faint"), (run["updated_at"] or "-", "")]
        return
    task, worker = row.task, row.task["worker"]
    silence = worker["silence_seconds"]
    silent = "" if silence is None else f", silent for {span(silence + passed)}"
    since = f" since {worker['since']}" if worker["since"] else ""
    level = worker["level"]
    yield [
        (row.name + "  ", "head"),
        (level_word(level), level if level in TROUBLE else ""),
        (f" ({worker['reason']}){since}{silent}", ""),
    ]
    facts = [
        ("because", worker["because"]),
        ("why silent", worker["wedge"]),
        ("what to do", worker["remedy"]),
        ("held back", worker["held_by"]),
        ("in tool", worker["tool"]),
        ("process", _process(worker["process"])),
        ("error", task["error"]),
        ("task", _task_words(task)),
    ]
    for name, text in facts:
        if text:
            yield [(f"{name:<11}", "faint"), (clean(str(text)), "")]


def _later(task: dict[str, Any], passed: float) -> dict[str, Any]:
    """The same worker after so many seconds of which nobody has heard anything."""
    silence = task["worker"]["silence_seconds"]
    if silence is None or not passed:
        return task
    return {**task, "worker": {**task["worker"], "silence_seconds": silence + passed}}


def _fits(row: Row, words: Sequence[str]) -> bool:
    run = row.run
    texts = [run["run_id"], run["crew"], run["runtime"], run["status"], run["goal"]]
    if row.task is None:
        texts.append(run["worst_level"] if not run["workers"] else "")
    else:
        worker = row.task["worker"]
        texts += [row.task["task_id"], row.task["title"], row.task["agent"], row.task["model"]]
        texts += [worker[name] for name in ("level", "reason", "because", "wedge", "tool")]
    whole = "\n".join(str(text) for text in texts if text).casefold()
    return all(word in whole for word in words)


def _crew_lines(crews: Sequence[dict[str, Any]], most: int) -> Iterator[Line]:
    shown = sorted(crews, key=_crew_trouble)
    for crew in shown[:most]:
        runs = ", ".join(f"{number} {status}" for status, number in sorted(crew["runs"].items()))
        line: Line = [
            (clean(crew["crew"], 40) or "-", "head"),
            (f" {clean(crew['runtime'])} · runs: {runs}", "faint"),
        ]
        for level in sorted(crew["workers"], key=lambda level: -TROUBLE.get(level, -1)):
            line += [(" · ", "faint"), (f"{crew['workers'][level]} {level_word(level)}", level)]
        if crew["dead_letters"]:
            line += [(" · ", "faint"), (count(crew["dead_letters"], "dead letter"), "stale")]
        yield [(text, style if style in (*TROUBLE, "head", "faint") else "") for text, style in line]
    if len(shown) > most:
        yield [(f"and {count(len(shown) - most, 'crew')} more", "faint")]


def _crew_trouble(crew: dict[str, Any]) -> tuple[float, ...]:
    worst = max((TROUBLE.get(level, -1) for level in crew["workers"]), default=-1)
    return (-worst, -sum(crew["workers"].values()), -crew["dead_letters"])


def _process(process: dict[str, Any]) -> str:
    pid = f"pid {process['pid']}, " if process["pid"] else ""
    return f"{pid}{process['state']}" + (f": {process['why']}" if process["why"] else "")


def _task_words(task: dict[str, Any]) -> str:
    attempt = f"attempt {task['attempt']}" if task["attempt"] > 1 else ""
    return " · ".join(each for each in (task["title"], task["agent"], task["model"], attempt) if each)
