"""Rounds over 1,000 and 10,000 runs of which one in a hundred changed, against the bare stat calls of their files."""

import gc
import time
from itertools import count
from pathlib import Path

from bench import baseline
from bench.crews import crew_of, end, touch
from bench.result import Result, main
from bench.rounds import INTERVAL, Watched
from bench.timing import interleaved, milliseconds
from crewd.cli.settling import settle_process

SIZES = (1_000, 10_000)
TASKS, EVENTS = 3, 10  # nothing reads an unchanged log: its length does not matter
LIVE_FILES = ("manifest.json", "tasks.json", "events.jsonl")
ENDED_FILES = ("manifest.json",)
CPU_MAX = 0.100  # seconds a round
RATIO_MAX = 2.0
CORE_MAX = 0.02  # of one core at an interval of 5 s
WARM_UP = 14  # rounds, until nothing is fresh any more and every rarer check was made


def compare() -> list[Result]:
    """Compare with all runs at work, and with the mixture of a genuine folder: one in twenty at work."""
    results = []
    for runs in SIZES:
        with crew_of(runs, TASKS, EVENTS) as (project, folders):
            results += _compare(project, folders, ended=0, what=f"{runs:,} running runs, 1 % changed")
            if runs == SIZES[-1]:
                ended = runs * 19 // 20
                end(folders[:ended])
                results += _compare(project, folders, ended, f"{runs:,} runs, 5 % of them running, 1 % changed")
    return results


def _compare(project: Path, folders: list[Path], ended: int, what: str) -> list[Result]:
    paths = baseline.stat_paths(folders[:ended], ENDED_FILES) + baseline.stat_paths(folders[ended:], LIVE_FILES)
    watched = Watched(str(project))
    for _ in range(WARM_UP):
        watched.round()
    settle_process()  # as `crewd serve` does once it is ready
    live = folders[ended:]
    changing = [live[(number * 97) % len(live)] for number in range(max(1, len(folders) // 100))]
    found = interleaved(
        7,
        time.process_time,
        touch_before_round=lambda: _touch_all(changing),
        round=watched.round,
        stat=lambda: baseline.stat_all(paths),
        touch_before_look=lambda: _touch_all(changing),
        look=watched.look,
    )
    watched.close()
    gc.unfreeze()
    cpu, stat = found["round"], found["stat"]
    against = f"{len(paths):,} bare stat calls: {milliseconds(stat)} CPU"
    core = cpu / INTERVAL
    return [
        Result(
            f"round, {what}", f"{milliseconds(cpu)} CPU", against, cpu / stat,
            f"<= {milliseconds(CPU_MAX)} CPU and <= {RATIO_MAX:g}x", cpu <= CPU_MAX and cpu / stat <= RATIO_MAX,
        ),
        Result(
            f"of that, looking: {what}", f"{milliseconds(found['look'])} CPU", against, found["look"] / stat,
            "", None,
        ),
        Result(
            f"share of a core at {INTERVAL:g} s: {what}", f"{core:.1%}", "", None,
            f"<= {CORE_MAX:.0%}", core <= CORE_MAX, "computed from the CPU time of one round",
        ),
    ]  # fmt: skip


_marks = count()


def _touch_all(folders: list[Path]) -> None:
    mark = next(_marks)
    for folder in folders:
        touch(folder, mark)


if __name__ == "__main__":
    main(compare, __doc__)
