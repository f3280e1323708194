"""The ledger: durable events a second, one commit alone against one fdatasync, and the newest of a million events."""

import asyncio
import os
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.result import Result, main
from bench.timing import interleaved, milliseconds
from crewd.host.clock import SystemClock
from crewd.ledger.batch import Batch
from crewd.ledger.ledger import Ledger
from crewd.ledger.reader import Reader
from crewd.model.event import Event

GROUP, CALLERS, GROUPS = 100, 8, 40  # events in a batch, batches at once, batches of each caller
ALONE = 200  # single commits
HISTORY = 1_000_000
SHOWN = 50
PER_SECOND_MIN = 20_000
ALONE_MAX = 2.0
HISTORY_MAX = 0.050


def compare() -> list[Result]:
    """Measure on the filesystem of the temporary folder."""
    with TemporaryDirectory(prefix="crewd-bench-") as name:
        return asyncio.run(_compare(Path(name)))


async def _compare(folder: Path) -> list[Result]:
    ledger = Ledger.open(folder / "state", SystemClock())
    alone, sync = await _alone(ledger, folder / "synced")
    rate = await _grouped(ledger)
    already = GROUP * CALLERS * GROUPS + ALONE
    building = await _fill(ledger, HISTORY - already)
    await ledger.close()
    ratio = alone / sync
    return [
        Result(
            f"events appended, acknowledged durable, {CALLERS} callers with {GROUP} each", f"{rate:,.0f}/s", "", None,
            f">= {PER_SECOND_MIN:,}/s", rate >= PER_SECOND_MIN,
        ),
        Result(
            "one event committed alone", milliseconds(alone), f"300 bytes and fdatasync: {milliseconds(sync)}",
            ratio, f"<= {ALONE_MAX:g}x", ratio <= ALONE_MAX,
        ),
        *_history(folder / "state", building),
    ]  # fmt: skip


async def _alone(ledger: Ledger, path: Path) -> tuple[float, float]:
    """Commit and sync in turn; medians of both."""
    commits, syncs = [], []
    line = b"x" * 299 + b"\n"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(ALONE):
        began = time.perf_counter()
        await ledger.commit(Batch(events=(_event(number),)))
        between = time.perf_counter()
        os.write(handle, line)
        os.fdatasync(handle)
        syncs.append(time.perf_counter() - between)
        commits.append(between - began)
    os.close(handle)
    return median(commits), median(syncs)


async def _grouped(ledger: Ledger) -> float:
    async def caller() -> None:
        for _ in range(GROUPS):
            await ledger.commit(Batch(events=events))

    events = tuple(_event(number) for number in range(GROUP))
    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return GROUP * CALLERS * GROUPS / (time.perf_counter() - began)


async def _fill(ledger: Ledger, events: int) -> float:
    began = time.perf_counter()
    step = 5_000
    for start in range(0, events, step):
        await ledger.commit(Batch(events=tuple(_event(number) for number in range(start, min(events, start + step)))))
    return time.perf_counter() - began


def _history(state: Path, building: float) -> list[Result]:
    with Reader.open(state) as reader:
        found = interleaved(
            9,
            all=lambda: reader.events(limit=SHOWN, newest_first=True),
            run=lambda: reader.events(limit=SHOWN, newest_first=True, run_id="run-7"),
            types=lambda: reader.events(limit=SHOWN, newest_first=True, types=("worker.level_changed", "run.failed")),
        )
    words = {"all": "of all", "run": "of one run", "types": "of two types"}
    size = sum(path.stat().st_size for path in state.glob("ledger.sqlite3*")) >> 20
    note = f"a ledger of {size} MiB, written in {building:.1f} s"
    return [
        Result(
            f"last {SHOWN} of {HISTORY:,} events, {words[name]}", milliseconds(seconds), "", None,
            f"<= {milliseconds(HISTORY_MAX)}", seconds <= HISTORY_MAX, note if name == "all" else "",
        )
        for name, seconds in found.items()
    ]  # fmt: skip


def _event(number: int) -> Event:
    data = {"from_level": "warn", "to_level": "stale", "reason": "silent", "because": f"silent for {number % 300} s"}
    kind = ("task.progressed", "worker.level_changed", "task.started", "run.failed")[number % 4]
    return Event(
        kind, 1_795_218_466.0 + number / 100, data, f"run-{number % 1000}", "01_explore", 1, "pi_crew", "docs"
    )


if __name__ == "__main__":
    main(compare, __doc__)
