"""Summaries: what is concluded from counted outcomes, and how it is laid out. Nothing that was not measured is 0."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from crewd.model.history import GROUPS, OUTCOMES, UNSUCCESSFUL, Quantiles, SummaryGroup

LEVELS = ("attempt", "task")
WINDOW_MIN, WINDOW_MAX = 3600.0, 90 * 86_400.0  # seconds
GROUP_BY_MAX = 4  # names: each is a level of nesting
GROUPS_SHOWN_MAX = 200  # of one level, those with the most rows; the others are counted
DECIMALS = 4
Z95 = 1.959963984540054  # of the normal distribution: 95 % lie within so many deviations
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])")
_UNITS = {"h": 3600.0, "d": 86_400.0}


def window_seconds(text: str) -> float:
    """Read a window such as "12h" or "7d". Raises ValueError for anything but 1h to 90d."""
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0.0
    if not WINDOW_MIN <= seconds <= WINDOW_MAX:
        raise ValueError(f"{text[:40]!r} is no window: give hours or days, 1h to 90d")
    return seconds


def group_names(text: str) -> tuple[str, ...]:
    """Read the names to group by, divided by commas; "": none. Raises ValueError that says what each could be."""
    names = tuple(text.split(",")) if text else ()
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise ValueError(f"nothing is grouped by {', '.join(map(repr, unknown))[:120]}: give {', '.join(GROUPS)}")
    if len(set(names)) < len(names):
        raise ValueError("a name is given twice: give each once")
    if len(names) > GROUP_BY_MAX:
        raise ValueError(f"{len(names)} names to group by: give at most {GROUP_BY_MAX}")
    return names


def rank(count: int, percent: int) -> int:
    """Say which of so many values in ascending order, from 1, is the smallest that so many percent do not exceed.

    So a quantile is always a value that was measured, never one between two.
    """
    return max(1, -(-count * percent // 100))


def wilson(successes: int, finished: int) -> tuple[float, float] | None:
    """95 % interval of a success rate by Wilson's score; None where nothing finished.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference", without correction.
    """
    if finished == 0:
        return None
    share, square = successes / finished, Z95 * Z95
    middle = (share + square / (2 * finished)) / (1 + square / finished)
    spread = share * (1 - share) / finished + square / (4 * finished * finished)
    half = Z95 / (1 + square / finished) * math.sqrt(spread)
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == finished else middle + half
    return low, high


def success_rate(outcomes: Mapping[str, int]) -> float | None:
    """Completed of what ended by itself; None where nothing did.

    What timed out counts as unsuccessful. What was cancelled, skipped or interrupted says nothing of the work.
    """
    finished = _finished(outcomes)
    return outcomes.get("completed", 0) / finished if finished else None


def laid_out(groups: Sequence[SummaryGroup], level: str, group_by: Sequence[str]) -> dict[str, Any]:
    """Lay a summary out for JSON: the group of everything, and in `groups` of each the finer ones, the largest first.

    Every group has the same keys. `groups` are as `Reader.summary` tells them, with the key {} among them.
    """
    finer: dict[tuple[str, ...], list[SummaryGroup]] = {}
    whole = SummaryGroup(key={})
    for group in groups:
        names = _path(group, group_by)
        if names:
            finer.setdefault(names[:-1], []).append(group)
        else:
            whole = group
    return _nested(whole, (), finer, level, group_by)


def _nested(
    group: SummaryGroup,
    path: tuple[str, ...],
    finer: Mapping[tuple[str, ...], list[SummaryGroup]],
    level: str,
    group_by: Sequence[str],
) -> dict[str, Any]:
    inner = sorted(finer.get(path, ()), key=lambda each: (-sum(each.outcomes.values()), _path(each, group_by)))
    shown = inner[:GROUPS_SHOWN_MAX]
    return _figures(group, level) | {
        "groups": [_nested(each, _path(each, group_by), finer, level, group_by) for each in shown],
        "groups_left_out": len(inner) - len(shown),
    }


def _path(group: SummaryGroup, group_by: Sequence[str]) -> tuple[str, ...]:
    return tuple(group.key[name] for name in group_by if name in group.key)


def _figures(group: SummaryGroup, level: str) -> dict[str, Any]:
    outcomes = dict.fromkeys(OUTCOMES, 0) | dict(group.outcomes)
    rate, interval = success_rate(outcomes), wilson(outcomes["completed"], _finished(outcomes))
    return {
        "key": dict(group.key),
        "total": sum(outcomes.values()),
        "outcomes": outcomes,
        "finished": _finished(outcomes),
        "unsuccessful": sum(outcomes[name] for name in UNSUCCESSFUL),
        "success_rate": _rounded(rate),
        "ci95": [_rounded(edge) for edge in interval] if interval else None,
        "completed": _quantiles(group.completed),
        "ended": _quantiles(group.ended),
        "queue": _quantiles(group.queue),
        "usage": _usage(group),
        f"{level}s_with_usage": group.with_usage,
        f"{level}s_with_cost": group.with_cost,
        "error_classes": dict(sorted(group.error_classes.items(), key=lambda each: (-each[1], each[0]))),
        "trend": {"completed": list(group.trend_completed), "unsuccessful": list(group.trend_unsuccessful)},
    }


def _usage(group: SummaryGroup) -> dict[str, Any]:
    usage, reported = group.usage, group.with_usage > 0
    return {
        "input": usage.input if reported else None,
        "output": usage.output if reported else None,
        "cache_read": usage.cache_read if reported else None,
        "cache_write": usage.cache_write if reported else None,
        "cost_usd": round(usage.cost_usd, 6) if group.with_cost and usage.cost_usd is not None else None,
    }


def _quantiles(found: Quantiles) -> dict[str, Any]:
    return {"count": found.count, "p50_seconds": _rounded(found.p50), "p95_seconds": _rounded(found.p95)}


def _finished(outcomes: Mapping[str, int]) -> int:
    return outcomes.get("completed", 0) + sum(outcomes.get(name, 0) for name in UNSUCCESSFUL)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)
