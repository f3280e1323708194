"""What a comparison found, and how it is printed."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Result:
    """One row: a figure of crewd's, what it is compared with, and the wish."""

    what: str
    crewd: str
    against: str  # the baseline and its figure; "" where the target is absolute
    ratio: float | None  # crewd / baseline; None where the target is absolute
    target: str
    met: bool | None  # None: no target, for information
    note: str = ""


Comparison = Callable[[], list[Result]]


def table(results: Sequence[Result]) -> str:
    """Lay results out as a Markdown table."""
    lines = ["| what | crewd | compared with | ratio | target | met |", "|---|---|---|---|---|---|"]
    for result in results:
        ratio = "" if result.ratio is None else f"{result.ratio:.3g}"
        met = {True: "yes", False: "**no**", None: "-"}[result.met]
        lines.append(f"| {result.what} | {result.crewd} | {result.against} | {ratio} | {result.target} | {met} |")
        if result.note:
            lines.append(f"| | {result.note} | | | | |")
    return "\n".join(lines)


def main(comparison: Comparison, description: str | None) -> None:
    """Run one comparison from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    results = comparison()
    print(json.dumps([asdict(result) for result in results], indent=2) if options.json else table(results))
