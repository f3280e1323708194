"""The view after a start, and the interrupted runs in it, against reading and parsing everything."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import baseline, interrupted
from bench.crews import crew_of
from bench.result import Result, main
from bench.rounds import Watched
from bench.timing import interleaved, milliseconds
from crewd.host.clock import SystemClock
from crewd.ledger.batch import Memory
from crewd.ledger.ledger import Ledger

SIZES = {50: 15, 1_000: 5}  # runs: repeats
TASKS, EVENTS = 3, 60
SHARE = 5  # the target is one fifth


def compare() -> list[Result]:
    """Compare for 50 and for 1,000 running runs, and for 50 interrupted ones."""
    return [result for runs, repeats in SIZES.items() for result in _compare(runs, repeats)] + interrupted.compare()


def _compare(runs: int, repeats: int) -> list[Result]:
    with crew_of(runs, TASKS, EVENTS) as (project, folders), _remembered(project) as state:
        home = folders[0].parent
        found = interleaved(
            repeats,
            time.process_time,
            everything=lambda: baseline.read_everything(home),
            cold=lambda: _first_round(project, None),
            restart=lambda: _restart(project, state),
        )
    against = f"read and json.loads everything: {milliseconds(found['everything'])} CPU"
    rows = []
    for name, words in (("cold", "cold, nothing remembered"), ("restart", "restart, ledger opened and recalled")):
        ratio = found[name] / found["everything"]
        rows.append(
            Result(f"first view of {runs:,} runs: {words}", f"{milliseconds(found[name])} CPU", against, ratio,
                   f"<= 1/{SHARE}", ratio <= 1 / SHARE)
        )  # fmt: skip
    return rows


def _first_round(project: Path, memory: Memory | None) -> None:
    watched = Watched(str(project), memory)
    watched.round()
    watched.close()


def _restart(project: Path, state: Path) -> None:
    async def opened() -> Memory:
        ledger = Ledger.open(state, SystemClock())
        memory = ledger.recall()
        await ledger.close()
        return memory

    _first_round(project, asyncio.run(opened()))


@contextmanager
def _remembered(project: Path) -> Iterator[Path]:
    """Let a former crewd have written down what it saw."""
    with TemporaryDirectory(prefix="crewd-bench-state-") as name:
        state = Path(name) / "state"
        watched = Watched(str(project), ledger=Ledger.open(state, SystemClock()))
        watched.round()
        watched.close()
        yield state


if __name__ == "__main__":
    main(compare, __doc__)
