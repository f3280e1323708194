"""Texts for a terminal: what others wrote made harmless, times and amounts made short."""

import re

# C0, DEL and C1 move cursors and colour screens; the rest reorder or hide what stands beside them.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
_BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")


def clean(text: str, limit: int = 0) -> str:
    """Make a text that others wrote fit to stand in one line of a terminal; with `limit`, at most so long."""
    text = _CONTROLS.sub("\ufffd", _BREAKS.sub(" ", text))
    return text if not limit or len(text) <= limit else text[: limit - 1] + "…"


def clean_json(text: str) -> str:
    """Escape in a JSON text what a terminal would act on; it stays the same JSON."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def span(seconds: float) -> str:
    """Write a length of time in two units at most: "42s", "3m05s", "2h10m", "4d6h"."""
    whole = int(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600}h"


def count(number: int, word: str) -> str:
    """Write a number with its word: "1 run", "2 runs"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
