"""A round over 50 running runs in which nothing changed, against reading and parsing them all."""

import time

from bench import baseline
from bench.crews import crew_of
from bench.result import Result, main
from bench.rounds import Watched
from bench.timing import interleaved, milliseconds

RUNS, TASKS, EVENTS = 50, 3, 60
WARM_UP = 20  # rounds, until nothing is fresh any more


def compare() -> list[Result]:
    """Compare looking alone, and looking with judging."""
    with crew_of(RUNS, TASKS, EVENTS) as (project, folders):
        home = folders[0].parent
        paths = baseline.stat_paths(folders, ("manifest.json", "tasks.json", "events.jsonl"))
        looking, patrolling = Watched(str(project)), Watched(str(project))
        for _ in range(WARM_UP):
            looking.look()
            patrolling.round()
        found = interleaved(
            60,
            time.process_time,
            everything=lambda: baseline.read_everything(home),
            look=looking.look,
            round=patrolling.round,
            stat=lambda: baseline.stat_all(paths),
        )
        looking.close()
        patrolling.close()
    everything = found["everything"]
    against = f"read and json.loads everything: {milliseconds(everything)} CPU"
    return [
        _result("look", found["look"], everything, against, target=50),
        _result("look and judge", found["round"], everything, against, target=50),
        Result(
            "bare stat calls of the same files",
            milliseconds(found["stat"]),
            against,
            found["stat"] / everything,
            "",
            None,
        ),
    ]


def _result(what: str, seconds: float, everything: float, against: str, target: int) -> Result:
    ratio = seconds / everything
    what = f"round, {RUNS} running runs unchanged: {what}"
    return Result(
        what,
        f"{milliseconds(seconds)} CPU",
        against,
        ratio,
        f"<= 1/{target}",
        ratio <= 1 / target,
        f"1/{1 / ratio:.0f}",
    )


if __name__ == "__main__":
    main(compare, __doc__)
