"""The page: one screen for a person, whole in itself. Every name in it comes from strangers and is escaped."""

from collections.abc import Iterator
from html import escape
from urllib.parse import quote

from crewd.model.moment import rfc3339
from crewd.model.snapshot import RunView, Snapshot
from crewd.telemetry.redact import Redactor
from crewd.web import shapes

RUNS_MAX = 200
TEXT_MAX = 160

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:64rem;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.3rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd;vertical-align:top}
.level{border-radius:.6rem;padding:.05rem .5rem;background:#eee;white-space:nowrap}
.healthy{background:#d7f2dc}.warn{background:#fff3c4}.stale{background:#ffdfb8}.dead{background:#f8c9c9}
.waiting{background:#d9e6fb}.unreadable{background:#e5d8f5}.bad{color:#a00000}.quiet{color:#666}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}th,td{border-color:#333}a{color:#8ab4f8}
.level{color:#222}.quiet{color:#999}.bad{color:#ff8a8a}}
"""


def page(snapshot: Snapshot, redactor: Redactor) -> str:
    """Draw the runs that matter, those in trouble first."""
    return "".join(_page(snapshot, redactor))


def _page(snapshot: Snapshot, redactor: Redactor) -> Iterator[str]:
    health = snapshot.health
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>crewd</title>'
    yield '<meta http-equiv="refresh" content="5"><meta name="viewport" content="width=device-width">'
    yield f"<style>{STYLE}</style></head><body><h1>crewd</h1>"
    ready = shapes.readiness(health)
    taken = rfc3339(snapshot.taken_at) if snapshot.taken_at else "not yet"
    yield f'<p class="quiet">{escape(ready["status"])} · round {health.round_number} · as of {escape(taken)}</p>'
    for name, part in ready["parts"].items():
        if not part["ready"]:
            yield f'<p class="bad">{_text(name + ": " + part["why"], redactor)}</p>'
    if health.hold:
        left = f"{health.hold_seconds_left:.0f} s"
        yield f"<p>Hold: {_text(health.hold, redactor)}. Nobody may get worse for {left}.</p>"
    if health.brake:
        yield f'<p class="bad">Mass brake: {_text(health.brake, redactor)}</p>'
    yield from _runs(snapshot, redactor)
    yield '<p class="quiet"><a href="/metrics">metrics</a> · <a href="/api/v1/status">status</a> · '
    yield '<a href="/api/v1/runs">runs</a> · <a href="/api/v1/events">events</a> · <a href="/readyz">readiness</a> · '
    yield '<a href="/openapi.json">API</a></p></body></html>'


def _runs(snapshot: Snapshot, redactor: Redactor) -> Iterator[str]:
    views = sorted(snapshot.runs.values(), key=lambda view: (-shapes.trouble(view), -(view.run.updated_at or 0.0)))
    if not views:
        yield "<p>No run has been seen.</p>"
        return
    yield "<table><thead><tr><th>Run</th><th>Crew</th><th>Status</th><th>Workers</th></tr></thead><tbody>"
    for view in views[:RUNS_MAX]:
        yield from _run(view, snapshot, redactor)
    yield "</tbody></table>"
    if len(views) > RUNS_MAX:
        yield f'<p class="quiet">{len(views) - RUNS_MAX} more runs are not shown.</p>'


def _run(view: RunView, snapshot: Snapshot, redactor: Redactor) -> Iterator[str]:
    run = view.run
    link = f"/api/v1/runs/{quote(run.run_id, safe='')}"
    yield f'<tr><td><a href="{escape(link)}">{_text(run.run_id, redactor)}</a>'
    yield f'<br><span class="quiet">{_text(run.goal, redactor)}</span></td>'
    yield f"<td>{_text(run.crew, redactor)}</td><td>{_text(run.status.value, redactor)}"
    if view.unread is not None:
        yield f' <span class="bad">unread: {escape(view.unread.value)}</span>'
    yield "</td><td>"
    for worker in view.workers:
        level = escape(worker.standing.level.value)
        silence = snapshot.silence(view, worker)
        task = f"{link}/tasks/{quote(worker.task_id, safe='')}"
        yield f'<span class="level {level}">{level}</span> '
        yield f'<a href="{escape(task)}">{_text(worker.task_id, redactor)}</a> '
        yield f'<span class="quiet">silent {silence:.0f} s: {_text(worker.standing.because, redactor)}</span><br>'
    yield "</td></tr>"


def _text(text: str, redactor: Redactor) -> str:
    shown = redactor.text(text)
    shown = shown if len(shown) <= TEXT_MAX else shown[: TEXT_MAX - 1] + "…"
    return escape(shown.encode("utf-8", "replace").decode())
