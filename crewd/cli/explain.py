"""`crewd explain`: the evidence behind the verdict on one task."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crewd.cli.client import Answer, Daemon, Place, ask, find, look_back, say_notice, segment
from crewd.cli.managed_run import managed, task_of
from crewd.cli.options import config_option, json_option, print_json, state_option
from crewd.cli.picture import API, TROUBLE
from crewd.cli.screen import Line, columns, print_lines
from crewd.cli.status import level_word
from crewd.cli.text import clean, span
from crewd.cli.times import wall_now
from crewd.detection.liveness import TABLE
from crewd.errors import NothingMatched

if TYPE_CHECKING:
    from crewd.ledger.reader import Reader

FACT_MAX = 200


@click.command()
@click.argument("run")
@click.argument("task")
@config_option
@state_option
@json_option
def explain(run: str, task: str, config_file: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Show why the worker of TASK in RUN stands where it stands: every signal, and the rule that fitted."""
    answer = take_task(find(state_dir, config_file), run, task)
    say_notice(answer)
    if as_json:
        print_json({"source": answer.source, "as_of": answer.as_of or None, **answer.body})
    else:
        print_lines(task_lines(answer.body))


def take_task(place: Place, run: str, task: str) -> Answer:
    """Ask for the evidence on the worker of a task. Raises NothingMatched, DaemonUnreachable."""
    from crewd.cli.past import past_task
    from crewd.cli.past_managed import past_managed

    def online(daemon: Daemon) -> Any:
        return _joined(
            lambda: daemon.json(f"{API}/runs/{segment(run)}/tasks/{segment(task)}"), managed(daemon, run), task
        )

    def offline(reader: "Reader") -> Any:
        whole = past_managed(reader, run, place.redactor)
        return _joined(lambda: past_task(reader, run, task, place.redactor), whole, task)

    try:
        return ask(place, online, offline)
    except NothingMatched as unknown:
        return look_back(place, offline, unknown)


def _joined(judged: Callable[[], Any], whole: dict[str, Any] | None, task: str) -> Any:
    """Put the evidence on a worker together with the attempts of its task, where crewd itself runs it."""
    if whole is None:
        return judged()
    ours = {**task_of(whole, task), "held": (whole.get("held") or {}).get(task)}
    try:
        return {**judged(), "managed": ours}
    except NothingMatched:
        # One that was just accepted has not been looked at yet.
        found = {"run_id": whole["run_id"], "status": ours["state"], "error": "", "explain": None}
        return {**found, **{name: ours[name] for name in ("task_id", "attempt", "depends_on")}, "managed": ours}


def task_lines(task: dict[str, Any]) -> Iterator[Line]:
    """Lay the evidence out: the level, what holds it back, every signal, and the table."""
    found = task["explain"]
    yield [(clean(f"{task['run_id']} / {task['task_id']}"), "head"), (f"  attempt {task['attempt']}", "faint")]
    if ours := task.get("managed"):
        yield from _managed_lines(ours)
        if found is None:
            return
        yield []
    if found is None:
        at_work = task["status"] in ("running", "waiting")
        why = (
            "no verdict on its worker is recorded" if at_work else "nobody works on it, so there is nothing to judge"
        )
        yield [(f"{task['status']}: {why}", "")]
        if task["error"]:
            yield [(clean(task["error"]), "")]
        return
    level = found["level"]
    since = f" since {found['since']}" if found["since"] else ""
    yield [
        (level_word(level), level if level in TROUBLE else ""),
        (f" ({found['reason']}){since}, silent for {span(found['silence_seconds'])}: {found['because']}", ""),
    ]
    yield []
    yield from _judgement(found)
    yield []
    yield [("evidence", "head")]
    yield from columns(
        [
            [("  " + clean(signal["name"]), ""), (clean(signal["value"]), ""), (signal["seen"], "faint")]
            for signal in found["signals"]
        ]
    )
    yield []
    yield [("the table: its first row that fits", "head")]
    yield from _table(found)


def _managed_lines(task: dict[str, Any]) -> Iterator[Line]:
    from crewd.cli.agent_lines import facts
    from crewd.cli.attempt_lines import attempts, state_style, task_words

    words = task_words(task, {task["task_id"]: task["held"]} if task["held"] else {}, wall_now())
    yield [(task["state"], state_style(task["state"])), (f": {words}" if words else "", "")]
    needed = ", ".join(task["depends_on"])
    if needed:
        yield [("needs ", "faint"), (clean(needed), "")]
    yield from columns([[(f"  {name}", "faint"), (clean(text, FACT_MAX), "")] for name, text in facts(task) if text])
    yield from attempts([task], all_of_them=True)


def _judgement(found: dict[str, Any]) -> Iterator[Line]:
    rows = [("this round says", found["verdict"])]
    if found["held_by"]:
        rows.append(("held back by", found["held_by"]))
    if found["wedge"]:
        rows.append(("why silent", found["wedge"]))
        rows.append(("what to do", found["remedy"]))
    yield from columns([[("  " + name, "faint"), (clean(text), "")] for name, text in rows])


def _table(found: dict[str, Any]) -> Iterator[Line]:
    rows = []
    for row in TABLE:
        fits = row.number == found["row"]
        style = "head" if fits else "faint"
        mark = "->" if fits else "  "
        rows.append(
            [
                (f"{mark} {row.number:>2}", style),
                (row.process, style),
                (row.silence, style),
                (row.verdict + ("   <- fitted" if fits else ""), style),
            ]
        )
    yield from columns(rows)
