"""The page: one screen for a person, whole in itself. Every name in it comes from strangers and is escaped."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from crewd.model.moment import rfc3339
from crewd.model.run import RUN_ENDED, Usage
from crewd.model.snapshot import RunView, Snapshot, WorkerView
from crewd.model.verdict import Level
from crewd.telemetry.plain_text import clean, span
from crewd.telemetry.redact import Redactor
from crewd.web import shapes

CREWS_MAX = 60
RUNS_MAX = 200
WORKERS_MAX = 50  # of one run
ENDED_MAX = 20
TEXT_MAX = 160
LINKS = (
    ("/metrics", "metrics"),
    ("/api/v1/status", "status"),
    ("/api/v1/runs", "runs"),
    ("/api/v1/events?newest=true", "events"),
    ("/readyz", "readiness"),
    ("/runbooks", "runbooks"),
    ("/openapi.json", "API"),
)


def page(snapshot: Snapshot, redactor: Redactor) -> str:
    """Draw how crewd is, the crews, and their runs; those in trouble first."""
    return "".join(_Page(snapshot, redactor).draw())


class _Page:
    def __init__(self, snapshot: Snapshot, redactor: Redactor) -> None:
        self._snapshot = snapshot
        self._redactor = redactor

    def draw(self) -> Iterator[str]:
        views = sorted(
            self._snapshot.runs.values(), key=lambda view: (-shapes.trouble(view), -(view.run.updated_at or 0.0))
        )
        yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>crewd</title>'
        yield '<meta http-equiv="refresh" content="5"><meta name="viewport" content="width=device-width">'
        yield '<link rel="stylesheet" href="/assets/plain.css"></head><body>'
        yield from self._health()
        yield from self._crews()
        yield from self._working([view for view in views if _is_at_work(view)])
        yield from self._ended([view for view in views if not _is_at_work(view)])
        links = " · ".join(f'<a href="{address}">{word}</a>' for address, word in LINKS)
        yield f'<footer class="quiet">{links}</footer></body></html>'

    def _health(self) -> Iterator[str]:
        health = self._snapshot.health
        ready = shapes.readiness(health)
        at = self._snapshot.taken_at
        taken = f"{rfc3339(at)[:19].replace('T', ' ')} UTC" if at else "not yet"
        mark = "healthy" if ready["status"] == "ready" else "dead"
        yield f'<header><h1>crewd</h1><span class="level {mark}">{escape(ready["status"])}</span>'
        yield f'<span class="quiet">round {health.round_number} · as of {escape(taken)}</span></header>'
        for name, part in ready["parts"].items():
            if not part["ready"]:
                yield f'<p class="note bad"><b>{self._text(name)}</b> {self._text(part["why"])}</p>'
        for root in health.roots_stuck:
            words = f"{root}: its disk hangs; nobody there is judged or noticed"
            yield f'<p class="note bad"><b>No answer</b> {self._text(words)}</p>'
        if health.brake:
            yield f'<p class="note bad"><b>Mass brake</b> {self._text(health.brake)}</p>'
        if health.hold:
            left = span(health.hold_seconds_left)
            yield f'<p class="note"><b>Hold</b> nobody may get worse for {left}: {self._text(health.hold)}</p>'
        if health.local_health > 1.0:
            yield f'<p class="note"><b>Slow</b> crewd itself is: all thresholds × {health.local_health:.1f}</p>'

    def _crews(self) -> Iterator[str]:
        crews = shapes.status(self._snapshot)["crews"]
        if not crews:
            yield '<p class="quiet">No run has been seen.</p>'
            return
        yield '<h2>Crews</h2><div class="crews">'
        for crew in sorted(crews, key=_crew_trouble)[:CREWS_MAX]:
            runs = ", ".join(f"{number} {status}" for status, number in sorted(crew["runs"].items()))
            yield f'<section class="crew"><h3>{self._text(crew["crew"])}</h3>'
            yield f'<p class="quiet">{self._text(crew["runtime"])} · {_many(crew["runs"].values(), "run")}: {runs}'
            yield "</p><p>"
            yield _levels(crew["workers"]) or '<span class="quiet">nobody is at work</span>'
            if crew["dead_letters"]:
                yield f' <span class="level stale">{_many([crew["dead_letters"]], "dead letter")}</span>'
            yield "</p></section>"
        yield "</div>"
        if len(crews) > CREWS_MAX:
            yield f'<p class="quiet">{len(crews) - CREWS_MAX} more: <a href="/api/v1/status">all</a></p>'

    def _working(self, views: list[RunView]) -> Iterator[str]:
        if views:
            yield "<h2>Runs at work</h2>"
        for view in views[:RUNS_MAX]:
            yield from self._run(view)
        if len(views) > RUNS_MAX:
            yield f'<p class="quiet">{len(views) - RUNS_MAX} more are not shown: <a href="/api/v1/runs">all</a></p>'

    def _run(self, view: RunView) -> Iterator[str]:
        run = view.run
        tasks = Counter(task.status.value for task in run.tasks)
        counts = ", ".join(f"{number} {status}" for status, number in sorted(tasks.items())) or "no tasks"
        yield f'<article class="{shapes.worst(view) or "idle"}"><h3>{self._text(run.goal) or "(no goal)"}</h3>'
        yield f'<p class="quiet">{self._run_link(view)} · {self._text(run.crew)} · {run.status.value} · {counts}'
        if view.unread is not None:
            rounds = _many([view.unread_rounds], "round")
            yield f' <b class="bad">not readable for {rounds}: {escape(view.unread.value)}</b>'
        yield "</p>"
        if view.workers:
            yield "<table><tbody>"
            silences = {worker.task_id: self._snapshot.silence(view, worker) for worker in view.workers}
            used = {task.task_id: task.usage for task in run.tasks}
            worst_first = sorted(view.workers, key=lambda each: (_rank(each), -silences[each.task_id]))
            for worker in worst_first[:WORKERS_MAX]:
                yield from self._worker(view, worker, silences[worker.task_id], used.get(worker.task_id))
            yield "</tbody></table>"
        if len(view.workers) > WORKERS_MAX:
            yield f'<p class="quiet">{len(view.workers) - WORKERS_MAX} more are in less trouble</p>'
        yield "</article>"

    def _worker(self, view: RunView, worker: WorkerView, silence: float, used: Usage | None) -> Iterator[str]:
        standing = worker.standing
        level = standing.level.value
        address = f"{_address(view)}/tasks/{quote(_encodable(worker.task_id), safe='')}"
        yield f'<tr><td><span class="level {level}">{level}</span></td>'
        yield f'<td><a href="{escape(address)}">{self._text(worker.task_id)}</a></td>'
        yield f'<td class="number"><span class="quiet">silent</span> {span(silence)}</td>'
        yield f"<td>{self._text(standing.because)}"
        if standing.wedge is not None:
            yield f' <span class="wedge">{escape(standing.wedge.value)}</span>'
        if worker.tool and worker.tool not in standing.because:
            yield f' <span class="quiet">in {self._text(worker.tool)}</span>'
        if standing.held_by:
            yield f' <span class="quiet whole">held by {self._text(standing.held_by)}</span>'
        yield f'</td><td class="number quiet">{_used(used)}</td></tr>'

    def _ended(self, views: list[RunView]) -> Iterator[str]:
        if not views:
            return
        yield '<h2>Ended</h2><table class="ended"><tbody>'
        for view in views[:ENDED_MAX]:
            bad = "bad" if view.run.status.value == "failed" else "quiet"
            yield f'<tr><td class="{bad}">{view.run.status.value}</td><td>{self._text(view.run.goal)}</td>'
            yield f'<td class="quiet">{self._text(view.run.crew)}</td><td>{self._run_link(view)}</td></tr>'
        yield "</tbody></table>"
        if len(views) > ENDED_MAX:
            yield f'<p class="quiet">{len(views) - ENDED_MAX} more: <a href="/api/v1/runs">all</a></p>'

    def _run_link(self, view: RunView) -> str:
        return f'<a href="{escape(_address(view))}">{self._text(view.run.run_id)}</a>'

    def _text(self, text: str) -> str:
        # Isolated, so that letters that are written from the right turn nothing around that stands beside them.
        shown = clean(self._redactor.text(text), TEXT_MAX)
        return f"<bdi>{escape(shown)}</bdi>" if shown else ""


def _is_at_work(view: RunView) -> bool:
    # One that says it has ended and still has a worker, or that cannot be read, is nothing to be put aside.
    return bool(view.workers) or view.unread is not None or view.run.status not in RUN_ENDED


def _levels(counts: Mapping[str, int]) -> str:
    levels = sorted(counts, key=lambda level: -shapes.TROUBLE[Level(level)])
    return " ".join(f'<span class="level {level}">{counts[level]} {level}</span>' for level in levels)


def _crew_trouble(crew: Mapping[str, Any]) -> tuple[float, int, str]:
    worst = max((shapes.TROUBLE[Level(level)] for level in crew["workers"]), default=-1)
    return -worst, -crew["dead_letters"], crew["crew"]


def _rank(worker: WorkerView) -> int:
    return -shapes.TROUBLE[worker.standing.level]


def _address(view: RunView) -> str:
    return f"/api/v1/runs/{quote(_encodable(view.run.run_id), safe='')}"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _used(usage: Usage | None) -> str:
    """Write what was used as budgets count it, without what came from a cache."""
    tokens = usage.input + usage.output + usage.cache_write if usage is not None else 0
    if usage is None or not tokens:
        return ""
    cost = "" if usage.cost_usd is None else f", ${usage.cost_usd:.2f}"
    return f"{tokens:,} tokens{cost}"


def _many(numbers: Iterable[int], word: str) -> str:
    number = sum(numbers)
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
