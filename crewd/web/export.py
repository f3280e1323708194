"""Exports: one run with all that is recorded of it, in pieces, so that its size does not matter.

json and jsonl hold everything; csv has a line for the run, for each task and each attempt; md is to be read. Rows
come newest first, as pages do, events oldest first. Secrets are taken out row by row.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from crewd.model.event import VERSION, as_record
from crewd.model.history import LIMIT_MAX, HistoryQuery, RunRow
from crewd.telemetry.json_text import encode
from crewd.telemetry.plain_text import CONTROLS, clean
from crewd.web.history_shapes import Redact, row_told
from crewd.web.state import Past

FORMATS: Mapping[str, str] = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
}
EVENTS_PAGE = 500
COLUMNS = (
    "kind", "run_id", "task_id", "attempt", "runtime", "crew", "task_type", "executor", "model", "variants",
    "outcome", "error_class", "error", "started_at", "ended_at", "queue_seconds", "duration_seconds",
    "input", "output", "cache_read", "cache_write", "cost_usd",
)  # fmt: skip
# What a spreadsheet would take for a formula or a command (OWASP, "CSV Injection").
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: full width
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~#!])")

Line = tuple[str, dict[str, Any]]  # what it tells of: run, task, attempt or event


def pieces(past: Past, run: RunRow, form: str, redact: Redact) -> Iterator[bytes]:
    """Write a run in one of FORMATS, a page of rows at a time."""
    made = {"json": _json, "jsonl": _jsonl, "csv": _csv, "md": _markdown}[form]
    return made(past, run, redact)


def file_name(run_id: str, form: str) -> str:
    """Name the file: an id holds nothing that a path or a header could trip over."""
    return f"{run_id}.{form}"


def _jsonl(past: Past, run: RunRow, redact: Redact) -> Iterator[bytes]:
    yield _record("run", redact(row_told(run)))
    for kind, pages in _parts(past, run.run_id, redact):
        for page in pages:
            yield b"".join(_record(kind, row) for row in page)


def _record(kind: str, row: dict[str, Any]) -> bytes:
    return encode({"kind": kind, **row}) + b"\n"


def _json(past: Past, run: RunRow, redact: Redact) -> Iterator[bytes]:
    yield b'{"v":%d,"run":%s' % (VERSION, encode(redact(row_told(run))))
    for kind, pages in _parts(past, run.run_id, redact):
        yield f',"{kind}s":['.encode()
        separator = b"\n"
        for page in pages:
            yield separator + b",\n".join(map(encode, page))
            separator = b",\n"
        yield b"]"
    yield b"}\n"


def _csv(past: Past, run: RunRow, redact: Redact) -> Iterator[bytes]:
    yield _csv_lines([COLUMNS, _cells("run", redact(row_told(run)))])
    for kind, pages in _parts(past, run.run_id, redact, events=False):
        for page in pages:
            yield _csv_lines([_cells(kind, row) for row in page])


def _csv_lines(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def _cells(kind: str, row: dict[str, Any]) -> list[Any]:
    usage = row.get("usage") or {}
    variants = ",".join(f"{name}={value}" for name, value in sorted((row.get("variants") or {}).items()))
    told = {**row, **usage, "kind": kind, "variants": variants}
    if kind == "run":
        told |= {"outcome": row["status"], "started_at": row["created_at"]}
    return [_cell(told.get(name)) for name in COLUMNS]


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shown = CONTROLS.sub(lambda found: found[0] if found[0] in "\t\r\n" else "\ufffd", value)
    return f"'{shown}" if shown.startswith(FORMULA) else shown


def _markdown(past: Past, run: RunRow, redact: Redact) -> Iterator[bytes]:
    told = redact(row_told(run))
    names = ("status", "runtime", "crew", "goal", "created_at", "ended_at", "duration_seconds")
    facts = "".join(f"- {name}: {_escaped(told[name])}\n" for name in names if told[name] not in (None, ""))
    yield f"# Run {_escaped(run.run_id)}\n\n{facts}".encode("utf-8", "replace")
    tables = {
        "task": ("task_id", "outcome", "attempts", "executor", "model", "started_at", "duration_seconds"),
        "attempt": ("task_id", "attempt", "outcome", "error_class", "started_at", "duration_seconds", "error"),
    }
    for kind, pages in _parts(past, run.run_id, redact, events=False):
        names = tables[kind]
        head = f"\n## {kind.capitalize()}s\n\n| {' | '.join(names)} |\n|{'---|' * len(names)}\n"
        yield head.replace("_", " ").encode()
        for page in pages:
            lines = (f"| {' | '.join(_escaped(row[name]) for name in names)} |\n" for row in page)
            yield "".join(lines).encode("utf-8", "replace")


def _escaped(value: Any) -> str:
    """Write a value so that it stays one line, one cell, and markup of nobody's."""
    if value is None:
        return ""
    text = clean(" ".join(str(value).replace("&", "&amp;").split()))
    return _MARKDOWN.sub(r"\\\1", text)


def _parts(
    past: Past, run_id: str, redact: Redact, events: bool = True
) -> Iterator[tuple[str, Iterator[list[dict[str, Any]]]]]:
    yield "task", _rows(past.tasks, run_id, redact)
    yield "attempt", _rows(past.attempts, run_id, redact)
    if events:
        yield "event", _events(past, run_id, redact)


def _rows(ask: Callable[[HistoryQuery], Any], run_id: str, redact: Redact) -> Iterator[list[dict[str, Any]]]:
    before: int | None = None
    while True:
        page = ask(HistoryQuery(run_id=run_id, before_seq=before, limit=LIMIT_MAX))
        if page.rows:
            yield [redact(row_told(row)) for row in page.rows]
        before = page.next_before
        if before is None:
            return


def _events(past: Past, run_id: str, redact: Redact) -> Iterator[list[dict[str, Any]]]:
    after = 0
    while True:
        found = past.events(after, EVENTS_PAGE, (), run_id)
        if found:
            yield [redact(as_record(event)) for event in found]
            after = found[-1].seq
        if len(found) < EVENTS_PAGE:
            return
