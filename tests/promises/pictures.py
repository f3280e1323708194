"""Draws docs/images/demo-agents.svg anew, from a whole play: python -m tests.promises.pictures"""

import io
import json
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from crewd.cli.demo_agents_screen import COLOURS, summary_lines

PICTURE = Path(__file__).parents[2] / "docs/images/demo-agents.svg"
COLUMNS = 162  # what everybody says beside what crewd says, and what it did


def main() -> None:
    command = [sys.executable, "-m", "crewd", "demo", "agents", "--json"]
    played = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    lines = list(summary_lines(played["cases"], played["seconds"], COLUMNS))[1:]
    for line in [[("$ ", "faint"), ("crewd demo agents", "head")], [], *lines]:
        text = Text(no_wrap=True)
        for words, style in line:
            text.append(words, COLOURS[style])
        console.print(text)
    PICTURE.write_text(console.export_svg(title="crewd demo agents", unique_id="crewd-demo-agents"))


if __name__ == "__main__":
    main()
