"""All comparisons, one table."""

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict

from bench import agents, held, history, latency, ledger, many, memory, operate, recovery, round, scrape, start, tasks
from bench.result import table

ALL = {
    "round": round.compare,
    "many": many.compare,
    "recovery": recovery.compare,
    "memory": memory.compare,
    "scrape": scrape.compare,
    "ledger": ledger.compare,
    "history": history.compare,
    "start": start.compare,
    "tasks": tasks.compare,
    "latency": latency.compare,
    "held": held.compare,
    "agents": agents.compare,
    "operate": operate.compare,
}


def run() -> None:
    """Run those that were named, or all; progress goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}; none = all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in ALL]:
        parser.error(f"no comparison is called {', '.join(unknown)}; there are {', '.join(ALL)}")
    results = []
    for name in options.names or ALL:
        began = time.perf_counter()
        results += ALL[name]()
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
        return
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}\n")
    print(table(results))
    missed = [result for result in results if result.met is False]
    print(f"\n{sum(result.met is True for result in results)} targets met, {len(missed)} missed")


if __name__ == "__main__":
    run()
