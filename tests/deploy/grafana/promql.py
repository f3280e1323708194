"""As much of PromQL as is needed to look at the selectors of a query; Prometheus itself judges the rest."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SELECTOR = re.compile(
    r"(?:(?P<function>\w+)\()?(?P<metric>[a-zA-Z_:][\w:]*)\{(?P<matchers>[^{}]*)\}(?:\[(?P<window>[^\]]+)\])?"
)
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
_GROUPED = re.compile(r"\b(?:by|on|ignoring|without) \(([^)]*)\)")
_TEXT = re.compile(r'"[^"]*"')
_OF_GRAFANA = re.compile(r"\$__\w+")
_NUMBER = re.compile(r"\b\d+(?:\.\d+)?(?:e-?\d+)?\b")
_WORDS = {"bool", "or", "and", "unless", "by", "on", "ignoring", "without", "group_left", "group_right"}


@dataclass(frozen=True)
class Selector:
    """Series of one metric. `function` is what takes them directly, `window` the time over which they are taken."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    function: str
    window: str


def selectors(expr: str) -> Iterator[Selector]:
    for found in _SELECTOR.finditer(expr):
        matchers = tuple((each[1], each[2], each[3]) for each in _MATCHER.finditer(found["matchers"]))
        yield Selector(found["metric"], matchers, found["function"] or "", found["window"] or "")


def grouped(expr: str) -> set[str]:
    """The labels by which something is added up, or matched."""
    return {label.strip() for found in _GROUPED.finditer(expr) for label in found[1].split(",")}


def unselected(expr: str) -> list[str]:
    """Metrics that stand there without selectors."""
    rest = _NUMBER.sub(" ", _OF_GRAFANA.sub(" ", _TEXT.sub(" ", _GROUPED.sub(" ", _SELECTOR.sub(" (", expr)))))
    return [word for word in re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", rest) if word not in _WORDS]
