"""Draws docs/images/top.svg anew, from a played crew: python -m tests.promises.top_picture"""

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from pathlib import Path

from crewd.cli.client import find
from crewd.cli.picture import take
from crewd.cli.top_desk import Desk
from crewd.cli.top_screen import Top

PICTURE = Path(__file__).parents[2] / "docs/images/top.svg"
PLAYED_SECONDS = 34.0  # by then one worker is gone, one hangs, and one waits for a person
COLUMNS, ROWS = 120, 25


def main() -> None:
    with subprocess.Popen([sys.executable, "-m", "crewd", "demo"], stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            state = next(found[1] for line in demo.stdout if (found := re.search(r"--state-dir (\S+)", line)))
            asyncio.run(_draw(Path(state)))
        finally:
            demo.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                demo.communicate(timeout=30)


async def _draw(state: Path) -> None:
    await asyncio.sleep(PLAYED_SECONDS)
    place = find(state, None)
    app = Top(Desk(place), take(place, ended=False))
    async with app.run_test(size=(COLUMNS, ROWS)) as pilot:
        await pilot.pause(3.0)
        await pilot.press("j")
        await pilot.pause(0.5)
        drawn = app.export_screenshot(title="crewd top")
    # What a page shows of ours loads nothing from elsewhere, and is called the same each time.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    PICTURE.write_text(re.sub(r"terminal-\d+-", "crewd-top-", drawn))


if __name__ == "__main__":
    main()
