"""Plain text for people, on a terminal or a page: what others wrote made harmless, times made short."""

import re

# C0, DEL and C1 move cursors and colour screens; the rest reorder or hide what stands beside them.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")


def clean(text: str, limit: int = 0) -> str:
    """Make a text that others wrote fit to stand in one line; with `limit`, at most so long."""
    text = CONTROLS.sub("\ufffd", BREAKS.sub(" ", text))
    return text if not limit or len(text) <= limit else text[: limit - 1] + "…"


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
