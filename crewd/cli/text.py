"""Texts for a terminal."""

from crewd.telemetry.plain_text import CONTROLS, clean, span

__all__ = ["clean", "clean_json", "count", "span"]


def clean_json(text: str) -> str:
    """Escape in a JSON text what a terminal would act on; it stays the same JSON."""
    return CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def count(number: int, word: str) -> str:
    """Write a number with its word: "1 run", "2 runs"."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
