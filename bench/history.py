"""History: what folding costs beside the events, pages of 200,000 attempts, and making all of it anew."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
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
from crewd.model.history import HistoryQuery

ATTEMPTS = 200_000
ALONE = 100  # attempts begun and ended one by one
PAGE = 100
PAGE_MAX = 0.050
FOLD_MAX = 1.0  # milliseconds for each transaction of an attempt
VERIFY_MAX = 60.0  # seconds of processor time: others may use the machine for as long
OUTCOMES = ("completed",) * 17 + ("failed", "failed", "timed_out")
AT = 1_795_218_466.0


def compare() -> list[Result]:
    """Measure on the filesystem of the temporary folder."""
    with TemporaryDirectory(prefix="crewd-bench-") as name:
        return asyncio.run(_compare(Path(name)))


async def _compare(folder: Path) -> list[Result]:
    ledger = Ledger.open(folder, SystemClock())
    folded, plain = await _alone(ledger)
    began = time.perf_counter()
    step = 500
    for start in range(ALONE, ATTEMPTS, step):
        numbers = range(start, min(ATTEMPTS, start + step))
        await ledger.commit(Batch(events=tuple(event for number in numbers for event in _attempt(number))))
    building = time.perf_counter() - began
    await ledger.close()
    cost = (folded - plain) * 1000
    return [
        Result(
            "one transaction of an attempt, with its history", milliseconds(folded),
            f"as many events without: {milliseconds(plain)}", folded / plain,
            f"<= {FOLD_MAX:g} ms more", cost <= FOLD_MAX,
        ),
        *_pages(folder, building),
        _verify(folder),
    ]  # fmt: skip


async def _alone(ledger: Ledger) -> tuple[float, float]:
    """Commit what begins and ends an attempt, and as many events that history is not made of, in turn; medians."""
    folded: list[float] = []
    plain: list[float] = []
    for number in range(ALONE):
        told = _attempt(number)
        for piece in (told[:3], told[3:]):
            others = tuple(Event("worker.level_changed", each.at, each.data, each.run_id) for each in piece)
            for durations, batch in ((folded, Batch(events=tuple(piece))), (plain, Batch(events=others))):
                began = time.perf_counter()
                await ledger.commit(batch)
                durations.append(time.perf_counter() - began)
    return median(folded), median(plain)


def _pages(state: Path, building: float) -> list[Result]:
    queries = {
        "of all": HistoryQuery(limit=PAGE),
        "by state and executor": HistoryQuery(states=("failed",), executor="codex", limit=PAGE),
        "by two states and an executor": HistoryQuery(states=("failed", "timed_out"), executor="pi", limit=PAGE),
        "by state and executor, the last page": HistoryQuery(
            states=("timed_out",), executor="pi", before_seq=20_000, limit=PAGE
        ),
        "by an executor that there is not": HistoryQuery(states=("failed",), executor="none", limit=PAGE),
    }
    with Reader.open(state) as reader:
        asked: dict[str, Callable[[], object]] = {
            name: partial(reader.attempts, query) for name, query in queries.items()
        }
        asked["events"] = lambda: reader.events(limit=50, newest_first=True)
        found = interleaved(9, time.perf_counter, **asked)
    size = sum(path.stat().st_size for path in state.glob("ledger.sqlite3*")) >> 20
    note = f"a ledger of {size} MiB, written in {building:.1f} s"
    results = []
    for name, seconds in found.items():
        what = f"{PAGE} of {ATTEMPTS:,} attempts, {name}"
        if name == "events":
            what = f"last 50 of {5 * ATTEMPTS:,} events"
        target = f"<= {milliseconds(PAGE_MAX)}"
        more = note if name == "events" else ""
        results.append(Result(what, milliseconds(seconds), "", None, target, seconds <= PAGE_MAX, more))
    return results


def _verify(state: Path) -> Result:
    began = time.process_time()
    with Reader.open(state) as reader:
        problems = reader.history_problems()
    seconds = time.process_time() - began
    is_met = seconds <= VERIFY_MAX and not problems
    return Result(
        f"history of {5 * ATTEMPTS:,} events made anew, and compared: processor time",
        f"{seconds:.1f} s", "", None,
        f"<= {VERIFY_MAX:g} s", is_met,
    )  # fmt: skip


def _attempt(number: int) -> Sequence[Event]:
    outcome = OUTCOMES[number % len(OUTCOMES)]
    kind = {"task_type": "explore", "executor": ("claude", "codex", "pi")[number % 3], "model": "opus"}
    run_id, at = f"run-{number // 50}", AT + number

    def told(type: str, **data: object) -> Event:
        return Event(type, at, data, run_id, f"task-{number % 50}", 1, "managed", "docs")

    error = {} if outcome == "completed" else {"error_class": "timeout", "error": "its time was over"}
    return (
        told("attempt.starting", state="starting", queue_seconds=0.5, **kind),
        told("attempt.started", state="running", pid=4711, **kind),
        told("task.started", task_type="explore"),
        told("attempt.finished", outcome=outcome, exit_code=0, duration_seconds=8.5, **error),
        told(f"task.{outcome}", state=outcome, duration_seconds=9.0, **error),
    )


if __name__ == "__main__":
    main(compare, __doc__)
