"""A process that raises counters until it is killed, and says which commits it was told are durable.

Run as `python -m tests.ledger.committer FOLDER`; prints one line for each acknowledged event: `seq counter by`.
"""

import asyncio
import sys
from pathlib import Path

from crewd.host.clock import SystemClock
from crewd.ledger.ledger import Ledger
from crewd.ledger.options import LedgerOptions
from tests.ledger.values import raising

CALLERS = 8


async def main(folder: Path) -> None:
    ledger = Ledger.open(folder, SystemClock(), LedgerOptions(checkpoint_pages=60))
    totals = {run_id: int(run.goal) for run_id, run in ledger.recall().runs.items()}
    await asyncio.gather(*(raise_for_ever(ledger, f"counter-{n}", totals) for n in range(CALLERS)))


async def raise_for_ever(ledger: Ledger, counter: str, totals: dict[str, int]) -> None:
    total = totals.get(counter, 0)
    while True:
        by = total % 7 + 1
        total += by
        for event in await ledger.commit(raising(counter, by, total)):
            print(event.seq, event.run_id, event.data.get("by", 0), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
