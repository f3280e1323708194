"""How events are told in lines: whole, where a program may read them, and short on a screen."""

import json
from typing import Any

from crewd.cli.screen import Line
from crewd.cli.text import clean

VALUE_MAX = 120
TYPE_WIDTH = 20  # of worker.level_changed
WIDE = 160  # columns from which a run's whole id has room
RUN_SHORT = 6
SENTENCES = ("summary", "because", "why")  # of an event's data, what is a sentence for a person


def whole_line(record: dict[str, Any]) -> Line:
    """Tell an event with everything that is in it."""
    where = "/".join(str(record[name]) for name in ("run_id", "task_id") if name in record)
    facts = _facts(record["data"])
    return [
        (record["ts"], "faint"),
        (f"  {record['seq']:>6}  ", "faint"),
        (clean(record["type"]), _style(record)),
        (f"  {clean(where)}" if where else "", "head"),
        (f"  {clean(facts)}" if facts else "", ""),
    ]


def screen_line(record: dict[str, Any], width: int) -> Line:
    """Tell an event so that what matters stands before the edge of a screen, below the date of its day."""
    where = [_run_name(str(record["run_id"]), width)] if "run_id" in record else []
    where += [str(record["task_id"])] if "task_id" in record else []
    return [
        (record["ts"][11:19], "faint"),
        (f" {record['seq']:>6}  ", "faint"),
        (clean(record["type"]).ljust(TYPE_WIDTH), _style(record)),
        (f"  {clean('/'.join(where))}" if where else "", "head"),
        (f"  {clean(_said(record))}", ""),
    ]


def _run_name(run_id: str, width: int) -> str:
    # The ends of ids are chance, and tell them apart; where there is room a person may want to copy the whole.
    return run_id if width >= WIDE or len(run_id) <= RUN_SHORT + 1 else f"…{run_id[-RUN_SHORT:]}"


def _said(record: dict[str, Any]) -> str:
    data = dict(record["data"])
    if record["type"] == "worker.level_changed":
        change = f"{data.pop('from_level', '?')} → {data.pop('to_level', '?')} ({data.pop('reason', '?')})"
        because = data.pop("because", "")
        return f"{change} {because}  {_facts(data)}".rstrip()
    for name in SENTENCES:
        if isinstance(sentence := data.pop(name, None), str) and sentence:
            return f"{sentence}  {_facts(data)}".rstrip()
    return _facts(data)


def _facts(data: dict[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in data.items())


def _style(record: dict[str, Any]) -> str:
    if record["type"] == "worker.level_changed":
        level = str(record["data"].get("to_level", record["data"].get("to", "")))
        return level if level in ("dead", "stale", "warn", "waiting", "unreadable", "healthy") else ""
    return "alert" if record["type"].endswith((".failed", ".dead_lettered", "brake_engaged", ".degraded")) else ""


def _value(value: Any) -> str:
    if isinstance(value, str):
        text = clean(value, VALUE_MAX)
        return f'"{text}"' if " " in text or not text else text
    return clean(json.dumps(value, ensure_ascii=False, separators=(",", ":")), VALUE_MAX)
