"""What `crewd metrics --window` shows: how attempts or tasks that ended in a window came out, and by what."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crewd.cli.client import Answer, Daemon, Place, ask
from crewd.cli.past_pages import ANSWER_SECONDS
from crewd.cli.picture import API
from crewd.cli.screen import Line, columns, is_terminal
from crewd.cli.text import clean, span
from crewd.errors import UsageProblem

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader

BARS = "▁▂▃▄▅▆▇█"
HEAD = ("", "ended", "ok", "95 %", "p50", "p95", "queue p95", "tokens", "cost", "failed for")
FILTERS = ("crew", "runtime", "executor", "model", "task_type")


def take_summary(place: Place, asked: Mapping[str, Any]) -> Answer:
    """Ask for it. `asked`: window, level, group_by and FILTERS. Raises UsageProblem, DaemonUnreachable."""
    from crewd.policy.summary import group_names, window_seconds

    try:
        seconds, names = window_seconds(asked["window"]), group_names(asked["group_by"])
    except ValueError as error:
        raise UsageProblem(str(error)) from None

    def online(daemon: Daemon) -> Any:
        query = {name: value or None for name, value in asked.items()}
        return daemon.json(f"{API}/metrics/summary", query, ANSWER_SECONDS)

    def offline(reader: "Reader") -> Any:
        from crewd.cli.times import wall_now
        from crewd.model.history import HistoryQuery
        from crewd.web.history_shapes import summary_told

        until = wall_now()
        crew, runtime, executor, model, task_type = (asked.get(name) or "" for name in FILTERS)
        query = HistoryQuery(crew=crew, runtime=runtime, executor=executor, model=model, task_type=task_type)
        groups = reader.summary(until - seconds, until, asked["level"], names, query)
        return summary_told(groups, asked["window"], until, asked["level"], names, place.redactor.value)

    return ask(place, online, offline)


def summary_lines(body: dict[str, Any]) -> Iterator[Line]:
    """Lay it out, a group a line, the finer ones below and indented; on a terminal with what came when."""
    words = f"{body['level']}s that ended in the last {body['window']}"
    yield [(words, "head")]
    rows = [[(title, "faint") for title in (*HEAD, *(("when",) if is_terminal() else ()))]]
    rows.extend(_rows(body, 0, body["level"]))
    yield from columns(rows)


def sparkline(counts: Sequence[float]) -> str:
    """Draw counts as bars; an empty place where there were none."""
    top = max(counts, default=0)
    return "".join(" " if each <= 0 else BARS[min(7, int(each * 8 / top))] for each in counts)


def _rows(group: dict[str, Any], depth: int, level: str) -> Iterator[list[tuple[str, str]]]:
    name = list(group["key"].values())[-1] if group["key"] else "all"
    yield _cells("  " * depth + clean(str(name)), group, level)
    for each in group["groups"]:
        yield from _rows(each, depth + 1, level)
    if group["groups_left_out"]:
        yield [("  " * (depth + 1) + f"and {group['groups_left_out']} more", "faint")]


def _cells(name: str, group: dict[str, Any], level: str) -> list[tuple[str, str]]:
    rate, interval, usage = group["success_rate"], group["ci95"], group["usage"]
    tokens = None if usage["input"] is None else usage["input"] + usage["output"]
    failed = ", ".join(f"{many} {clean(each)}" for each, many in list(group["error_classes"].items())[:3])
    cells = [
        (name, "head"),
        (str(group["total"]), ""),
        ("-" if rate is None else f"{rate:.1%}", "" if rate is None or rate >= 0.5 else "alert"),
        ("" if interval is None else f"{interval[0]:.0%}..{interval[1]:.0%}", "faint"),
        (_seconds(group["completed"]["p50_seconds"]), ""),
        (_seconds(group["completed"]["p95_seconds"]), ""),
        (_seconds(group["queue"]["p95_seconds"]), ""),
        ("-" if tokens is None else f"{tokens:,}", ""),
        ("-" if usage["cost_usd"] is None else f"${usage['cost_usd']:.2f}", ""),
        (failed, "warn"),
    ]
    if is_terminal():
        trend = group["trend"]
        ended = [one + other for one, other in zip(trend["completed"], trend["unsuccessful"], strict=True)]
        cells.append((sparkline(ended), ""))
    return cells


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f}s" if seconds < 60 else span(seconds)
