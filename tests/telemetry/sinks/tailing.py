"""Day files as they are written, and programs that read along."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from crewd.telemetry.redact import Redactor
from crewd.telemetry.sinks.event_sink import EventSink
from crewd.telemetry.sinks.keeping import keep
from crewd.telemetry.sinks.options import SinkOptions
from crewd.telemetry.sinks.tally import SinkTally
from tests.fakes.clock import FakeClock
from tests.telemetry.sinks.world import DAY, NOON, Log

PATIENCE = 10.0
MIDNIGHT = NOON + DAY / 2


class World:
    """A sink under a clock of its own; `crash` is what a kill -9 leaves."""

    def __init__(self, folder: Path, linger: float = 0.2) -> None:
        self.folder = folder
        self.options = SinkOptions(str(folder), linger=linger)
        self.log = Log()
        self.clock = FakeClock(wall=NOON)
        self.crash()

    def crash(self) -> None:
        tally = SinkTally("events", has_backlog=True)
        self.sink = EventSink(self.options, self.log, self.clock, Redactor(), tally)

    def tell(self, count: int, at: float) -> None:
        """Let so many events happen at a time, and write them."""
        self.clock.step(at - self.clock.read().wall)
        self.log.add(count, at, text="é" * 50)
        while self.sink.pump():
            pass

    def clean_up(self) -> None:
        keep(self.options, lambda: {self.sink.file.path_name}, self.clock.read().wall)

    @property
    def link(self) -> Path:
        return self.folder / "events-current.jsonl"

    @property
    def everything(self) -> list[int]:
        return list(range(1, self.log.last_seq() + 1))


@contextmanager
def following(command: list[str], output: Path) -> Iterator[Callable[[], list[int]]]:
    """Run a follower; gives what it has told so far: the seqs of all whole lines that are events."""
    with output.open("wb") as file:
        follower = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
    try:
        yield lambda: [seq for line in output.read_bytes().split(b"\n") if (seq := seq_of(line))]
    finally:
        follower.terminate()
        follower.wait(PATIENCE)


def seq_of(line: bytes) -> int:
    try:
        return int(json.loads(line)["seq"])
    except (ValueError, KeyError, TypeError):
        return 0  # the half of a line


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "the follower does not come up with it"
        time.sleep(0.005)
