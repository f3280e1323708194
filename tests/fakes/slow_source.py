"""A root whose disk hangs until it is let go."""

import threading

from crewd.model.look import Look
from crewd.model.moment import Reading


class Slow:
    """A root whose disk answers when it is let to."""

    runtime, tells_itself = "beat", False

    def __init__(self, name: str, *, hangs: bool = False) -> None:
        self.folder, self.key = f"/{name}", f"beat:/{name}"
        self.let = threading.Event()
        self.looks, self.closed = 0, False
        if not hangs:
            self.let.set()

    def look(self, now: Reading) -> Look:
        self.looks += 1
        assert self.let.wait(20)
        return Look()

    def watch_paths(self) -> list[str]:
        return []

    def close(self) -> None:
        self.closed = True
